package dialect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Answer is an error in a dialect's words.
type Answer struct {
	Status int // of HTTP
	Code   string
}

// Refusal is an error that a dialect or the kernel found by itself, with the core's word for it, which is recorded.
type Refusal struct {
	Answer
	Core *kms.Error
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Core.Message }

// Unwrap returns the core's word.
func (r *Refusal) Unwrap() error { return r.Core }

// Condition is why the kernel refuses a request before the core sees it. Each dialect has an answer to each.
type Condition uint8

// The conditions.
const (
	NoRoute            Condition = iota // no operation has the request's path or mark
	NotOffered                          // the cloud has the operation, and Keyside does not serve it
	NoMethod                            // the path has operations, but not with this method
	SeveralMarks                        // the request has marks of several dialects, or one mark twice
	WebPage                             // the request may come from a web page
	CallerEnded                         // the process that opened the connection has exited
	ProofOnSocket                       // a signature or token on the Unix socket, where the configuration refuses them
	OnlyOnSocket                        // the operation is served to callers on the Unix socket only
	SeveralProofs                       // more than one signature or token
	NoProof                             // neither a signature nor a token, on the port
	WrongSignature                      // access key unknown, or its secret did not sign the request
	WrongToken                          // token unknown
	NoPrincipal                         // the caller matches no principal
	BodyTooLong                         // more bytes than the route allows
	BodyNotObject                       // the body is not a JSON object
	BodyCut                             // the body ended early
	BadQuery                            // the query or the form is malformed, or has a name twice
	FieldMissing                        // a required field is absent
	TooManyConnections                  // the sender's user or address holds as many connections as it may
	ProgramFault                        // a panic, or a field that the handler reads and the route does not list
	conditions
)

// Conditions lists the conditions, for the test that proves a dialect's answers total.
func Conditions() []Condition {
	all := make([]Condition, conditions)
	for i := range all {
		all[i] = Condition(i)
	}
	return all
}

// refused are the core's words for the conditions.
var refused = [conditions]*kms.Error{
	NoRoute:            kms.Errorf(kms.CodeInvalidRequest, "no such api"),
	NotOffered:         kms.Errorf(kms.CodeUnsupported, "this operation is not supported"),
	NoMethod:           kms.Errorf(kms.CodeInvalidRequest, "method not supported"),
	SeveralMarks:       kms.Errorf(kms.CodeInvalidRequest, "request has the marks of several apis, or one twice"),
	WebPage:            kms.Errorf(kms.CodeDenied, "requests of web pages are refused"),
	CallerEnded:        kms.Errorf(kms.CodeDenied, "the process that opened this connection has ended: connect again"),
	ProofOnSocket:      kms.Errorf(kms.CodeUnauthenticated, "signatures and tokens are not accepted on the Unix socket"),
	OnlyOnSocket:       kms.Errorf(kms.CodeDenied, "only on the Unix socket"),
	SeveralProofs:      kms.Errorf(kms.CodeUnauthenticated, "request has more than one signature or token"),
	NoProof:            kms.Errorf(kms.CodeUnauthenticated, "request has no signature and no token"),
	WrongSignature:     kms.Errorf(kms.CodeUnauthenticated, "signature is not valid"),
	WrongToken:         kms.Errorf(kms.CodeUnauthenticated, "token is not valid"),
	NoPrincipal:        kms.Errorf(kms.CodeDenied, "caller has no permission"),
	BodyTooLong:        kms.Errorf(kms.CodeInvalidRequest, "body too long"),
	BodyNotObject:      kms.Errorf(kms.CodeInvalidRequest, "body is not a json object"),
	BodyCut:            kms.Errorf(kms.CodeInvalidRequest, "body ended early"),
	BadQuery:           kms.Errorf(kms.CodeInvalidRequest, "query is malformed"),
	FieldMissing:       kms.Errorf(kms.CodeInvalidRequest, "is required"),
	TooManyConnections: {Code: kms.CodeBusy, Message: "too many connections: close some, or retry later", RetryAfter: time.Second},
	ProgramFault:       kms.Errorf(kms.CodeInternal, "internal error"),
}

// Errors are a dialect's words for errors.
type Errors struct {
	// Conditions has an answer to each condition. nil: Of answers refusals as well, by the core's word for them.
	Conditions map[Condition]Answer
	// Of returns the answer to an error of the core. rt is nil if the request is for no operation; x has the fields that
	// were read.
	Of func(rt *Route, x *Exchange, e *kms.Error) Answer
	// Write appends the body of an answer to x.Out. rt is nil if the request is for no operation.
	Write func(x *Exchange, rt *Route, a Answer, e *kms.Error)
}

// Answers maps errors of the core to a dialect's answers.
type Answers struct {
	Codes      map[kms.Code]Answer // has every code
	Exceptions []Exception         // go before Codes; the first that holds counts
}

// Exception is a row for errors that have an answer of their own. Its first members are conditions; an empty one always holds.
type Exception struct {
	Operation policy.Operation
	Code      kms.Code
	Field     string // the core's name of the field at fault
	Reason    kms.Reason
	When      func(x *Exchange) bool // about the request's fields
	As        string                 // the dialect's code
	Status    int                    // zero: that of the code
}

func (ex *Exception) holds(rt *Route, x *Exchange, e *kms.Error) bool {
	return ex.Code == e.Code && (ex.Operation == "" || rt != nil && ex.Operation == rt.Operation) &&
		(ex.Field == "" || ex.Field == e.Field) && (ex.Reason == "" || ex.Reason == e.Reason) &&
		(ex.When == nil || ex.When(x))
}

// To returns the answer to an error, as Errors.Of does.
func (t *Answers) To(rt *Route, x *Exchange, e *kms.Error) Answer {
	a := t.Codes[e.Code]
	for i := range t.Exceptions {
		if ex := &t.Exceptions[i]; ex.holds(rt, x, e) {
			return Answer{cmp.Or(ex.Status, a.Status), ex.As}
		}
	}
	return a
}

// refuse returns the refusal of a condition.
func (s *Server) refuse(c Condition) *Refusal {
	return &Refusal{s.cfg.Errors.Conditions[c], refused[c]}
}

// decodeError returns the refusal of a body or of parameters that cannot be read or decoded.
func (s *Server) decodeError(err error) error {
	if err == nil {
		return nil
	}
	return s.refuse(conditionOf(err))
}

func conditionOf(err error) Condition {
	switch {
	case errors.Is(err, ErrTooLong):
		return BodyTooLong
	case errors.Is(err, ErrNotObject):
		return BodyNotObject
	case errors.Is(err, ErrParameters):
		return BadQuery
	default:
		return BodyCut
	}
}

// fieldError returns the refusal of a request whose fields are wrong: the dialect's code for the field, or else its answer
// to the core's code.
func (s *Server) fieldError(rt *Route, x *Exchange, err error) error {
	var fault *Fault
	if err == nil || !errors.As(err, &fault) {
		return err
	}
	core := &kms.Error{Code: kms.CodeInvalidRequest, Field: fault.Name, Reason: fault.Why, Message: fault.Reason}
	switch {
	case fault.Field == nil:
		return &Refusal{s.cfg.Errors.Conditions[BadQuery], core}
	case fault.Missing:
		return &Refusal{s.cfg.Errors.Conditions[FieldMissing], core}
	}
	core.Code = cmp.Or(fault.Field.Core, kms.CodeInvalidRequest)
	if fault.Code == "" {
		return &Refusal{s.cfg.Errors.Of(rt, x, core), core}
	}
	return &Refusal{Answer{s.cfg.Errors.Conditions[FieldMissing].Status, fault.Code}, core}
}

// panicked returns the refusal of a request whose handling panicked. The log gets the place, and no values but those of
// the runtime's own errors, which are numbers: a request's content must not be logged.
func (s *Server) panicked(p any) error {
	what := fmt.Sprintf("%T", p)
	if e, isRuntime := p.(runtime.Error); isRuntime {
		what = e.Error()
	}
	var pc [32]uintptr
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc[:])])
	var where []string
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		where = append(where, f.Function+":"+strconv.Itoa(f.Line))
	}
	return s.fault(fmt.Errorf("panic: %s at %s", what, strings.Join(where, " < ")))
}

func (s *Server) fault(cause error) error {
	return &Refusal{s.cfg.Errors.Conditions[ProgramFault], refused[ProgramFault].Because(cause)}
}

// recordRefusal has the core record a refusal of an operation, and returns the error to answer: if the record cannot be
// written, that of the record.
func (s *Server) recordRefusal(ctx context.Context, op policy.Operation, err error) error {
	var r *Refusal
	if err == nil || !errors.As(err, &r) { // the core records its own
		return err
	}
	return recorded(r, s.cfg.Core.Refuse(ctx, op, r.Core))
}

func recorded(r *Refusal, err error) error {
	if got := kms.AsError(err); got.Code != r.Core.Code {
		return got
	}
	return r
}

// refuseUnserved has the core record a request for no operation. Its sender is not authenticated: the record has the
// kernel's word on the caller. What may come from a web page is refused for all dialects, so its record names none.
func (s *Server) refuseUnserved(r *http.Request, x *Exchange, c Condition) error {
	call := &kms.Call{RequestID: x.RequestID, Caller: kms.CallerFrom(r.Context())}
	if c != WebPage {
		call.Dialect = s.cfg.Name
	}
	refusal := s.refuse(c)
	return recorded(refusal, s.cfg.Core.Refuse(kms.WithCall(r.Context(), call), kms.OpUnserved, refusal.Core))
}

// AnswerUnserved refuses a request that no dialect claims (NoRoute), or that none may serve (WebPage, TooManyConnections).
func (s *Server) AnswerUnserved(w http.ResponseWriter, r *http.Request, c Condition) {
	x := Begin()
	defer x.End()
	s.fail(w, x, nil, s.refuseUnserved(r, x, c))
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, x *Exchange, rt *Route, err error) {
	x.Restart()
	a, e := s.answerTo(rt, x, err)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.FormatInt(Seconds(e.RetryAfter), 10))
	}
	s.cfg.Errors.Write(x, rt, a, e)
	x.Send(w, a.Status)
}

func (s *Server) answerTo(rt *Route, x *Exchange, err error) (Answer, *kms.Error) {
	var r *Refusal
	if errors.As(err, &r) && s.cfg.Errors.Conditions != nil {
		return r.Answer, r.Core
	}
	e := kms.AsError(err)
	return s.cfg.Errors.Of(rt, x, e), e
}

// Seconds returns a duration as errors have it: in seconds, rounded up.
func Seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }
