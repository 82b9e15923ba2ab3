package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Grant allows its grantee some operations on one key. It is never changed.
type Grant struct {
	ID          string // 64 hexadecimal digits
	Key         [16]byte
	Name        string // what its issuer calls it, or empty
	CreatedAt   time.Time
	Grantee     string      // the name of a user, or of an account with Account set
	Account     bool        // every user of the account has it
	Operations  []Operation // grantable ones, each once
	Retiring    string      // a user who may retire it, or empty
	Issuer      string      // the user who made it
	Parent      string      // the id of the grant by which the issuer could make it; empty: by role or policy
	Constraints Constraints
	Seal        [32]byte // by which the sidecar knows its own grants; decisions do not look at it
}

// Constraints limit when a grant allows what it does. The zero Constraints limit nothing.
type Constraints struct {
	// Context is what the encryption context of an operation must contain, or, with Exact, be. It says nothing of the
	// operations that have none.
	Context map[string]string
	Exact   bool
	Expires time.Time // from then on the grant allows nothing; zero: it does not expire
	Source  Source    // whose processes may use it; empty: all of the grantee's
}

// Repeats reports whether a grant has the name of an older one and says the same.
func (g *Grant) Repeats(old *Grant) bool {
	c, d := &g.Constraints, &old.Constraints
	return g.Name != "" && g.Name == old.Name && g.Key == old.Key && g.Issuer == old.Issuer &&
		g.Grantee == old.Grantee && g.Account == old.Account && g.Retiring == old.Retiring && slices.Equal(g.Operations, old.Operations) &&
		maps.Equal(c.Context, d.Context) && c.Exact == d.Exact && c.Expires.Equal(d.Expires) && c.Source == d.Source
}

// To reports whether a principal is among those that the grant was made to. account is that of principals without one of
// their own.
func (g *Grant) To(p Principal, account string) bool {
	if g.Account {
		return g.Grantee != "" && g.Grantee == cmp.Or(p.Account, account)
	}
	return g.Grantee == p.Name
}

// Expired reports whether the grant's time is over.
func (g *Grant) Expired(now time.Time) bool {
	return !g.Constraints.Expires.IsZero() && !now.Before(g.Constraints.Expires)
}

// shortfall says why the grant does not allow a request, or "" if it does.
func (g *Grant) mismatch(r *Request, f *Facts) string {
	if r.Operation == OpRetireGrant && r.Principal.Name != "" && (g.Issuer == r.Principal.Name || g.Retiring == r.Principal.Name) {
		return ""
	}
	switch c := &g.Constraints; {
	case !g.To(r.Principal, f.Account):
		return "is to somebody else"
	case !slices.Contains(g.Operations, r.Operation):
		return "does not have " + string(r.Operation)
	case g.Expired(f.Time):
		return "has expired"
	case !c.Source.Matches(r.Caller):
		return "is for callers of " + string(c.Source)
	case r.Operation.HasContext() && !c.allows(r.Context):
		return "is for another encryption context"
	}
	return ""
}

// allows reports whether an encryption context is one that the constraints allow.
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

// within reports whether everything that c allows is allowed by limit, too.
func (c *Constraints) within(limit *Constraints) bool {
	switch {
	case limit.Exact && !(c.Exact && maps.Equal(c.Context, limit.Context)), !contains(c.Context, limit.Context):
		return false
	case !limit.Expires.IsZero() && (c.Expires.IsZero() || c.Expires.After(limit.Expires)):
		return false
	}
	return c.Source.Within(limit.Source)
}

// Delegate decides whether a principal may make a grant by those that it has itself on the key: one that lets it make
// grants, and for each of the new one's operations one that lets it do that, all of them constrained no more than the new
// one. It returns the first that lets it make grants. Who may make grants by a role or a policy needs none of this.
func Delegate(r *Request, f *Facts, wanted *Grant) (parent *Grant, d Decision) {
	for _, g := range f.Grants {
		if g.mismatch(r, f) == "" && wanted.Constraints.within(&g.Constraints) {
			parent = g
			break
		}
	}
	if parent == nil {
		return nil, Decision{Reason: "grant would be constrained less than the right to make it"}
	}
	for _, op := range wanted.Operations {
		if !slices.ContainsFunc(f.Grants, func(g *Grant) bool { return g.mayDelegate(op, r, f, wanted) }) {
			return nil, Decision{Reason: "may not grant " + string(op) + ", which it has not itself, or not so freely"}
		}
	}
	return parent, Decision{Allow: true, By: "grant " + parent.ID}
}

// lends reports whether the grant lets its grantee give an operation on.
func (g *Grant) mayDelegate(op Operation, r *Request, f *Facts, wanted *Grant) bool {
	return g.To(r.Principal, f.Account) && slices.Contains(g.Operations, op) && !g.Expired(f.Time) &&
		g.Constraints.Source.Matches(r.Caller) && wanted.Constraints.within(&g.Constraints)
}

// Check says what is wrong with a grant by itself. Whom it names is not looked at.
func (g *Grant) Check() error {
	if len(g.Operations) == 0 {
		return errors.New("a grant needs operations")
	}
	for i, op := range g.Operations {
		switch {
		case !op.Grantable():
			return fmt.Errorf("%q cannot be granted", op)
		case slices.Contains(g.Operations[:i], op):
			return fmt.Errorf("%q is there twice", op)
		case (g.Constraints.Exact || len(g.Constraints.Context) > 0) && !op.HasContext() && all.rows[op].group == use:
			return fmt.Errorf("%q has no encryption context that the grant could be limited to", op)
		}
	}
	return g.Constraints.Source.check()
}

// RetirableBy reports whether a principal may retire the grant for what it is to it, wherever it calls from.
func (g *Grant) RetirableBy(p Principal, account string) bool {
	return p.Name != "" && (g.Issuer == p.Name || g.Retiring == p.Name ||
		g.To(p, account) && slices.Contains(g.Operations, OpRetireGrant))
}
