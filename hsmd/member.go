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
	// After shortRuns ready phases in a row that ended within shortRun, a start waits up to shortPause: long enough to limit the load
	// of restarts, and short compared with the deadlines of requests.
	shortRun   = time.Second
	shortRuns  = 20
	shortPause = 250 * time.Millisecond
	// endGrace is how long a backend that lost its requests may take to exit by itself.
	endGrace = 3 * time.Second
	// endTimeout is how long a backend that was killed may take to exit; a process stuck in the kernel never does.
	endTimeout = 5 * time.Second
	// controlLimit is how many control calls a member gets at once.
	controlLimit = 8
)

// member is a backend of a Mux and its successors: whenever it ends, another instance is started. One goroutine supervises it.
type member struct {
	mux  *Mux
	cfg  MemberConfig
	log  *slog.Logger
	wake chan struct{} // Restart

	// Guarded by the Mux's lock.
	state     string
	instance  *instance
	restarts  uint32
	lastError *driver.Error
	seen      []*driver.Member // its own last status
}

// instance is one backend of a member, from ready to exited.
type instance struct {
	member  *member
	backend Backend
	desc    *driver.Description
	limit   [lanes]int
	gone    chan struct{} // closed when ejected
	canary  chan struct{} // requests a canary

	// Guarded by the Mux's lock.
	busy        [lanes]int
	inFlight    int
	calls       *call // in flight
	replaying   bool  // runs one quarantined call and no other
	ejected     bool
	ejectedWith int // calls in flight when it was ejected
	hung        bool
	draining    bool
	reaped      bool
	killed      bool
	lost        []*call // unresolved until it is reaped
}

// requestCanary makes the supervisor run a canary soon. It does not wait.
func (l *instance) requestCanary() {
	select {
	case l.canary <- struct{}{}:
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
		why := m.monitor(l)
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
		if short++; time.Since(began) >= shortRun {
			short = 0
		}
		if short > shortRuns {
			m.pause(min(backoff(short-shortRuns), shortPause))
		}
	}
}

// forgetWake drops a Restart that was requested before a start. Otherwise it would make the member try a wrong PIN again.
func (m *member) forgetWake() {
	select {
	case <-m.wake:
	default:
	}
}

// refusesPIN reports whether the HSM refused the PIN. Then an operator must act first.
func refusesPIN(err error) bool {
	code := driver.CodeOf(err)
	return code == driver.PINIncorrect || code == driver.PINLocked
}

// start tries once to start a backend.
func (m *member) start(ctx context.Context) (*instance, error) {
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
	l := &instance{member: m, backend: b, desc: desc, gone: make(chan struct{}), canary: make(chan struct{}, 1)}
	per := m.mux.cfg.InFlight
	l.limit[fast] = per * workers(desc.GetFastWorkers())
	l.limit[slow] = max(per/2, 1) * workers(desc.GetSlowWorkers())
	l.limit[controls] = controlLimit
	return l, nil
}

// workers limits what a driver claims to 1 to 1024 workers.
func workers(n uint32) int { return int(min(max(n, 1), 1024)) }

// failed handles a failed start and waits until the next. It returns false if the Mux is closing.
func (m *member) failed(err error, failures int) bool {
	x := m.mux
	if x.ctx.Err() != nil {
		return false
	}
	e := driver.AsError(err)
	final := false
	switch e.Code {
	case driver.PINIncorrect, driver.PINLocked, driver.InvalidArgument, driver.Unsupported:
		final = true // a retry costs an attempt at the PIN, or fails the same way
	}
	x.mu.Lock()
	m.lastError = e
	if final {
		m.state = stateDown
	}
	var refused []*call
	allDown := x.allDown()
	if allDown != nil {
		refused = x.queue.remove(func(*call) bool { return true })
		x.finishIfIdle()
	}
	x.mu.Unlock()
	for _, c := range refused {
		x.refuse(c, allDown)
	}
	if !final {
		wait := backoff(failures)
		m.log.Warn("driver did not start", "error", err, "attempt", failures, "next_in", wait)
		return m.pause(wait)
	}
	m.log.Error("driver is down: fix its PIN or configuration, then restart this process", "error", err)
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

// allDown returns the error of every call if all members are down until an operator acts, or nil. The caller must hold x.mu.
func (x *Mux) allDown() *driver.Error {
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

// admit makes a ready member accept calls.
func (x *Mux) admit(l *instance) {
	x.mu.Lock()
	l.member.instance, l.member.state, l.member.lastError = l, stateReady, nil
	x.ready = append(x.ready, l)
	x.discover(l)
	x.mu.Unlock()
	x.pump(nil)
}

// monitor watches a ready member until it is ejected, exits or the Mux closes. It returns the canary's error if that ended the
// member.
func (m *member) monitor(l *instance) error {
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
		case <-l.canary:
		}
		err := m.canary(ctx, l)
		if err != nil && !refusesPIN(err) {
			err = m.canary(ctx, l) // one failure may be transient
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		m.log.Error("driver failed its canary and is replaced", "pid", l.backend.PID(), "error", err)
		m.mux.mu.Lock()
		l.hung = true
		m.mux.eject(l)
		m.mux.mu.Unlock()
		return err
	}
}

// canary does one real operation. It returns an error if that shows a failed device or a refused PIN.
func (m *member) canary(ctx context.Context, l *instance) error {
	ctx, cancel := context.WithTimeout(ctx, m.mux.cfg.CanaryTimeout)
	defer cancel()
	err := l.backend.Health(ctx, "")
	switch driver.CodeOf(err) {
	case driver.Device, driver.Deadline, driver.Internal, driver.PINIncorrect, driver.PINLocked:
		m.log.Warn("canary failed", "error", err)
		return err
	}
	return nil // Lost is detected elsewhere; any other error is an answer
}

// end waits until the backend has exited, kills it if it does not, and reaps it.
func (m *member) end(l *instance) {
	x := m.mux
	closing := x.ctx.Err() != nil
	x.mu.Lock()
	hung := l.hung
	l.draining = closing
	x.eject(l)
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
		m.log.Error("driver process does not exit and is abandoned", "pid", l.backend.PID())
	}
	x.mu.Lock()
	m.instance = nil
	if !closing {
		m.restarts++
	}
	x.mu.Unlock()
	x.reap(l)
	if !closing {
		m.log.Warn("driver ended, restarting it", "pid", l.backend.PID(), "in_flight", l.ejectedWith, "killed_externally", l.killed)
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

// Restart makes members that are down start at once, for example after their PIN was corrected.
func (x *Mux) Restart() {
	for _, m := range x.members {
		select {
		case m.wake <- struct{}{}:
		default:
		}
	}
}
