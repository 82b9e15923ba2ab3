package keyside

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/kms"
)

// Core is the canonical core as this dialect uses it.
type Core interface {
	dialect.Core
	AdmitAbout(ctx context.Context, op policy.Operation, target string) error
	Readmit(ctx context.Context, op policy.Operation) error
	CanI(ctx context.Context, in kms.CanIInput) (*kms.CanIOutput, error)
	CreateCredential(ctx context.Context, in kms.CreateCredentialInput) (*kms.NewCredential, error)
	ListCredentials(ctx context.Context) ([]*kms.Credential, error)
	DeleteCredential(ctx context.Context, accessKey string) error
	CreateToken(ctx context.Context, in kms.CreateTokenInput) (*kms.NewToken, error)
}

// Config is what the dialect needs. All fields are required.
type Config struct {
	Core      Core
	Users     *policy.Users
	Audit     *audit.Log
	HSMStatus func(context.Context) *client.HSMStatus
	Logger    *slog.Logger
	Draining  context.Context // ends when streams must
}

// Dialect serves the API.
type Dialect struct {
	cfg       Config
	verifying chan struct{} // holds one: a verification at a time
}

// New returns the dialect.
func New(cfg Config) *Dialect { return &Dialect{cfg: cfg, verifying: make(chan struct{}, 1)} }

// Handlers registers the operations with a router. cloud authenticates.
func (d *Dialect) Handlers(router *dialect.Router, cloud *huawei.Dialect) {
	router.Handle(http.MethodGet, client.BasePath+"openapi.json", http.HandlerFunc(serveDocument))
	for i := range table {
		rt := dialect.Routes(table[i].route(d))[0]
		router.Handle(http.MethodPost, client.BasePath+rt.Path, cloud.OwnIn(Name, rt.Operation, rt.Body, rt.Fields,
			func(ctx context.Context, x *dialect.Exchange) error {
				if rt.SocketOnly && !dialect.CallerFrom(ctx).Known {
					return d.cfg.Core.Refuse(ctx, rt.Operation, kms.Errorf(kms.CodeDenied, "only on the Unix socket"))
				}
				err := rt.Handle(ctx, rt.Operation, x)
				if err == nil && len(x.Out) == 0 && x.Stream == nil {
					x.Out = append(x.Out, "{}"...)
				}
				return err
			}, fail))
	}
}
