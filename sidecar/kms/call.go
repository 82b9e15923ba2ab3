package kms

import (
	"context"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// Call says on whose behalf an operation runs. A dialect puts one into the context of each request; an operation whose
// context holds none is refused.
type Call struct {
	RequestID string
	Dialect   string
	Caller    policy.Caller
	Principal policy.Principal
	Limits    *Limits // that the dialect has of its own, every field set; nil: the service's
	Trace     string  // that the operation is in its record, where not its own; a dialect sets it
	AccessKey string  // that signed the request, or was said to have; empty where none did
	Token     bool    // the request showed a token, and nothing else says who sent it
	// Valid returns an error where the access key or the token is good no more. nil: the kernel says who calls.
	Valid func(context.Context) error
}

type callKey struct{}

// WithCall returns a context that carries call.
func WithCall(ctx context.Context, call *Call) context.Context {
	return context.WithValue(ctx, callKey{}, call)
}

// CallFrom returns the context's call, or nil.
func CallFrom(ctx context.Context) *Call {
	call, _ := ctx.Value(callKey{}).(*Call)
	return call
}

type callerKey struct{}

// WithCaller returns the context of a connection from a caller: an HTTP connection, a gRPC one, or a stream that a library
// opened.
func WithCaller(ctx context.Context, c policy.Caller) context.Context {
	return WithCallerNow(ctx, func() policy.Caller { return c })
}

// WithCallerNow returns the context of a connection whose caller each request looks up again, because its process may exit.
func WithCallerNow(ctx context.Context, caller func() policy.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerFrom returns the caller of a connection as it is now. Without WithCaller, it is not known.
func CallerFrom(ctx context.Context) policy.Caller {
	if caller, ok := ctx.Value(callerKey{}).(func() policy.Caller); ok {
		return caller()
	}
	return policy.Caller{}
}

// ParseKeyID reads the one text form of a key id, a lower-case UUID with hyphens. Anything else is CodeInvalidRequest.
func ParseKeyID(s string) (KeyID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return KeyID{}, Invalid("key_id", ReasonMalformed, "key id must be a lower-case UUID")
	}
	return id, nil
}
