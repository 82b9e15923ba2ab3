// Package dialect is what the dialects share: the core as they see it, the routing of requests to a dialect, the strict
// and lean decoding of JSON bodies, and the writing of answers. It knows no cloud's words; each dialect is a package of
// its own below this one, with the same five files: routes, types, translate, errors, auth.
package dialect

import (
	"context"
	"net/http"

	"github.com/gorilla/mux"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Core is the canonical core as dialects use it; *kms.Service implements it. Every operation is decided and audited
// inside. Refuse is for requests that a dialect cannot translate, so that these are on record too, and RefuseUnserved for those
// that are for no operation.
type Core interface {
	Refuse(ctx context.Context, op policy.Operation, err error) error
	RefuseUnserved(ctx context.Context, err error) error
	// Authenticate and AuthenticateToken say who stands behind an access key and a token. They are no operations, and leave
	// it to the dialect to have a refusal recorded. Admit is for operations that the dialect answers by itself.
	Authenticate(ctx context.Context, accessKey string, verify func(secret []byte) bool) (policy.Principal, error)
	AuthenticateToken(ctx context.Context, token string) (policy.Principal, error)
	Admit(ctx context.Context, op policy.Operation) error

	CreateKey(ctx context.Context, in kms.CreateKeyInput) (*kms.Key, error)
	DescribeKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	ListKeys(ctx context.Context, in kms.ListKeysInput) (*kms.KeyPage, error)
	EnableKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	DisableKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	Encrypt(ctx context.Context, in kms.EncryptInput) (*kms.EncryptOutput, error)
	Decrypt(ctx context.Context, in kms.DecryptInput) (*kms.DecryptOutput, error)
	GenerateDataKey(ctx context.Context, in kms.DataKeyInput) (*kms.DataKeyOutput, error)
	EncryptDataKey(ctx context.Context, in kms.EncryptInput) (*kms.EncryptOutput, error)
	DecryptDataKey(ctx context.Context, in kms.DecryptInput) (*kms.DecryptOutput, error)
	Random(ctx context.Context, bytes int) ([]byte, error)
	Sign(ctx context.Context, in kms.SignInput) (*kms.SignOutput, error)
	Verify(ctx context.Context, in kms.VerifyInput) (bool, error)
	PublicKey(ctx context.Context, id kms.KeyID) (*kms.PublicKeyOutput, error)

	ScheduleKeyDeletion(ctx context.Context, id kms.KeyID, days int) (*kms.Key, error)
	CancelKeyDeletion(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	UpdateAlias(ctx context.Context, id kms.KeyID, alias string) (*kms.Key, error)
	UpdateDescription(ctx context.Context, id kms.KeyID, description string) (*kms.Key, error)
	EnableRotation(ctx context.Context, id kms.KeyID, interval int) (*kms.Key, error)
	UpdateRotation(ctx context.Context, id kms.KeyID, interval int) (*kms.Key, error)
	DisableRotation(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	RotationStatus(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	SetTags(ctx context.Context, id kms.KeyID, tags []kms.Tag) (*kms.Key, error)
	DeleteTags(ctx context.Context, id kms.KeyID, keys []string, strict bool) (*kms.Key, error)
	KeyTags(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	ListTags(ctx context.Context) ([]kms.TagValues, error)
	FindKeys(ctx context.Context, in kms.FindKeysInput) (*kms.KeyPage, error)
	Resolve(ctx context.Context, op policy.Operation, name string) (kms.KeyID, error)
	CreateAlias(ctx context.Context, id kms.KeyID, name string) (*kms.Alias, error)
	AssociateAlias(ctx context.Context, name string, target kms.KeyID) (*kms.Alias, error)
	DeleteAliases(ctx context.Context, id kms.KeyID, names []string) error
	ListAliases(ctx context.Context, in kms.ListAliasesInput) (*kms.AliasPage, error)
	CreateGrant(ctx context.Context, in kms.CreateGrantInput) (*policy.Grant, error)
	ListGrants(ctx context.Context, id kms.KeyID, offset, limit int) (*kms.GrantPage, error)
	ListRetirableGrants(ctx context.Context, offset, limit int) (*kms.GrantPage, error)
	RevokeGrant(ctx context.Context, key kms.KeyID, id string) error
	RetireGrant(ctx context.Context, key kms.KeyID, id string) error
	Quotas(ctx context.Context) (*kms.Usage, error)
	CountKeys(ctx context.Context) (int, error)

	ReEncrypt(ctx context.Context, in kms.ReEncryptInput) (*kms.ReEncryptOutput, error)
	GenerateDataKeyPair(ctx context.Context, in kms.DataKeyPairInput) (*kms.DataKeyPairOutput, error)
	GenerateMAC(ctx context.Context, in kms.MACInput) ([]byte, error)
	VerifyMAC(ctx context.Context, in kms.MACInput, mac []byte) (bool, error)
	DeriveSharedSecret(ctx context.Context, in kms.DeriveInput) ([]byte, error)

	GetImportParameters(ctx context.Context, in kms.ImportParametersInput) (*kms.ImportParameters, error)
	ImportKeyMaterial(ctx context.Context, in kms.ImportInput) (*kms.Key, error)
	DeleteImportedKeyMaterial(ctx context.Context, id kms.KeyID) (*kms.Key, error)
}

// Dialect is one cloud's API.
type Dialect interface {
	http.Handler
	// Matches reports whether a request is this dialect's to answer, be it with an error. It looks at the request line
	// and the headers only.
	Matches(r *http.Request) bool
}

// Served is one operation of a dialect, as documentation shows it.
type Served struct {
	Method, Path string
	Operation    policy.Operation
}

// Recorder is told of every operation that a request asks for: metrics and traces. nil records nothing.
type Recorder interface {
	// Begin returns the context of the operation, and what to call with its outcome, "" for success. traceparent is
	// the caller's own trace, or empty.
	Begin(ctx context.Context, traceparent, dialect, requestID string, op policy.Operation) (context.Context, func(kms.Code))
}

// Router sends each request to the dialect that claims it, in the order of registration.
type Router struct {
	mux   *mux.Router
	other http.Handler
}

// NewRouter returns a Router that gives requests nobody claims to other.
func NewRouter(other http.Handler) *Router {
	return &Router{mux: mux.NewRouter(), other: other}
}

// Add registers a dialect.
func (r *Router) Add(d Dialect) {
	r.mux.MatcherFunc(func(req *http.Request, _ *mux.RouteMatch) bool { return d.Matches(req) }).Handler(d)
}

// Handle registers a handler for one method and exact path. It must not contain mux variables.
func (r *Router) Handle(method, path string, h http.Handler) {
	r.mux.Methods(method).MatcherFunc(func(req *http.Request, _ *mux.RouteMatch) bool { return req.URL.Path == path }).Handler(h)
}

// ServeHTTP implements http.Handler. It takes the match and not the mux's own ServeHTTP, which would copy every request
// twice for variables that no dialect uses and redirect paths that a KMS must answer with an error.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var match mux.RouteMatch
	if r.mux.Match(req, &match) && match.Handler != nil {
		match.Handler.ServeHTTP(w, req)
		return
	}
	r.other.ServeHTTP(w, req)
}

type callerKey struct{}

// WithCaller returns a connection's context that says who is at its other end.
func WithCaller(ctx context.Context, c policy.Caller) context.Context {
	return WithCallerNow(ctx, func() policy.Caller { return c })
}

// WithCallerNow returns a connection's context in which each request asks who is at the other end: it may be nobody from some
// time on.
func WithCallerNow(ctx context.Context, caller func() policy.Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerFrom returns who is at the other end now; without WithCaller, a caller that is not known.
func CallerFrom(ctx context.Context) policy.Caller {
	if caller, ok := ctx.Value(callerKey{}).(func() policy.Caller); ok {
		return caller()
	}
	return policy.Caller{}
}
