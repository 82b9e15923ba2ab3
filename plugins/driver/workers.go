package driver

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
)

// laneDepth bounds each lane's queue; one more is Busy.
const laneDepth = 4096

// A fast worker does up to fastBatch queued operations before it sends the answers it has, so that they share a system
// call, but keeps no answer back once it has worked for longer than holdBack. A slow worker takes one at a time.
const (
	fastBatch = 8
	slowBatch = 1
	holdBack  = 50 * time.Microsecond
)

// Workers runs operations on a Driver: a few workers, a queue in front of them, and a lane of its own for slow
// operations. It is what stands behind the execute stream of a driver process.
type Workers struct {
	driver     Driver
	fast, slow *lane
	wg         sync.WaitGroup
}

type lane struct {
	mu       sync.Mutex
	cond     *sync.Cond
	queue    []job
	head     int
	batch    int // most jobs that a worker takes at once
	running  int
	draining bool
	idle     chan struct{} // closed when draining and empty
}

type job struct {
	req   *Request
	done  func(*Response)
	since time.Time
}

// NewWorkers starts fast and slow workers (at least one each) on d.
func NewWorkers(d Driver, fast, slow int) *Workers {
	w := &Workers{driver: d, fast: newLane(fastBatch), slow: newLane(slowBatch)}
	w.start(w.fast, max(fast, 1))
	w.start(w.slow, max(slow, 1))
	return w
}

func newLane(batch int) *lane {
	l := &lane{batch: batch, idle: make(chan struct{})}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (w *Workers) start(l *lane, n int) {
	for range n {
		w.wg.Go(func() { w.work(l) })
	}
}

// Submit implements Submitter.
func (w *Workers) Submit(req *Request, done func(*Response)) {
	l := w.fast
	if Slow(req.Kind) {
		l = w.slow
	}
	req.Batch = nil
	l.mu.Lock()
	var refuse *Error
	switch {
	case l.draining:
		refuse = &Error{Code: Lost, Message: "driver is draining"}
	case len(l.queue)-l.head >= laneDepth:
		refuse = &Error{Code: Busy, RetryAfter: 100 * time.Millisecond, Message: "driver queue full"}
	default:
		l.queue = append(l.queue, job{req, done, time.Now()})
		l.cond.Signal()
	}
	l.mu.Unlock()
	if refuse != nil {
		done(ErrorResponse(refuse))
	}
}

// Drain refuses new operations and waits until those accepted are answered, or the context ends.
func (w *Workers) Drain(ctx context.Context) error {
	lanes := []*lane{w.fast, w.slow}
	for _, l := range lanes {
		l.mu.Lock()
		l.draining = true
		l.finishIfIdle()
		l.cond.Broadcast()
		l.mu.Unlock()
	}
	for _, l := range lanes {
		select {
		case <-l.idle:
		case <-ctx.Done():
			return AsError(ctx.Err())
		}
	}
	return nil
}

// finishIfIdle closes idle when a draining lane has nothing left; the lock is held.
func (l *lane) finishIfIdle() {
	if l.draining && l.running == 0 && l.head == len(l.queue) {
		select {
		case <-l.idle:
		default:
			close(l.idle)
		}
	}
}

// take waits for jobs and moves some into jobs; none means that the lane has drained.
func (l *lane) take(jobs []job, finished int) []job {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running -= finished
	l.finishIfIdle()
	for l.head == len(l.queue) {
		if l.draining {
			return nil
		}
		l.cond.Wait()
	}
	waiting := len(l.queue) - l.head
	n := min(max(waiting/2, 1), l.batch) // leave some to the other workers
	jobs = append(jobs[:0], l.queue[l.head:l.head+n]...)
	clear(l.queue[l.head : l.head+n])
	l.head += n
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	} else if l.head > laneDepth {
		l.queue, l.head = append(l.queue[:0], l.queue[l.head:]...), 0
	}
	l.running += n
	return jobs
}

func (w *Workers) work(l *lane) {
	var batch Batch
	var jobs []job
	for {
		jobs = l.take(jobs, len(jobs))
		if len(jobs) == 0 {
			return
		}
		last := time.Now()
		for _, j := range jobs {
			r := w.run(j)
			r.Batch = &batch
			j.done(r)
			if now := time.Now(); now.Sub(last) > holdBack {
				batch.flush()
				last = now
			}
		}
		batch.flush()
	}
}

func (w *Workers) run(j job) *Response {
	timings := Timings{Queue: time.Since(j.since)}
	res, err := w.execute(j.req, &timings)
	if err != nil {
		r := ErrorResponse(err)
		r.Timings = timings
		return r
	}
	body, err := proto.Marshal(res)
	if err != nil {
		return ErrorResponse(Errorf(Internal, "encode result: %w", err))
	}
	return &Response{Timings: timings, Body: body}
}

func (w *Workers) execute(req *Request, timings *Timings) (res *Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			res, err = nil, Errorf(Internal, "driver panicked: %s", panicText(p))
		}
	}()
	if time.Now().After(req.Deadline) {
		return nil, &Error{Code: Deadline, Message: "deadline passed in the driver's queue"}
	}
	op := new(Op)
	if err := proto.Unmarshal(req.Body, op); err != nil {
		return nil, Errorf(InvalidArgument, "malformed operation")
	}
	if op.GetKind() != req.Kind {
		return nil, Errorf(InvalidArgument, "operation and frame header differ")
	}
	if err := CheckTenant(req.Tenant); err != nil {
		return nil, err
	}
	ctx := &opContext{deadline: req.Deadline, timings: timings, trace: req.Trace}
	defer ctx.cancel()
	return w.driver.Execute(ctx, req.Tenant, op)
}

// panicText describes a panic by its type and place, without the values that it may carry. It is called from the
// deferred function that recovered.
func panicText(p any) string {
	if _, ok := p.(error); !ok {
		return fmt.Sprintf("%T", p)
	}
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	panicking := false
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		inRuntime := strings.HasPrefix(f.Function, "runtime.")
		if panicking && !inRuntime {
			return fmt.Sprintf("%T in %s, line %d", p, f.Function, f.Line)
		}
		panicking = panicking || inRuntime
	}
	return fmt.Sprintf("%T", p)
}

// opContext is the context of one operation. It has a deadline but makes a timer only for a driver that asks for Done,
// since most operations end in microseconds.
type opContext struct {
	deadline time.Time
	timings  *Timings
	trace    []byte

	mu    sync.Mutex
	timed context.Context
	stop  context.CancelFunc
}

func (c *opContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *opContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed == nil {
		c.timed, c.stop = context.WithDeadline(context.Background(), c.deadline)
	}
	return c.timed.Done()
}

func (c *opContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed != nil {
		return c.timed.Err()
	}
	if time.Now().After(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

func (c *opContext) Value(key any) any {
	switch key.(type) {
	case timingsKey:
		return c.timings
	case traceKey:
		return c.trace
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timed != nil {
		return c.timed.Value(key) // so that a child context finds its parent without a goroutine
	}
	return nil
}

func (c *opContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
}
