package dialect

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
)

// Marks are the signs by which a request tells which dialect it is in. [Router] counts the marks of all dialects before it
// uses any: a request must have exactly one.
type Marks struct {
	// Paths are exact paths and, with a slash at the end, all paths below one. A method and a space may stand before.
	Paths []string
	// Headers are names in canonical form. Each value counts.
	Headers []string
	// Action is the name of a parameter of requests for "/", in the query or in a form. Each value counts. It is a mark of the
	// dialects of which the request has one of Parameters; an empty value there means any.
	Action     string
	Parameters []Pair
	// Twofold is true if clients send the action in the first of Headers as well as in the parameter: one mark if both are the same.
	Twofold bool
	// Root is true if GET / without a query, which has no mark, is the dialect's.
	Root bool
	// Proofs are the headers that hold the signature or the token of a sender. A request with one of another dialect is refused.
	Proofs []string
}

// Where says on which listeners a dialect is served.
type Where struct{ Socket, Port bool }

// Everywhere is for dialects on all listeners.
var Everywhere = Where{true, true}

// entry is a dialect in a Router.
type entry struct {
	Dialect
	marks Marks
	where Where
}

func (e *entry) servedOn(socket bool) bool {
	return socket && e.where.Socket || !socket && e.where.Port
}

// count returns how many marks of the dialect the request line and the headers have.
func (m *Marks) count(r *http.Request) int {
	n := 0
	for _, path := range m.Paths {
		if method, rest, ok := strings.Cut(path, " "); ok {
			if method != r.Method {
				continue
			}
			path = rest
		}
		if path == r.URL.Path || path[len(path)-1] == '/' && len(path) > 1 && strings.HasPrefix(r.URL.Path, path) {
			n++
		}
	}
	for _, name := range m.Headers {
		n += len(r.Header[name])
	}
	return n
}

// owns reports whether one of the parameters makes Action the dialect's mark.
func (m *Marks) owns(parameters []Pair) bool {
	return slices.ContainsFunc(m.Parameters, func(want Pair) bool {
		return slices.ContainsFunc(parameters, func(p Pair) bool {
			return p.Name == want.Name && (want.Value == "" || p.Value == want.Value)
		})
	})
}

// twofold reports whether a request has the action once in the header and once, the same, among the parameters.
func (m *Marks) twofold(r *http.Request, parameters []Pair) bool {
	if !m.Twofold || len(r.Header[m.Headers[0]]) != 1 {
		return false
	}
	action, ok := Parameter(parameters, m.Action)
	return ok && action == r.Header[m.Headers[0]][0]
}

// find returns the dialect of a request, or the one whose words the refusal with a condition has. form is nil, or an
// Exchange with a form's body.
func (r *Router) find(req *http.Request, socket bool, form *Exchange) (found *entry, refused bool, c Condition) {
	marks := 0
	for i := range r.entries {
		if n := r.entries[i].marks.count(req); n > 0 {
			found, marks = &r.entries[i], marks+n
		}
	}
	if req.URL.Path == "/" && (req.URL.RawQuery != "" || form != nil) {
		parameters, err := parametersOf(req, form)
		if err != nil {
			return r.fallback(socket, found), true, conditionOf(err)
		}
		owner, n := r.countActions(parameters)
		if owner != nil && owner == found && owner.marks.twofold(req, parameters) {
			n--
		}
		if owner != nil {
			found = owner
		}
		marks += n
	}
	if marks == 0 && req.Method == http.MethodGet && req.URL.Path == "/" && req.URL.RawQuery == "" {
		if i := slices.IndexFunc(r.entries, func(e entry) bool { return e.marks.Root }); i >= 0 {
			found = &r.entries[i]
		}
	}
	switch {
	case marks > 1:
		return r.fallback(socket, nil), true, SeveralMarks
	case found == nil || !found.servedOn(socket):
		return r.fallback(socket, nil), true, NoRoute
	case r.foreignProof(req, found):
		return found, true, SeveralProofs
	}
	return found, false, 0
}

// named returns the dialect that a request's path and headers name, or else the one that refuses what none may serve.
func (r *Router) named(req *http.Request, socket bool) *entry {
	for i := range r.entries {
		if r.entries[i].marks.count(req) > 0 {
			return r.fallback(socket, &r.entries[i])
		}
	}
	return r.fallback(socket, nil)
}

// countActions returns how many marks the parameters are, and whose. An action of no dialect is a mark, too.
func (r *Router) countActions(parameters []Pair) (owner *entry, marks int) {
	most := 0
	for i := range r.entries {
		e, named := &r.entries[i], 0
		for _, p := range parameters {
			if e.marks.Action != "" && p.Name == e.marks.Action {
				named++
			}
		}
		if most = max(most, named); named > 0 && e.marks.owns(parameters) {
			owner, marks = e, marks+named
		}
	}
	return owner, max(marks, most)
}

// foreignProof reports whether a request shows who sends it as only other dialects' requests do.
func (r *Router) foreignProof(req *http.Request, found *entry) bool {
	for i := range r.entries {
		for _, name := range r.entries[i].marks.Proofs {
			if len(req.Header[name]) > 0 && !slices.Contains(found.marks.Proofs, name) {
				return true
			}
		}
	}
	return false
}

// fallback returns the dialect whose words refuse a request: the one given, or else the first that is served there.
func (r *Router) fallback(socket bool, given *entry) *entry {
	if given != nil && given.servedOn(socket) {
		return given
	}
	for i := range r.entries {
		if r.entries[i].servedOn(socket) {
			return &r.entries[i]
		}
	}
	return &r.entries[0]
}

// readForm reads the body of a form for "/" into an Exchange, which the caller ends, and lets the dialect read it again. It
// returns nil for other requests. Other paths may have bodies under any content type.
func readForm(r *http.Request) (*Exchange, error) {
	if r.URL.Path != "/" || !saysForm(r) {
		return nil, nil
	}
	x := Begin()
	body, err := x.Body(r, maxForm)
	if err != nil {
		x.End()
		return nil, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return x, nil
}

func parametersOf(r *http.Request, form *Exchange) ([]Pair, error) {
	if form == nil {
		form = Begin()
		defer form.End()
	}
	return form.Parameters(r, maxForm)
}
