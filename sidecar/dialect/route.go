package dialect

import (
	"context"
	"net/http"

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

// Limits of a body, in bytes. A plaintext of 4096 bytes may take six times as much as JSON, and a context 8192 characters.
const (
	ControlBody = 16 << 10
	DataBody    = 64 << 10
)

// defaults returns the route with its zero values replaced.
func (rt Route) defaults() Route {
	if rt.Method == "" {
		rt.Method = http.MethodPost
	}
	if rt.Body == 0 {
		rt.Body = ControlBody
	}
	if rt.Status == 0 {
		rt.Status = http.StatusOK
	}
	return rt
}

// Routes returns the routes with their zero values replaced.
func Routes(routes ...Route) []Route {
	for i := range routes {
		routes[i] = routes[i].defaults()
	}
	return routes
}

// OperationOf returns the operation that a request with the fields of x asks for.
func (rt *Route) OperationOf(x *Exchange) policy.Operation {
	if rt.Asked == nil {
		return rt.Operation
	}
	return rt.Asked(x)
}
