package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Every code of the contract crosses both kinds of hop with all that belongs to it.
func TestEveryCodeCrossesEveryHop(t *testing.T) {
	for number := range driverv1.ErrorCode_name {
		if number == 0 {
			continue
		}
		want := &Error{
			Code: Code(number), Retry: RetryLater, RetryAfter: 250 * time.Millisecond, CKR: "CKR_DEVICE_ERROR", Function: "C_Sign",
			Generation: 7, Message: "device said no",
		}
		grpc := &Error{}
		if !errors.As(FromStatus(ToStatus(want)), &grpc) || *grpc != *want {
			t.Errorf("%s over gRPC: %+v", want.Code, grpc)
		}
		frame := &Error{}
		if !errors.As(ErrorResponse(want).Err(), &frame) || *frame != *want {
			t.Errorf("%s over the stream: %+v", want.Code, frame)
		}
		if want.Retry = 0; want.RetryClass() == 0 {
			t.Errorf("%s has no retry class", want.Code)
		}
	}
}

func TestForeignErrors(t *testing.T) {
	var none *Error
	for _, c := range []struct {
		err  error
		want Code
	}{
		{nil, driverv1.ErrorCode_OK},
		{errors.New("plain"), Internal},
		{fmt.Errorf("wrapped: %w", Errorf(Device, "no")), Device},
		{errors.Join(errors.New("plain"), Errorf(PINLocked, "no")), PINLocked},
		{context.DeadlineExceeded, Deadline},
		{fmt.Errorf("wrapped: %w", context.Canceled), Deadline},
		{none, Internal},
	} {
		if got := CodeOf(c.err); got != c.want {
			t.Errorf("%v is %s, want %s", c.err, got, c.want)
		}
	}
	if ToStatus(nil) != nil || FromStatus(nil) != nil {
		t.Error("no error became one")
	}
}

func TestPlainStatuses(t *testing.T) {
	for code, want := range map[codes.Code]Code{
		codes.Unavailable: Lost, codes.DeadlineExceeded: Deadline, codes.Canceled: Deadline, codes.Unimplemented: Unsupported,
		codes.InvalidArgument: InvalidArgument, codes.ResourceExhausted: InvalidArgument, codes.Internal: Internal, codes.PermissionDenied: Internal,
	} {
		if got := CodeOf(FromStatus(status.Error(code, "text"))); got != want {
			t.Errorf("%s is %s, want %s", code, got, want)
		}
	}
}

// What a hostile driver puts into an error is cut down to what the contract allows.
func TestHostileErrorsAreTamed(t *testing.T) {
	e := FromProto(&driverv1.Error{
		Code: 99, Retry: 99, RetryAfterMs: 1<<32 - 1, Message: strings.Repeat("x", 5000), Ckr: strings.Repeat("C", 500), Function: strings.Repeat("F", 500),
	})
	if e.Code != Internal || e.RetryClass() != RetryNever || e.RetryAfter > time.Hour || len(e.Message) > 512 || len(e.CKR) > 64 || len(e.Function) > 64 {
		t.Errorf("%+v", e)
	}
	if FromProto(nil).Code != Internal {
		t.Error("an error without content is not Internal")
	}
	if err := (&Response{Code: 99}).Err(); CodeOf(err) != Internal {
		t.Errorf("unknown code in a frame: %v", err)
	}
	if err := (&Response{Code: BadCiphertext, Body: []byte{0xff}}).Err(); CodeOf(err) != BadCiphertext {
		t.Errorf("code without a message: %v", err)
	}
}

// Text that is no UTF-8, as a path or a module's string may be, must not cost the code.
func TestErrorTextIsMadeValid(t *testing.T) {
	err := Errorf(PINIncorrect, "open %s", "caf\xe9")
	if got := FromStatus(ToStatus(err)); CodeOf(got) != PINIncorrect || got.Error() != "open caf" {
		t.Errorf("over gRPC: %v (%s)", got, CodeOf(got))
	}
	if got := ErrorResponse(err).Err(); CodeOf(got) != PINIncorrect || got.Error() != "open caf" {
		t.Errorf("over the stream: %v (%s)", got, CodeOf(got))
	}
}

func TestErrorIsComparesCodes(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("outer: %w", Errorf(Busy, "inner: %w", cause))
	if !errors.Is(err, &Error{Code: Busy}) || errors.Is(err, &Error{Code: Device}) || !errors.Is(err, cause) {
		t.Errorf("%v does not compare by code and cause", err)
	}
}
