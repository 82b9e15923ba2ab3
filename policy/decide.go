package policy

import (
	"fmt"
	"slices"
	"time"
)

// Request is what somebody asks to do.
type Request struct {
	Operation Operation
	Principal Principal
	Caller    Caller            // what the kernel says of it; the zero Caller where no kernel does
	Context   map[string]string // the operation's encryption context
}

// Facts are what a decision depends on beside the request.
type Facts struct {
	Time     time.Time
	Tenant   string
	Account  string // of principals that have none of their own
	Key      Key    // that the operation is about
	Grants   []*Grant
	Policies *Policies // the operator's own; nil: none
}

// Key is what decisions know of a key. One that is not there has its ID alone.
type Key struct {
	ID      [16]byte
	Exists  bool
	Alias   string
	Spec    string
	Usage   string
	Origin  string
	State   string
	Service string // whose default master key it is, or empty
	Tags    []Tag
}

// Tag is a word with a value that an operator gave a key.
type Tag struct {
	Key, Value string
}

// Decision is the answer of Decide.
type Decision struct {
	Allow   bool
	By      string    // the role, grant or policy that decided
	Reason  string    // of a refusal: what is missing, or what forbids it
	Missing Operation // whose permission nothing gives, where that is the reason
}

// Decide answers whether a request may be done. What nothing allows is refused, and what one policy forbids no role, grant
// or other policy allows. For an operation that is about a key the answer holds for the key of the facts: for one that is
// not there it says whether the principal may learn that.
//
// Retiring a grant is decided by that grant alone: Facts.Grants has it and no other.
func Decide(r *Request, f *Facts) Decision {
	row, known := all.rows[r.Operation]
	switch {
	case !known || row.traits&scheduled != 0:
		return Decision{Reason: "unknown operation " + string(r.Operation)}
	case r.Principal.Name == "":
		return Decision{Reason: "no principal for this caller"}
	}
	var own verdict
	if f.Policies.Len() > 0 {
		own = f.Policies.decide(*r, *f) // of copies: what Cedar gets escapes
	}
	if own.forbidden {
		return Decision{By: own.by, Reason: string(r.Operation) + " is forbidden by " + own.by}
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
		return Decision{Reason: "service " + r.Principal.Service + " may do that with its default key alone"} // whether the key is there or not
	}
	return Decision{Reason: "missing permission " + string(r.Operation), Missing: r.Operation}
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

// byGrant returns the first grant that allows the request. Nothing is granted on default master keys.
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

// Explain says of each grant of the principal's on the key why it does not allow a request, in words for people.
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
