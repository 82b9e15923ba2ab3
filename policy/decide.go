package policy

import (
	"fmt"
	"slices"
	"time"
)

// Request is an operation that a principal asks for.
type Request struct {
	Operation Operation
	Principal Principal
	Caller    Caller            // as the kernel reports it; zero if it does not
	Context   map[string]string // the operation's encryption context
}

// Facts are what a decision depends on besides the request.
type Facts struct {
	Time     time.Time
	Tenant   string
	Account  string // of principals without an account
	Key      Key    // that the operation is about; zero if it is about none
	Grants   []*Grant
	Policies *Policies // of the operator; nil means none
}

// Key is what decisions depend on about a key. If the key does not exist, only ID is set.
type Key struct {
	ID      [16]byte
	Exists  bool
	Alias   string
	Spec    string
	Usage   string
	Origin  string
	State   string
	Service string // whose default key this is, or empty
	Tags    []Tag
}

// Tag is a name with a value that an operator gave a key.
type Tag struct {
	Key, Value string
}

// Decision is the result of Decide.
type Decision struct {
	Allow   bool
	By      string    // the role, grant or policy that decided
	Reason  string    // why it is denied
	Missing Operation // the permission that is missing, if that is the reason
}

// Decide reports whether a request is allowed. Whatever nothing allows is denied. A policy that forbids overrides every
// role, grant and other policy. The decision about an operation with a key holds for Facts.Key; if that key does not exist,
// the decision says whether the principal may learn this.
//
// For OpRetireGrant, Facts.Grants must hold only the grant to retire.
func Decide(r *Request, f *Facts) Decision {
	row, known := all.rows[r.Operation]
	switch {
	case !known || row.traits&scheduled != 0:
		return Decision{Reason: "unknown operation " + string(r.Operation)}
	case r.Principal.Name == "":
		return Decision{Reason: "no principal for this caller"}
	}
	var own outcome
	if f.Policies.Len() > 0 {
		own = f.Policies.decide(*r, *f) // copies, because the values that Cedar gets escape to the heap
	}
	if own.forbidden {
		return Decision{By: own.by, Reason: r.Operation.Name() + " is forbidden by " + own.by}
	}
	if id := row.byRole(r, f); id != "" {
		return Decision{Allow: true, By: id}
	}
	if own.permitted {
		return Decision{Allow: true, By: own.by}
	}
	if g := byGrant(r, f); g != nil {
		return Decision{Allow: true, By: "grant " + g.ID}
	}
	if r.Principal.Service != "" && row.traits&forService != 0 {
		return Decision{Reason: "service " + r.Principal.Service + " may do this only with its default key"} // the same whether the key exists or not
	}
	return Decision{Reason: "missing permission " + r.Operation.Name(), Missing: r.Operation}
}

// byRole returns the rule by which the principal's role allows a request, or "".
func (o *row) byRole(r *Request, f *Facts) string {
	role, serviceKey := r.Principal.role(), o.traits&aboutKey != 0 && f.Key.Exists && f.Key.Service != ""
	switch {
	case role != service && !slices.Contains(Roles, role):
	case o.traits&forAnyone != 0:
		return "any principal"
	case role == Administrator:
		return "administrator"
	case role == KeyUser && (o.group == use || o.traits&forUser != 0) && !serviceKey:
		return "user"
	case role == Auditor && o.group == read:
		return "auditor"
	case role == service && o.traits&forService != 0 && serviceKey && f.Key.Service == r.Principal.Service:
		return "service"
	}
	return ""
}

// byGrant returns the first grant that allows the request. Grants do not apply to services' default keys.
func byGrant(r *Request, f *Facts) *Grant {
	if !f.Key.Exists || f.Key.Service != "" || !r.Operation.Grantable() {
		return nil
	}
	for _, g := range f.Grants {
		if g.mismatch(r, f) == "" {
			return g
		}
	}
	return nil
}

// Explain returns why each grant of the principal on the key does not allow a request, as sentences for people.
func Explain(r *Request, f *Facts) (reasons []string) {
	for _, g := range f.Grants {
		if g.To(r.Principal, f.Account) {
			if why := g.mismatch(r, f); why != "" {
				reasons = append(reasons, fmt.Sprintf("grant %s: %s", g.ID, why))
			}
		}
	}
	return reasons
}
