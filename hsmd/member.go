package hsmd

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// States of a member, as Status spells them.
const (
	stateReady    = "ready"
	stateStarting = "starting"
	stateDraining = "draining"
	stateDown     = "down"
)

const (
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 5 * time.Second
	// After shortLives ready phases in a row that did not last shortLife, a start waits up to shortPause: enough to spare
	// the machine, and so little that waiting requests do not notice.
	shortLife  = time.Second
	shortLives = 20
	shortPause = 250 * time.Millisecond
	// endGrace is how long a backend that lost its requests may take to be gone by itself.
	endGrace = 3 * time.Second
	// endTimeout is how long one may take to be gone once it was closed by force; a process stuck in the kernel never is.
	endTimeout = 5 * time.Second
	// controlLimit is how many control calls a member is given at once.
	controlLimit = 8
)

// member is one place in a Mux: a backend, and after its death the next. One goroutine supervises it.
type member struct {
	mux  *Mux
	cfg  MemberConfig
	log  *slog.Logger
	wake chan struct{} // Restart

	// Guarded by the Mux's lock.
	state     string
	life      *life
	restarts  uint32
	lastError *driver.Error
	seen      []*driver.Member // its own last status
}

// life is one backend of a member, from ready to gone.
type life struct {
	member  *member
	backend Backend
	desc    *driver.Description
	limit   [lanes]int
	gone    chan struct{} // closed when condemned
	poke    chan struct{} // asks for a canary

	// Guarded by the Mux's lock.
	busy      [lanes]int
	inFlight  int
	calls     *call // in flight
	alone     bool  // runs one struck call
	condemned bool
	crowd     int // in flight when condemned
	hung      bool
	draining  bool
	buried    bool
	outside   bool
	lost      []*call // wait for the burial
}

// suspect asks the supervisor for a canary, without waiting.
func (l *life) suspect() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// supervise keeps a backend running until the Mux closes.
func (m *member) supervise() {
	ctx := m.mux.ctx
	for failures, short := 0, 0; ctx.Err() == nil; {
		m.forgetWake()
		l, err := m.start(ctx)
		if err != nil {
			failures++
			if !m.failed(err, failures) {
				return
			}
			continue
		}
		failures = 0
		began := time.Now()
		m.mux.admit(l)
		m.log.Info("driver ready", "pid", l.backend.PID(), "vendor", l.desc.GetVendor())
		why := m.tend(l)
		m.end(l)
		if ctx.Err() != nil {
			return
		}
		if refusesPIN(why) { // the next process would try it once more
			if !m.failed(why, 1) {
				return
			}
			continue
		}
		if short++; time.Since(began) >= shortLife {
			short = 0
		}
		if short > shortLives {
			m.pause(min(backoff(short-shortLives), shortPause))
		}
	}
}

// forgetWake drops a Restart from before a start, which does what it asks for. Kept, it would have a wrong PIN tried again.
func (m *member) forgetWake() {
	select {
	case <-m.wake:
	default:
	}
}

// refusesPIN reports an error after which only a person can help.
func refusesPIN(err error) bool {
	code := driver.CodeOf(err)
	return code == driver.PINIncorrect || code == driver.PINLocked
}

// start makes one attempt at a ready backend.
func (m *member) start(ctx context.Context) (*life, error) {
	ctx, cancel := context.WithTimeout(ctx, m.mux.cfg.StartTimeout)
	defer cancel()
	b, err := m.cfg.Start(ctx)
	if err != nil {
		return nil, err
	}
	desc, err := b.Describe(ctx)
	if err != nil {
		dead, cancel := context.WithCancel(ctx)
		cancel()
		return nil, errors.Join(err, b.Close(dead))
	}
	l := &life{member: m, backend: b, desc: desc, gone: make(chan struct{}), poke: make(chan struct{}, 1)}
	per := m.mux.cfg.InFlight
	l.limit[fast] = per * workers(desc.GetFastWorkers())
	l.limit[slow] = max(per/2, 1) * workers(desc.GetSlowWorkers())
	l.limit[controls] = controlLimit
	return l, nil
}

// workers distrusts what a driver says of itself.
func workers(n uint32) int { return int(min(max(n, 1), 1024)) }

// failed deals with a start that failed and waits as long as it calls for; false means that the Mux is closing.
func (m *member) failed(err error, failures int) bool {
	x := m.mux
	if x.ctx.Err() != nil {
		return false
	}
	e := driver.AsError(err)
	final := false
	switch e.Code {
	case driver.PINIncorrect, driver.PINLocked, driver.InvalidArgument, driver.Unsupported:
		final = true // another attempt costs a try of the PIN, or ends the same way
	}
	x.mu.Lock()
	m.lastError = e
	if final {
		m.state = stateDown
	}
	var refused []*call
	hopeless := x.hopeless()
	if hopeless != nil {
		refused = x.queue.remove(func(*call) bool { return true })
		x.finishIfIdle()
	}
	x.mu.Unlock()
	for _, c := range refused {
		x.refuse(c, hopeless)
	}
	if !final {
		wait := backoff(failures)
		m.log.Warn("driver did not start", "error", err, "attempt", failures, "next_in", wait)
		return m.pause(wait)
	}
	m.log.Error("driver is down until it is told to start again: its PIN or configuration must be put right first", "error", err)
	select {
	case <-m.wake:
	case <-x.ctx.Done():
		return false
	}
	x.mu.Lock()
	m.state = stateStarting
	x.mu.Unlock()
	return true
}

func (m *member) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.wake:
	case <-m.mux.ctx.Done():
		return false
	}
	return true
}

// backoff is the wait after the n-th failure in a row: doubling, with up to a fifth of jitter.
func backoff(n int) time.Duration {
	d := lastBackoff
	if n < 8 {
		d = min(firstBackoff<<(n-1), lastBackoff)
	}
	return d - rand.N(d/5+1)
}

// hopeless returns why nothing can be served until somebody mends the configuration, or nil; the Mux's lock is held.
func (x *Mux) hopeless() *driver.Error {
	for _, m := range x.members {
		if m.state != stateDown {
			return nil
		}
	}
	e := *x.members[0].lastError
	e.Message = "driver is down: " + e.Message
	if e.Code == driver.InvalidArgument || e.Code == driver.Unsupported {
		e.Code, e.Retry = driver.Device, driver.RetryNever // the operator's mistake, not the caller's
	}
	return &e
}

// admit opens a ready member for work.
func (x *Mux) admit(l *life) {
	x.mu.Lock()
	l.member.life, l.member.state, l.member.lastError = l, stateReady, nil
	x.ready = append(x.ready, l)
	x.meet(l)
	x.mu.Unlock()
	x.pump(nil)
}

// tend watches over a ready member until it is condemned, dead or the Mux closes. It returns the canary's error where that
// is why.
func (m *member) tend(l *life) error {
	ctx, cancel := context.WithCancel(m.mux.ctx)
	defer cancel()
	go m.mux.relay(ctx, l)
	var tick <-chan time.Time
	if every := m.mux.cfg.CanaryInterval; every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-l.backend.Done():
			return nil
		case <-l.gone:
			return nil
		case <-ctx.Done():
			return nil
		case <-tick:
		case <-l.poke:
		}
		err := m.canary(ctx, l)
		if err != nil && !refusesPIN(err) {
			err = m.canary(ctx, l) // one failure may be a passing one
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		m.log.Error("driver fails its canary and is replaced", "pid", l.backend.PID(), "error", err)
		m.mux.mu.Lock()
		l.hung = true
		m.mux.condemn(l)
		m.mux.mu.Unlock()
		return err
	}
}

// canary does one real operation and returns why the device is not well, if it is not.
func (m *member) canary(ctx context.Context, l *life) error {
	ctx, cancel := context.WithTimeout(ctx, m.mux.cfg.CanaryTimeout)
	defer cancel()
	err := l.backend.Health(ctx, "")
	switch driver.CodeOf(err) {
	case driver.Device, driver.Deadline, driver.Internal, driver.PINIncorrect, driver.PINLocked:
		m.log.Warn("canary failed", "error", err)
		return err
	}
	return nil // Lost shows by itself; anything else is an answer
}

// end sees a member out: it waits until the backend is gone, by force if need be, and buries it.
func (m *member) end(l *life) {
	x := m.mux
	closing := x.ctx.Err() != nil
	x.mu.Lock()
	hung := l.hung
	l.draining = closing
	x.condemn(l)
	ctx := x.closeCtx
	if closing {
		m.state = stateDraining
	}
	x.mu.Unlock()
	if !closing {
		if !hung {
			waitFor(l.backend.Done(), endGrace)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(context.Background())
		cancel()
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if err := l.backend.Close(ctx); err != nil {
			m.log.Warn("driver did not close", "error", err)
		}
	}()
	if closing {
		<-closed
	} else if !waitFor(l.backend.Done(), endTimeout) {
		m.log.Error("driver process does not die and is left behind", "pid", l.backend.PID())
	}
	x.mu.Lock()
	m.life = nil
	if !closing {
		m.restarts++
	}
	x.mu.Unlock()
	x.bury(l)
	if !closing {
		m.log.Warn("driver died and is started again", "pid", l.backend.PID(), "in_flight", l.crowd, "from_outside", l.outside)
		x.cfg.Recorder.Restart(m.cfg.Name)
		x.emit(&driver.Event{Kind: "restart", UnixMs: time.Now().UnixMilli()})
	}
}

func waitFor(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// Restart starts the members that are down again at once, as after their configuration was mended.
func (x *Mux) Restart() {
	for _, m := range x.members {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}
