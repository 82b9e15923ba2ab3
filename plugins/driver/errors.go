package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Code is the closed list of what a driver can answer when it cannot do something.
type Code = driverv1.ErrorCode

// The codes; driver.proto says what each means.
const (
	InvalidArgument = driverv1.ErrorCode_INVALID_ARGUMENT
	Unsupported     = driverv1.ErrorCode_UNSUPPORTED
	BadCiphertext   = driverv1.ErrorCode_BAD_CIPHERTEXT
	BadMaterial     = driverv1.ErrorCode_BAD_MATERIAL
	SealInvalid     = driverv1.ErrorCode_SEAL_INVALID
	KeyUnavailable  = driverv1.ErrorCode_KEY_UNAVAILABLE
	TenantUnknown   = driverv1.ErrorCode_TENANT_UNKNOWN
	PINIncorrect    = driverv1.ErrorCode_PIN_INCORRECT
	PINLocked       = driverv1.ErrorCode_PIN_LOCKED
	Busy            = driverv1.ErrorCode_BUSY
	Deadline        = driverv1.ErrorCode_DEADLINE
	Device          = driverv1.ErrorCode_DEVICE
	Lost            = driverv1.ErrorCode_LOST
	Poison          = driverv1.ErrorCode_POISON
	Internal        = driverv1.ErrorCode_INTERNAL
)

// Retry says what may help after an error.
type Retry = driverv1.Retry

// The retry classes.
const (
	RetryNever     = driverv1.Retry_NEVER
	RetryLater     = driverv1.Retry_LATER
	RetryElsewhere = driverv1.Retry_ELSEWHERE
)

// Error is a failure as it crosses the contract. Message, CKR and Function are for logs: they never reach a client.
type Error struct {
	Code       Code
	Retry      Retry         // zero: the code's own class
	RetryAfter time.Duration // with RetryLater
	CKR        string        // PKCS#11 return value by name, empty where there is none
	Function   string        // the C function that returned it
	Generation uint64        // of the driver's login
	Message    string        // lower case, no secret
	cause      error
}

// Errorf makes an Error of a code. A %w operand becomes its cause, which stays on this side of the wire.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

func (e *Error) Error() string {
	s := e.Message
	if s == "" {
		s = e.Code.String()
	}
	if e.CKR != "" {
		s += fmt.Sprintf(" (%s from %s)", e.CKR, e.Function)
	}
	return s
}

// Unwrap returns the local cause, which does not cross the wire.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Code: c}) compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// RetryClass returns what may help, from the error itself or else from its code.
func (e *Error) RetryClass() Retry {
	if e.Retry != driverv1.Retry_RETRY_UNSPECIFIED {
		return e.Retry
	}
	switch e.Code {
	case Lost, Device:
		return RetryElsewhere
	case Busy, KeyUnavailable:
		return RetryLater
	default:
		return RetryNever
	}
}

// CodeOf returns the code of an error: Deadline for a context that ended, Internal for what is not an *Error.
func CodeOf(err error) Code {
	if err == nil {
		return driverv1.ErrorCode_OK
	}
	return AsError(err).Code
}

// AsError returns err as an *Error, never nil for a non-nil error.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		if e == nil {
			return &Error{Code: Internal, Message: "driver returned a nil error of its own type"}
		}
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{Code: Deadline, Message: "deadline passed", cause: err}
	}
	return &Error{Code: Internal, Message: err.Error(), cause: err}
}

// Proto returns the error as the wire carries it.
func (e *Error) Proto() *driverv1.Error {
	return &driverv1.Error{
		Code: e.Code, Ckr: clip(e.CKR, 64), Function: clip(e.Function, 64), Generation: e.Generation, Retry: e.Retry,
		RetryAfterMs: uint32(min(max(e.RetryAfter, 0), maxRetryAfter) / time.Millisecond), Message: clip(e.Message, 512),
	}
}

// FromProto returns the error that the wire carried. A code outside the list, as a hostile or newer driver may send,
// counts as Internal.
func FromProto(p *driverv1.Error) *Error {
	code := p.GetCode()
	if _, known := driverv1.ErrorCode_name[int32(code)]; !known || code == driverv1.ErrorCode_OK {
		code = Internal
	}
	retry := p.GetRetry()
	if _, known := driverv1.Retry_name[int32(retry)]; !known {
		retry = 0
	}
	return &Error{
		Code: code, CKR: clip(p.GetCkr(), 64), Function: clip(p.GetFunction(), 64), Generation: p.GetGeneration(),
		Retry: retry, RetryAfter: min(time.Duration(p.GetRetryAfterMs())*time.Millisecond, maxRetryAfter),
		Message: clip(p.GetMessage(), 512),
	}
}

// maxRetryAfter bounds how long a driver can make a caller wait.
const maxRetryAfter = time.Hour

// clip returns at most n bytes of s as valid UTF-8, which is all that a message can carry.
func clip(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}

// ToStatus returns err as a gRPC status whose detail is the contract's Error message.
func ToStatus(err error) error {
	if err == nil {
		return nil
	}
	e := AsError(err)
	st, detailErr := status.New(codes.Unknown, e.Code.String()).WithDetails(e.Proto())
	if detailErr != nil {
		return status.Error(codes.Internal, e.Code.String())
	}
	return st.Err()
}

// FromStatus returns the Error inside a gRPC error. A connection that failed is Lost; a context that ended is Deadline.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return AsError(err)
	}
	for _, d := range st.Details() {
		if p, ok := d.(*driverv1.Error); ok {
			return FromProto(p)
		}
	}
	switch st.Code() {
	case codes.DeadlineExceeded, codes.Canceled:
		return &Error{Code: Deadline, Message: "deadline passed", cause: err}
	case codes.Unavailable:
		return &Error{Code: Lost, Message: "connection to the driver lost", cause: err}
	case codes.Unimplemented:
		return &Error{Code: Unsupported, Message: "call not implemented by this driver", cause: err}
	case codes.InvalidArgument, codes.ResourceExhausted:
		return &Error{Code: InvalidArgument, Message: clip(st.Message(), 512), cause: err}
	default:
		return &Error{Code: Internal, Message: clip(st.Message(), 512), cause: err}
	}
}
