package dialect

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keyside/keyside/policy"
)

// Handler does one operation: it translates the fields of x into a call of the core, and the core's result into x.Out. op
// is the operation that the request asks for, which is the route's unless Route.Asked says otherwise.
type Handler func(ctx context.Context, op policy.Operation, x *Exchange) error

// Route is one operation of a dialect, as data.
type Route struct {
	Method    string // empty: POST
	Path      string // below the dialect's base; parts such as {key_id} are variables
	Operation policy.Operation
	Handle    Handler
	Body      int64   // the longest body in bytes; zero: ControlBody
	Status    int     // of a success; zero: 200
	Fields    []Field // of the request; see Fields
	// Asked returns the operation that a request with these fields asks for; nil: Operation.
	Asked func(x *Exchange) policy.Operation
	// SocketOnly refuses callers that the kernel does not identify.
	SocketOnly bool
}

// Limits of a body, in bytes. With every character escaped, a plaintext of 4096 bytes takes 24 KiB of JSON, and a context of 8192
// characters 96 KiB. Re-encrypt has two contexts.
const (
	ControlBody   = 16 << 10
	DataBody      = 128 << 10
	ReEncryptBody = 2 * DataBody
)

// Routes returns the routes with their zero values replaced.
func Routes(routes ...Route) []Route {
	for i := range routes {
		rt := &routes[i]
		rt.Method = cmp.Or(rt.Method, http.MethodPost)
		rt.Body = cmp.Or(rt.Body, ControlBody)
		rt.Status = cmp.Or(rt.Status, http.StatusOK)
	}
	return routes
}

// asked returns the operation that a request with the fields of x asks for.
func (rt *Route) asked(x *Exchange) policy.Operation {
	if rt.Asked == nil {
		return rt.Operation
	}
	return rt.Asked(x)
}

// Served is one operation of a dialect, as documentation shows it.
type Served struct {
	Call      string // what a caller writes, such as a method and a path, or an action's name
	Operation policy.Operation
}

// ServedBy lists what routes serve, with their methods and paths.
func ServedBy(routes []Route) []Served {
	served := make([]Served, len(routes))
	for i := range routes {
		served[i] = Served{routes[i].Method + " " + routes[i].Path, routes[i].Operation}
	}
	return served
}

// Table finds the route of a request.
type Table interface {
	// Find returns the route of a request, and sets the variables of the path in x. If there is none it returns nil and
	// NoRoute or NoMethod.
	Find(r *http.Request, x *Exchange) (*Route, Condition)
}

// PathTable finds routes by method and path. Paths are looked up exactly: they are never cleaned, redirected or guessed, and
// a percent-encoded slash separates nothing.
type PathTable struct {
	root, variable, end string // of the base
	exact               map[string][]*Route
	patterns            []pattern
}

// pattern is a route whose path has variables.
type pattern struct {
	route    *Route
	segments []string
}

// NewPathTable returns the table of routes below base, such as "/v1.0/{project_id}/kms/", which may have one variable. The
// path of a route that begins with a slash is not below base.
func NewPathTable(base string, routes []Route) *PathTable {
	t := &PathTable{exact: map[string][]*Route{}}
	t.root, t.end, _ = strings.Cut(base, "{")
	t.variable, t.end, _ = strings.Cut(t.end, "}")
	for i := range routes {
		rt := &routes[i]
		if strings.Contains(rt.Path, "{") {
			t.patterns = append(t.patterns, pattern{rt, strings.Split(rt.Path, "/")})
		} else {
			t.exact[rt.Path] = append(t.exact[rt.Path], rt)
		}
	}
	return t
}

// Find implements Table.
func (t *PathTable) Find(r *http.Request, x *Exchange) (*Route, Condition) {
	path, encoded := r.URL.RawPath, true
	if path == "" { // then none of the path's own slashes was encoded
		path, encoded = r.URL.Path, false
	}
	if below, ok := t.below(path, x); ok {
		path = below
	} else if !strings.HasPrefix(path, "/") {
		return nil, NoRoute
	}
	condition := NoRoute
	for _, rt := range t.exact[path] {
		if rt.Method == r.Method {
			return rt, 0
		}
		condition = NoMethod
	}
	if condition == NoRoute {
		return t.match(path, encoded, r.Method, x)
	}
	return nil, condition
}

// below returns what follows the base in a path.
func (t *PathTable) below(path string, x *Exchange) (string, bool) {
	path, ok := strings.CutPrefix(path, t.root)
	if !ok || t.variable == "" {
		return path, ok && !strings.HasPrefix(path, "/")
	}
	value, path, ok := strings.Cut(path, t.end)
	if !ok || strings.Contains(value, "/") || strings.HasPrefix(path, "/") {
		return "", false
	}
	x.path = append(x.path[:0], Var{t.variable, value})
	return path, true
}

// match finds a route whose path has variables. Several may fit: a tag may be named "action".
func (t *PathTable) match(path string, encoded bool, method string, x *Exchange) (*Route, Condition) {
	segments, condition, base := strings.Split(path, "/"), NoRoute, len(x.path)
	for i := range t.patterns {
		p := &t.patterns[i]
		x.path = x.path[:base]
		if !p.fits(segments, encoded, x) {
			continue
		}
		if p.route.Method == method {
			return p.route, 0
		}
		condition = NoMethod
	}
	return nil, condition
}

// fits reports whether a path has the pattern's form, and sets its variables.
func (p *pattern) fits(segments []string, encoded bool, x *Exchange) bool {
	if len(segments) != len(p.segments) {
		return false
	}
	for i, want := range p.segments {
		value := segments[i]
		if !strings.HasPrefix(want, "{") {
			if value != want {
				return false
			}
			continue
		}
		if encoded {
			var err error
			if value, err = url.PathUnescape(value); err != nil {
				return false
			}
		}
		if value == "" {
			return false
		}
		x.path = append(x.path, Var{want[1 : len(want)-1], value})
	}
	return true
}

// HeaderTable finds routes by a header that has the operation's name after a prefix. The path of a route is that name.
type HeaderTable struct {
	header, prefix string
	routes         map[string]*Route
}

// NewHeaderTable returns the table of routes that a header chooses, given in canonical form.
func NewHeaderTable(header, prefix string, routes []Route) *HeaderTable {
	t := &HeaderTable{header, prefix, map[string]*Route{}}
	for i := range routes {
		t.routes[routes[i].Path] = &routes[i]
	}
	return t
}

// Find implements Table.
func (t *HeaderTable) Find(r *http.Request, _ *Exchange) (*Route, Condition) {
	marks := r.Header[t.header]
	if len(marks) != 1 {
		return nil, NoRoute
	}
	name, ok := strings.CutPrefix(marks[0], t.prefix)
	rt := t.routes[name]
	switch {
	case !ok || rt == nil:
		return nil, NoRoute
	case rt.Method != r.Method:
		return nil, NoMethod
	}
	return rt, 0
}

// ActionTable finds routes of the path "/" by the operation's name in a header, or else in a parameter. The path of a route is that name. Routes
// have all of the methods.
type ActionTable struct {
	header, parameter string
	methods           []string
	routes            map[string]*Route // nil for what is not offered
}

// NewActionTable returns the table of routes that a header, given in canonical form, or a parameter chooses. notOffered are
// operations that the cloud has and the dialect does not serve.
func NewActionTable(header, parameter string, methods []string, routes []Route, notOffered ...string) *ActionTable {
	t := &ActionTable{header, parameter, methods, map[string]*Route{}}
	for _, name := range notOffered {
		t.routes[name] = nil
	}
	for i := range routes {
		t.routes[routes[i].Path] = &routes[i]
	}
	return t
}

// Find implements Table.
func (t *ActionTable) Find(r *http.Request, x *Exchange) (*Route, Condition) {
	if r.URL.Path != "/" {
		return nil, NoRoute
	}
	var name string
	switch names := r.Header[t.header]; len(names) {
	case 0:
		pairs, err := x.Parameters(r, maxForm)
		if err != nil {
			return nil, conditionOf(err)
		}
		name, _ = Parameter(pairs, t.parameter)
	case 1:
		name = names[0]
	}
	rt, known := t.routes[name]
	switch {
	case !known:
		return nil, NoRoute
	case rt == nil:
		return nil, NotOffered
	case !slices.Contains(t.methods, r.Method):
		return nil, NoMethod
	}
	return rt, 0
}
