package driver

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Request is one encoded operation. A Submitter reads it only until it calls done, and the caller of Submit does not change it
// before. When done is called, the caller clears Body, which may contain plaintext, unless the response is Early.
type Request struct {
	Kind     OpKind
	Tenant   string
	Deadline time.Time
	Trace    []byte // W3C traceparent, empty without tracing
	Body     []byte // encoded Op
	// Batch collects connections with unsent bytes; nil sends at once. It is valid only during the call of Submit: a Submitter
	// that keeps the request sets it to nil.
	Batch *Batch
}

// Response answers a Request. Body is valid only until done returns.
type Response struct {
	Code Code
	// Early says that a part of the Submitter may still read the request. The Submitter then clears the request's Body itself.
	Early   bool
	Timings Timings
	Body    []byte // encoded Result
	Batch   *Batch // as in Request, for what done writes
}

// Submitter runs operations asynchronously. A Stream, the Workers of a driver and hsmd's Mux are Submitters, so a relay forwards by
// callback and needs no goroutine per request.
type Submitter interface {
	// Submit starts a request. done is called exactly once, from any goroutine, possibly before Submit returns; it must not
	// block.
	Submit(req *Request, done func(*Response))
}

// ErrorResponse returns the response with err.
func ErrorResponse(err error) *Response {
	e := AsError(err)
	body, _ := proto.Marshal(&Result{Error: e.Proto()})
	return &Response{Code: e.Code, Body: body}
}

// Err returns the error that a response carries, or nil.
func (r *Response) Err() error {
	if r.Code == 0 {
		return nil
	}
	var res Result
	if err := proto.Unmarshal(r.Body, &res); err == nil && res.GetError() != nil {
		return FromProto(res.GetError())
	}
	e := FromProto(&driverv1.Error{Code: r.Code})
	e.Message = "driver answered " + e.Code.String()
	return e
}

type timingsKey struct{}

// TimingsFrom returns the Timings that Execute must fill; never nil.
func TimingsFrom(ctx context.Context) *Timings {
	if t, ok := ctx.Value(timingsKey{}).(*Timings); ok {
		return t
	}
	return new(Timings)
}

// WithTimings returns a context for which TimingsFrom returns t.
func WithTimings(ctx context.Context, t *Timings) context.Context {
	return context.WithValue(ctx, timingsKey{}, t)
}

type traceKey struct{}

// WithTrace returns a context that carries a W3C traceparent for the next hop.
func WithTrace(ctx context.Context, traceparent []byte) context.Context {
	return context.WithValue(ctx, traceKey{}, traceparent)
}

// TraceFrom returns the traceparent of WithTrace, or nil.
func TraceFrom(ctx context.Context) []byte {
	b, _ := ctx.Value(traceKey{}).([]byte)
	return b
}

// defaultTimeout limits an operation whose context has no deadline.
const defaultTimeout = 30 * time.Second

// call is one blocking Do: pooled, with the channel that its answer comes on.
type call struct {
	res     Result
	err     error
	timings Timings
	ready   chan struct{}
}

var calls = sync.Pool{New: func() any { return &call{ready: make(chan struct{}, 1)} }}

// Do runs one operation through a Submitter and waits for its result. It stores the times in TimingsFrom(ctx).
func Do(ctx context.Context, s Submitter, tenant string, op *Op) (*Result, error) {
	body, err := proto.Marshal(op)
	if err != nil {
		return nil, Errorf(InvalidArgument, "encode operation: %w", err)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		bounded, cancel := context.WithTimeout(ctx, defaultTimeout)
		defer cancel()
		ctx = bounded
		deadline, _ = ctx.Deadline()
	}
	c := calls.Get().(*call)
	req := &Request{Kind: op.GetKind(), Tenant: tenant, Deadline: deadline, Trace: TraceFrom(ctx), Body: body}
	s.Submit(req, func(r *Response) {
		c.timings = r.Timings
		if c.err = r.Err(); c.err == nil {
			if err := proto.Unmarshal(r.Body, &c.res); err != nil || c.res.GetError() != nil {
				c.err = Errorf(Internal, "driver answered with a malformed result")
			}
		}
		if !r.Early {
			clear(body)
		}
		c.ready <- struct{}{}
	})
	select {
	case <-c.ready:
	case <-ctx.Done():
		go c.abandon()
		return nil, AsError(ctx.Err())
	}
	res, err := &Result{Data: c.res.Data, Iv: c.res.Iv, Plaintext: c.res.Plaintext, Valid: c.res.Valid}, c.err
	*TimingsFrom(ctx) = c.timings
	c.reuse()
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (c *call) reuse() {
	c.res.Reset()
	c.err = nil
	calls.Put(c)
}

// abandon waits for an answer that comes after its deadline, and clears it.
func (c *call) abandon() {
	<-c.ready
	wipe(&c.res)
	c.reuse()
}

// wipe clears what may be secret in a result.
func wipe(r *Result) {
	clear(r.GetData())
	clear(r.GetPlaintext())
}
