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

// laneDepth limits the queue of each lane. Further operations return Busy.
const laneDepth = 4096

// holdBack is how long a worker with more jobs in its queue keeps answers, so that several share a system call and one wake-up of the
// client. It is longer for an operation that has waited longer, half of its wait, up to maxHoldBack.
const (
	holdBack    = 200 * time.Microsecond
	maxHoldBack = 2 * time.Millisecond
)

// quick is the average duration of fast-lane operations up to which the reading goroutine runs an operation itself if no worker is
// busy, because waking a worker takes as long. A longer operation delays the next ones, which then go to workers.
const quick = 50 * time.Microsecond

// Workers runs the operations of a driver process on its Driver: two lanes, for fast and slow operations, each with a queue and a
// few workers.
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
	running  int
	typical  time.Duration // of an operation: a moving average
	draining bool
	idle     chan struct{} // closed when draining and no operation is left
}

type job struct {
	req   *Request
	done  func(*Response)
	since time.Time
}

// NewWorkers starts fast and slow workers (at least one each) on d.
func NewWorkers(d Driver, fast, slow int) *Workers {
	w := &Workers{driver: d, fast: newLane(), slow: newLane()}
	w.start(w.fast, max(fast, 1))
	w.start(w.slow, max(slow, 1))
	return w
}

func newLane() *lane {
	l := &lane{typical: time.Second, idle: make(chan struct{})}
	l.cond = sync.NewCond(&l.mu)
	return l
}

func (w *Workers) start(l *lane, n int) {
	for range n {
		w.wg.Go(func() { w.work(l) })
	}
}

// Submit implements Submitter. It may run a quick operation before it returns.
func (w *Workers) Submit(req *Request, done func(*Response)) {
	l := w.fast
	if Slow(req.Kind) {
		l = w.slow
	}
	batch := req.Batch
	req.Batch = nil
	l.mu.Lock()
	var refuse *Error
	switch {
	case l.draining:
		refuse = &Error{Code: Lost, Message: "driver is draining"}
	case l == w.fast && batch != nil && l.typical < quick && l.head == len(l.queue) && l.running == batch.held:
		l.running++
		l.mu.Unlock()
		now := time.Now()
		if w.do(l, job{req, done, now}, now, batch); time.Since(batch.oldest) > holdBack {
			batch.flush()
		}
		return
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

// Drain refuses new operations and waits until all accepted ones are answered or the context ends.
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

// finishIfIdle closes idle if a draining lane has no operations left. The caller must hold the lock.
func (l *lane) finishIfIdle() {
	if l.draining && l.running == 0 && l.head == len(l.queue) {
		select {
		case <-l.idle:
		default:
			close(l.idle)
		}
	}
}

// take returns the next job. If the queue is empty, it waits for one if wait is set; it returns no job for an empty or drained lane.
func (l *lane) take(wait bool) (job, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.head == len(l.queue) {
		if l.draining || !wait {
			return job{}, false
		}
		l.cond.Wait()
	}
	j := l.queue[l.head]
	l.queue[l.head] = job{}
	l.head++
	if l.head == len(l.queue) {
		l.queue, l.head = l.queue[:0], 0
	} else if l.head > laneDepth {
		l.queue, l.head = append(l.queue[:0], l.queue[l.head:]...), 0
	}
	l.running++
	return j, true
}

// answered counts jobs whose answers are sent.
func (l *lane) answered(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running -= n
	l.finishIfIdle()
}

func (w *Workers) work(l *lane) {
	var batch Batch
	for {
		j, ok := l.take(batch.held == 0)
		if !ok && batch.held == 0 {
			return
		}
		flush := !ok
		if ok {
			began := time.Now()
			took := w.do(l, j, began, &batch)
			holdLimit := min(max(holdBack, began.Sub(j.since)/2), maxHoldBack)
			flush = time.Since(batch.oldest)+took > holdLimit // the next one will take as long as this one
		}
		if flush {
			batch.flush()
		}
	}
}

// do runs a job that its lane counts as running and adds the answer to the batch. It returns the duration.
func (w *Workers) do(l *lane, j job, began time.Time, batch *Batch) time.Duration {
	r := w.run(j, began)
	r.Batch = batch
	j.done(r)
	clear(r.Body)
	now := time.Now()
	if batch.held++; batch.held == 1 {
		batch.oldest, batch.lane = now, l
	}
	took := now.Sub(began)
	l.mu.Lock()
	l.typical += (took - l.typical) / 8
	l.mu.Unlock()
	return took
}

func (w *Workers) run(j job, began time.Time) *Response {
	timings, op := Timings{Queue: began.Sub(j.since)}, new(Op)
	defer func() { clear(op.Data) }() // after the result is encoded, which may share it
	res, err := w.execute(j.req, op, began, &timings)
	if err != nil {
		r := ErrorResponse(err)
		r.Timings = timings
		return r
	}
	body, err := proto.Marshal(res)
	wipe(res)
	if err != nil {
		return ErrorResponse(Errorf(Internal, "encode result: %w", err))
	}
	return &Response{Timings: timings, Body: body}
}

func (w *Workers) execute(req *Request, op *Op, now time.Time, timings *Timings) (res *Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			res, err = nil, Errorf(Internal, "driver panicked: %s", panicText(p))
		}
	}()
	if now.After(req.Deadline) {
		return nil, &Error{Code: Deadline, Message: "deadline passed in the driver's queue"}
	}
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

// panicText returns the type and place of a panic, without its value, which may be secret. It must be called from the deferred
// function that recovered.
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

// opContext is the context of one operation. It creates a timer only if Done is called, because most operations end in
// microseconds.
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
