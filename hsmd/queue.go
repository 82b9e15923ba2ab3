package hsmd

import (
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/plugins/driver"
)

// lane separates calls by how long they take, so that no call waits behind a slower kind.
type lane uint8

const (
	fast     lane = iota // symmetric operations
	slow                 // asymmetric operations
	controls             // control calls: key generation, tenants, health
	lanes
)

// call is one operation or control call in the Mux.
type call struct {
	req        driver.Request // as it goes to the member; of a control call only Tenant and Trace are used
	ctl        func(l *instance, trace []byte) error
	control    string // the control call's name, empty for an operation
	tenant     *tenant
	lane       lane
	cost       float64   // as learned when it entered, µs
	start      time.Time // Submit
	deadline   time.Time // the caller's
	queued     time.Duration
	span       trace.Span             // nil without tracing
	done       func(*driver.Response) // nil once answered: the member's answer then only releases the call
	retryCount int                    // see quarantine.go
	instance   *instance              // the member that runs it; nil if not in flight
	next       *call                  // in flight on the same instance
	prev       *call
	answer     func(*driver.Response) // answered, bound once
}

// tenant is one tenant's part of the queue.
type tenant struct {
	name      string
	waiting   [lanes][]*call
	used      [lanes]float64 // HSM time that its calls were given, in learned µs
	cost      [lanes]float64 // of its waiting calls
	count     int
	bytes     int
	presences presences
}

// queue holds waiting calls by lane and tenant. The tenant that got the least HSM time is served next. A tenant that returns after
// a pause starts level with the others, so that a pause gives no advantage.
type queue struct {
	active [lanes][]*tenant
	level  [lanes]float64 // used of the tenant served last
	cost   [lanes]float64 // of the waiting calls
	costs  [driver.LastOp + 1]float64
	count  int
	// quarantine holds calls that were in flight when their driver ended. They are replayed first, one at a time: see Mux.take.
	quarantine []*call
}

// learn updates the cost of a kind of operation with the time that one took.
func (q *queue) learn(kind driver.OpKind, t *driver.Timings) {
	if kind < 0 || int(kind) >= len(q.costs) {
		return
	}
	us := float64(t.Session+t.HSM) / float64(time.Microsecond)
	q.costs[kind] += (us - q.costs[kind]) / 16
}

func (q *queue) costOf(kind driver.OpKind) float64 {
	if kind < 0 || int(kind) >= len(q.costs) {
		return 1
	}
	return max(q.costs[kind], 1)
}

// push appends a call to its tenant's queue.
func (q *queue) push(c *call) {
	t, l := c.tenant, c.lane
	if len(t.waiting[l]) == 0 {
		t.used[l] = max(t.used[l], q.level[l])
		q.active[l] = append(q.active[l], t)
	}
	t.waiting[l] = append(t.waiting[l], c)
	t.count++
	t.bytes += len(c.req.Body)
	t.cost[l] += c.cost
	q.cost[l] += c.cost
	q.count++
}

// pop removes and returns the next call of a lane from a tenant that serves accepts, or nil.
func (q *queue) pop(l lane, serves func(*tenant) bool) *call {
	var best *tenant
	for _, t := range q.active[l] {
		if (best == nil || t.used[l] < best.used[l]) && serves(t) {
			best = t
		}
	}
	if best == nil {
		return nil
	}
	c := best.waiting[l][0]
	best.waiting[l][0] = nil
	best.waiting[l] = best.waiting[l][1:]
	q.level[l] = best.used[l]
	best.used[l] += q.costOf(c.req.Kind)
	q.gone(c)
	q.retire(best, l)
	return c
}

func (q *queue) gone(c *call) {
	c.tenant.count--
	c.tenant.bytes -= len(c.req.Body)
	c.tenant.cost[c.lane] -= c.cost
	q.cost[c.lane] -= c.cost
	q.count--
}

// retire removes a tenant without waiting calls from its lane.
func (q *queue) retire(t *tenant, l lane) {
	if len(t.waiting[l]) > 0 {
		return
	}
	t.waiting[l], t.cost[l] = nil, 0 // without the rounding errors of the sums
	if len(q.active[l]) == 1 {
		q.cost[l] = 0
	}
	for i, other := range q.active[l] {
		if other == t {
			q.active[l] = append(q.active[l][:i], q.active[l][i+1:]...)
			return
		}
	}
}

// remove removes and returns every waiting call that drop accepts.
func (q *queue) remove(drop func(*call) bool) (out []*call) {
	keep := func(calls []*call) []*call {
		kept := calls[:0]
		for _, c := range calls {
			if drop(c) {
				out = append(out, c)
			} else {
				kept = append(kept, c)
			}
		}
		clear(calls[len(kept):])
		return kept
	}
	q.quarantine = keep(q.quarantine)
	struck := len(out)
	for l := range lanes {
		for _, t := range append([]*tenant(nil), q.active[l]...) {
			t.waiting[l] = keep(t.waiting[l])
			q.retire(t, l)
		}
	}
	for _, c := range out[struck:] {
		q.gone(c)
	}
	return out
}

// earliest returns the earliest deadline of the waiting calls, zero if none waits.
func (q *queue) earliest() (first time.Time) {
	see := func(calls []*call) {
		for _, c := range calls {
			if first.IsZero() || c.deadline.Before(first) {
				first = c.deadline
			}
		}
	}
	see(q.quarantine)
	for l := range lanes {
		for _, t := range q.active[l] {
			see(t.waiting[l])
		}
	}
	return first
}
