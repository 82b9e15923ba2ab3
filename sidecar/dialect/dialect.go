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
}

// Recorder is told of every operation that a request asks for: metrics and traces. nil records nothing.
type Recorder interface {
	// Begin returns the context of the operation, and what to call with its outcome, "" for success. traceparent is
	// the caller's own trace, or empty.
	Begin(ctx context.Context, traceparent, dialect, requestID string, op policy.Operation) (context.Context, func(kms.Code))
}

// Fallback answers the requests that no dialect may serve. *Server implements it.
type Fallback interface {
	// AnswerUnserved refuses a request that is no dialect's (NoRoute, SeveralMarks), or that none may serve (WebPage,
	// TooManyConnections).
	AnswerUnserved(w http.ResponseWriter, r *http.Request, c Condition)
}

type sentHostKey struct{}

// WithSentHost returns the context of a connection whose requests had a Host header that net/http does not take, which sent
// returns; see [SentHost].
func WithSentHost(ctx context.Context, sent func() string) context.Context {
	return context.WithValue(ctx, sentHostKey{}, sent)
}

// SentHost returns the Host header that a request had before it was corrected, empty if it was not. Clients sign it as it was.
func SentHost(ctx context.Context) string {
	if sent, ok := ctx.Value(sentHostKey{}).(func() string); ok {
		return sent()
	}
	return ""
}

type refusalKey struct{}

// WithRefusal returns the context of a connection whose first request is refused with c, unless it asks for the state of
// health, and which is then closed.
func WithRefusal(ctx context.Context, c Condition) context.Context {
	return context.WithValue(ctx, refusalKey{}, c)
}

// Router sends each request to the dialect that its mark names.
type Router struct {
	probes  *mux.Router
	entries []entry
}

// NewRouter returns a Router without dialects.
func NewRouter() *Router { return &Router{probes: mux.NewRouter()} }

// Add registers a dialect and where it is served. The first that is served on a listener also answers the requests there that no
// dialect may serve.
func (r *Router) Add(d Dialect, m Marks, where Where) {
	r.entries = append(r.entries, entry{d, m, where})
}

// Handle registers a handler for one method and exact path. It must not contain mux variables.
func (r *Router) Handle(method, path string, h http.Handler) {
	r.probes.Methods(method).MatcherFunc(func(req *http.Request, _ *mux.RouteMatch) bool { return req.URL.Path == path }).Handler(h)
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
	if !caller.Known && !caller.Socket && FromBrowser(req) {
		r.fallback(caller.Socket, nil).AnswerUnserved(w, req, WebPage)
		return
	}
	var match mux.RouteMatch
	if r.probes.Match(req, &match) && match.Handler != nil {
		match.Handler.ServeHTTP(w, req)
		return
	}
	if refused { // the connection is spare: it does not wait for a body
		r.named(req, caller.Socket).AnswerUnserved(w, req, refusal)
		return
	}
	form, err := readForm(req)
	if err != nil {
		r.fallback(caller.Socket, nil).AnswerUnserved(w, req, conditionOf(err))
		return
	}
	if form != nil {
		defer form.End()
	}
	d, wrong, condition := r.find(req, caller.Socket, form)
	if wrong {
		d.AnswerUnserved(w, req, condition)
		return
	}
	d.ServeHTTP(w, req)
}
