package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/procattr"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/dialect/keyside"
	"github.com/keyside/keyside/sidecar/edge"
	"github.com/keyside/keyside/sidecar/hsm"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// closeTimeout limits how long driver processes, database and telemetry may take to close.
const closeTimeout = 10 * time.Second

// Run serves the KMS until ctx ends, then drains and returns. It starts to serve only after the database, the audit log and the HSM
// have each done a real operation.
func Run(ctx context.Context, cfg Config, log *slog.Logger) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	tune(&cfg, log)
	if err := secure(&cfg); err != nil {
		return procattr.AdviseAccess(err)
	}
	p := newProcess(cfg, log)
	defer p.catchHangups()()
	err := p.open(ctx)
	if err == nil {
		err = p.serve(ctx)
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil // stopped before it started to serve
	}
	if code := driver.CodeOf(err); code == driver.PINIncorrect || code == driver.PINLocked {
		err = &PINError{err}
	}
	return procattr.AdviseAccess(errors.Join(err, p.close(closing)))
}

// PINError says that the HSM refused the PIN. Each further start would try it again, until the token locks it.
type PINError struct{ cause error }

func (e *PINError) Error() string { return e.cause.Error() }

// Unwrap returns the cause.
func (e *PINError) Unwrap() error { return e.cause }

// process is a running sidecar.
type process struct {
	cfg     Config
	log     *slog.Logger
	closers []func(context.Context) error // of what is open, in order of opening

	policies *policy.Policies // as of the start

	audit   *audit.Log
	store   *store.Store
	backend *hsm.Backend
	hsm     *hsm.HSM
	core    *kms.Service
	health  *edge.Health
	figures edge.Figures

	backing chan struct{}     // holds one: a backup at a time
	backups *scheduledBackups // nil if none are configured

	hangups chan os.Signal // SIGHUPs that came

	failed   chan error      // why the process cannot go on
	draining context.Context // ends when what would never end by itself must
	drain    context.CancelFunc
}

func newProcess(cfg Config, log *slog.Logger) *process {
	return &process{cfg: cfg, log: log, failed: make(chan error, 1), backing: make(chan struct{}, 1)}
}

// open makes everything below the listeners, cheapest first, so that a second process on the same database is told so
// before it has touched the HSM.
func (p *process) open(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		p.readPolicies, p.openTelemetry, p.openStore, p.openAudit, p.openHSM, p.openCheckpoints, p.openCore, p.openBackups, p.openHealth,
		p.openBackground, p.openMetrics,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close ends in the opposite order.
func (p *process) close(ctx context.Context) error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c(ctx))
	}
	return errors.Join(errs...)
}

func (p *process) closer(c func(context.Context) error) { p.closers = append(p.closers, c) }

func (p *process) readPolicies(context.Context) (err error) {
	p.policies, err = p.cfg.Policy.load()
	return err
}

func (p *process) openTelemetry(ctx context.Context) error {
	stop, err := telemetry.Setup(ctx, p.cfg.Telemetry, "sidecar", p.cfg.Version, p.log)
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	p.closer(func(context.Context) error { stop(); return nil })
	return nil
}

func (p *process) openStore(context.Context) error {
	if p.cfg.Create {
		if err := os.MkdirAll(p.cfg.Audit.Dir, 0o700); err != nil {
			return fmt.Errorf("audit directory: %w", err)
		}
	}
	s, err := store.Open(store.Options{
		Dir: p.cfg.Data, Create: p.cfg.Create, Anchor: filepath.Join(p.cfg.Audit.Dir, anchorName), Tenant: p.cfg.Tenant, Logger: p.log,
		Check: p.checkLog, Failed: p.fail,
	})
	if err != nil {
		return err
	}
	p.store = s
	p.closer(func(context.Context) error { return s.Close() })
	return nil
}

// anchorName is the name of the database's anchor in the directory of the audit log, which may be another volume than the database.
const anchorName = "database.anchor"

// checkLog refuses to create a database beside the audit log of one that is lost, and to use one that is older than its log.
func (p *process) checkLog(found *store.State) error {
	if found != nil {
		return AuditFiles{Audit: p.cfg.Audit.Dir, Data: p.cfg.Data}.check(found)
	}
	if has, err := audit.HasRecords(p.cfg.Audit.Dir); err != nil || !has {
		return err
	}
	return fmt.Errorf("there is no database in %s, but records of one in %s: mount its volume or restore it from a backup", p.cfg.Data, p.cfg.Audit.Dir)
}

// fail ends the process: what runs it starts it again, which repairs what a start can repair.
func (p *process) fail(why error) {
	select {
	case p.failed <- why:
	default:
	}
}

func (p *process) openAudit(context.Context) error {
	l, err := audit.Open(audit.Options{
		Dir: p.cfg.Audit.Dir, Sync: p.cfg.Audit.Sync, Tenant: p.cfg.Tenant, Logger: p.log, Clock: p.cfg.Clock, Heads: p.store, Failed: p.fail,
		MaxFileSize: int64(p.cfg.Audit.FileSize) << 20, Keep: audit.Keep{
			For: p.cfg.Audit.Keep.For, Files: p.cfg.Audit.Keep.Files, Bytes: int64(p.cfg.Audit.Keep.Size) << 20,
		},
	})
	if err != nil {
		return err
	}
	p.audit = l
	p.closer(func(context.Context) error { return l.Close() })
	return nil
}

func (p *process) openHSM(ctx context.Context) error {
	h := &p.cfg.HSM
	opts := hsm.Options{
		Name: h.name(), Start: func(ctx context.Context) (hsmd.Backend, error) { return h.Dial(ctx, p.log) },
		Tenant: p.cfg.Tenant, Data: p.cfg.Data, MakeTenant: h.Init, QueueDepth: h.QueueDepth, Telemetry: p.cfg.Telemetry.Enabled(), Logger: p.log,
	}
	if h.Via != nil {
		opts.Via = h.Via.Socket
	} else {
		opts.Canary = h.Canary // hsmd checks its own drivers
	}
	b, err := hsm.Open(opts)
	if err != nil {
		return err
	}
	p.backend = b
	p.closer(b.Close)
	sealed, err := p.sealedKeys(ctx)
	if err != nil {
		return err
	}
	p.hsm, err = b.Ready(ctx, sealed)
	return err
}

// sealedKeys counts what in the database only the tenant's root keys can open.
func (p *process) sealedKeys(ctx context.Context) (int, error) {
	keys, defaults, err := p.store.CountKeys(ctx)
	if err != nil {
		return 0, err
	}
	_, err = p.store.CredentialKey(ctx)
	switch {
	case err == nil:
		keys++
	case kms.AsError(err).Code != kms.CodeNotFound:
		return 0, err
	}
	return keys + defaults, nil
}

// openCheckpoints has the audit log's checkpoints signed while the HSM is open.
func (p *process) openCheckpoints(context.Context) error {
	if err := p.audit.SignCheckpoints(p.hsm.AuditKey(), p.hsm.SignAudit); err != nil {
		return fmt.Errorf("checkpoints of the audit log: %w", err)
	}
	p.closer(func(ctx context.Context) error {
		p.audit.EndCheckpoints(ctx)
		return nil
	})
	return nil
}

func (p *process) openCore(ctx context.Context) (err error) {
	var tracer trace.Tracer
	if p.cfg.Telemetry.Enabled() {
		tracer = otel.Tracer(telemetry.Scope)
	}
	auditor := p.cfg.Auditor
	if auditor == nil {
		auditor = p.audit
	}
	p.core, err = kms.New(kms.Config{
		Store: p.store, HSM: p.hsm, Auditor: auditor, Tenant: p.cfg.Tenant, Credentials: p.store, Limits: p.cfg.Limits,
		Account: p.cfg.huawei().DomainID, Policies: p.policies, Principals: p.cfg.principalNamed, Accounts: p.cfg.accounts(),
		Clock: p.cfg.Clock, Running: p.runningTime(), Logger: p.log, Tracer: tracer, Pool: p.cfg.Import.Pool, InFlight: p.cfg.InFlight, Refusals: p.cfg.Audit.Refusals,
	})
	if err == nil {
		p.closer(p.core.Close)
		p.warnOfConflicts()
		err = errors.Join(p.core.CheckGrants(ctx), p.warnOfNamesakes(ctx))
	}
	return err
}

// runningTime returns what the clock is compared with: nothing for the clock of a test.
func (p *process) runningTime() kms.RunningTime {
	if p.cfg.Clock != nil {
		return nil
	}
	return procattr.RunningTime
}

func (p *process) openHealth(ctx context.Context) error {
	var stop func(context.Context) error
	p.health, stop = edge.StartHealth(ctx, edge.HealthOptions{
		Interval: p.cfg.HSM.Canary, Logger: p.log,
		Checks: p.checks(),
		Use:    []string{"audit", "hsm"}, Change: []string{"store"},
		Clock: func() client.ClockState {
			state := p.core.ClockState()
			return client.ClockState{Jumped: int64(state.Jumped.Seconds()), Waiting: state.Waiting}
		},
		Answer: client.Health{Tenant: p.cfg.Tenant, Endpoint: p.cfg.endpoint(), Huawei: client.Huawei{
			Region: p.cfg.huawei().Region, ProjectID: p.cfg.huawei().ProjectID, DomainID: p.cfg.huawei().DomainID,
		}},
	})
	p.closer(stop)
	return nil
}

// checks are what /healthz reports.
func (p *process) checks() map[string]func(context.Context) error {
	checks := map[string]func(context.Context) error{"store": p.store.Ready, "audit": p.audit.Ready, "hsm": p.backend.Health}
	if p.backups != nil {
		checks["backup"] = p.backups.health
	}
	return checks
}

// openBackground starts the core's scheduler, which also does what became due while the sidecar did not run, the generation of wrapping
// keys in advance, and scheduled backups. Both end before the core is closed.
func (p *process) openBackground(ctx context.Context) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { p.core.Schedule(ctx) })
	work.Go(func() { p.core.FillPool(ctx) })
	if p.backups != nil {
		work.Go(func() { p.backups.run(ctx) })
	}
	go func() {
		defer close(done)
		work.Wait()
	}()
	p.closer(func(closing context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-closing.Done():
			return fmt.Errorf("work in the background did not end: %w", closing.Err())
		}
	})
	return nil
}

// handler is everything that the sidecar serves.
func (p *process) handler() (http.Handler, error) {
	var recorder dialect.Recorder
	if p.cfg.Telemetry.Enabled() {
		r, err := newRecorder()
		if err != nil {
			return nil, err
		}
		recorder = r
	}
	users := p.cfg.users()
	host := dialect.Host{
		Principal: users.Principal, Unsigned: !p.cfg.SignedOnSocket, Timeout: p.cfg.RequestTimeout, Recorder: recorder, Clock: p.cfg.Clock,
	}
	router := openDialects(&p.cfg, p.core, host)
	router.Handle(http.MethodGet, client.HealthPath, p.health)
	router.Handle(http.MethodGet, client.LivePath, p.health.Live())
	router.Handle(http.MethodGet, client.ReadyPath, p.health.Ready())
	p.draining, p.drain = context.WithCancel(context.Background())
	router.Add(keyside.New(keyside.Config{
		Host: host, Proofs: huawei.Proofs(), Dialects: dialectNames(), Core: p.core, Users: users, Audit: p.audit, HSMStatus: p.backend.Status, Backup: p.streamBackup, Logger: p.log, Draining: p.draining,
	}), dialect.Marks{Paths: []string{client.BasePath}, Proofs: huawei.Marks.Proofs}, dialect.Everywhere)
	return router, nil
}
