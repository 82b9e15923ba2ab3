package kms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestDataKeyPairs holds that the two halves belong together, that the encrypted one is the private one, and that it opens
// as a data key.
func TestDataKeyPairs(t *testing.T) {
	w := newWorld(t, kms.Limits{DataKey: 64}) // below what a private key takes
	key := w.create(t, kms.CreateKeyInput{})
	bound := map[string]string{"a": "b"}
	for spec, op := range map[kms.KeySpec]policy.Operation{
		kms.RSA2048: policy.OpCreateRSAKeyPair, kms.ECP256: policy.OpCreateECKeyPair, kms.ECP384: policy.OpCreateECKeyPair,
		kms.ECP521: policy.OpCreateECKeyPair,
	} {
		before := w.store.reserved(t, key.ID, 1)
		out, err := w.GenerateDataKeyPair(admin, kms.DataKeyPairInput{KeyID: key.ID, Spec: spec, Context: bound})
		wantCode(t, err, "ok")
		if rec := w.audit.last(t); rec.Operation != op || rec.KeyID != key.ID.String() || rec.Version != 1 {
			t.Errorf("%s: audited as %+v", spec, rec)
		}
		if after := w.store.reserved(t, key.ID, 1); before == 0 && after == 0 {
			t.Errorf("%s: the message is not counted", spec)
		}
		public, err := x509.ParsePKIXPublicKey(out.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.ParsePKCS8PrivateKey(out.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		switch p := public.(type) {
		case *rsa.PublicKey:
			if p.N.BitLen() != 2048 || !p.Equal(private.(crypto.Signer).Public()) {
				t.Errorf("%s: halves differ, or size", spec)
			}
		case *ecdsa.PublicKey:
			want := map[kms.KeySpec]elliptic.Curve{
				kms.ECP256: elliptic.P256(), kms.ECP384: elliptic.P384(), kms.ECP521: elliptic.P521(),
			}[spec]
			if p.Curve != want || !p.Equal(private.(crypto.Signer).Public()) {
				t.Errorf("%s: halves differ, or curve", spec)
			}
		}
		opened, err := w.DecryptDataKey(admin, kms.DecryptInput{Ciphertext: out.Ciphertext, Context: bound})
		wantCode(t, err, "ok")
		if !bytes.Equal(opened.Plaintext, out.PrivateKey) {
			t.Errorf("%s: another private key came back", spec)
		}
		_, err = w.Decrypt(admin, kms.DecryptInput{Ciphertext: out.Ciphertext, Context: bound})
		wantCode(t, err, kms.CodeInvalidCiphertext)
	}
	_, err := w.EncryptDataKey(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: make([]byte, 65)})
	wantCode(t, err, "InvalidRequest/plaintext/out_of_range") // the limit of what callers bring stays
}

// TestDataKeyPairRefusals holds that nothing is made for a request that cannot end well.
func TestDataKeyPairRefusals(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	ec := w.create(t, kms.CreateKeyInput{Spec: kms.ECP256})
	for spec, want := range map[kms.KeySpec]kms.Code{
		kms.AES256: invalidSpec, kms.HMAC256: invalidSpec, "": invalidSpec, "DES": invalidSpec,
		kms.SM2: invalidSpec, kms.Secp256k1: invalidSpec,
	} {
		_, err := w.GenerateDataKeyPair(admin, kms.DataKeyPairInput{KeyID: key.ID, Spec: spec})
		if !is(err, want) || fieldOf(err) != "key_spec" {
			t.Errorf("%q: %v", spec, err)
		}
	}
	_, err := w.GenerateDataKeyPair(admin, kms.DataKeyPairInput{KeyID: ec.ID, Spec: kms.ECP256})
	wantCode(t, err, isAsymmetric)
	_, err = w.GenerateDataKeyPair(admin, kms.DataKeyPairInput{KeyID: key.ID, Spec: kms.ECP256, AAD: make([]byte, 129)})
	wantCode(t, err, kms.CodeInvalidRequest)
}

// TestPrivateKeysAreWiped holds that a private key that is not handed out does not stay in memory, whatever the reason.
func TestPrivateKeysAreWiped(t *testing.T) {
	for name, c := range map[string]struct {
		in   kms.DataKeyPairInput
		hook func(*world, *answer)
		want kms.Code
	}{
		"unwanted":      {kms.DataKeyPairInput{WithoutPlaintext: true}, func(*world, *answer) {}, "ok"},
		"not recorded":  {kms.DataKeyPairInput{}, func(w *world, _ *answer) { w.audit.down = errors.New("disk full") }, kms.CodeInternal},
		"not encrypted": {kms.DataKeyPairInput{}, func(_ *world, a *answer) { a.output = nil }, kms.CodeInternal},
		"neither":       {kms.DataKeyPairInput{WithoutPlaintext: true}, func(_ *world, a *answer) { a.output = nil }, kms.CodeInternal},
	} {
		w := newWorld(t, kms.Limits{})
		var seen []byte
		w.hsm.hook = func(a *answer) {
			if a.op == "encrypt" {
				seen = a.plaintext
				c.hook(w, a)
			}
		}
		c.in.KeyID, c.in.Spec = w.create(t, kms.CreateKeyInput{}).ID, kms.ECP256
		out, err := w.GenerateDataKeyPair(admin, c.in)
		wantCode(t, err, c.want)
		if len(seen) == 0 || !bytes.Equal(seen, make([]byte, len(seen))) {
			t.Errorf("%s: private key is still there", name)
		}
		if err == nil && (out.PrivateKey != nil || len(out.Ciphertext) == 0) || err != nil && out != nil {
			t.Errorf("%s: answered %+v", name, out)
		}
	}
}
