// Package dialect is the kernel of the dialects. A dialect gives a [Server] its routes with their fields as data, the proofs
// by which requests show who sends them, and its words for errors. The Server finds the route, authenticates, decodes
// strictly, has refusals recorded, and answers. The kernel knows no cloud's words; each dialect is a package of its own.
package dialect

import (
	"context"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Dialect is one cloud's API.
type Dialect interface {
	http.Handler
	Fallback
	// Matches reports whether a request is this dialect's to answer, be it with an error. It looks at the request line
	// and the headers only.
	Matches(r *http.Request) bool
}

// Recorder is told of every operation that a request asks for: metrics and traces. nil records nothing.
type Recorder interface {
	// Begin returns the context of the operation, and what to call with its outcome, "" for success. traceparent is
	// the caller's own trace, or empty.
	Begin(ctx context.Context, traceparent, dialect, requestID string, op policy.Operation) (context.Context, func(kms.Code))
}

// Fallback answers the requests that no dialect may serve. *Server implements it.
type Fallback interface {
	// AnswerUnserved refuses a request that no dialect claims (NoRoute), or that none may serve (WebPage,
	// TooManyConnections).
	AnswerUnserved(w http.ResponseWriter, r *http.Request, c Condition)
}

type refusalKey struct{}

// WithRefusal returns the context of a connection whose first request is refused with c, unless it asks for the state of
// health, and which is then closed.
func WithRefusal(ctx context.Context, c Condition) context.Context {
	return context.WithValue(ctx, refusalKey{}, c)
}

// Router sends each request to the dialect that claims it, in the order of registration.
type Router struct {
	mux      *mux.Router
	fallback Fallback
}

// NewRouter returns a Router that gives requests that no dialect may serve to fallback.
func NewRouter(fallback Fallback) *Router { return &Router{mux.NewRouter(), fallback} }

// Add registers a dialect.
func (r *Router) Add(d Dialect) {
	r.mux.MatcherFunc(func(req *http.Request, _ *mux.RouteMatch) bool { return d.Matches(req) }).Handler(d)
}

// Handle registers a handler for one method and exact path. It must not contain mux variables.
func (r *Router) Handle(method, path string, h http.Handler) {
	r.mux.Methods(method).MatcherFunc(func(req *http.Request, _ *mux.RouteMatch) bool { return req.URL.Path == path }).Handler(h)
}

// ServeHTTP implements http.Handler. It refuses what a web page may have sent to the port. It takes the mux's match and not
// its ServeHTTP, which would copy every request twice for variables that no dialect uses and redirect paths that a KMS must
// answer with an error.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	caller := kms.CallerFrom(req.Context())
	refusal, refused := req.Context().Value(refusalKey{}).(Condition)
	if caller.Ended || refused { // another process that holds the connection of an ended one must connect by itself
		w.Header().Set("Connection", "close")
	}
	var match mux.RouteMatch
	switch {
	case !caller.Known && !caller.Socket && FromBrowser(req):
		r.fallback.AnswerUnserved(w, req, WebPage)
	case r.mux.Match(req, &match) && match.Handler != nil:
		if d, ok := match.Handler.(Fallback); ok && refused {
			d.AnswerUnserved(w, req, refusal)
			return
		}
		match.Handler.ServeHTTP(w, req)
	case refused:
		r.fallback.AnswerUnserved(w, req, refusal)
	default:
		r.fallback.AnswerUnserved(w, req, NoRoute)
	}
}
