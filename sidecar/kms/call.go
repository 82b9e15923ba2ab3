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
	Rules     *Rules  // of the dialect's cloud; nil means the core's
	DryRun    bool    // check everything and then refuse with CodeDryRun, without using the key
	Trace     string  // trace name for the record, set by the dialect; empty: that of the operation
	AccessKey string  // that signed the request or was claimed to; empty: none
	Token     bool    // the token of the request is the only proof of its sender
	// Valid returns an error if the access key or token is no longer valid. nil means that the kernel identified the caller.
	Valid func(context.Context) error
}

// Rules are where a dialect's cloud differs from the core's tables. A zero field means the core's rule.
type Rules struct {
	// States replaces entries of the tables of states: nil where a key in that state takes part, else the refusal.
	States map[policy.Operation]map[KeyState]*Error
	// Restored is the state of a key with material whose deletion is canceled: Disabled (the default) or Enabled.
	Restored KeyState
	// MinRotation and MaxRotation limit rotation intervals, in days; 7 is the shortest.
	MinRotation, MaxRotation int
	// VersionDays is the age in days that the newest version of an asymmetric key has before a caller can make the next.
	VersionDays int
	// PendingUncounted leaves keys that are PendingDeletion out of the limit on keys.
	PendingUncounted bool
}

// coreRules are the rules of calls that have none of their own.
var coreRules = new(Rules)

// rules returns the rules of a request's call.
func (r *request) rules() *Rules {
	if r.call == nil || r.call.Rules == nil {
		return coreRules
	}
	return r.call.Rules
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

// dialect returns the name of the call's dialect, empty without a call.
func (c *Call) dialect() string {
	if c == nil {
		return ""
	}
	return c.Dialect
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
