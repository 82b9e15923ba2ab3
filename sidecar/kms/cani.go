package kms

import (
	"context"
	"slices"

	"github.com/keyside/keyside/policy"
)

// CanIInput asks whether an operation would be allowed.
type CanIInput struct {
	Operation policy.Operation
	Key       string            // id or name of a key, for an operation about a key
	As        string            // name of the principal; empty: that of the caller
	Context   map[string]string // the operation's encryption context
}

// CanIOutput is the decision as of now.
type CanIOutput struct {
	Principal policy.Principal
	Decision  policy.Decision
	// Hints say why grants on the key do not allow the operation, or why an allowed operation would still be refused.
	Hints []string
	// ForOther says that the question was about another principal.
	ForOther bool
}

// CanI explains a decision without performing the operation. Every principal may ask about its own permissions. About a key
// that it may not know, it learns only that a permission is missing. The permissions of another principal are those of an
// unknown caller on the Unix socket, so grants and policies that are limited to certain callers do not count.
func (s *Service) CanI(ctx context.Context, in CanIInput) (*CanIOutput, error) {
	op := policy.OpCanI
	if call := CallFrom(ctx); in.As != "" && (call == nil || in.As != call.Principal.Name) {
		op = policy.OpCanIForOthers
	}
	return run(ctx, s, op, func(ctx context.Context, r *request) (*CanIOutput, error) {
		asked, err := s.askedFor(ctx, r, in, op)
		if err != nil {
			return nil, err
		}
		key, err := s.keyCalled(ctx, in)
		if err != nil {
			return nil, err
		}
		var grants []*policy.Grant
		if key != nil {
			r.keyID, grants = &key.ID, s.store.Grants(key.ID)
		}
		facts := s.facts(r, key, grants)
		out := &CanIOutput{Principal: asked.Principal, Decision: policy.Decide(asked, facts), ForOther: op == policy.OpCanIForOthers}
		r.target = string(in.Operation) + " as " + asked.Principal.Name
		if !out.Decision.Allow {
			out.Hints = policy.Explain(asked, facts)
			return out, nil
		}
		switch {
		case !in.Operation.AboutKey():
		case key == nil:
			out.Hints = append(out.Hints, "the key does not exist")
		default:
			if err := coreRules.checkKey(in.Operation, key); err != nil {
				out.Hints = append(out.Hints, AsError(err).Message)
			}
		}
		return out, nil
	})
}

// askedFor returns the request that is asked about.
func (s *Service) askedFor(ctx context.Context, r *request, in CanIInput, op policy.Operation) (*policy.Request, error) {
	if err := r.limits.checkBound(in.Context, nil); err != nil {
		return nil, err
	}
	switch {
	case !slices.Contains(policy.Operations, in.Operation):
		return nil, Invalid("operation", ReasonUnknown, "unknown operation")
	case in.Operation.AboutKey() && in.Key == "":
		return nil, Invalid("key", ReasonMissing, "the operation is about a key: give one")
	}
	asked := &policy.Request{
		Operation: in.Operation, Principal: r.call.Principal, Caller: r.call.Caller, Context: in.Context,
	}
	if op == policy.OpCanIForOthers {
		who, known, err := s.principalNamed(ctx, in.As)
		switch {
		case err != nil:
			return nil, err
		case !known:
			return nil, Invalid("as", ReasonUnknown, "no principal has this name")
		}
		asked.Principal, asked.Caller = who, policy.Caller{}
	}
	return asked, nil
}

// keyCalled returns the key that is asked about, nil if the operation is about none or the key does not exist.
func (s *Service) keyCalled(ctx context.Context, in CanIInput) (*Key, error) {
	if !in.Operation.AboutKey() {
		return nil, nil
	}
	id, err := s.named(ctx, in.Key)
	var key *Key
	if err == nil {
		key, err = s.store.Key(ctx, id)
	}
	if isNotFound(err) {
		return nil, nil
	}
	return key, err
}
