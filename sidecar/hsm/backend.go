// Package hsm implements the core's HSM interface over drivers. A Backend waits until the driver below it has the tenant's
// keys; an HSM runs the core's operations on it. Nothing above this package knows the driver contract.
package hsm

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
	"github.com/keyside/keyside/plugins/driver"
)

// Options says what is below the sidecar.
type Options struct {
	Name   string                                      // of the driver
	Via    string                                      // socket of the hsmd that runs the driver; empty: the sidecar runs it
	Start  func(context.Context) (hsmd.Backend, error) // starts the driver process, or connects to hsmd
	Tenant string
	Data   string // the database's directory, for error messages

	MakeTenant bool          // create the tenant's keys if the database has no key that could depend on others
	QueueDepth int           // of the Mux; 0: its default
	Canary     time.Duration // how often one real operation proves that the HSM works; 0: never
	Telemetry  bool
	Logger     *slog.Logger
}

// startTimeout is how long the sidecar waits for the HSM before it gives up and says why.
const startTimeout = 60 * time.Second

// retryPause is the time between two tries.
const retryPause = 100 * time.Millisecond

// Backend is a Mux with one member: a driver process of the sidecar's own, or the node's hsmd.
type Backend struct {
	opts    Options
	log     *slog.Logger
	mux     *hsmd.Mux
	current atomic.Pointer[hsmd.Backend] // the member that was started last
	failed  atomic.Pointer[error]        // why the last start failed, nil after a good one
	fatal   chan error                   // the first failure for which a retry is useless
}

// Open starts the driver, and starts it again whenever it ends. Close stops it.
func Open(opts Options) (*Backend, error) {
	b := &Backend{opts: opts, log: opts.Logger, fatal: make(chan error, 1)}
	mc := hsmd.MuxConfig{
		Name: opts.Name, QueueDepth: opts.QueueDepth, CanaryInterval: opts.Canary, Logger: opts.Logger,
		Members: []hsmd.MemberConfig{{Name: opts.Name, Start: b.start}},
	}
	var err error
	if opts.Telemetry {
		kind := trace.SpanKindInternal
		if opts.Via != "" {
			kind = trace.SpanKindClient
		}
		if mc.Recorder, err = telemetry.NewRecorder(opts.Name, kind); err != nil {
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

// Close drains and ends the driver.
func (b *Backend) Close(ctx context.Context) error { return b.mux.Close(ctx) }

// Health does one real operation with the tenant's keys.
func (b *Backend) Health(ctx context.Context) error { return b.mux.Health(ctx, b.opts.Tenant) }

// start starts the member for the Mux, which calls it again whenever the member has ended.
func (b *Backend) start(ctx context.Context) (hsmd.Backend, error) {
	member, err := b.opts.Start(ctx)
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

// permanent reports whether a retry is useless: after a fault of the configuration, or after a wrong PIN, which must not be
// tried twice.
func permanent(code driver.Code) bool {
	switch code {
	case driver.InvalidArgument, driver.Unsupported, driver.PINIncorrect, driver.PINLocked, driver.TenantUnknown, driver.Internal:
		return true
	}
	return false
}

// Ready waits until the HSM has the tenant's keys and has done one operation with them. sealed is how many keys of the
// database only the tenant's root keys can open.
func (b *Backend) Ready(ctx context.Context, sealed int) (*HSM, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	description, err := retry(ctx, b, func() (*driver.Description, error) { return b.mux.Describe(ctx) })
	if err != nil {
		return nil, b.explain(err)
	}
	tenant, err := retry(ctx, b, func() (*driver.Tenant, error) { return b.tenant(ctx, sealed) })
	if err != nil {
		return nil, b.explain(err)
	}
	began := time.Now()
	if _, err := retry(ctx, b, func() (any, error) { return nil, b.Health(ctx) }); err != nil {
		return nil, b.explain(fmt.Errorf("canary: %w", err))
	}
	b.log.Info("hsm ready", slog.String("driver", description.GetName()), slog.String("vendor", description.GetVendor()),
		slog.String("tenant", b.opts.Tenant), slog.Any("roots", tenant.GetRoots()),
		slog.String("protection", description.GetProtection().String()), slog.Duration("canary", time.Since(began)))
	return newHSM(b.mux, b.mux, description, tenant, b.opts.Telemetry, b.log), nil
}

// tenant returns the tenant's keys. It creates them if that is allowed and the database has no key that depends on other keys
// of the same name.
func (b *Backend) tenant(ctx context.Context, sealed int) (*driver.Tenant, error) {
	name := b.opts.Tenant
	tenant, err := b.mux.DescribeTenant(ctx, &driver.DescribeTenantRequest{Tenant: name})
	code := driver.CodeOf(err)
	switch {
	case code != driver.TenantUnknown && code != driver.KeyUnavailable:
		return tenant, err
	case sealed > 0:
		return nil, &startError{fmt.Errorf("the HSM does not have the root keys of tenant %q, but %s holds %d keys that are sealed under "+
			"them: connect the HSM that has them or restore its backup, or set data to another directory to start with a new database: %w",
			name, b.opts.Data, sealed, err)}
	case !b.opts.MakeTenant:
		return nil, &startError{fmt.Errorf("the HSM does not have the root keys of tenant %q: create them with `keyside root init "+
			"--generate`, or set hsm.init to true: %w", name, err)}
	}
	tenant, err = b.mux.InitTenant(ctx, &driver.InitTenantRequest{Tenant: name})
	if err == nil {
		b.log.Info("tenant keys created in the hsm", slog.String("tenant", name), slog.Any("roots", tenant.GetRoots()))
	}
	return tenant, err
}

// startError is a failure for which a retry is useless.
type startError struct{ error }

// Unwrap returns the cause.
func (e *startError) Unwrap() error { return e.error }

// retry calls fn until it succeeds, fails for good, or ctx ends.
func retry[T any](ctx context.Context, b *Backend, fn func() (T, error)) (T, error) {
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

// explain adds to the error of an HSM that did not get ready what to do about it.
func (b *Backend) explain(err error) error {
	if failed := b.failed.Load(); failed != nil {
		err = *failed // why the member failed says more than that the wait for it failed
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
	case code == driver.TenantUnknown && b.opts.Via != "":
		return fmt.Errorf("hsmd does not know this process as tenant %q: name its uid under tenants in hsmd's configuration: %w", b.opts.Tenant, err)
	case b.opts.Via != "":
		return fmt.Errorf("the HSM behind hsmd at %s is not ready: %w", b.opts.Via, err)
	default:
		return fmt.Errorf("driver %s is not ready: %w", b.opts.Name, err)
	}
}
