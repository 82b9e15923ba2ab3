package soft

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/keyside/keyside/plugins/driver"
)

// gate counts the calls in flight, for which a drain waits.
type gate struct {
	state atomic.Int64 // number of calls in flight, plus drainingBit once draining
	once  sync.Once
	idle  chan struct{} // closed when draining and no call is in flight
}

const drainingBit = 1 << 62

func newGate() *gate { return &gate{idle: make(chan struct{})} }

func (g *gate) enter() error {
	if g.state.Add(1)&drainingBit != 0 {
		g.leave()
		return driver.Errorf(driver.Lost, "driver is draining")
	}
	return nil
}

func (g *gate) leave() {
	if g.state.Add(-1) == drainingBit {
		g.once.Do(func() { close(g.idle) })
	}
}

func (g *gate) drain(ctx context.Context) error {
	if g.state.Or(drainingBit)&^drainingBit == 0 {
		g.once.Do(func() { close(g.idle) })
	}
	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
		return driver.AsError(ctx.Err())
	}
}

func (g *gate) draining() bool { return g.state.Load()&drainingBit != 0 }
func (g *gate) inside() int64  { return g.state.Load() &^ drainingBit }

// guard runs a control call and counts it. It returns an error if the driver is draining or the context ended.
func guard[T any](ctx context.Context, d *Driver, fn func() (T, error)) (T, error) {
	var zero T
	if err := d.gate.enter(); err != nil {
		return zero, err
	}
	defer d.gate.leave()
	if err := ctx.Err(); err != nil {
		return zero, driver.AsError(err)
	}
	return fn()
}
