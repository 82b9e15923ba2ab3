package soft

import (
	"bytes"
	"context"
	"crypto/rsa"
	_ "crypto/sha1" // for OAEP with SHA-1, which older import tools use
	"crypto/subtle"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/material"
)

// ImportKey implements driver.Driver.
func (d *Driver) ImportKey(ctx context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	return guard(ctx, d, func() (*driver.SealedKey, error) {
		if err := d.checker.Import(req); err != nil {
			return nil, err
		}
		t, err := d.tenants.get(req.GetTenant())
		if err != nil {
			return nil, err
		}
		wrapping, err := d.working(t, req.GetWrappingKey(), req.GetSealedWrappingKey())
		if err != nil {
			return nil, err
		}
		return t.importWith(wrapping.rsa, req)
	})
}

// importWith opens the material and seals it. Every fault of the material gets the same error, after the same work: a stand-in is sealed
// in its place and thrown away.
func (t *tenant) importWith(wrapping *rsa.PrivateKey, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	block, container, err := material.Parts(req)
	if err != nil {
		return nil, err
	}
	raw, ok := openMaterial(wrapping, req, block, container)
	defer clear(raw)
	key, err := open(req.GetKey(), raw)
	if err != nil {
		return nil, material.Bad()
	}
	value, err := key.checkValue(raw)
	if err != nil {
		return nil, material.Bad()
	}
	check := t.authenticate(driver.CheckValueMACLabel, value)
	sealed, err := t.sealWorking(key, raw)
	if err != nil {
		return nil, err
	}
	if want := req.GetExpectedCheckValue(); !ok || len(want) > 0 && subtle.ConstantTimeCompare(want, check) != 1 {
		return nil, material.Bad()
	}
	sealed.CheckValue, sealed.OpenedIn = check, driver.ProtectionProcess
	return sealed, nil
}

// openMaterial returns the symmetric key, or the canonical PKCS#8 DER of the private key. If the block or the container is bad, ok is
// false and the result is a stand-in.
func openMaterial(wrapping *rsa.PrivateKey, req *driver.ImportKeyRequest, block, container []byte) (raw []byte, ok bool) {
	spec := req.GetKey().GetSpec()
	if len(container) == 0 {
		return openBlock(wrapping, req.GetAlgorithm(), block, []int{driver.SpecOf(spec).Size()})
	}
	temporary, good := openBlock(wrapping, req.GetAlgorithm(), block, material.TemporarySizes)
	defer clear(temporary)
	if !driver.SpecOf(spec).Symmetric() {
		raw, ok = material.OpenPrivateKey(spec, temporary, container)
		return raw, ok && good
	}
	standIn := material.StandIn(spec)
	if w, err := material.NewKeyWrap(temporary); err == nil {
		raw, ok = w.Unwrap(container)
	}
	if !ok || len(raw) != len(standIn) {
		clear(raw)
		return standIn, false
	}
	return raw, good
}

// openBlock opens an RSA block that contains a secret of one of these sizes. Otherwise it returns a random secret and false.
func openBlock(key *rsa.PrivateKey, a driver.Algorithm, block []byte, sizes []int) (secret []byte, ok bool) {
	secret = material.Random(sizes[len(sizes)-1])
	if a != driver.PKCS1v15 {
		opened, err := decryptOAEP(key, a, block)
		if err == nil && slices.Contains(sizes, len(opened)) {
			return opened, true
		}
		clear(opened)
		return secret, false
	}
	// Go copies the message into a buffer of its length in constant time, and leaves the buffer unchanged if the padding or the
	// length is wrong. Telling which would enable the attack of Bleichenbacher (1998).
	for _, n := range sizes {
		before := material.Random(n)
		after := bytes.Clone(before)
		//lint:ignore SA1019 clouds offer it for import
		err := rsa.DecryptPKCS1v15SessionKey(nil, key, block, after)
		if err == nil && subtle.ConstantTimeCompare(before, after) == 0 {
			secret, ok = after, true
		}
	}
	return secret, ok
}

// decryptOAEP opens a block of any algorithm with OAEP.
func decryptOAEP(key *rsa.PrivateKey, a driver.Algorithm, block []byte) ([]byte, error) {
	return rsa.DecryptOAEP(driver.HashOf(a).New(), nil, key, block, nil)
}
