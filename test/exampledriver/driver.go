package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/plugins/driver"
)

// sessions is how many operations the box does at once.
const sessions = 4

// settings is the driver's part of hsmd.yaml.
type settings struct {
	// File keeps the box's drawers; without it the box forgets them when the driver ends.
	File string `yaml:"file"`
}

// strongbox is the driver: Keyside's words on one side, the box's on the other.
type strongbox struct {
	box  *box
	free chan struct{} // a token for each unused session

	mu      sync.Mutex
	drained chan struct{} // closed when draining
	inside  sync.WaitGroup
}

var _ driver.Driver = (*strongbox)(nil)

// configure is the driver.Configurer: it gets the settings and the PIN once, and tries that PIN once.
func configure(_ context.Context, raw, pin []byte) (driver.Driver, error) {
	var s settings
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true) // a setting that we do not know is a mistake, not a wish
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return nil, driver.Errorf(driver.InvalidArgument, "settings: %w", err)
	}
	b, err := openBox(s.File, pin)
	if err != nil {
		return nil, translate(err)
	}
	d := &strongbox{box: b, free: make(chan struct{}, sessions), drained: make(chan struct{})}
	for range sessions {
		d.free <- struct{}{}
	}
	return d, nil
}

// translate turns the box's errors into Keyside's. What is not on the list is the device's fault.
func translate(err error) error {
	var already *driver.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &already):
		return already
	case errors.Is(err, errWrongPIN):
		return driver.Errorf(driver.PINIncorrect, "wrong pin")
	case errors.Is(err, errNoDrawer):
		return driver.Errorf(driver.TenantUnknown, "tenant has no drawer")
	case errors.Is(err, errBadEnvelope):
		return driver.Errorf(driver.SealInvalid, "envelope does not open as this key")
	case errors.Is(err, errBadTag):
		return driver.Errorf(driver.BadCiphertext, "ciphertext does not decrypt")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return driver.Errorf(driver.Deadline, "deadline passed")
	}
	return driver.Errorf(driver.Device, "%w", err)
}

// with runs fn in a session of the box, once there is one.
func (d *strongbox) with(ctx context.Context, fn func() error) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.inside.Done()
	if err := ctx.Err(); err != nil {
		return translate(err)
	}
	select {
	case <-d.free:
	case <-ctx.Done():
		return translate(ctx.Err())
	}
	defer func() { d.free <- struct{}{} }()
	return translate(fn())
}

func (d *strongbox) enter() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining() {
		return driver.Errorf(driver.Lost, "driver is draining")
	}
	d.inside.Add(1)
	return nil
}

func (d *strongbox) draining() bool {
	select {
	case <-d.drained:
		return true
	default:
		return false
	}
}

// description is all that the box can do. hsmd offers nothing else, and the conformance kit tests exactly this.
var description = &driver.Description{
	Name: "strongbox", Version: "1", Vendor: "Example Strongbox",
	Keys: []*driver.Capability{
		{Spec: driver.AES256, Usage: driver.EncryptDecrypt, Algorithms: []driver.Algorithm{driver.AESGCM}},
		{Spec: driver.ECP256, Usage: driver.SignVerify, Algorithms: []driver.Algorithm{driver.ECDSASHA256}},
		{Spec: driver.HMAC256, Usage: driver.GenerateVerifyMAC, Algorithms: []driver.Algorithm{driver.HMACSHA256}},
	},
	Protection: driver.ProtectionProcess, // a toy: a real box says ProtectionHSM
	SealFormat: "strongbox-envelope-1",
	MaxData:    4096, MaxDataKey: 256, MaxRandom: 1024, // bytes of one operation
	FastWorkers: sessions, SlowWorkers: 2, SessionLimit: sessions,
}

// checker refuses requests that the description does not cover.
var checker = driver.NewChecker(description)

// Describe says what the driver can do.
func (d *strongbox) Describe(context.Context) (*driver.Description, error) { return description, nil }

// InitTenant gives the tenant a drawer.
func (d *strongbox) InitTenant(ctx context.Context, req *driver.InitTenantRequest) (*driver.Tenant, error) {
	return d.tenant(ctx, req.GetTenant(), true)
}

// DescribeTenant looks at the tenant's drawer.
func (d *strongbox) DescribeTenant(ctx context.Context, req *driver.DescribeTenantRequest) (*driver.Tenant, error) {
	return d.tenant(ctx, req.GetTenant(), false)
}

func (d *strongbox) tenant(ctx context.Context, name string, fit bool) (*driver.Tenant, error) {
	if err := driver.CheckTenant(name); err != nil {
		return nil, err
	}
	t := &driver.Tenant{Name: name, Roots: []uint32{1}} // a drawer has one master key for ever
	err := d.with(ctx, func() error {
		drawer, err := d.box.drawer(name, fit)
		if err != nil {
			return err
		}
		t.AuditPublicKey, err = publicKey(drawer.Seal)
		return err
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// label is what an envelope is bound to: every attribute of the key, in a form that two keys cannot share.
func label(tenant string, id *driver.KeyIdentity) string {
	return fmt.Sprintf("keyside/%s/%x/%d/%d/%d", tenant, id.GetKeyId(), id.GetVersion(), id.GetSpec(), id.GetUsage())
}

// MakeKey makes a key and returns it in an envelope.
func (d *strongbox) MakeKey(ctx context.Context, req *driver.MakeKeyRequest) (sealed *driver.SealedKey, err error) {
	if err := checker.Key(req.GetKey()); err != nil {
		return nil, err
	}
	err = d.with(ctx, func() error {
		drawer, err := d.box.drawer(req.GetTenant(), false)
		if err != nil {
			return err
		}
		key := randomBytes(32)
		if req.GetKey().GetSpec() == driver.ECP256 {
			if key, err = newSigningKey(); err != nil {
				return err
			}
		}
		defer clear(key)
		sealed, err = seal(drawer, req.GetTenant(), req.GetKey(), key)
		return err
	})
	return sealed, err
}

func seal(drawer *drawer, tenant string, id *driver.KeyIdentity, key []byte) (*driver.SealedKey, error) {
	envelope, err := drawer.envelope(key, label(tenant, id))
	if err != nil {
		return nil, err
	}
	sealed := &driver.SealedKey{Sealed: envelope, Root: 1, Protection: driver.ProtectionProcess}
	if id.GetSpec() == driver.ECP256 {
		sealed.PublicKey, err = publicKey(key)
	}
	return sealed, err
}

// Reseal opens the envelope and closes it again.
func (d *strongbox) Reseal(ctx context.Context, req *driver.ResealRequest) (sealed *driver.SealedKey, err error) {
	if err := checker.Key(req.GetKey()); err != nil {
		return nil, err
	}
	err = d.with(ctx, func() error {
		drawer, err := d.box.drawer(req.GetTenant(), false)
		if err != nil {
			return err
		}
		key, err := drawer.openEnvelope(req.GetSealed(), label(req.GetTenant(), req.GetKey()))
		if err != nil {
			return err
		}
		defer clear(key)
		sealed, err = seal(drawer, req.GetTenant(), req.GetKey(), key)
		return err
	})
	return sealed, err
}

// MakeWrappingKey is refused, because the box makes no RSA keys.
func (d *strongbox) MakeWrappingKey(_ context.Context, req *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	return nil, checker.WrappingKey(req.GetKey())
}

// ImportKey is refused, because the box imports nothing.
func (d *strongbox) ImportKey(_ context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	return nil, checker.Import(req)
}

// DestroyKey has nothing to do: the driver keeps no keys between operations.
func (d *strongbox) DestroyKey(ctx context.Context, req *driver.DestroyKeyRequest) error {
	return d.with(ctx, func() error {
		_, err := d.box.drawer(req.GetTenant(), false)
		return err
	})
}

// Status tells what is going on, from memory.
func (d *strongbox) Status(context.Context) ([]*driver.Member, error) {
	state := "ready"
	if d.draining() {
		state = "draining"
	}
	return []*driver.Member{{
		Name: "strongbox", State: state, Vendor: "Example Strongbox", Generation: 1, Pid: uint32(os.Getpid()),
		SessionsOpen: sessions, SessionsBusy: uint32(sessions - len(d.free)), SessionsLimit: sessions,
	}}, nil
}

// Health does one real operation with the tenant's drawer.
func (d *strongbox) Health(ctx context.Context, tenant string) error {
	return d.with(ctx, func() error {
		if tenant == "" && d.box.isEmpty() {
			return nil
		}
		drawer, err := d.anyDrawer(tenant)
		if err != nil {
			return err
		}
		envelope, err := drawer.envelope([]byte("canary"), "canary")
		if err != nil {
			return err
		}
		_, err = drawer.openEnvelope(envelope, "canary")
		return err
	})
}

// Watch has nothing to tell: it waits until the caller has had enough, or the driver drains.
func (d *strongbox) Watch(ctx context.Context, _ func(*driver.Event)) error {
	select {
	case <-ctx.Done():
		return translate(ctx.Err())
	case <-d.drained:
		return nil
	}
}

// Drain refuses new operations and waits for those in flight.
func (d *strongbox) Drain(ctx context.Context) error {
	d.mu.Lock()
	if !d.draining() {
		close(d.drained)
	}
	d.mu.Unlock()
	empty := make(chan struct{})
	go func() { d.inside.Wait(); close(empty) }()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return translate(ctx.Err())
	}
}
