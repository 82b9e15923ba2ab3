package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Grant allows its grantee some operations on one key. It must not be changed.
type Grant struct {
	ID          string // 64 hexadecimal digits
	Key         [16]byte
	Name        string // given by its issuer, or empty
	CreatedAt   time.Time
	Grantee     string      // the name of a user, or of an account with Account set
	Account     bool        // the grantee is every user of the account
	Operations  []Operation // grantable ones, each once
	Retiring    string      // the name of another user that may retire it, or empty
	Issuer      string      // the name of the user that issued it
	Parent      string      // id of the grant that allowed the issuer to issue it; empty: a role or policy did
	Constraints Constraints
	Seal        [32]byte // by which the sidecar authenticates its own grants; decisions ignore it
}

// Constraints limit a grant. The zero Constraints limit nothing.
type Constraints struct {
	// Context is what the encryption context of an operation must contain or, with Exact, equal. It does not limit
	// operations that have no encryption context.
	Context map[string]string
	Exact   bool
	Expires time.Time // from then on the grant allows nothing; zero means never
	Source  Source    // the callers that may use it; empty means all of the grantee
}

// Repeats reports whether a grant has the name and the content of an older one.
func (g *Grant) Repeats(old *Grant) bool {
	c, d := &g.Constraints, &old.Constraints
	return g.Name != "" && g.Name == old.Name && g.Key == old.Key && g.Issuer == old.Issuer &&
		g.Grantee == old.Grantee && g.Account == old.Account && g.Retiring == old.Retiring && slices.Equal(g.Operations, old.Operations) &&
		maps.Equal(c.Context, d.Context) && c.Exact == d.Exact && c.Expires.Equal(d.Expires) && c.Source == d.Source
}

// To reports whether the grant is issued to a principal. account is the account of principals without one.
func (g *Grant) To(p Principal, account string) bool {
	if g.Account {
		return g.Grantee != "" && g.Grantee == cmp.Or(p.Account, account)
	}
	return g.Grantee == p.Name
}

// Expired reports whether the grant has expired.
func (g *Grant) Expired(now time.Time) bool {
	return !g.Constraints.Expires.IsZero() && !now.Before(g.Constraints.Expires)
}

// mismatch returns why the grant does not allow a request, "" if it does.
func (g *Grant) mismatch(r *Request, f *Facts) string {
	if r.Operation == OpRetireGrant && r.Principal.Name != "" && (g.Issuer == r.Principal.Name || g.Retiring == r.Principal.Name) {
		return ""
	}
	switch c := &g.Constraints; {
	case !g.To(r.Principal, f.Account):
		return "is issued to another principal"
	case !slices.Contains(g.Operations, r.Operation):
		return "does not have " + r.Operation.Name()
	case g.Expired(f.Time):
		return "has expired"
	case !c.Source.Matches(r.Caller):
		return "is limited to callers of " + string(c.Source)
	case r.Operation.HasContext() && !c.allows(r.Context):
		return "is limited to another encryption context"
	}
	return ""
}

// allows reports whether the constraints allow an encryption context.
func (c *Constraints) allows(context map[string]string) bool {
	if c.Exact {
		return maps.Equal(c.Context, context)
	}
	return contains(context, c.Context)
}

// contains reports whether a has every pair of b.
func contains(a, b map[string]string) bool {
	for name, value := range b {
		if have, ok := a[name]; !ok || have != value {
			return false
		}
	}
	return true
}

// within reports whether limit allows everything that c allows.
func (c *Constraints) within(limit *Constraints) bool {
	switch {
	case limit.Exact && !(c.Exact && maps.Equal(c.Context, limit.Context)), !contains(c.Context, limit.Context):
		return false
	case !limit.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(limit.Expires)):
		return false
	}
	return c.Source.Within(limit.Source)
}

// Delegate decides whether a principal may issue a grant on the strength of its own grants on the key. One of them must
// allow create-grant, and for each operation of the new grant one must allow that operation; none of these may be
// constrained more than the new grant. Delegate returns the first that allows create-grant. It is not needed for a principal
// that may issue grants by a role or a policy.
func Delegate(r *Request, f *Facts, wanted *Grant) (parent *Grant, d Decision) {
	for _, g := range f.Grants {
		if g.mismatch(r, f) == "" && wanted.Constraints.within(&g.Constraints) {
			parent = g
			break
		}
	}
	if parent == nil {
		return nil, Decision{Reason: "the grant would be constrained less than the grant that allows to issue it"}
	}
	for _, op := range wanted.Operations {
		if !slices.ContainsFunc(f.Grants, func(g *Grant) bool { return g.mayDelegate(op, r, f, wanted) }) {
			return nil, Decision{Reason: "may not grant " + op.Name() + ": not held, or held more restrictively"}
		}
	}
	return parent, Decision{Allow: true, By: "grant " + parent.ID}
}

// mayDelegate reports whether the grant lets its grantee grant an operation to others.
func (g *Grant) mayDelegate(op Operation, r *Request, f *Facts, wanted *Grant) bool {
	return g.To(r.Principal, f.Account) && slices.Contains(g.Operations, op) && !g.Expired(f.Time) &&
		g.Constraints.Source.Matches(r.Caller) && wanted.Constraints.within(&g.Constraints)
}

// Check returns what is wrong with a grant by itself. It does not check whether its principals exist.
func (g *Grant) Check() error {
	if len(g.Operations) == 0 {
		return errors.New("a grant needs at least one operation")
	}
	for i, op := range g.Operations {
		switch {
		case !op.Grantable():
			return fmt.Errorf("%q cannot be granted", op)
		case slices.Contains(g.Operations[:i], op):
			return fmt.Errorf("%q is given twice", op)
		case (g.Constraints.Exact || len(g.Constraints.Context) > 0) && !op.HasContext() && all.rows[op].group == use:
			return fmt.Errorf("%q has no encryption context, so the grant cannot be limited to one", op)
		}
	}
	return g.Constraints.Source.check()
}

// RetirableBy reports whether a principal may retire the grant as its issuer, retiring principal or grantee, wherever it
// calls from.
func (g *Grant) RetirableBy(p Principal, account string) bool {
	return p.Name != "" && (g.Issuer == p.Name || g.Retiring == p.Name ||
		g.To(p, account) && slices.Contains(g.Operations, OpRetireGrant))
}
