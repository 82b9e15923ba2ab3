package pkcs11

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// attempt runs work, and again as long as the recovery ladder sees a chance. It returns when the context ends, even
// though work goes on inside the module.
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
		for rung := 0; ; rung++ {
			gen := d.generation.Load()
			v, err := work()
			var f failure
			if !errors.As(err, &f) {
				f = failure{err: err}
			}
			f.gen = gen
			if err == nil || rung == maxRungs || !d.climb(f) {
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

// control runs a control call for a tenant on a session of the control pool, and in one of the places where there are any:
// it keeps both until the module is done, also when its caller has left.
func control[T any](ctx context.Context, d *Driver, tenant string, places chan struct{}, fn func(*session, *tenantKeys) (T, error)) (T, error) {
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
		if places != nil {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
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

// checkKey refuses an identity that no working key of this driver can have.
func (d *Driver) checkKey(id *driver.KeyIdentity) (keySpec, error) {
	if err := driver.CheckIdentity(id); err != nil {
		return keySpec{}, err
	}
	if _, made := d.profile.keys[keyKind{id.GetSpec(), id.GetUsage()}]; !made || id.GetUsage() == driver.Unwrap {
		return keySpec{}, driver.Errorf(driver.Unsupported, "keys: %s for %s", id.GetSpec(), id.GetUsage())
	}
	return specOf(id.GetSpec()), nil
}

// checkWrappingKey does it for keys that open imports.
func (d *Driver) checkWrappingKey(id *driver.KeyIdentity) (keySpec, error) {
	if err := driver.CheckIdentity(id); err != nil {
		return keySpec{}, err
	}
	if id.GetUsage() != driver.Unwrap {
		return keySpec{}, driver.Errorf(driver.InvalidArgument, "a wrapping key has usage %s", driver.Unwrap)
	}
	if _, made := d.profile.keys[keyKind{id.GetSpec(), driver.Unwrap}]; !made {
		return keySpec{}, driver.Errorf(driver.Unsupported, "wrapping_specs: %s", id.GetSpec())
	}
	return specOf(id.GetSpec()), nil
}

// MakeKey implements driver.Driver.
func (d *Driver) MakeKey(ctx context.Context, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
	spec, err := d.checkKey(req.GetKey())
	if err != nil {
		return nil, err
	}
	return d.makeKey(ctx, req.GetTenant(), req.GetKey(), spec)
}

// MakeWrappingKey implements driver.Driver.
func (d *Driver) MakeWrappingKey(ctx context.Context, req *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	spec, err := d.checkWrappingKey(req.GetKey())
	if err != nil {
		return nil, err
	}
	return d.makeKey(ctx, req.GetTenant(), req.GetKey(), spec)
}

func (d *Driver) makeKey(ctx context.Context, tenant string, id *driver.KeyIdentity, spec keySpec) (*driver.SealedKey, error) {
	var places chan struct{}
	if spec.rsa() {
		places = d.making
	}
	return control(ctx, d, tenant, places, func(s *session, t *tenantKeys) (sealed *driver.SealedKey, err error) {
		h, public, err := generateKey(s, spec)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.destroy(h)) }()
		return d.seal(s, t, h, tenant, id, public)
	})
}

// generateKey generates a key that is extractable and may do nothing else: it lives until it is sealed.
func generateKey(s *session, spec keySpec) (h handle, public []byte, err error) {
	return generateObject(s, spec, spec.template(uses{}, true, inSession()))
}

// generateObject generates a secret or private key from a template. Of a key pair it returns the public half as DER
// SubjectPublicKeyInfo and leaves no object of it.
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

// seal wraps a key object under the tenant's newest root, binds the record, and proves that it opens again.
func (d *Driver) seal(s *session, t *tenantKeys, h handle, tenant string, id *driver.KeyIdentity, public []byte) (*driver.SealedKey, error) {
	root := t.newestRoot()
	wrapped, err := s.wrap(d.profile.Wrap.Mechanism, t.roots[root], h)
	if err != nil {
		return nil, err
	}
	rec := &driver.SealRecord{Format: driver.SealRFC5649, Protection: d.profile.protection, Root: root, Key: id, Tenant: tenant, Wrapped: wrapped}
	if rec.MAC, err = tenantMAC(s, t, driver.SealMACLabel, rec.Authenticated()); err != nil {
		return nil, err
	}
	sealed, err := rec.Marshal()
	if err != nil {
		return nil, err
	}
	opened, err := d.unseal(s, t, rec, workUses(id.GetUsage(), specOf(id.GetSpec()).class), false)
	if err != nil {
		return nil, err
	}
	return &driver.SealedKey{Sealed: sealed, Root: root, Protection: rec.Protection, PublicKey: public}, s.destroy(opened)
}

// tenantMAC is HMAC-SHA-256 with the tenant's mac key over a label and data.
func tenantMAC(s *session, t *tenantKeys, label string, data []byte) ([]byte, error) {
	out, err := s.sign(callMAC, len(data), hmacSHA256, t.mac, append([]byte(label), data...), make([]byte, driver.MACSize))
	if err == nil && len(out) != driver.MACSize {
		return nil, driver.Errorf(driver.Device, "module made a mac of %d bytes", len(out))
	}
	return out, err
}

// unseal checks a record's MAC and only then unwraps the key, with the attributes that the record's identity asks for.
func (d *Driver) unseal(s *session, t *tenantKeys, rec *driver.SealRecord, may uses, extractable bool) (handle, error) {
	mac, err := tenantMAC(s, t, driver.SealMACLabel, rec.Authenticated())
	if err != nil {
		return 0, err
	}
	if subtle.ConstantTimeCompare(mac, rec.MAC) != 1 {
		return 0, driver.Errorf(driver.SealInvalid, "seal record is not authentic")
	}
	root, found := t.roots[rec.Root]
	if !found {
		return 0, driver.Errorf(driver.KeyUnavailable, "root %d of tenant %s is not on the token", rec.Root, rec.Tenant)
	}
	spec := specOf(rec.Key.GetSpec())
	if rec.Format != driver.SealRFC5649 || spec.class == 0 {
		return 0, driver.Errorf(driver.Unsupported, "sealed key of format %s and spec %s", rec.Format, rec.Key.GetSpec())
	}
	h, err := s.unwrap(mechanism{id: d.profile.Wrap.Mechanism}, root, rec.Wrapped, spec.template(may, extractable, d.sessionOnly(extractable)...))
	if err != nil {
		return 0, d.blame(s, err, driver.KeyUnavailable, "sealed key does not open under its root")
	}
	return h, nil
}

// sessionOnly returns what a session object has beside its uses. One that works is made unchangeable where the module
// knows how.
func (d *Driver) sessionOnly(temporary bool) []*p11.Attribute {
	if temporary || !d.profile.LockAttributes {
		return []*p11.Attribute{inSession()}
	}
	return []*p11.Attribute{inSession(), p11.NewAttribute(p11.CKA_COPYABLE, false), p11.NewAttribute(p11.CKA_MODIFIABLE, false)}
}

// openRecord parses a sealed key and makes sure that it is the one the caller speaks of.
func openRecord(tenant string, sealed []byte, id *driver.KeyIdentity) (*driver.SealRecord, error) {
	rec, err := driver.ParseSealRecord(sealed)
	if err != nil {
		return nil, err
	}
	return rec, rec.Matches(tenant, id)
}

// loadKey unseals a key into the pinned session; it is liveKeys.load.
func (d *Driver) loadKey(k *liveKey) error {
	rec, err := openRecord(k.id.tenant, []byte(k.id.sealed), k.key)
	if err != nil {
		return err
	}
	d.pinned.Lock()
	defer d.pinned.Unlock()
	if d.pinned.session == nil {
		return errDraining
	}
	t, err := d.tenantPinned(k.id.tenant)
	if err != nil {
		return err
	}
	k.key, k.spec, k.gen = rec.Key, specOf(rec.Key.GetSpec()), d.generation.Load()
	k.handle, err = d.unseal(d.pinned.session, t, rec, workUses(rec.Key.GetUsage(), k.spec.class), false)
	return err
}

// destroyKey is liveKeys.destroy.
func (d *Driver) destroyKey(k *liveKey) {
	d.pinned.Lock()
	defer d.pinned.Unlock()
	if d.pinned.session != nil && k.gen == d.generation.Load() {
		if err := d.pinned.destroy(k.handle); err != nil {
			d.log.Warn("live key not destroyed", "error", err)
		}
	}
}

// Reseal implements driver.Driver.
func (d *Driver) Reseal(ctx context.Context, req *driver.ResealRequest) (*driver.SealedKey, error) {
	if err := driver.CheckIdentity(req.GetKey()); err != nil {
		return nil, err
	}
	return control(ctx, d, req.GetTenant(), nil, func(s *session, t *tenantKeys) (sealed *driver.SealedKey, err error) {
		rec, err := openRecord(req.GetTenant(), req.GetSealed(), req.GetKey())
		if err != nil {
			return nil, err
		}
		spec := specOf(rec.Key.GetSpec())
		h, err := d.unseal(s, t, rec, uses{sign: spec.elliptic()}, true)
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
