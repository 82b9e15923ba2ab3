package pkcs11

import (
	"bytes"
	"context"
	"errors"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// attempt runs work and repeats it while recovery steps are left. It returns when the context ends, although work may continue
// in the module.
func attempt[T any](ctx context.Context, d *Driver, work func() (T, error)) (T, error) {
	var zero T
	if err := d.admit(ctx); err != nil {
		return zero, err
	}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		for step := 0; ; step++ {
			gen := d.generation.Load()
			v, err := work()
			var f failure
			if !errors.As(err, &f) {
				f = failure{err: err}
			}
			f.gen = gen
			if err == nil || step == maxRecoverySteps || !d.recoverFrom(f) {
				done <- outcome{v, f.err}
				return
			}
		}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return zero, d.reply(o.err)
		}
		return o.value, nil
	case <-ctx.Done():
		return zero, driver.AsError(ctx.Err())
	}
}

func (f failure) Error() string { return f.err.Error() }

// control runs a control call for a tenant on a session of the control pool. If slots is not nil, it also takes one element of it.
// It keeps both until the module returns, also after the caller's context ended.
func control[T any](ctx context.Context, d *Driver, tenant string, slots chan struct{}, fn func(*session, *tenantKeys) (T, error)) (T, error) {
	if err := driver.CheckTenant(tenant); err != nil {
		var zero T
		return zero, err
	}
	return attempt(ctx, d, func() (v T, err error) {
		defer func() {
			if err != nil {
				err = failure{err: err, tenant: tenant}
			}
		}()
		t, err := d.tenant(tenant)
		if err != nil {
			return v, err
		}
		if slots != nil {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return v, driver.AsError(ctx.Err())
			}
		}
		s, err := d.control.get(ctx)
		if err != nil {
			return v, err
		}
		defer d.control.put(s)
		if t.gen != d.generation.Load() {
			return v, errStale
		}
		return fn(s, t)
	})
}

// MakeKey implements driver.Driver.
func (d *Driver) MakeKey(ctx context.Context, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
	return d.makeKey(ctx, req.GetTenant(), req.GetKey(), d.checker.Key)
}

// MakeWrappingKey implements driver.Driver.
func (d *Driver) MakeWrappingKey(ctx context.Context, req *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	return d.makeKey(ctx, req.GetTenant(), req.GetKey(), d.checker.WrappingKey)
}

func (d *Driver) makeKey(ctx context.Context, tenant string, id *driver.KeyIdentity, check func(*driver.KeyIdentity) error) (*driver.SealedKey, error) {
	if err := check(id); err != nil {
		return nil, err
	}
	spec := specOf(id.GetSpec())
	var slots chan struct{}
	if spec.rsa() {
		slots = d.making
	}
	return control(ctx, d, tenant, slots, func(s *session, t *tenantKeys) (sealed *driver.SealedKey, err error) {
		h, public, err := generateKey(s, spec)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.destroy(h)) }()
		return d.seal(s, t, h, tenant, id, public)
	})
}

// generateKey generates a key that can be wrapped and not used. It exists until it is sealed.
func generateKey(s *session, spec keySpec) (h handle, public []byte, err error) {
	return generateObject(s, spec, spec.template(uses{}, true, inSession()))
}

// generateObject generates a secret or private key from a template. For a key pair, it also returns the public key as DER
// SubjectPublicKeyInfo and destroys its object.
func generateObject(s *session, spec keySpec, template []*p11.Attribute) (h handle, public []byte, err error) {
	if spec.class == secretKey {
		h, err = s.generate(spec.generate, append(template, p11.NewAttribute(p11.CKA_VALUE_LEN, spec.Size())))
		return h, nil, err
	}
	pub, h, err := s.generatePair(spec.generate, spec.publicTemplate(), template)
	if err != nil {
		return 0, nil, err
	}
	if public, err = readPublicKey(s, pub, spec); err != nil {
		return 0, nil, errors.Join(err, s.destroy(pub), s.destroy(h))
	}
	return h, public, s.destroy(pub)
}

// rewrapped generates a key, wraps it under a root and unwraps it from a template, as sealing and unsealing do.
func (d *Driver) rewrapped(s *session, root handle, spec keySpec, template []*p11.Attribute) (handle, error) {
	temp, _, err := generateKey(s, spec)
	if err != nil {
		return 0, err
	}
	wrapped, err := s.wrap(d.profile.Wrap.Mechanism, root, temp)
	if err = errors.Join(err, s.destroy(temp)); err != nil {
		return 0, err
	}
	return s.unwrap(mechanism{id: d.profile.Wrap.Mechanism}, root, wrapped, template)
}

// seal wraps a key object under the tenant's newest root, authenticates the record, and unseals it once as a test.
func (d *Driver) seal(s *session, t *tenantKeys, h handle, tenant string, id *driver.KeyIdentity, public []byte) (*driver.SealedKey, error) {
	root := t.newestRoot()
	wrapped, err := s.wrap(d.profile.Wrap.Mechanism, t.roots[root], h)
	if err != nil {
		return nil, err
	}
	rec := &driver.SealRecord{Format: driver.SealRFC5649, Protection: d.profile.protection, Root: root, Key: id, Tenant: tenant, Wrapped: wrapped}
	sealed, err := rec.Seal(t.sealMAC(s))
	if err != nil {
		return nil, err
	}
	opened, _, err := d.unsealWorking(s, t, tenant, id, sealed)
	if err != nil {
		return nil, err
	}
	return &driver.SealedKey{Sealed: sealed, Root: root, Protection: rec.Protection, PublicKey: public}, s.destroy(opened)
}

// tenantMAC returns the HMAC-SHA-256 of a label and data under the tenant's MAC key.
func tenantMAC(s *session, t *tenantKeys, label string, data []byte) ([]byte, error) {
	out, err := s.sign(callMAC, len(data), hmacSHA256, t.mac, append([]byte(label), data...), make([]byte, driver.MACSize))
	return exact(out, err, driver.MACSize, "a mac")
}

// sealMAC authenticates seal records on a session.
func (t *tenantKeys) sealMAC(s *session) func([]byte) ([]byte, error) {
	return func(record []byte) ([]byte, error) { return tenantMAC(s, t, driver.SealMACLabel, record) }
}

// unseal opens the record of a sealed key, checks that it is the key id of the tenant, and unwraps the key with these uses.
func (d *Driver) unseal(s *session, t *tenantKeys, tenant string, id *driver.KeyIdentity, sealed []byte, may uses, extractable bool) (handle, *driver.SealRecord, error) {
	rec, err := driver.OpenSealRecord(tenant, id, sealed, t.sealMAC(s))
	if err != nil {
		return 0, nil, err
	}
	root, found := t.roots[rec.Root]
	if !found {
		return 0, nil, driver.Errorf(driver.KeyUnavailable, "root %d of tenant %s does not exist on the token", rec.Root, tenant)
	}
	spec := specOf(rec.Key.GetSpec())
	if rec.Format != driver.SealRFC5649 || spec.class == 0 {
		return 0, nil, driver.Errorf(driver.Unsupported, "sealed key of format %s and spec %s", rec.Format, rec.Key.GetSpec())
	}
	h, err := s.unwrap(mechanism{id: d.profile.Wrap.Mechanism}, root, rec.Wrapped, spec.template(may, extractable, d.sessionOnly(extractable)...))
	if err != nil {
		return 0, nil, d.badDataError(s, err, driver.Errorf(driver.KeyUnavailable, "the sealed key does not unwrap under its root"))
	}
	return h, rec, nil
}

// unsealWorking unseals a key for the uses of its usage, and nothing else.
func (d *Driver) unsealWorking(s *session, t *tenantKeys, tenant string, id *driver.KeyIdentity, sealed []byte) (handle, *driver.SealRecord, error) {
	return d.unseal(s, t, tenant, id, sealed, workUses(id.GetUsage(), specOf(id.GetSpec()).class), false)
}

// sessionOnly returns the attributes of a session object beside its uses. A working key also becomes unchangeable, if the
// profile says that the module can do so.
func (d *Driver) sessionOnly(temporary bool) []*p11.Attribute {
	if temporary || !d.profile.LockAttributes {
		return []*p11.Attribute{inSession()}
	}
	return []*p11.Attribute{inSession(), p11.NewAttribute(p11.CKA_COPYABLE, false), p11.NewAttribute(p11.CKA_MODIFIABLE, false)}
}

// loadKey unseals a key into the pinned session. It implements liveKeys.load.
func (d *Driver) loadKey(k *liveKey) error {
	d.pinned.Lock()
	defer d.pinned.Unlock()
	if d.pinned.session == nil {
		return errDraining
	}
	t, err := d.tenantPinned(k.id.tenant)
	if err != nil {
		return err
	}
	h, rec, err := d.unsealWorking(d.pinned.session, t, k.id.tenant, k.key, []byte(k.id.sealed))
	if err != nil {
		return err
	}
	k.key, k.spec, k.gen, k.handle = rec.Key, specOf(rec.Key.GetSpec()), d.generation.Load(), h
	return nil
}

// destroyKey implements liveKeys.destroy.
func (d *Driver) destroyKey(k *liveKey) {
	d.pinned.Lock()
	defer d.pinned.Unlock()
	if d.pinned.session != nil && k.gen == d.generation.Load() {
		if err := d.pinned.destroy(k.handle); err != nil {
			d.log.Warn("cannot destroy a live key", "error", err)
		}
	}
}

// Reseal implements driver.Driver.
func (d *Driver) Reseal(ctx context.Context, req *driver.ResealRequest) (*driver.SealedKey, error) {
	if err := driver.CheckIdentity(req.GetKey()); err != nil {
		return nil, err
	}
	return control(ctx, d, req.GetTenant(), nil, func(s *session, t *tenantKeys) (sealed *driver.SealedKey, err error) {
		spec := specOf(req.GetKey().GetSpec())
		h, rec, err := d.unseal(s, t, req.GetTenant(), req.GetKey(), req.GetSealed(), uses{sign: spec.elliptic()}, true)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.destroy(h)) }()
		public, err := privateKeysPublic(s, h, spec)
		if err != nil {
			return nil, err
		}
		if rec.Root == t.newestRoot() {
			return &driver.SealedKey{Sealed: bytes.Clone(req.GetSealed()), Root: rec.Root, Protection: rec.Protection, PublicKey: public}, nil
		}
		return d.seal(s, t, h, req.GetTenant(), rec.Key, public)
	})
}

// DestroyKey implements driver.Driver.
func (d *Driver) DestroyKey(ctx context.Context, req *driver.DestroyKeyRequest) error {
	if err := d.admit(ctx); err != nil {
		return err
	}
	if err := errors.Join(driver.CheckTenant(req.GetTenant()), driver.CheckIdentity(req.GetKey())); err != nil {
		return driver.AsError(err)
	}
	d.live.forget(req.GetTenant(), req.GetSealed())
	return nil
}
