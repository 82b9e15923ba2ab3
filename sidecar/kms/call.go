package kms

import (
	"context"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// Call says for whom an operation runs. A dialect puts one into the context of each request; an operation without one is
// refused.
type Call struct {
	RequestID string
	Dialect   string
	Caller    policy.Caller
	Principal policy.Principal
	Limits    *Limits // of the dialect, with every field set; nil means the service's
	Trace     string  // trace name for the record, set by the dialect; empty: that of the operation
	AccessKey string  // that signed the request or was claimed to; empty: none
	Token     bool    // the token of the request is the only proof of its sender
	// Valid returns an error if the access key or token is no longer valid. nil means that the kernel identified the caller.
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

// ParseKeyID parses the only text form of a key id, a lower-case UUID with hyphens. Anything else is CodeInvalidRequest.
func ParseKeyID(s string) (KeyID, error) {
	id, err := uuid.Parse(s)
	if err != nil || id.String() != s {
		return KeyID{}, Invalid("key_id", ReasonMalformed, "key id must be a lower-case UUID")
	}
	return id, nil
}
