package kms

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyside/keyside/policy"
)

// CreateGrantInput describes a new grant.
type CreateGrantInput struct {
	KeyID       KeyID
	Grantee     string // name of a user, or with Account of an account
	Account     bool
	Operations  []policy.Operation
	Name        string // of the grant, or empty; grants that differ may share a name
	Retiring    string // name of another user that may retire it, or empty
	Constraints policy.Constraints
}

// GrantPage is a page of grants. Next is the offset of the next page, 0 on the last.
type GrantPage struct {
	Grants []*policy.Grant
	Total  int
	Next   int
}

// maxGrants is the maximum number of grants on one page.
const maxGrants = 100

var (
	grantName = regexp.MustCompile(`^[a-zA-Z0-9:/_-]{1,255}$`)
	grantID   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// check checks what can be checked without the key. The principals that a grant names must exist: a grant to a misspelled
// name would look valid, and apply to any later user with that name.
func (in *CreateGrantInput) check(ctx context.Context, s *Service, r *request) error {
	in.Operations = slices.Compact(slices.Sorted(slices.Values(in.Operations)))
	source, err := policy.ParseSource(string(in.Constraints.Source))
	if err != nil {
		return Invalid("source", ReasonMalformed, "%s", err)
	}
	in.Constraints.Source = source
	draft := policy.Grant{Operations: in.Operations, Constraints: in.Constraints}
	switch expires := in.Constraints.Expires; {
	case in.Name != "" && !grantName.MatchString(in.Name):
		return Invalid("name", ReasonMalformed, "name must be 1 to 255 letters, digits and any of : / _ -")
	case len(in.Operations) == 1 && in.Operations[0] == policy.OpCreateGrant:
		return Errorf(CodeInvalidGrant, "a grant needs more than the right to make grants").In("operations").with(ReasonCreateGrantOnly)
	case draft.Check() != nil:
		return Invalid("operations", ReasonMalformed, "%s", draft.Check().Error())
	case !expires.IsZero() && !expires.After(r.start):
		return Invalid("expires_at", ReasonPast, "expiry is not in the future")
	}
	if err := r.limits.checkBound(in.Constraints.Context, nil); err != nil {
		return err
	}
	if in.Account {
		if in.Grantee != s.account && !slices.Contains(s.accounts, in.Grantee) {
			return Errorf(CodeInvalidGrant, "no such account").In("grantee").with(ReasonUnknown)
		}
	} else if err := s.checkKnown(ctx, in.Grantee, "grantee"); err != nil {
		return err
	}
	if in.Retiring == "" {
		return nil
	}
	return s.checkKnown(ctx, in.Retiring, "retiring")
}

func (s *Service) checkKnown(ctx context.Context, name, field string) error {
	_, known, err := s.principalNamed(ctx, name)
	if err == nil && !known {
		return Errorf(CodeInvalidGrant, "no principal has this name").In(field).with(ReasonUnknown)
	}
	return err
}

// principalNamed returns the principal with a name, from the configuration or by its access keys, and whether there is one.
func (s *Service) principalNamed(ctx context.Context, name string) (p policy.Principal, known bool, err error) {
	if s.principals != nil {
		if p, ok := s.principals(name); ok {
			return p, true, nil
		}
	}
	if s.identities.store != nil && CheckUser(name) == nil {
		credentials, err := s.identities.store.ListCredentials(ctx)
		if err != nil {
			return policy.Principal{}, false, err
		}
		for _, c := range credentials {
			if c.User == name {
				return c.principal(), true, nil
			}
		}
	}
	return policy.Principal{}, false, nil
}

// CreateGrant issues a grant. A principal authorized by a role or a policy may grant every grantable operation; a grantee
// with create-grant may grant no more than it has itself. Repeating a call with the same name and content returns the
// existing grant. Without a name, each call creates another grant.
func (s *Service) CreateGrant(ctx context.Context, in CreateGrantInput) (*policy.Grant, error) {
	return run(ctx, s, policy.OpCreateGrant, func(ctx context.Context, r *request) (*policy.Grant, error) {
		r.keyID = &in.KeyID
		if err := in.check(ctx, s, r); err != nil {
			return nil, err
		}
		var random [32]byte
		rand.Read(random[:]) // never fails
		g := &policy.Grant{
			ID: hex.EncodeToString(random[:]), Key: in.KeyID, Name: in.Name, CreatedAt: s.now(), Grantee: in.Grantee,
			Account: in.Account, Operations: in.Operations, Retiring: in.Retiring, Issuer: r.call.Principal.Name,
			Constraints: in.Constraints,
		}
		g.Constraints.Expires = expiry(in.Constraints.Expires)
		return s.addGrant(ctx, r, g)
	})
}

// errParent ends an attempt to create a grant whose parent changed meanwhile.
var errParent = Errorf(CodeBusy, "grants of this key were changed meanwhile")

// addGrant stores a grant, or returns the existing one that it repeats. The HSM seals the grant before the transaction, so
// that the database does not wait for it. The grant is therefore checked twice, and the attempt repeated if another grant is
// its parent by then.
func (s *Service) addGrant(ctx context.Context, r *request, g *policy.Grant) (*policy.Grant, error) {
	for range 5 {
		key, err := s.store.Key(ctx, g.Key)
		if err != nil {
			return nil, err
		}
		old, err := s.placeGrant(r, key, s.store.Grants(g.Key), g)
		if err != nil || old != nil {
			return old, err
		}
		if err := s.sealGrant(ctx, g); err != nil {
			return nil, err
		}
		made, err := s.storeGrant(ctx, r, g)
		if !errors.Is(err, errParent) {
			return made, err
		}
	}
	return nil, errParent
}

// storeGrant stores a sealed grant and returns it, or the existing one that it repeats.
func (s *Service) storeGrant(ctx context.Context, r *request, g *policy.Grant) (made *policy.Grant, err error) {
	err = s.store.ChangeGrants(s.recorded(ctx, r), g.Key, func(key *Key, grants []*policy.Grant) ([]*policy.Grant, error) {
		now := *g
		if made, err = s.placeGrant(r, key, grants, &now); err != nil || made != nil {
			return grants, err
		}
		if now.Parent != g.Parent {
			return nil, errParent
		}
		made = &now
		return append(slices.Clip(r.makeRoom(grants)), made), nil
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// placeGrant decides whether a grant may be issued, and sets its parent and its time of creation. It returns the existing
// grant that this one repeats, if there is one.
func (s *Service) placeGrant(r *request, key *Key, grants []*policy.Grant, g *policy.Grant) (old *policy.Grant, err error) {
	g.Parent, r.target = "", describeGrant(g)
	if err := s.mayGrant(r, key, grants, g); err != nil {
		return nil, err
	}
	if err := r.rules().checkKey(r.op, key); err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(grants, g.Repeats); i >= 0 {
		r.target = describeGrant(grants[i])
		return grants[i], nil
	}
	if len(r.makeRoom(grants)) >= r.limits.Grants {
		return nil, Errorf(CodeQuotaExceeded, "the limit of %d grants of a key is reached", r.limits.Grants).In("grants")
	}
	if n := len(grants); n > 0 && !g.CreatedAt.After(grants[n-1].CreatedAt) { // keep the order of creation
		g.CreatedAt = grants[n-1].CreatedAt.Add(time.Millisecond)
	}
	return nil, nil
}

// makeRoom returns the grants of a key, without expired ones if there are too many.
func (r *request) makeRoom(grants []*policy.Grant) []*policy.Grant {
	if len(grants) < r.limits.Grants {
		return grants
	}
	return slices.DeleteFunc(slices.Clone(grants), func(g *policy.Grant) bool { return g.Expired(r.start) })
}

// expiry returns a time in the precision of grants, rounded down.
func expiry(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}

// describeGrant returns a grant for records: its id, grantee and operations.
func describeGrant(g *policy.Grant) string {
	kind := "user"
	if g.Account {
		kind = "account"
	}
	ops := make([]string, len(g.Operations))
	for i, op := range g.Operations {
		ops[i] = string(op)
	}
	return fmt.Sprintf("%s to %s %s: %s", g.ID, kind, g.Grantee, strings.Join(ops, " "))
}

// mayGrant decides whether the caller may issue the grant, and sets the parent of the grant.
func (s *Service) mayGrant(r *request, key *Key, grants []*policy.Grant, g *policy.Grant) error {
	if s.decide(r, r.op, key, nil).Allow {
		return s.authorize(r, key, nil)
	}
	if err := s.authorize(r, key, grants); err != nil {
		return err
	}
	r.by = nil
	parent, d := policy.Delegate(&policy.Request{
		Operation: r.op, Principal: r.call.Principal, Caller: r.call.Caller,
	}, s.facts(r, key, grants), g)
	if parent != nil {
		g.Parent = parent.ID
	}
	return r.settle(d)
}

// RevokeGrant removes a grant. Grants that its grantee issued stay.
func (s *Service) RevokeGrant(ctx context.Context, key KeyID, id string) error {
	return s.removeGrant(ctx, policy.OpRevokeGrant, key, id)
}

// RetireGrant removes a grant on behalf of its issuer, its retiring principal, or its grantee if the grant includes
// retire-grant. Grants that the grantee issued stay.
func (s *Service) RetireGrant(ctx context.Context, key KeyID, id string) error {
	return s.removeGrant(ctx, policy.OpRetireGrant, key, id)
}

func (s *Service) removeGrant(ctx context.Context, op policy.Operation, id KeyID, grant string) error {
	return doWithout(ctx, s, op, func(ctx context.Context, r *request) error {
		r.keyID = &id
		if grantID.MatchString(grant) {
			r.target = grant
		}
		return s.store.ChangeGrants(s.recorded(ctx, r), id, func(key *Key, grants []*policy.Grant) ([]*policy.Grant, error) {
			at := slices.IndexFunc(grants, func(g *policy.Grant) bool { return g.ID == grant })
			var this []*policy.Grant
			if at >= 0 {
				this = grants[at : at+1]
				r.target = describeGrant(grants[at])
			}
			if err := s.authorize(r, key, this); err != nil {
				return nil, err
			}
			if err := r.rules().checkKey(op, key); err != nil {
				return nil, err
			}
			if at < 0 {
				return nil, Errorf(CodeNotFound, "key has no such grant").In("grant_id")
			}
			return slices.Delete(slices.Clone(grants), at, at+1), nil
		})
	})
}

// ListGrants returns a page of the grants of a key in order of creation, including expired ones.
func (s *Service) ListGrants(ctx context.Context, id KeyID, offset, limit int) (*GrantPage, error) {
	return run(ctx, s, policy.OpListGrants, func(ctx context.Context, r *request) (*GrantPage, error) {
		if _, err := s.inState(ctx, r, id); err != nil {
			return nil, err
		}
		limit := cmp.Or(limit, maxGrants)
		if err := checkPage(offset, limit, maxGrants); err != nil {
			return nil, err
		}
		grants := s.store.Grants(id)
		from := min(offset, len(grants))
		return newGrantPage(grants[from:min(from+limit, len(grants))], len(grants), offset), nil
	})
}

// ListRetirableGrants returns a page of the grants that the caller may retire as issuer, retiring principal or grantee.
func (s *Service) ListRetirableGrants(ctx context.Context, offset, limit int) (*GrantPage, error) {
	return run(ctx, s, policy.OpListRetirableGrants, func(_ context.Context, r *request) (*GrantPage, error) {
		limit := cmp.Or(limit, maxGrants)
		if err := checkPage(offset, limit, maxGrants); err != nil {
			return nil, err
		}
		grants, total := s.store.FindGrants(func(g *policy.Grant) bool {
			return g.RetirableBy(r.call.Principal, s.account)
		}, offset, limit)
		return newGrantPage(grants, total, offset), nil
	})
}

func newGrantPage(grants []*policy.Grant, total, offset int) *GrantPage {
	return &GrantPage{Grants: grants, Total: total, Next: nextPage(offset, len(grants), total)}
}
