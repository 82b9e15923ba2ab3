package kms_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestTokens holds what a token is good for: this key, for a day, in another process too, as often as it takes; and that no
// change of it passes.
func TestTokens(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id, other := w.external(t, "key", kms.AES256), w.external(t, "other", kms.AES256)
	p := w.parameters(t, id, kms.WrapOAEPSHA256)
	good := in(p, ours)
	for i := range p.Token {
		bad := good
		bad.Token = bytes.Clone(p.Token)
		bad.Token[i] ^= 1
		_, err := w.ImportKeyMaterial(admin, bad)
		wantCode(t, err, badToken)
	}
	for _, token := range [][]byte{nil, p.Token[:len(p.Token)-1], append(bytes.Clone(p.Token), 0), make([]byte, len(p.Token)), make([]byte, 5000)} {
		bad := good
		bad.Token = token
		_, err := w.ImportKeyMaterial(admin, bad)
		wantCode(t, err, badToken)
	}
	moved := good
	moved.KeyID = other
	_, err := w.ImportKeyMaterial(admin, moved)
	wantCode(t, err, otherToken)
	if w.hsm.imported != 0 {
		t.Errorf("the HSM was asked to open material %d times", w.hsm.imported)
	}
	w.Service = w.restart(t, kms.Limits{})
	_, err = w.ImportKeyMaterial(admin, in(p, ours[1:]))
	wantCode(t, err, badMaterial)
	for range 2 {
		_, err = w.ImportKeyMaterial(admin, good)
		wantCode(t, err, "ok")
		_, err = w.DeleteImportedKeyMaterial(admin, id)
		wantCode(t, err, "ok")
	}
	w.clock.advance(p.ExpiresAt.Sub(w.clock.Now()) - time.Second)
	_, err = w.ImportKeyMaterial(admin, good)
	wantCode(t, err, "ok")
	_, err = w.DeleteImportedKeyMaterial(admin, id)
	wantCode(t, err, "ok")
	w.clock.advance(time.Second)
	_, err = w.ImportKeyMaterial(admin, good)
	wantCode(t, err, kms.CodeImportTokenExpired)
	_, err = w.ImportKeyMaterial(admin, moved)
	wantCode(t, err, kms.CodeImportTokenExpired) // which goes before the key
	w.RunDue(admin)
	_, err = w.ImportKeyMaterial(admin, good) // the pair is gone
	wantCode(t, err, kms.CodeImportTokenExpired)
}

// TestTokenOfAnotherTenant holds that a tenant's name is bound, even where a MAC would be the same.
func TestTokenOfAnotherTenant(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	good := in(w.parameters(t, w.external(t, "key", kms.AES256), kms.WrapOAEPSHA256), ours)
	service, err := kms.New(kms.Config{Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "else", Clock: w.clock})
	wantCode(t, err, "ok")
	_, err = service.ImportKeyMaterial(admin, good)
	wantCode(t, err, badToken)
}

// TestOnlyTheLastToken holds which tokens end when another is given out.
func TestOnlyTheLastToken(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id, other := w.external(t, "key", kms.AES256), w.external(t, "other", kms.AES256)
	last := func(only bool) kms.ImportInput {
		p, err := w.GetImportParameters(admin, kms.ImportParametersInput{KeyID: id, Algorithm: kms.WrapOAEPSHA256, OnlyLast: only})
		wantCode(t, err, "ok")
		return in(p, ours[1:]) // which fails for its material, if not for its token
	}
	try := func(i kms.ImportInput, want kms.Code) {
		t.Helper()
		w.clock.advance(time.Minute)
		_, err := w.ImportKeyMaterial(admin, i)
		wantCode(t, err, want)
	}
	bystander := in(w.parameters(t, other, kms.WrapOAEPSHA256), ours[1:])
	a, b := last(false), last(false)
	try(a, badMaterial)
	try(b, badMaterial)
	c := last(true)
	w.Service = w.restart(t, kms.Limits{})
	try(a, kms.CodeImportTokenExpired)
	try(b, kms.CodeImportTokenExpired)
	try(c, badMaterial)
	w.RunDue(admin)
	try(a, kms.CodeImportTokenExpired)
	try(c, badMaterial)
	try(bystander, badMaterial)
	for range 99 {
		last(false)
	}
	try(c, badMaterial)
	last(false)
	try(c, kms.CodeImportTokenExpired)
	try(bystander, badMaterial)
}
