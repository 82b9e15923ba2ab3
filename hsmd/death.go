package hsmd

import (
	"github.com/keyside/keyside/plugins/driver"
)

// What happens when a member dies with calls in flight.
//
// Each call that it had is repeated, alone, on a fresh or another member. A death that is the driver's own (a crash, an
// exit, a hang) counts in full against every call that was in flight, so a request that kills its driver is refused, as
// poison and on record, at the second death; those that were beside it the first time run alone the second time, and so
// stay innocent. A death from outside (kill -9, or hsmd's end for its clients) says nothing about several calls and little
// about one that ran alone: it counts half, and only then.

// Strikes, and how many are too many.
const (
	strikeOwn     = 2
	strikeOutside = 1
	maxStrikes    = 4
)

// verdict is what became of calls that a death interrupted and that are not to be repeated.
type verdict struct {
	poison []*call
	lost   []*call
	resume bool // some are to be repeated
}

// condemn ends a member's ready phase: it gets no more work and its supervisor replaces it. The lock is held.
func (x *Mux) condemn(l *life) {
	if l.condemned {
		return
	}
	l.condemned = true
	l.crowd = l.inFlight
	for i, other := range x.ready {
		if other == l {
			x.ready = append(x.ready[:i:i], x.ready[i+1:]...)
			break
		}
	}
	if x.warden == l {
		x.warden = nil
	}
	l.member.state = stateStarting
	close(l.gone)
}

// lost takes a call that its member lost. How the member ended is known only once it is buried, so until then the call is
// kept. The lock is held.
func (x *Mux) lost(c *call) (v verdict) {
	l := c.life
	x.condemn(l)
	x.release(c)
	if l.buried {
		x.judge(l, c, &v)
	} else {
		l.lost = append(l.lost, c)
		x.limbo++
	}
	x.finishIfIdle()
	return v
}

// bury is called when a member's process is gone.
func (x *Mux) bury(l *life) {
	x.mu.Lock()
	x.condemn(l)
	l.buried = true
	if b, ok := l.backend.(interface{ FromOutside() bool }); ok {
		l.outside = b.FromOutside() && !l.hung
	}
	var v verdict
	for _, c := range l.lost {
		x.judge(l, c, &v)
	}
	x.limbo -= len(l.lost)
	l.lost = nil
	x.forget(l)
	x.finishIfIdle()
	x.mu.Unlock()
	x.sentence(v)
}

// judge decides about one call that died with its member; the lock is held.
func (x *Mux) judge(l *life, c *call, v *verdict) {
	switch {
	case l.draining:
	case !l.outside:
		c.strikes += strikeOwn
	case l.crowd == 1:
		c.strikes += strikeOutside
	}
	switch {
	case c.done == nil: // answered early, at its deadline
		clear(c.req.Body)
	case c.strikes >= maxStrikes:
		v.poison = append(v.poison, c)
	case x.ctx.Err() != nil:
		v.lost = append(v.lost, c)
	default:
		x.queue.struck = append(x.queue.struck, c)
		x.arm(c.deadline)
		v.resume = true
	}
}

// sentence carries a verdict out.
func (x *Mux) sentence(v verdict) {
	for _, c := range v.poison {
		x.log.Error("request refused as poison: drivers die of it", "operation", c.name(), "tenant", c.tenant.name, "bytes", len(c.req.Body))
		x.refuse(c, driver.Errorf(driver.Poison, "request was in flight at too many driver deaths"))
	}
	for _, c := range v.lost {
		x.refuse(c, driver.Errorf(driver.Lost, "driver ended"))
	}
	if v.resume {
		x.pump(nil)
	}
}

func (c *call) name() string {
	if c.ctl != nil {
		return c.control
	}
	return c.req.Kind.String()
}
