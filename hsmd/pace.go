package hsmd

import (
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// paceWindow and paceCalls are how long, and over how many calls at least, the pace of a lane is measured at once.
const (
	paceWindow = 100 * time.Millisecond
	paceCalls  = 4
)

// pace is how fast a lane works off its calls: the µs of learned cost that it completes in a µs, about the number of calls
// that really run at once. It is measured only while calls wait, when the members do as much as they can.
type pace struct {
	value float64 // 0: not known yet
	began time.Time
	calls int
	cost  float64
}

// completed counts a call. waiting says whether others wait.
func (p *pace) completed(now time.Time, cost float64, waiting bool) {
	switch {
	case !waiting:
		p.began = time.Time{}
		return
	case p.began.IsZero():
		p.began, p.calls, p.cost = now, 0, 0
		return
	}
	p.calls++
	p.cost += cost
	took := now.Sub(p.began)
	if took < paceWindow || p.calls < paceCalls {
		return
	}
	measured := p.cost * float64(time.Microsecond) / float64(took)
	if p.value != 0 {
		measured = (measured + p.value) / 2
	}
	p.value, p.began, p.calls, p.cost = measured, now, 0, 0
}

// wait returns how long calls of so much cost take; 0 if the pace is not known.
func (p *pace) wait(cost float64) time.Duration {
	if p.value == 0 {
		return 0
	}
	return time.Duration(cost / p.value * float64(time.Microsecond))
}

// tooLong returns the refusal of a call that would not be done by its deadline: as much as its tenant may use of the
// members is taken by the calls before it. It returns nil if the call may enter. The caller must hold x.mu.
func (x *Mux) tooLong(c *call, now time.Time) *driver.Error {
	if c.ctl != nil {
		return nil
	}
	before := min(x.queue.cost[c.lane], c.tenant.cost[c.lane]*float64(max(len(x.queue.active[c.lane]), 1)))
	wait, left := x.paces[c.lane].wait(x.inFlightCost[c.lane]+before+c.cost), c.deadline.Sub(now)
	if wait <= left {
		return nil
	}
	return &driver.Error{Code: driver.Busy, RetryAfter: max(wait-left, x.retryAfter()), Message: "queue too long for the deadline"}
}
