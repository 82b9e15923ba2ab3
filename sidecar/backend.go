package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/driver"
)

// startTimeout is how long the sidecar waits for the HSM before it gives up and says why.
const startTimeout = 60 * time.Second

// retryPause is between two looks at an HSM that is not there yet.
const retryPause = 100 * time.Millisecond

// backend is what is below the sidecar: a Mux whose one member is a driver process of its own, or the node's hsmd.
type backend struct {
	cfg     *Config
	log     *slog.Logger
	mux     *hsmd.Mux
	current atomic.Pointer[hsmd.Backend] // the member as it was started last
	failed  atomic.Pointer[error]        // why the last start failed, nil after a good one
	fatal   chan error                   // the first failure that no second try mends
}

func openBackend(cfg *Config, log *slog.Logger) (*backend, error) {
	b := &backend{cfg: cfg, log: log, fatal: make(chan error, 1)}
	mc := hsmd.MuxConfig{
		Name: b.name(), QueueDepth: cfg.HSM.QueueDepth, Logger: log,
		Members: []hsmd.MemberConfig{{Name: b.name(), Start: b.start}},
	}
	if cfg.HSM.Driver != nil {
		mc.CanaryInterval = cfg.HSM.Canary // hsmd sees to its own drivers
	}
	var err error
	if cfg.Telemetry.Enabled() {
		kind := trace.SpanKindClient
		if cfg.HSM.Driver != nil {
			kind = trace.SpanKindInternal
		}
		if mc.Recorder, err = telemetry.NewRecorder(b.name(), kind); err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	if b.mux, err = hsmd.NewMux(mc); err != nil {
		return nil, fmt.Errorf("hsm: %w", err)
	}
	if _, err := mc.Recorder.Gauges(b.mux.Status); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return b, nil
}

// name is the driver's name.
func (b *backend) name() string {
	if b.cfg.HSM.Driver != nil {
		return b.cfg.HSM.Driver.Name
	}
	if b.cfg.HSM.Via.Name == "" {
		return "hsmd"
	}
	return b.cfg.HSM.Via.Name
}

// start starts the member for the Mux, as often as that asks for it.
func (b *backend) start(ctx context.Context) (hsmd.Backend, error) {
	member, err := b.dial(ctx)
	if err != nil {
		b.failed.Store(&err)
		if permanent(driver.CodeOf(err)) {
			select {
			case b.fatal <- err:
			default:
			}
		}
		return nil, err
	}
	b.failed.Store(nil)
	b.current.Store(&member)
	return member, nil
}

func (b *backend) dial(ctx context.Context) (hsmd.Backend, error) {
	if via := b.cfg.HSM.Via; via != nil {
		return hsmd.Dial(ctx, via.Socket, via.Name, int(via.UID))
	}
	return plugins.Start(ctx, *b.cfg.HSM.Driver, b.log)
}

// permanent reports whether an error stays however often one tries: a fault of the configuration or a wrong PIN, which
// must not be tried twice.
func permanent(code driver.Code) bool {
	switch code {
	case driver.InvalidArgument, driver.Unsupported, driver.PINIncorrect, driver.PINLocked, driver.TenantUnknown, driver.Internal:
		return true
	}
	return false
}

// ready waits until the HSM has the tenant's keys and has done one operation with them. keys is how many keys the
// database holds.
func (b *backend) ready(ctx context.Context, keys int) (*driver.Description, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	description, err := retry(ctx, b, func() (*driver.Description, error) { return b.mux.Describe(ctx) })
	if err != nil {
		return nil, b.explain(err)
	}
	tenant, err := retry(ctx, b, func() (*driver.Tenant, error) { return b.tenant(ctx, keys) })
	if err != nil {
		return nil, b.explain(err)
	}
	began := time.Now()
	if _, err := retry(ctx, b, func() (any, error) { return nil, b.mux.Health(ctx, b.cfg.Tenant) }); err != nil {
		return nil, b.explain(fmt.Errorf("canary: %w", err))
	}
	b.log.Info("hsm ready", slog.String("driver", description.GetName()), slog.String("vendor", description.GetVendor()),
		slog.String("tenant", b.cfg.Tenant), slog.Any("roots", tenant.GetRoots()),
		slog.String("protection", description.GetProtection().String()), slog.Duration("canary", time.Since(began)))
	return description, nil
}

// tenant finds the tenant's keys in the HSM. It makes them where that is allowed and no key of the database can depend on
// others of the same name.
func (b *backend) tenant(ctx context.Context, keys int) (*driver.Tenant, error) {
	name := b.cfg.Tenant
	tenant, err := b.mux.DescribeTenant(ctx, &driver.DescribeTenantRequest{Tenant: name})
	code := driver.CodeOf(err)
	switch {
	case code != driver.TenantUnknown && code != driver.KeyUnavailable:
		return tenant, err
	case keys > 0:
		return nil, &startError{fmt.Errorf("the HSM does not have the root keys of tenant %q, but %s holds %d keys that are sealed under "+
			"them: connect the HSM that has them or restore its backup, or set data to another directory to begin anew: %w",
			name, b.cfg.Data, keys, err)}
	case !b.cfg.HSM.Init:
		return nil, &startError{fmt.Errorf("the HSM does not have the root keys of tenant %q: make them with `keyside root init "+
			"--generate`, or set hsm.init to true: %w", name, err)}
	}
	tenant, err = b.mux.InitTenant(ctx, &driver.InitTenantRequest{Tenant: name})
	if err == nil {
		b.log.Info("tenant keys made in the hsm", slog.String("tenant", name), slog.Any("roots", tenant.GetRoots()))
	}
	return tenant, err
}

// startError is a failure that no second try mends.
type startError struct{ error }

// Unwrap returns the cause.
func (e *startError) Unwrap() error { return e.error }

// retry does fn until it works, fails for good, or ctx ends.
func retry[T any](ctx context.Context, b *backend, fn func() (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	for {
		done := make(chan result, 1)
		go func() {
			v, err := fn()
			done <- result{v, err}
		}()
		var r result
		select {
		case r = <-done:
		case err := <-b.fatal:
			return none, err
		case <-ctx.Done():
			return none, ctx.Err()
		}
		var final *startError
		if r.err == nil || errors.As(r.err, &final) || permanent(driver.CodeOf(r.err)) {
			return r.value, r.err
		}
		select {
		case <-time.After(retryPause):
		case err := <-b.fatal:
			return none, err
		case <-ctx.Done():
			return none, errors.Join(ctx.Err(), r.err)
		}
	}
}

// explain says what to do about an HSM that did not get ready.
func (b *backend) explain(err error) error {
	if failed := b.failed.Load(); failed != nil {
		err = *failed // the member's own words say more than what waiting for it ended in
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	code := driver.CodeOf(err)
	switch {
	case code == driver.PINIncorrect:
		return fmt.Errorf("the HSM refused the PIN, which will not be tried again: correct hsm.driver.credential before the next start: %w", err)
	case code == driver.PINLocked:
		return fmt.Errorf("the HSM has locked the PIN: its security officer has to unlock it: %w", err)
	case code == driver.TenantUnknown && b.cfg.HSM.Via != nil:
		return fmt.Errorf("hsmd does not know this process as tenant %q: name its uid under tenants in hsmd's configuration: %w", b.cfg.Tenant, err)
	case b.cfg.HSM.Via != nil:
		return fmt.Errorf("the HSM behind hsmd at %s is not ready: %w", b.cfg.HSM.Via.Socket, err)
	default:
		return fmt.Errorf("driver %s is not ready: %w", b.name(), err)
	}
}
