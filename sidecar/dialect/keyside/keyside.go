package keyside

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"slices"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Core is the canonical core as this dialect uses it.
type Core interface {
	dialect.Gate
	dialect.Keys
	dialect.LifeCycle
	dialect.Rotation
	dialect.Crypto
	dialect.DataKeys
	dialect.Signatures
	dialect.Tags
	dialect.Aliases
	dialect.Grants
	dialect.Imports
	AdmitAbout(ctx context.Context, op policy.Operation, target string) error
	Readmit(ctx context.Context, op policy.Operation) error
	ConfirmDeletions(ctx context.Context) (*kms.ClockState, error)
	KeyFacts(ctx context.Context, key *kms.Key) (kms.KeyFacts, error)
	CanI(ctx context.Context, in kms.CanIInput) (*kms.CanIOutput, error)
	CreateCredential(ctx context.Context, in kms.CreateCredentialInput) (*kms.NewCredential, error)
	ListCredentials(ctx context.Context) ([]*kms.Credential, error)
	DeleteCredential(ctx context.Context, accessKey string) error
	CreateToken(ctx context.Context, in kms.CreateTokenInput) (*kms.NewToken, error)
}

// Config is what the dialect needs. All fields are required.
type Config struct {
	dialect.Host
	Proofs    []dialect.Proof // of senders
	Dialects  []string        // the names of the others, which access keys may be limited to
	Core      Core
	Users     *policy.Users
	Audit     *audit.Log
	HSMStatus func(context.Context) *client.HSMStatus
	Backup    func(context.Context, io.Writer) error // writes a backup
	Logger    *slog.Logger
	Draining  context.Context // ends when streams must
}

// Dialect serves the API.
type Dialect struct {
	*dialect.Server
	cfg       Config
	verifying chan struct{} // holds one: a verification at a time
}

// New returns the dialect.
func New(cfg Config) *Dialect {
	cfg.Dialects = append(slices.Clone(cfg.Dialects), Name)
	d := &Dialect{cfg: cfg, verifying: make(chan struct{}, 1)}
	d.Server = dialect.NewServer(dialect.Config{
		Host: cfg.Host, Core: cfg.Core, Name: Name, Table: dialect.NewPathTable(client.BasePath, d.routes()), Proofs: cfg.Proofs,
		Errors: dialect.Errors{Of: answerTo, Write: appendError}, Strict: true,
	})
	return d
}

// documentPath is the path of the API's description.
const documentPath = client.BasePath + "openapi.json"

// ServeHTTP implements http.Handler.
func (d *Dialect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == documentPath && r.Method == http.MethodGet {
		serveDocument(w, r)
		return
	}
	d.Server.ServeHTTP(w, r)
}
