package hsmd

import (
	"slices"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// What happens when a member ends with calls in flight.
//
// Each of its calls goes to quarantine and is replayed alone, on a fresh or another member. An end that is the driver's own (a
// crash, an exit, a hang) adds 2 to the retry count of every call in flight. So a call that crashes its driver reaches the
// limit of 4 with the second crash and is refused as poison; calls that were only in flight with it are replayed alone and
// succeed. An external kill (SIGKILL, SIGTERM or, for a sidecar, the exit of hsmd) adds 1 instead of 2. It adds nothing if
// several calls were in flight.

// Weights of the ways in which a member ends, and the retry count at which a call is refused.
const (
	crashWeight = 2
	killWeight  = 1
	retryLimit  = 4
)

// outcome says what becomes of calls whose member ended.
type outcome struct {
	poison []*call // refused, because they reached the retry limit
	lost   []*call // refused, because the Mux closes
	replay bool    // others are in quarantine now
}

// eject ends a member's ready phase: it gets no more work and its supervisor replaces it. The caller must hold x.mu.
func (x *Mux) eject(l *instance) {
	if l.ejected {
		return
	}
	l.ejected = true
	l.ejectedWith = l.inFlight
	x.ready = slices.DeleteFunc(slices.Clone(x.ready), func(other *instance) bool { return other == l })
	if x.replay == l {
		x.replay = nil
	}
	for i := range x.paces {
		x.paces[i].began = time.Time{} // what it takes to start another one is no pace
	}
	l.member.state = stateStarting
	close(l.gone)
}

// lost takes a call that its member lost. The call stays unresolved until the member is reaped, because only then it is known how the
// member ended. The caller must hold x.mu.
func (x *Mux) lost(c *call) (o outcome) {
	l := c.instance
	x.eject(l)
	x.release(c)
	if l.reaped {
		x.resolve(l, c, &o)
	} else {
		l.lost = append(l.lost, c)
		x.unresolved++
	}
	x.finishIfIdle()
	return o
}

// reap resolves the calls of a member whose process is gone.
func (x *Mux) reap(l *instance) {
	x.mu.Lock()
	x.eject(l)
	l.reaped = true
	if b, ok := l.backend.(interface{ FromOutside() bool }); ok {
		l.killed = b.FromOutside() && !l.hung
	}
	var o outcome
	for _, c := range l.lost {
		x.resolve(l, c, &o)
	}
	x.unresolved -= len(l.lost)
	l.lost = nil
	x.forget(l)
	x.finishIfIdle()
	x.mu.Unlock()
	x.apply(o)
}

// resolve decides what becomes of one call that was in flight when its member ended. The caller must hold x.mu.
func (x *Mux) resolve(l *instance, c *call, o *outcome) {
	switch {
	case l.draining:
	case !l.killed:
		c.retryCount += crashWeight
	case l.ejectedWith == 1:
		c.retryCount += killWeight
	}
	switch {
	case c.done == nil: // answered early, at its deadline
		clear(c.req.Body)
	case c.retryCount >= retryLimit:
		o.poison = append(o.poison, c)
	case x.ctx.Err() != nil:
		o.lost = append(o.lost, c)
	default:
		x.queue.quarantine = append(x.queue.quarantine, c)
		x.arm(c.deadline)
		o.replay = true
	}
}

// apply refuses and replays calls as resolve decided.
func (x *Mux) apply(o outcome) {
	for _, c := range o.poison {
		x.log.Error("poison request refused: it crashes drivers", "operation", c.name(), "tenant", c.tenant.name, "bytes", len(c.req.Body))
		x.refuse(c, driver.Errorf(driver.Poison, "request was in flight at too many driver crashes"))
	}
	for _, c := range o.lost {
		x.refuse(c, driver.Errorf(driver.Lost, "driver ended"))
	}
	if o.replay {
		x.pump(nil)
	}
}

// name is the operation, or the control call's name.
func (c *call) name() string {
	if c.ctl != nil {
		return c.control
	}
	return c.req.Kind.String()
}
