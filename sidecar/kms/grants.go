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

// CreateGrantInput says whom to allow what on a key.
type CreateGrantInput struct {
	KeyID       KeyID
	Grantee     string // a user, or an account with Account set
	Account     bool
	Operations  []policy.Operation
	Name        string // of the grant, or empty; several may have the same, if they differ otherwise
	Retiring    string // a user who may retire it, or empty
	Constraints policy.Constraints
}

// GrantPage is a page of grants. Next is the offset of the next one, 0 on the last.
type GrantPage struct {
	Grants []*policy.Grant
	Total  int
	Next   int
}

// maxGrants is the most grants on one page.
const maxGrants = 100

var (
	grantName = regexp.MustCompile(`^[a-zA-Z0-9:/_-]{1,255}$`)
	grantID   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// check checks what can be told without the key. Whom a grant names must be known here: a grant to a misspelt name would
// look like one that works, and be the right of whoever gets that name later.
func (in *CreateGrantInput) check(ctx context.Context, s *Service, r *request) error {
	in.Operations = slices.Clone(in.Operations)
	slices.Sort(in.Operations)
	in.Operations = slices.Compact(in.Operations)
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

// CreateGrant allows somebody something on a key. Who may make grants by a role or a policy may grant everything that can
// be granted; a grantee with create-grant no more than it has itself. A grant with a name is made once: whoever asks for the
// same again, since it did not see the answer, gets the one that is there. Without a name each call makes another.
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

// errParent ends a try at a grant that would be another one's child by now.
var errParent = Errorf(CodeBusy, "grants of this key were changed meanwhile")

// addGrant stores a grant, or returns the one that it repeats. The HSM seals it before, without the database waiting for
// that: so it is looked at twice, and begun again if what allows it is another grant by then.
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

// storeGrant stores a sealed grant and returns it, or the one that it repeats.
func (s *Service) storeGrant(ctx context.Context, r *request, g *policy.Grant) (made *policy.Grant, err error) {
	err = s.store.ChangeGrants(ctx, g.Key, func(key *Key, grants []*policy.Grant) ([]*policy.Grant, error) {
		now := *g
		if made, err = s.placeGrant(r, key, grants, &now); err != nil || made != nil {
			return grants, err
		}
		if now.Parent != g.Parent {
			return nil, errParent
		}
		made = &now
		r.undo = func(ctx context.Context) error { return s.ungrant(ctx, made) }
		return append(slices.Clip(r.makeRoom(grants)), made), nil
	})
	if err != nil {
		return nil, err
	}
	return made, nil
}

// placeGrant decides whether a grant may be made, whose child it is then, and when it was made as lists have it. It returns the
// grant that this one repeats, if there is one.
func (s *Service) placeGrant(r *request, key *Key, grants []*policy.Grant, g *policy.Grant) (old *policy.Grant, err error) {
	g.Parent, r.target = "", describeGrant(g)
	if err := s.mayGrant(r, key, grants, g); err != nil {
		return nil, err
	}
	if err := checkKey(r.op, key); err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(grants, g.Repeats); i >= 0 {
		r.target = describeGrant(grants[i])
		return grants[i], nil
	}
	if len(r.makeRoom(grants)) >= r.limits.Grants {
		return nil, Errorf(CodeQuotaExceeded, "the limit of %d grants of a key is reached", r.limits.Grants).In("grants")
	}
	if n := len(grants); n > 0 && !g.CreatedAt.After(grants[n-1].CreatedAt) { // so that their order is that of creation
		g.CreatedAt = grants[n-1].CreatedAt.Add(time.Millisecond)
	}
	return nil, nil
}

// makeRoom returns a key's grants, where they are too many without those that allow nothing any more.
func (r *request) makeRoom(grants []*policy.Grant) []*policy.Grant {
	if len(grants) < r.limits.Grants {
		return grants
	}
	return slices.DeleteFunc(slices.Clone(grants), func(g *policy.Grant) bool { return g.Expired(r.start) })
}

// ungrant takes back a grant whose making is on no record, so that nobody has a right of which nothing is known.
func (s *Service) ungrant(ctx context.Context, g *policy.Grant) error {
	err := s.store.ChangeGrants(ctx, g.Key, func(_ *Key, grants []*policy.Grant) ([]*policy.Grant, error) {
		return slices.DeleteFunc(slices.Clone(grants), func(other *policy.Grant) bool { return other.ID == g.ID }), nil
	})
	if err != nil {
		return fmt.Errorf("grant %s stays, though it could not be recorded: revoke it: %w", g.ID, err)
	}
	return nil
}

// expiry is a time as grants keep it, not later than it was.
func expiry(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Millisecond)
}

// describeGrant is a grant as records show it: its id, whom it is to, and what it allows.
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

// mayGrant decides whether the caller may make the grant, and makes it the child of the one by which it may.
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

// RevokeGrant takes a grant away. What its grantee granted others stays.
func (s *Service) RevokeGrant(ctx context.Context, key KeyID, id string) error {
	return s.removeGrant(ctx, policy.OpRevokeGrant, key, id)
}

// RetireGrant gives a grant up: for its issuer, its retiring principal, and its grantee if the grant itself has retire-grant.
// What the grantee granted others stays.
func (s *Service) RetireGrant(ctx context.Context, key KeyID, id string) error {
	return s.removeGrant(ctx, policy.OpRetireGrant, key, id)
}

func (s *Service) removeGrant(ctx context.Context, op policy.Operation, id KeyID, grant string) error {
	_, err := run(ctx, s, op, func(ctx context.Context, r *request) (struct{}, error) {
		r.keyID = &id
		if grantID.MatchString(grant) {
			r.target = grant
		}
		return struct{}{}, s.store.ChangeGrants(ctx, id, func(key *Key, grants []*policy.Grant) ([]*policy.Grant, error) {
			at := slices.IndexFunc(grants, func(g *policy.Grant) bool { return g.ID == grant })
			var this []*policy.Grant
			if at >= 0 {
				this = grants[at : at+1]
				r.target = describeGrant(grants[at])
			}
			if err := s.authorize(r, key, this); err != nil {
				return nil, err
			}
			if err := checkKey(op, key); err != nil {
				return nil, err
			}
			if at < 0 {
				return nil, Errorf(CodeNotFound, "key has no such grant").In("grant_id")
			}
			return slices.Delete(slices.Clone(grants), at, at+1), nil
		})
	})
	return err
}

// ListGrants returns a page of a key's grants in order of creation, those that have expired among them.
func (s *Service) ListGrants(ctx context.Context, id KeyID, offset, limit int) (*GrantPage, error) {
	return run(ctx, s, policy.OpListGrants, func(ctx context.Context, r *request) (*GrantPage, error) {
		key, err := s.load(ctx, r, id)
		if err != nil {
			return nil, err
		}
		if err := checkKey(r.op, key); err != nil {
			return nil, err
		}
		if limit, err = checkPage(offset, limit); err != nil {
			return nil, err
		}
		grants := s.store.Grants(id)
		from := min(offset, len(grants))
		return newGrantPage(grants[from:min(from+limit, len(grants))], len(grants), offset), nil
	})
}

// ListRetirableGrants returns a page of the grants that the caller may retire as their issuer, retiring principal or
// grantee.
func (s *Service) ListRetirableGrants(ctx context.Context, offset, limit int) (*GrantPage, error) {
	return run(ctx, s, policy.OpListRetirableGrants, func(_ context.Context, r *request) (*GrantPage, error) {
		limit, err := checkPage(offset, limit)
		if err != nil {
			return nil, err
		}
		grants, total := s.store.FindGrants(func(g *policy.Grant) bool {
			return g.RetirableBy(r.call.Principal, s.account)
		}, offset, limit)
		return newGrantPage(grants, total, offset), nil
	})
}

func checkPage(offset, limit int) (int, error) {
	switch limit = cmp.Or(limit, maxGrants); {
	case limit < 0 || limit > maxGrants:
		return 0, Invalid("limit", ReasonOutOfRange, "limit must be 1 to %d", maxGrants)
	case offset < 0:
		return 0, Invalid("marker", ReasonOutOfRange, "marker must not be negative")
	}
	return limit, nil
}

func newGrantPage(grants []*policy.Grant, total, offset int) *GrantPage {
	page := &GrantPage{Grants: grants, Total: total}
	if next := offset + len(grants); len(grants) > 0 && next < total {
		page.Next = next
	}
	return page
}
