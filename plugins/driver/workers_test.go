package driver

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestPanicBecomesInternal(t *testing.T) {
	secret := "plaintext of a customer"
	s, _ := hop(t, func(_ context.Context, _ string, op *Op) (*Result, error) {
		switch op.GetLength() {
		case 0:
			panic(secret)
		case 1:
			panic(errors.New(secret))
		default:
			return &Result{Data: op.GetData()[:op.GetLength()]}, nil // out of range
		}
	})
	for n := range uint32(3) {
		_, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt, Length: n})
		if CodeOf(err) != Internal || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
			t.Errorf("panic %d: %v", n, err)
		}
		if n > 0 && !strings.Contains(err.Error(), "TestPanicBecomesInternal") {
			t.Errorf("panic %d does not say where: %v", n, err)
		}
	}
	if res, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt, Length: 2, Data: []byte("abc")}); err != nil || string(res.GetData()) != "ab" {
		t.Errorf("after the panics: %v", err)
	}
}

func TestDeadlines(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	s, _ := hop(t, func(ctx context.Context, _ string, op *Op) (*Result, error) {
		if op.GetLength() == 0 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		close(entered)
		<-leave
		return &Result{}, nil
	})
	passed, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	if _, err := Do(passed, s, "t", &Op{Kind: Encrypt}); CodeOf(err) != Deadline {
		t.Errorf("passed before: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := Do(short, s, "t", &Op{Kind: Encrypt}); CodeOf(err) != Deadline {
		t.Errorf("passed inside: %v", err)
	}
	// The caller leaves although the driver does not.
	left, leaveNow := context.WithCancel(t.Context())
	go func() { <-entered; leaveNow() }()
	if _, err := Do(left, s, "t", &Op{Kind: Encrypt, Length: 1}); CodeOf(err) != Deadline {
		t.Errorf("canceled: %v", err)
	}
	close(leave)
	eventually(t, "late answers are taken in", func() bool { return s.InFlight() == 0 })
}

// The context of an operation has all that a driver expects of one.
func TestOperationContext(t *testing.T) {
	s, _ := hop(t, func(ctx context.Context, tenant string, op *Op) (*Result, error) {
		if _, ok := ctx.Deadline(); !ok || ctx.Err() != nil || string(TraceFrom(ctx)) != "00-trace" {
			t.Errorf("deadline, error or trace: %v %v %q", ok, ctx.Err(), TraceFrom(ctx))
		}
		child, cancel := context.WithCancel(ctx)
		cancel()
		if child.Err() == nil || ctx.Err() != nil {
			t.Error("a canceled child cancels its parent, or not itself")
		}
		child, cancel = context.WithTimeout(ctx, time.Hour)
		defer cancel()
		<-child.Done()
		if !errors.Is(child.Err(), context.DeadlineExceeded) || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("after the deadline: %v, %v", child.Err(), ctx.Err())
		}
		return echo(ctx, tenant, op)
	})
	ctx, cancel := context.WithTimeout(WithTrace(t.Context(), []byte("00-trace")), 30*time.Millisecond)
	defer cancel()
	_, _ = Do(ctx, s, "t", &Op{Kind: Encrypt})
	eventually(t, "the driver is done", func() bool { return s.InFlight() == 0 })
}

func TestFullQueueIsBusy(t *testing.T) {
	leave := make(chan struct{})
	w := NewWorkers(fakeDriver{execute: func(context.Context, string, *Op) (*Result, error) {
		<-leave
		return &Result{}, nil
	}}, 1, 1)
	var mu sync.Mutex
	codes := map[Code]int{}
	var all sync.WaitGroup
	submit := func(kind OpKind) {
		all.Add(1)
		w.Submit(&Request{Kind: kind, Tenant: "t", Deadline: time.Now().Add(time.Minute), Body: []byte{8, byte(kind)}}, func(r *Response) {
			err := r.Err()
			mu.Lock()
			codes[CodeOf(err)]++
			mu.Unlock()
			if e := new(Error); errors.As(err, &e) && (e.RetryAfter <= 0 || e.RetryClass() != RetryLater) {
				t.Errorf("busy without a hint: %+v", e)
			}
			all.Done()
		})
	}
	const workers, extra = 1, 50 // what a worker has taken is no longer queued
	for range laneDepth + workers + extra {
		submit(Encrypt)
	}
	mu.Lock()
	busy := codes[Busy]
	mu.Unlock()
	if busy < extra || busy > extra+workers {
		t.Errorf("%d of %d too many were refused", busy, extra)
	}
	submit(Sign) // the slow lane has a queue of its own
	close(leave)
	all.Wait()
	if codes[Busy] != busy || codes[0] != laneDepth+workers+extra-busy+1 {
		t.Errorf("answers: %v", codes)
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// A slow operation delays no fast one: neither in the queue, nor by an answer that waits to be sent.
func TestSlowLaneDelaysNobody(t *testing.T) {
	leave := make(chan struct{})
	var inside sync.WaitGroup
	inside.Add(2)
	s, _ := hop(t, func(ctx context.Context, tenant string, op *Op) (*Result, error) {
		if op.GetKind() == Sign && op.GetLength() == 1 {
			inside.Done()
			<-leave
		}
		return echo(ctx, tenant, op)
	})
	var slow sync.WaitGroup
	for range 2 { // both slow workers
		slow.Go(func() { _, _ = Do(t.Context(), s, "t", &Op{Kind: Sign, Length: 1}) })
	}
	inside.Wait()
	for range 100 {
		if _, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt}); err != nil {
			t.Fatal(err)
		}
	}
	close(leave)
	slow.Wait()
}

// A fast worker that hangs in one operation keeps no other's answer.
func TestHungOperationHoldsNoAnswers(t *testing.T) {
	hang, leave := make(chan struct{}), make(chan struct{})
	s, _ := hop(t, func(ctx context.Context, tenant string, op *Op) (*Result, error) {
		if op.GetLength() == 1 {
			close(hang)
			<-leave
		}
		return echo(ctx, tenant, op)
	})
	var hung sync.WaitGroup
	hung.Go(func() { _, _ = Do(t.Context(), s, "t", &Op{Kind: Encrypt, Length: 1}) })
	<-hang
	var rest sync.WaitGroup
	for range 64 {
		rest.Go(func() {
			if _, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt}); err != nil {
				t.Error(err)
			}
		})
	}
	rest.Wait()
	close(leave)
	hung.Wait()
}

func TestDrain(t *testing.T) {
	entered, leave := make(chan struct{}, 2), make(chan struct{})
	s, w := hop(t, func(ctx context.Context, tenant string, op *Op) (*Result, error) {
		entered <- struct{}{}
		<-leave
		return echo(ctx, tenant, op)
	})
	accepted := make(chan error, 2)
	for _, kind := range []OpKind{Encrypt, Sign} {
		go func() { _, err := Do(t.Context(), s, "t", &Op{Kind: kind}); accepted <- err }()
		<-entered
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := w.Drain(short); CodeOf(err) != Deadline {
		t.Errorf("drain with work inside: %v", err)
	}
	for _, kind := range []OpKind{Encrypt, Sign} {
		if _, err := Do(t.Context(), s, "t", &Op{Kind: kind}); CodeOf(err) != Lost {
			t.Errorf("%s while draining: %v", kind, err)
		}
	}
	close(leave)
	for range 2 {
		if err := <-accepted; err != nil {
			t.Errorf("accepted before the drain: %v", err)
		}
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Errorf("second drain: %v", err)
	}
}

func TestMalformedOperations(t *testing.T) {
	s, _ := hop(t, echo)
	for what, req := range map[string]*Request{
		"no protobuf":  {Kind: Encrypt, Tenant: "t", Body: []byte{0xff}},
		"another kind": {Kind: Encrypt, Tenant: "t", Body: []byte{8, byte(Sign)}},
		"a bad tenant": {Kind: Encrypt, Tenant: "../t", Body: []byte{8, byte(Encrypt)}},
		"no tenant":    {Kind: Encrypt, Body: []byte{8, byte(Encrypt)}},
	} {
		req.Deadline = time.Now().Add(time.Minute)
		answer := make(chan error, 1)
		s.Submit(req, func(r *Response) { answer <- r.Err() })
		if err := <-answer; CodeOf(err) != InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestQuickOperationsNeedNoWorker holds that operations which have been quick run where they are read, that the driver
// is not drained before such an answer is sent, and that workers take over when operations become slow.
func TestQuickOperationsNeedNoWorker(t *testing.T) {
	var takes time.Duration
	w := NewWorkers(fakeDriver{execute: func(context.Context, string, *Op) (*Result, error) {
		for began := time.Now(); time.Since(began) < takes; {
		}
		return &Result{}, nil
	}}, 2, 1)
	var batch Batch
	submit := func() (atOnce bool) {
		batch.flush()
		answered := make(chan struct{})
		w.Submit(&Request{Kind: Encrypt, Tenant: "t", Deadline: time.Now().Add(time.Minute), Body: []byte{8, byte(Encrypt)}, Batch: &batch},
			func(*Response) { close(answered) })
		<-answered
		eventually(t, "the worker is done", func() bool {
			w.fast.mu.Lock()
			defer w.fast.mu.Unlock()
			return w.fast.running == batch.held
		})
		return batch.held > 0
	}
	if submit() {
		t.Error("the first operation was run at once")
	}
	for range 10_000 { // a busy machine makes some of them slow
		if submit() {
			break
		}
	}
	if batch.held == 0 {
		t.Fatal("no quick operation was run at once")
	}
	passed, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Drain(passed); err == nil {
		t.Error("drained with an answer not sent")
	}
	batch.flush()
	if err := w.Drain(t.Context()); err != nil {
		t.Errorf("drain: %v", err)
	}

	takes = 2 * quick
	w = NewWorkers(w.driver, 2, 1)
	for range 100 {
		if submit() {
			t.Fatal("an operation that takes long was run at once")
		}
	}
}

// watched is a Submitter of a function.
type watched func(req *Request, done func(*Response))

func (w watched) Submit(req *Request, done func(*Response)) { w(req, done) }

// kept is a Submitter that answers at once and keeps what it was given.
type kept struct {
	Response
	body []byte
}

func (k *kept) Submit(req *Request, done func(*Response)) {
	k.body = req.Body
	done(&k.Response)
}

// TestPlaintextIsCleared checks every buffer that an operation and its result pass through on both sides of a stream.
func TestPlaintextIsCleared(t *testing.T) {
	var mu sync.Mutex
	buffers := map[string][]byte{}
	keep := func(name string, b []byte) {
		mu.Lock()
		defer mu.Unlock()
		buffers[name] = b
	}
	workers := NewWorkers(fakeDriver{execute: func(_ context.Context, _ string, op *Op) (*Result, error) {
		res := &Result{Data: []byte("secret data"), Plaintext: []byte("secret key")}
		keep("Op.Data", op.GetData())
		keep("Result.Data", res.GetData())
		keep("Result.Plaintext", res.GetPlaintext())
		return res, nil
	}}, 1, 1)
	client, server := socketPair(t)
	serve(server, watched(func(req *Request, done func(*Response)) {
		keep("the server's Request.Body", req.Body)
		workers.Submit(req, func(r *Response) {
			keep("the server's Response.Body", r.Body)
			done(r)
		})
	}), nil)
	s, err := DialStream(client, "")
	if err != nil {
		t.Fatal(err)
	}
	res, err := Do(t.Context(), watched(func(req *Request, done func(*Response)) {
		keep("the client's Request.Body", req.Body)
		s.Submit(req, done)
	}), "t", &Op{Kind: Encrypt, Data: []byte("secret plaintext")})
	if err != nil || string(res.GetData()) != "secret data" || string(res.GetPlaintext()) != "secret key" {
		t.Fatalf("%v, %v", res, err)
	}
	if err := errors.Join(s.Close(), workers.Drain(t.Context())); err != nil {
		t.Fatal(err)
	}
	for name, b := range buffers {
		if len(b) == 0 || bytes.Contains(b, []byte("secret")) {
			t.Errorf("%s holds %q", name, b)
		}
	}
	early := &kept{Response: Response{Code: Deadline, Early: true}}
	if _, err := Do(t.Context(), early, "t", &Op{Kind: Encrypt, Data: []byte("secret")}); CodeOf(err) != Deadline || !bytes.Contains(early.body, []byte("secret")) {
		t.Errorf("an early answer: %v, %q", err, early.body)
	}
}
