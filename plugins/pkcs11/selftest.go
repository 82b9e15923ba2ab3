package pkcs11

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// The first example of RFC 5649 section 6.
const (
	vectorKEK     = "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"
	vectorKey     = "c37b7e6492584340bed12207808941155068f738"
	vectorWrapped = "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"
	// vectorFilled is RFC 5649 of the same key followed by four zero bytes.
	vectorFilled = "cf1e485360e1a8126f524d01771677f9400edb4d074f14116988d71e1588e367"
)

// selfTest checks the module against its profile: the wrap is RFC 5649, which the mechanism's number does not tell, and working
// keys keep their attributes.
func (d *Driver) selfTest(s *session) error {
	if err := d.testWrap(s); err != nil {
		return selfTestError("wrap", err)
	}
	if err := d.testProtection(s); err != nil {
		return selfTestError("protection", err)
	}
	return nil
}

func selfTestError(what string, err error) error {
	return deviceError(driver.RetryNever, "self-test of %s: the module differs from its profile: %w", what, err)
}

func unhex(s string) []byte {
	b, _ := hex.DecodeString(s) // constants of this file
	return b
}

// testWrap wraps the vector's key with a temporary root and unwraps the vector's blob.
func (d *Driver) testWrap(s *session) error {
	kek, err := s.create(specOf(driver.AES192).template(uses{wrap: true, unwrap: true}, false, inSession(),
		p11.NewAttribute(p11.CKA_VALUE, unhex(vectorKEK))))
	if err != nil {
		return err
	}
	// The key is public, so its value may be read.
	open := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), p11.NewAttribute(p11.CKA_KEY_TYPE, uint(p11.CKK_GENERIC_SECRET)),
		inSession(), p11.NewAttribute(p11.CKA_SENSITIVE, false), p11.NewAttribute(p11.CKA_EXTRACTABLE, true),
	}
	key, err := s.create(append(open[:len(open):len(open)], p11.NewAttribute(p11.CKA_VALUE, unhex(vectorKey))))
	if err != nil {
		return err
	}
	wrapped, err := s.wrap(d.profile.Wrap.Mechanism, kek, key)
	if err != nil {
		return err
	}
	want := vectorWrapped
	if d.profile.Wrap.ZeroFill {
		want = vectorFilled
	}
	if !bytes.Equal(wrapped, unhex(want)) {
		return errors.New("the wrapped key differs from RFC 5649's")
	}
	back, err := s.unwrap(mechanism{id: d.profile.Wrap.Mechanism}, kek, unhex(vectorWrapped), open)
	if err != nil {
		return err
	}
	value, err := s.attribute(back, p11.CKA_VALUE)
	if err != nil {
		return err
	}
	if !bytes.Equal(value, unhex(vectorKey)) {
		return errors.New("the unwrapped key differs from RFC 5649's")
	}
	return errors.Join(s.destroy(kek), s.destroy(key), s.destroy(back))
}

// testProtection creates a working key as unseal does and tries to wrap it.
func (d *Driver) testProtection(s *session) error {
	spec := specOf(driver.AES256)
	root, err := s.generate(spec.generate, spec.template(uses{wrap: true, unwrap: true}, false, inSession(), p11.NewAttribute(p11.CKA_VALUE_LEN, spec.Size())))
	if err != nil {
		return err
	}
	work := spec.template(workUses(driver.EncryptDecrypt, secretKey), false, d.sessionOnly(false)...)
	h, err := d.rewrapped(s, root, spec, work)
	if err != nil {
		return err
	}
	for _, a := range work {
		if got, err := s.attribute(h, a.Type); err != nil || !bytes.Equal(got, a.Value) {
			return errors.Join(fmt.Errorf("attribute 0x%x of an unwrapped key differs from its template", a.Type), err)
		}
	}
	_, err = s.wrap(d.profile.Wrap.Mechanism, root, h)
	if enforced := err != nil; enforced != (d.profile.protection == driver.ProtectionHSM) {
		return fmt.Errorf("the module refuses to wrap a key that is not extractable: %t", enforced)
	}
	return errors.Join(tryKey(s, h), s.destroy(root), s.destroy(h))
}
