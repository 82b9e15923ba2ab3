package hsmd

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins/driver"
)

// statusTimeout limits how long Status waits for a member's own report. After it Status uses the last report. A caller with an
// earlier deadline, such as the Mux above, gets its answer before that.
const statusTimeout = 250 * time.Millisecond

func statOf(kind driver.OpKind) int {
	if kind < 0 || kind > driver.LastOp {
		return 0
	}
	return int(kind)
}

// record hands an answered operation to telemetry.
func (x *Mux) record(c *call, l *instance, r *driver.Response) {
	if x.cfg.Recorder == nil {
		return
	}
	op := x.operation(c, l, r.Code)
	op.Queued, op.Timings = c.queued, r.Timings
	x.cfg.Recorder.Record(op)
}

// operation returns what telemetry records of a call on l, or of a call on no member; the caller adds the times.
func (x *Mux) operation(c *call, l *instance, code driver.Code) telemetry.Operation {
	op := telemetry.Operation{Kind: c.req.Kind, Control: c.control, Tenant: c.tenant.name, Code: code, Span: c.span, Start: c.start}
	if l != nil {
		op.Member = l.member.cfg.Name
	}
	return op
}

// describe is the Mux's own Description. The caller must hold x.mu.
func (x *Mux) describe(first *instance) *driver.Description {
	d := proto.CloneOf(first.desc)
	d.FastWorkers, d.SlowWorkers = 0, 0
	for _, m := range x.members {
		if m.instance != nil {
			d.FastWorkers += m.instance.desc.GetFastWorkers()
			d.SlowWorkers += m.instance.desc.GetSlowWorkers()
		}
	}
	return d
}

// Status implements driver.Driver. It returns the last report of each member, corrected by what the Mux knows.
func (x *Mux) Status(ctx context.Context) ([]*driver.Member, error) {
	timeout := statusTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)*3/4)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	x.mu.Lock()
	ready := slices.Clone(x.ready)
	x.mu.Unlock()
	var wg sync.WaitGroup
	for _, l := range ready {
		wg.Go(func() {
			seen, err := l.backend.Status(ctx)
			if err != nil {
				return
			}
			x.mu.Lock()
			l.member.seen = seen
			x.mu.Unlock()
		})
	}
	wg.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []*driver.Member
	for _, m := range x.members {
		out = append(out, x.reports(m)...)
	}
	// The queue belongs to the Mux and not to a member: it is shown with the first one.
	out[0].QueueLength += uint32(x.queue.count + len(x.queue.quarantine))
	out[0].QueueLimit += uint32(x.cfg.QueueDepth)
	if len(out[0].Latencies) == 0 {
		out[0].Latencies = x.latencies()
	}
	return out, nil
}

// reports returns a member's last report, corrected by what the Mux knows. The caller must hold x.mu.
func (x *Mux) reports(m *member) []*driver.Member {
	reports := make([]*driver.Member, 0, max(len(m.seen), 1))
	for _, seen := range m.seen {
		reports = append(reports, proto.CloneOf(seen))
	}
	if len(reports) == 0 {
		reports = append(reports, &driver.Member{})
	}
	for _, r := range reports {
		if r.Name == "" {
			r.Name = m.cfg.Name
		}
		if m.state != stateReady || r.State == "" {
			r.State = m.state
		}
		r.Restarts += m.restarts
		if m.lastError != nil {
			r.LastError = errorName(m.lastError)
		}
		if l := m.instance; l == nil {
			r.SessionsOpen, r.SessionsBusy, r.InFlight, r.LiveKeys = 0, 0, 0, 0
			r.Pid = 0
		} else if len(reports) == 1 {
			r.InFlight = max(r.InFlight, uint32(l.inFlight))
			if r.Pid == 0 {
				r.Pid = uint32(l.backend.PID())
			}
		}
	}
	return reports
}

// errorName is an error as Status shows it: code and CKR name only.
func errorName(e *driver.Error) string {
	if e.CKR != "" {
		return e.Code.String() + " " + e.CKR
	}
	return e.Code.String()
}

// latencies leaves out control calls, which have kind 0.
func (x *Mux) latencies() []*driver.Latency {
	return driver.Latencies(x.stats[1:], func(i int) string { return driver.OpKind(i + 1).String() })
}

// watchBuffer is how many events wait for a slow watcher. It misses further ones.
const watchBuffer = 64

// Watch implements driver.Driver: the events of all members, and the Mux's own "restart".
func (x *Mux) Watch(ctx context.Context, fn func(*driver.Event)) error {
	ch := make(chan *driver.Event, watchBuffer)
	x.mu.Lock()
	x.watchers[ch] = struct{}{}
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.watchers, ch)
		x.mu.Unlock()
	}()
	for {
		select {
		case e := <-ch:
			fn(e)
		case <-ctx.Done():
			return driver.AsError(ctx.Err())
		case <-x.ctx.Done():
			return driver.Errorf(driver.Lost, "driver ended")
		}
	}
}

// emit sends an event to the watchers. A watcher whose buffer is full misses it.
func (x *Mux) emit(e *driver.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for ch := range x.watchers {
		select {
		case ch <- e:
		default:
		}
	}
}

// relay passes a member's own events to the watchers until the member ends.
func (x *Mux) relay(ctx context.Context, l *instance) {
	err := l.backend.Watch(ctx, func(e *driver.Event) {
		l.member.log.Info("driver event", "kind", e.GetKind(), "generation", e.GetGeneration(), "code", e.GetError().GetCode())
		x.emit(e)
	})
	if err != nil && ctx.Err() == nil && driver.CodeOf(err) != driver.Lost {
		l.member.log.Debug("cannot watch driver events", "error", err)
	}
}
