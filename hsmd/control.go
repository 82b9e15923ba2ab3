package hsmd

import (
	"context"
	"slices"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

const (
	// controlTimeout limits a control call whose context has no deadline. An HSM may take a minute to generate an RSA key.
	controlTimeout = 2 * time.Minute
	// controlGrace is how long after its deadline an unanswered control call shows that its member hangs. It is long because
	// key generation cannot be interrupted and a caller's deadline may be short.
	controlGrace = 5 * time.Minute
)

// control runs one control call on a ready member that serves the tenant ("" for any). Like an operation it waits for a
// member, is replayed after a crash, and is refused after the second one.
func control[T any](ctx context.Context, x *Mux, name, tenantName string, fn func(context.Context, *instance) (T, error)) (T, error) {
	var zero T
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, controlTimeout)
		defer cancel()
	}
	deadline, _ := ctx.Deadline()
	type outcome struct {
		value T
		err   error
	}
	// The call may continue after its caller has returned, so it writes to variables of its own.
	got := make(chan outcome, 1)
	var value T
	c := x.calls.Get().(*call)
	c.lane, c.control, c.req.Tenant, c.req.Trace = controls, name, tenantName, driver.TraceFrom(ctx)
	c.ctl = func(l *instance, trace []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		v, err := fn(driver.WithTrace(ctx, trace), l)
		value = v
		return err
	}
	c.done = func(r *driver.Response) {
		if err := r.Err(); err != nil {
			got <- outcome{err: err}
			return
		}
		got <- outcome{value: value}
	}
	x.enter(c, tenantName, deadline, nil)
	select {
	case o := <-got:
		return o.value, o.err
	case <-ctx.Done():
		return zero, driver.AsError(ctx.Err())
	}
}

// controlFor is control of a request of one tenant, which goes to the member as it is.
func controlFor[R interface{ GetTenant() string }, T any](ctx context.Context, x *Mux, name string, req R, call func(driver.Driver, context.Context, R) (T, error)) (T, error) {
	return control(ctx, x, name, req.GetTenant(), func(ctx context.Context, l *instance) (T, error) { return call(l.backend, ctx, req) })
}

// runControl runs an assigned control call.
func (x *Mux) runControl(c *call, l *instance) {
	r := &driver.Response{}
	if err := c.ctl(l, c.req.Trace); err != nil {
		r = driver.ErrorResponse(err)
	}
	c.answer(r)
}

// Execute implements driver.Driver.
func (x *Mux) Execute(ctx context.Context, tenant string, op *driver.Op) (*driver.Result, error) {
	return driver.Do(ctx, x, tenant, op)
}

// Describe implements driver.Driver. It returns the description of a ready member, with the workers of all.
func (x *Mux) Describe(ctx context.Context) (*driver.Description, error) {
	return control(ctx, x, "describe", "", func(_ context.Context, l *instance) (*driver.Description, error) {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.describe(l), nil
	})
}

// InitTenant implements driver.Driver.
func (x *Mux) InitTenant(ctx context.Context, req *driver.InitTenantRequest) (*driver.Tenant, error) {
	return control(ctx, x, "init-tenant", req.GetTenant(), func(ctx context.Context, l *instance) (*driver.Tenant, error) {
		res, err := l.backend.InitTenant(ctx, req)
		switch {
		case err != nil:
			return nil, err
		case res.GetName() != req.GetTenant():
			return nil, driver.Errorf(driver.Internal, "driver answered for tenant %q", res.GetName())
		}
		x.made(l, res)
		return res, nil
	})
}

// DescribeTenant implements driver.Driver.
func (x *Mux) DescribeTenant(ctx context.Context, req *driver.DescribeTenantRequest) (*driver.Tenant, error) {
	return controlFor(ctx, x, "describe-tenant", req, driver.Driver.DescribeTenant)
}

// MakeKey implements driver.Driver.
func (x *Mux) MakeKey(ctx context.Context, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
	return controlFor(ctx, x, "make-key", req, driver.Driver.MakeKey)
}

// MakeWrappingKey implements driver.Driver.
func (x *Mux) MakeWrappingKey(ctx context.Context, req *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	return controlFor(ctx, x, "make-wrapping-key", req, driver.Driver.MakeWrappingKey)
}

// Reseal implements driver.Driver.
func (x *Mux) Reseal(ctx context.Context, req *driver.ResealRequest) (*driver.SealedKey, error) {
	return controlFor(ctx, x, "reseal", req, driver.Driver.Reseal)
}

// DestroyKey implements driver.Driver. Every ready member drops its handles of the key; other members have none.
func (x *Mux) DestroyKey(ctx context.Context, req *driver.DestroyKeyRequest) error {
	_, err := control(ctx, x, "destroy-key", req.GetTenant(), func(ctx context.Context, l *instance) (struct{}, error) {
		err := l.backend.DestroyKey(ctx, req)
		x.mu.Lock()
		others := slices.Clone(x.ready)
		x.mu.Unlock()
		for _, other := range others {
			if other != l && err == nil {
				if err = other.backend.DestroyKey(ctx, req); driver.CodeOf(err) == driver.Lost {
					err = nil // a member that ended has no handles
				}
			}
		}
		return struct{}{}, err
	})
	return err
}

// Health implements driver.Driver.
func (x *Mux) Health(ctx context.Context, tenant string) error {
	_, err := control(ctx, x, "health", tenant, func(ctx context.Context, l *instance) (struct{}, error) {
		return struct{}{}, l.backend.Health(ctx, tenant)
	})
	return err
}

// Drain implements driver.Driver. It refuses new calls and waits for those that are queued or in flight.
func (x *Mux) Drain(ctx context.Context) error {
	x.mu.Lock()
	x.draining = true
	x.finishIfIdle()
	x.mu.Unlock()
	select {
	case <-x.idle:
		return nil
	case <-ctx.Done():
		return driver.AsError(ctx.Err())
	}
}

// finishIfIdle closes idle when a draining Mux has no call left. The caller must hold x.mu.
func (x *Mux) finishIfIdle() {
	if !x.draining || x.queue.count > 0 || len(x.queue.quarantine) > 0 || x.inFlight > 0 || x.unresolved > 0 {
		return
	}
	select {
	case <-x.idle:
	default:
		close(x.idle)
	}
}

// Close drains the Mux until ctx ends, ends its members and answers the remaining calls with Lost.
func (x *Mux) Close(ctx context.Context) error {
	err := x.Drain(ctx)
	x.mu.Lock()
	x.closeCtx = ctx
	x.mu.Unlock()
	x.cancel()
	x.wg.Wait()
	x.mu.Lock()
	left := x.queue.remove(func(*call) bool { return true })
	x.timer.Stop()
	x.mu.Unlock()
	for _, c := range left {
		x.refuse(c, driver.Errorf(driver.Lost, "driver ended"))
	}
	return err
}
