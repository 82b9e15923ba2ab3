package hsmd

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins/driver"
)

// answerGrace is how long after a deadline the Mux waits for the member to report it, before it answers itself.
const answerGrace = 50 * time.Millisecond

// Mux is a Driver and a Submitter that combines several Drivers.
//
// If a member has room and no call waits, the goroutine that submits an operation forwards it at once, and the goroutine that
// receives the answer passes it on. One lock guards the whole state. It is never held during a call to a member or to a
// caller.
type Mux struct {
	cfg     MuxConfig
	log     *slog.Logger
	members []*member
	ctx     context.Context // of the goroutines that supervise members
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	calls   sync.Pool
	imports failedImports

	mu       sync.Mutex
	tenants  map[string]*tenant
	queue    queue
	ready    []*instance // members that accept calls
	replay   *instance   // the replay member, nil if there is none: see take
	inFlight int
	// inFlightCost and paces tell how long a new call would take: see tooLong.
	inFlightCost [lanes]float64
	paces        [lanes]pace
	unresolved   int // calls of a dead member that is not reaped yet
	draining     bool
	idle         chan struct{} // closed when draining and nothing is left
	timer        *time.Timer   // sweep
	sweepAt      time.Time
	stats        [driver.LastOp + 1]driver.Histogram
	watchers     map[chan *driver.Event]struct{}
	closeCtx     context.Context // bounds the drain of members at Close
}

var (
	_ driver.Driver    = (*Mux)(nil)
	_ driver.Submitter = (*Mux)(nil)
)

// NewMux starts the members and returns at once. Requests wait until a member is ready.
func NewMux(cfg MuxConfig) (*Mux, error) {
	if err := cfg.complete(); err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "mux %s: %w", cfg.Name, err)
	}
	x := &Mux{
		cfg: cfg, log: cfg.Logger.With("mux", cfg.Name), tenants: map[string]*tenant{}, idle: make(chan struct{}),
		watchers: map[chan *driver.Event]struct{}{}, closeCtx: context.Background(), imports: failedImports{limit: cfg.FailedImports},
	}
	x.calls.New = func() any { return x.newCall() }
	x.timer = time.AfterFunc(time.Hour, x.sweep)
	x.timer.Stop()
	x.ctx, x.cancel = context.WithCancel(context.Background())
	for _, m := range cfg.Members {
		x.members = append(x.members, &member{mux: x, cfg: m, state: stateStarting, wake: make(chan struct{}, 1), log: x.log.With("member", m.Name)})
	}
	for _, m := range x.members {
		x.wg.Go(m.supervise)
	}
	return x, nil
}

func (x *Mux) newCall() *call {
	c := new(call)
	c.answer = func(r *driver.Response) { x.answered(c, r) }
	return c
}

// Submit implements driver.Submitter.
func (x *Mux) Submit(req *driver.Request, done func(*driver.Response)) {
	c := x.calls.Get().(*call)
	c.req, c.done = *req, done
	c.lane = fast
	if driver.Slow(req.Kind) {
		c.lane = slow
	}
	batch := req.Batch
	c.req.Batch = nil
	x.enter(c, req.Tenant, req.Deadline, batch)
}

// enter forwards a new call if a member has room. Otherwise it queues the call, or refuses it if the queue is full.
func (x *Mux) enter(c *call, tenantName string, deadline time.Time, batch *driver.Batch) {
	now := time.Now()
	c.start, c.deadline = now, deadline
	c.span, c.req.Trace = x.cfg.Recorder.Begin(c.req.Trace, now)
	x.mu.Lock()
	c.tenant = x.tenant(tenantName)
	c.cost = x.queue.costOf(c.req.Kind)
	if err := x.refusal(c, now); err != nil {
		x.mu.Unlock()
		x.refuse(c, err)
		return
	}
	if len(x.queue.active[c.lane]) == 0 && len(x.queue.quarantine) == 0 {
		if l := x.leastBusy(c); l != nil {
			x.assign(c, l)
			x.mu.Unlock()
			x.forward(c, now, batch)
			return
		}
	}
	x.queue.push(c)
	x.arm(c.deadline)
	x.mu.Unlock()
}

// refusal returns why a call cannot be queued, or nil. The caller must hold x.mu.
func (x *Mux) refusal(c *call, now time.Time) *driver.Error {
	switch {
	case x.draining:
		return driver.Errorf(driver.Lost, "driver is draining")
	case !now.Before(c.deadline):
		return driver.Errorf(driver.Deadline, "deadline passed")
	case c.tenant.count >= x.cfg.QueueDepth || c.tenant.bytes > x.cfg.QueueBytes:
		return &driver.Error{Code: driver.Busy, RetryAfter: x.retryAfter(), Message: "queue full"}
	}
	if err := x.tooLong(c, now); err != nil {
		return err
	}
	return x.allDown()
}

// retryAfter estimates when a full queue will have room. The caller must hold x.mu.
func (x *Mux) retryAfter() time.Duration {
	if len(x.ready) == 0 {
		return time.Second
	}
	return 100 * time.Millisecond
}

// leastBusy returns the least busy ready member with room for a call, or nil. The caller must hold x.mu.
func (x *Mux) leastBusy(c *call) *instance {
	var best *instance
	for _, l := range x.ready {
		if l != x.replay && l.busy[c.lane] < l.limit[c.lane] && (best == nil || l.busy[c.lane] < best.busy[c.lane]) && x.serves(l, c.tenant) {
			best = l
		}
	}
	return best
}

// assign counts a call as in flight on a member. The caller must hold x.mu.
func (x *Mux) assign(c *call, l *instance) {
	c.instance = l
	c.prev, c.next = nil, l.calls
	if l.calls != nil {
		l.calls.prev = c
	}
	l.calls = c
	l.busy[c.lane]++
	l.inFlight++
	x.inFlight++
	x.inFlightCost[c.lane] += c.cost
	x.arm(c.deadline.Add(answerGrace))
}

// release ends the count of a call on its member. The caller must hold x.mu.
func (x *Mux) release(c *call) {
	l := c.instance
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.calls = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.instance, c.prev, c.next = nil, nil, nil
	l.busy[c.lane]--
	l.inFlight--
	if x.inFlightCost[c.lane] -= c.cost; l.busy[c.lane] == 0 && len(x.ready) <= 1 {
		x.inFlightCost[c.lane] = 0 // without the rounding errors of the sum
	}
	x.inFlight--
	l.replaying = false // a call that is replayed is the only one of its member
}

// take picks the next queued call that a member has room for and assigns it, or returns nil. The caller must hold x.mu.
//
// Quarantined calls come first. One member, the replay member, drains and then runs them one at a time. So a second crash
// identifies the call that causes it.
func (x *Mux) take() *call {
	q := &x.queue
	if len(q.quarantine) > 0 {
		if x.replay == nil || (x.replay.inFlight == 0 && !x.serves(x.replay, q.quarantine[0].tenant)) {
			x.replay = x.pickReplayMember(q.quarantine[0].tenant)
		}
		if w := x.replay; w != nil && w.inFlight == 0 {
			c := q.quarantine[0]
			q.quarantine[0] = nil
			q.quarantine = q.quarantine[1:]
			x.assign(c, w)
			w.replaying = true
			return c
		}
	} else if x.replay != nil && !x.replay.replaying {
		x.replay = nil
	}
	for l := range lanes {
		if len(q.active[l]) == 0 {
			continue
		}
		for _, instance := range x.ready {
			if instance == x.replay || instance.busy[l] >= instance.limit[l] {
				continue
			}
			if c := q.pop(l, func(t *tenant) bool { return x.serves(instance, t) }); c != nil {
				x.assign(c, instance)
				return c
			}
		}
	}
	return nil
}

func (x *Mux) pickReplayMember(t *tenant) *instance {
	var best *instance
	for _, l := range x.ready {
		if x.serves(l, t) && (best == nil || l.inFlight < best.inFlight) {
			best = l
		}
	}
	return best
}

// pump forwards queued calls while members have room.
func (x *Mux) pump(batch *driver.Batch) {
	for {
		x.mu.Lock()
		c := x.take()
		x.mu.Unlock()
		if c == nil {
			return
		}
		x.forward(c, time.Now(), batch)
	}
}

// forward submits an assigned call to its member.
func (x *Mux) forward(c *call, now time.Time, batch *driver.Batch) {
	l := c.instance
	left := c.deadline.Sub(now)
	if left <= 0 {
		c.answer(driver.ErrorResponse(driver.Errorf(driver.Deadline, "deadline passed in the queue")))
		return
	}
	c.queued = now.Sub(c.start)
	if c.ctl != nil {
		go x.runControl(c, l)
		return
	}
	// The next hop gets an earlier deadline, so that its own answer arrives in time.
	c.req.Deadline = c.deadline.Add(-min(left/20, 20*time.Millisecond))
	c.req.Batch = batch
	l.backend.Submit(&c.req, c.answer)
}

// answered handles a member's answer to a call, once per forward.
func (x *Mux) answered(c *call, r *driver.Response) {
	now := time.Now()
	x.mu.Lock()
	l := c.instance
	if r.Code == driver.Lost {
		verdict := x.lost(c)
		x.mu.Unlock()
		x.apply(verdict)
		return
	}
	x.release(c)
	done, took := c.done, now.Sub(c.start)
	c.done = nil
	x.stats[statOf(c.req.Kind)].Add(took, r.Code != 0)
	if c.ctl == nil {
		if r.Code == 0 {
			x.queue.learn(c.req.Kind, &r.Timings)
		}
		x.paces[c.lane].completed(now, x.queue.costOf(c.req.Kind), len(x.queue.active[c.lane]) > 0)
	}
	switch r.Code {
	case driver.Device, driver.PINIncorrect, driver.PINLocked:
		l.requestCanary()
	}
	more := x.queue.count > 0 || len(x.queue.quarantine) > 0 || x.replay != nil
	x.finishIfIdle()
	x.mu.Unlock()
	batch := r.Batch
	if done != nil {
		r.Timings.Queue += c.queued
		x.record(c, l, r)
		done(r)
	} else {
		clear(c.req.Body) // answered early, at its deadline
	}
	x.recycle(c)
	if more {
		x.pump(batch)
	}
}

// refuse answers a call that is not in flight with an error of the Mux.
func (x *Mux) refuse(c *call, err *driver.Error) {
	done := c.done
	c.done = nil
	if done != nil {
		r := driver.ErrorResponse(err)
		c.queued = time.Since(c.start)
		r.Timings.Queue = c.queued
		x.record(c, nil, r)
		done(r)
	}
	x.recycle(c)
}

func (x *Mux) recycle(c *call) {
	answer := c.answer
	*c = call{answer: answer}
	x.calls.Put(c)
}

// arm makes sweep run at the given time or earlier. The caller must hold x.mu.
func (x *Mux) arm(at time.Time) {
	if x.sweepAt.IsZero() || at.Before(x.sweepAt) {
		x.sweepAt = at
		x.timer.Reset(max(time.Until(at), 0))
	}
}

// sweepEvery is the shortest time between two sweeps of the whole queue.
const sweepEvery = 5 * time.Millisecond

// sweep answers calls past their deadline, queued or in flight, and ejects members that hang.
func (x *Mux) sweep() {
	now := time.Now()
	x.mu.Lock()
	x.sweepAt = time.Time{}
	expired := x.queue.remove(func(c *call) bool { return !now.Before(c.deadline) })
	late := x.tooLate()
	var unanswered []overdue
	next := x.queue.earliest()
	see := func(at time.Time) {
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	for _, l := range append([]*instance(nil), x.ready...) {
		for c := l.calls; c != nil; c = c.next {
			hung := c.deadline.Add(x.cfg.HangTimeout)
			if c.ctl != nil {
				hung = c.deadline.Add(controlGrace)
			}
			switch {
			case !now.Before(hung):
				l.hung = true
			case c.done == nil:
				see(hung)
			case !now.Before(c.deadline.Add(answerGrace)):
				unanswered = append(unanswered, overdue{c.done, x.operation(c, l, driver.Deadline)})
				c.done = nil
				see(hung)
			default:
				see(c.deadline.Add(answerGrace))
			}
		}
		if l.hung {
			x.eject(l)
		}
	}
	if !next.IsZero() {
		if soonest := now.Add(sweepEvery); next.Before(soonest) {
			next = soonest
		}
		x.arm(next)
	}
	x.finishIfIdle()
	x.mu.Unlock()
	for _, c := range expired {
		x.refuse(c, late)
	}
	for _, o := range unanswered {
		x.cfg.Recorder.Record(o.op)
		r := driver.ErrorResponse(driver.Errorf(driver.Deadline, "deadline passed while the driver worked"))
		r.Early = true
		o.done(r)
	}
}

// overdue is a call in flight that the Mux answers because its member did not.
type overdue struct {
	done func(*driver.Response)
	op   telemetry.Operation
}

// tooLate is the answer to a call whose deadline passed in the queue. The caller must hold x.mu.
func (x *Mux) tooLate() *driver.Error {
	if len(x.ready) > 0 {
		return driver.Errorf(driver.Deadline, "deadline passed in the queue")
	}
	text := "no driver is ready"
	for _, m := range x.members {
		if m.lastError != nil {
			text += ": " + m.lastError.Error()
			break
		}
	}
	return &driver.Error{Code: driver.Busy, RetryAfter: time.Second, Message: text}
}
