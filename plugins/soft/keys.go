package soft

import (
	"context"
	"crypto/rand"
	"crypto/rsa"

	"github.com/keyside/keyside/plugins/driver"
)

// MakeKey implements driver.Driver.
func (d *Driver) MakeKey(ctx context.Context, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
	return d.makeKey(ctx, req.GetTenant(), req.GetKey(), d.checker.Key)
}

// MakeWrappingKey implements driver.Driver.
func (d *Driver) MakeWrappingKey(ctx context.Context, req *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	return d.makeKey(ctx, req.GetTenant(), req.GetKey(), d.checker.WrappingKey)
}

func (d *Driver) makeKey(ctx context.Context, tenantName string, id *driver.KeyIdentity, check func(*driver.KeyIdentity) error) (*driver.SealedKey, error) {
	return guard(ctx, d, func() (*driver.SealedKey, error) {
		if err := check(id); err != nil {
			return nil, err
		}
		t, err := d.tenants.get(tenantName)
		if err != nil {
			return nil, err
		}
		material, err := d.generate(ctx, driver.SpecOf(id.GetSpec()))
		if err != nil {
			return nil, err
		}
		defer clear(material)
		key, err := open(id, material)
		if err != nil {
			return nil, driver.Errorf(driver.Internal, "open the generated key: %w", err)
		}
		return t.sealWorking(key, material)
	})
}

// generate generates material. An RSA key takes up to seconds: few are generated at once, and generate returns when the context ends.
func (d *Driver) generate(ctx context.Context, spec *driver.Spec) ([]byte, error) {
	if spec.Family != driver.RSA {
		material, err := generate(spec)
		if err != nil {
			return nil, driver.Errorf(driver.Internal, "generate: %w", err)
		}
		return material, nil
	}
	select {
	case d.making <- struct{}{}:
	case <-ctx.Done():
		return nil, driver.AsError(ctx.Err())
	}
	type outcome struct {
		material []byte
		err      error
	}
	made := make(chan outcome, 1)
	go func() {
		defer func() { <-d.making }()
		material, err := generate(spec)
		made <- outcome{material, err}
	}()
	select {
	case o := <-made:
		if o.err != nil {
			return nil, driver.Errorf(driver.Internal, "generate: %w", o.err)
		}
		return o.material, nil
	case <-ctx.Done():
		return nil, driver.AsError(ctx.Err())
	}
}

// sealWorking seals material and returns it with its public key.
func (t *tenant) sealWorking(key *workingKey, material []byte) (*driver.SealedKey, error) {
	sealed, err := t.seal(key.id, material)
	if err != nil {
		return nil, err
	}
	sealed.PublicKey, err = key.public()
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "encode public key: %w", err)
	}
	return sealed, nil
}

// Reseal implements driver.Driver.
func (d *Driver) Reseal(ctx context.Context, req *driver.ResealRequest) (*driver.SealedKey, error) {
	return guard(ctx, d, func() (*driver.SealedKey, error) {
		if err := driver.CheckIdentity(req.GetKey()); err != nil {
			return nil, err
		}
		t, err := d.tenants.get(req.GetTenant())
		if err != nil {
			return nil, err
		}
		key, material, err := t.unsealWorking(req.GetKey(), req.GetSealed())
		if err != nil {
			return nil, err
		}
		defer clear(material)
		return t.sealWorking(key, material)
	})
}

// DestroyKey implements driver.Driver.
func (d *Driver) DestroyKey(ctx context.Context, req *driver.DestroyKeyRequest) error {
	_, err := guard(ctx, d, func() (struct{}, error) {
		if err := driver.CheckIdentity(req.GetKey()); err != nil {
			return struct{}{}, err
		}
		if _, err := d.tenants.get(req.GetTenant()); err != nil {
			return struct{}{}, err
		}
		d.live.forget(req.GetTenant(), req.GetSealed())
		return struct{}{}, nil
	})
	return err
}

// working returns the working key of an identity, from memory or by unsealing it.
func (d *Driver) working(t *tenant, id *driver.KeyIdentity, sealed []byte) (*workingKey, error) {
	if key := d.live.get(t.name, sealed); key != nil {
		return key, driver.CheckSameKey(key.id, id)
	}
	own := &driver.KeyIdentity{
		KeyId: append([]byte(nil), id.GetKeyId()...), Version: id.GetVersion(), Spec: id.GetSpec(), Usage: id.GetUsage(),
	}
	key, material, err := t.unsealWorking(own, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(material)
	d.live.put(t.name, sealed, key)
	return key, nil
}

// unsealWorking returns a sealed key as a working key and as its material, which the caller must clear.
func (t *tenant) unsealWorking(id *driver.KeyIdentity, sealed []byte) (*workingKey, []byte, error) {
	material, err := t.unseal(id, sealed)
	if err != nil {
		return nil, nil, err
	}
	key, err := open(id, material)
	if err != nil {
		clear(material)
		return nil, nil, driver.Errorf(driver.SealInvalid, "the sealed material is not a %s key", id.GetSpec())
	}
	return key, material, nil
}

// sign signs a digest, whose length was checked.
func (k *workingKey) sign(a driver.Algorithm, digest []byte) ([]byte, error) {
	hash := driver.HashOf(a)
	switch a {
	case driver.PSSSHA256, driver.PSSSHA384, driver.PSSSHA512:
		return rsa.SignPSS(rand.Reader, k.rsa, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	if k.ec != nil {
		return k.ec.Sign(rand.Reader, digest, hash)
	}
	return rsa.SignPKCS1v15(nil, k.rsa, hash, digest)
}
