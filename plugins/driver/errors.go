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

// Code is the type of a driver's error codes, a closed list.
type Code = driverv1.ErrorCode

// The codes. driver.proto documents them.
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

// Retry says whether and where a call can be repeated.
type Retry = driverv1.Retry

// The retry classes.
const (
	RetryNever     = driverv1.Retry_NEVER
	RetryLater     = driverv1.Retry_LATER
	RetryElsewhere = driverv1.Retry_ELSEWHERE
)

// Error is an error of the contract. Message, CKR and Function are for logs; they must not reach clients.
type Error struct {
	Code       Code
	Retry      Retry         // zero: the default of the code
	RetryAfter time.Duration // with RetryLater
	CKR        string        // name of the PKCS#11 return value; empty if there is none
	Function   string        // the C function that returned it
	Generation uint64        // of the driver's login
	Message    string        // lower case, no secret
	cause      error
}

// Errorf returns an Error with a code. A %w operand becomes its cause, which is not sent over the wire.
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

// Unwrap returns the cause, nil for an error that was received over the wire.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Code: c}) compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// RetryClass returns e.Retry, or the default of the code if it is zero.
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

// CodeOf returns the code of an error: OK for nil, Deadline for a context that ended, Internal for other errors that are not an *Error.
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
			return &Error{Code: Internal, Message: "driver returned a nil *Error"}
		}
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{Code: Deadline, Message: "deadline passed", cause: err}
	}
	return &Error{Code: Internal, Message: err.Error(), cause: err}
}

// Proto returns the error in its wire form.
func (e *Error) Proto() *driverv1.Error {
	return &driverv1.Error{
		Code: e.Code, Ckr: clip(e.CKR, 64), Function: clip(e.Function, 64), Generation: e.Generation, Retry: e.Retry,
		RetryAfterMs: uint32(min(max(e.RetryAfter, 0), maxRetryAfter) / time.Millisecond), Message: clip(e.Message, 512),
	}
}

// FromProto returns the error of a wire form. A code outside the list, from a hostile or newer driver, counts as Internal.
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

// maxRetryAfter is the longest wait that a driver can ask of a caller.
const maxRetryAfter = time.Hour

// clip returns at most n bytes of s as valid UTF-8, which protobuf requires.
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

// FromStatus returns the Error in a gRPC error. A failed connection is Lost; a context that ended is Deadline.
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
