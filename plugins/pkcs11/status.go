package pkcs11

import (
	"context"
	"os"
	"sync"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// watchers are the calls of Watch in progress.
type watchers struct {
	mu   sync.Mutex
	subs map[chan *driver.Event]struct{}
}

// eventBacklog is how many events are buffered per watcher. Further events are dropped.
const eventBacklog = 32

func (d *Driver) emit(kind string, e *driver.Error) {
	event := &driver.Event{Kind: kind, Generation: d.generation.Load(), UnixMs: time.Now().UnixMilli()}
	if e != nil {
		event.Error = e.Proto()
	}
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	for c := range d.watch.subs {
		select {
		case c <- event:
		default:
		}
	}
}

// Watch implements driver.Driver.
func (d *Driver) Watch(ctx context.Context, fn func(*driver.Event)) error {
	c := make(chan *driver.Event, eventBacklog)
	d.watch.mu.Lock()
	d.watch.subs[c] = struct{}{}
	d.watch.mu.Unlock()
	defer func() {
		d.watch.mu.Lock()
		defer d.watch.mu.Unlock()
		delete(d.watch.subs, c)
	}()
	for {
		select {
		case e := <-c:
			fn(e)
		case <-ctx.Done():
			return driver.AsError(ctx.Err())
		}
	}
}

// Status implements driver.Driver. It makes no call into the module.
func (d *Driver) Status(context.Context) ([]*driver.Member, error) {
	m := &driver.Member{
		Name: d.profile.Name, State: "ready", Vendor: d.info.ManufacturerID + " " + d.info.Model, Token: d.info.Label,
		Serial: d.info.SerialNumber, Slot: uint64(d.slot), Generation: d.generation.Load(), SessionsLimit: uint32(d.sessionLimit),
		LiveKeys: uint32(d.live.count()), LiveKeysLimit: uint32(d.settings.LiveKeys), Pid: uint32(os.Getpid()),
		Latencies: d.meter.latencies(), SessionsOpen: 1, // the pinned one
	}
	for _, p := range []*pool{d.pool, d.control} {
		open, inUse, _ := p.usage()
		m.SessionsOpen += uint32(open)
		m.SessionsBusy += uint32(inUse)
		m.InFlight += uint32(inUse)
	}
	switch {
	case d.failed.Load():
		m.State = "down"
	case d.draining.Load():
		m.State = "draining"
	}
	if e := d.last.Load(); e != nil {
		m.LastError = e.Code.String()
		if e.CKR != "" {
			m.LastError += " " + e.CKR
		}
	}
	return []*driver.Member{m}, nil
}

// Health implements driver.Driver. It checks the token, the tenant's keys and one encryption.
func (d *Driver) Health(ctx context.Context, tenant string) error {
	_, err := attempt(ctx, d, func() (struct{}, error) {
		d.pinned.Lock()
		defer d.pinned.Unlock()
		if d.pinned.session == nil {
			return struct{}{}, errDraining
		}
		if err := d.checkToken(d.pinned.session); err != nil {
			return struct{}{}, err
		}
		if tenant != "" {
			if _, err := d.findTenant(d.pinned.session, tenant); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, d.pinned.runCanary()
	})
	return err
}
