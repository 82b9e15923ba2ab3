package dialect

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// SlowTimeout is the longest time of an operation that generates an asymmetric key ([policy.Operation.Slow]), unless
// Host.Timeout is longer: small HSMs need most of a minute for RSA_4096.
const SlowTimeout = 2 * time.Minute

// Host is what a dialect gets of the process that serves it.
type Host struct {
	Principal func(policy.Caller) policy.Principal // by the kernel's word
	Unsigned  bool                                 // refuse signatures and tokens on the Unix socket
	Timeout   time.Duration                        // of one operation; see SlowTimeout
	Limits    *kms.Limits                          // of calls through this dialect; nil: the core's
	Recorder  Recorder                             // nil: none
	Clock     kms.Clock                            // nil: the system's
}

// Config makes a Server of a dialect's words.
type Config struct {
	Host
	Core   Gate
	Name   string // in audit records and telemetry
	Table  Table
	Proofs []Proof
	Errors Errors
	// Place refuses requests for another place than the one that is served, such as another project; nil: there is one.
	Place func(r *http.Request, x *Exchange) error
	// Flat reports whether the fields of a request are its parameters, and from which index on those count the elements of lists
	// (see DecodeParameters); else, or if it is nil, they are members of the body's JSON.
	Flat func(r *http.Request) (first int, ok bool)
	// Common are the parameters of such requests that belong to no operation.
	Common []string
	// Rules are where the cloud differs from the core; nil: nowhere.
	Rules *kms.Rules
	// Strict refuses members of the body that the route does not list; else they are ignored.
	Strict bool
	// Open and Close append the beginning and the end of an answer around what the handler appends; nil: nothing.
	Open, Close func(x *Exchange)
}

// Server serves the operations of one dialect.
type Server struct {
	cfg Config
}

// NewServer returns a Server.
func NewServer(cfg Config) *Server {
	cfg.Clock = cmp.Or[kms.Clock](cfg.Clock, kms.SystemClock{})
	return &Server{cfg: cfg}
}

// Now returns the time of the dialect's clock.
func (s *Server) Now() time.Time { return s.cfg.Clock.Now() }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := Begin()
	defer x.End()
	rt, condition := s.cfg.Table.Find(r, x)
	if rt == nil {
		s.fail(w, x, nil, s.refuseUnserved(r, x, condition))
		return
	}
	x.Route = rt
	if err := s.operate(rt, r, x); err != nil {
		s.fail(w, x, rt, err)
		return
	}
	if x.Stream != nil {
		x.SendStream(w, r)
		return
	}
	if s.cfg.Close != nil {
		s.cfg.Close(x)
	}
	if rt.Status == http.StatusOK && len(x.Out) == 0 {
		x.Out = append(x.Out, "{}"...) // strict clients decode every answer that may have a body
	}
	x.Send(w, rt.Status)
}

// operate does one operation: with its deadline, its trace, its call, and a record of every refusal that is not the core's.
func (s *Server) operate(rt *Route, r *http.Request, x *Exchange) (err error) {
	op, timeout := rt.Operation, s.cfg.Timeout
	if op.Slow() {
		timeout = max(timeout, SlowTimeout)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	x.cancel = cancel
	if s.cfg.Recorder != nil {
		var end func(kms.Code)
		ctx, end = s.cfg.Recorder.Begin(ctx, r.Header.Get("Traceparent"), s.cfg.Name, x.RequestID, op)
		defer func() { end(outcome(err)) }()
	}
	call := &kms.Call{RequestID: x.RequestID, Dialect: s.cfg.Name, Caller: kms.CallerFrom(ctx), Limits: s.cfg.Limits, Rules: s.cfg.Rules}
	ctx = kms.WithCall(ctx, call)
	defer func() {
		if p := recover(); p != nil {
			err = s.recordRefusal(ctx, op, s.panicked(p))
		}
	}()
	err = s.serve(ctx, rt, r, x, call, &op)
	return s.recordRefusal(ctx, op, err)
}

// serve authenticates the sender, reads the fields, and calls the handler. It sets the operation that the fields ask for.
func (s *Server) serve(
	ctx context.Context, rt *Route, r *http.Request, x *Exchange, call *kms.Call, op *policy.Operation,
) error {
	err := s.authenticate(ctx, call, rt.Body, r, x)
	if err == nil && rt.SocketOnly && !call.Caller.Known {
		err = s.refuse(OnlyOnSocket)
	}
	if err == nil && s.cfg.Place != nil {
		err = s.cfg.Place(r, x)
	}
	if err == nil {
		err = s.decodeError(s.decode(r, x, rt))
	}
	if err == nil {
		x.strict = s.cfg.Strict
		err = s.fieldError(rt, x, x.ReadFields(rt.Fields, r))
		*op = rt.asked(x)
	}
	if err == nil {
		if s.cfg.Open != nil {
			s.cfg.Open(x)
		}
		err = rt.Handle(ctx, *op, x)
	}
	if x.unlisted != "" {
		err = s.fault(fmt.Errorf("the operation reads a field that its route does not list: %s", x.unlisted))
	}
	return err
}

// decode finds the members of a request's fields.
func (s *Server) decode(r *http.Request, x *Exchange, rt *Route) error {
	if s.cfg.Flat != nil {
		if first, ok := s.cfg.Flat(r); ok {
			return x.DecodeParameters(r, rt, first, s.cfg.Common)
		}
	}
	return x.Decode(r, rt.Body)
}

// outcome is the core's code for how an operation ended, "" for success.
func outcome(err error) kms.Code {
	if err == nil {
		return ""
	}
	return kms.AsError(err).Code
}
