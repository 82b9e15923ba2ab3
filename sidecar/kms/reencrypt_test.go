package kms_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestReEncrypt moves a plaintext between all pairs of keys, and looks at what it is afterwards.
func TestReEncrypt(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	one := w.create(t, kms.CreateKeyInput{Alias: "one"})
	two := w.create(t, kms.CreateKeyInput{Alias: "two"})
	block := w.create(t, kms.CreateKeyInput{Alias: "rsa", Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	text, bound := []byte("sixteen bytes ok"), map[string]string{"a": "b"}
	encrypt := func(do func(kms.EncryptInput) (*kms.EncryptOutput, error), in kms.EncryptInput) kms.DecryptInput {
		in.Plaintext = text
		out, err := do(in)
		wantCode(t, err, "ok")
		return kms.DecryptInput{Ciphertext: out.Ciphertext, Context: in.Context, AAD: in.AAD, Algorithm: in.Algorithm}
	}
	asData := func(in kms.EncryptInput) (*kms.EncryptOutput, error) { return w.Encrypt(admin, in) }
	asDataKey := func(in kms.EncryptInput) (*kms.EncryptOutput, error) { return w.EncryptDataKey(admin, in) }
	ofRSA := encrypt(asData, kms.EncryptInput{KeyID: block.ID, Algorithm: kms.RSAOAEPSHA1})
	ofRSA.KeyID = &block.ID
	symmetric := kms.EncryptInput{KeyID: two.ID, Context: map[string]string{"c": "d"}, AAD: []byte("aad")}
	rsa := kms.EncryptInput{KeyID: block.ID, Algorithm: kms.RSAOAEPSHA256}

	for name, c := range map[string]struct {
		source  kms.DecryptInput
		dest    kms.EncryptInput
		bytes   int
		purpose kms.Purpose
	}{
		"data":               {encrypt(asData, kms.EncryptInput{KeyID: one.ID, Context: bound}), symmetric, 0, kms.PurposeData},
		"data key":           {encrypt(asDataKey, kms.EncryptInput{KeyID: one.ID, Context: bound}), symmetric, 0, kms.PurposeDataKey},
		"same key":           {encrypt(asData, kms.EncryptInput{KeyID: two.ID}), symmetric, 0, kms.PurposeData},
		"data to rsa":        {encrypt(asData, kms.EncryptInput{KeyID: one.ID}), rsa, 0, kms.PurposeData},
		"data key to rsa":    {encrypt(asDataKey, kms.EncryptInput{KeyID: one.ID}), rsa, 0, kms.PurposeDataKey},
		"rsa to data":        {ofRSA, symmetric, 0, kms.PurposeData},
		"rsa to data key":    {ofRSA, symmetric, 16, kms.PurposeDataKey},
		"rsa to rsa":         {ofRSA, rsa, 0, kms.PurposeData},
		"bytes but not rsa":  {encrypt(asData, kms.EncryptInput{KeyID: one.ID}), symmetric, 7, kms.PurposeData},
		"named and symmetry": {encrypt(asData, kms.EncryptInput{KeyID: one.ID, Algorithm: kms.SymmetricDefault}), symmetric, 0, kms.PurposeData},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []byte
			w.hsm.hook = func(a *answer) {
				if strings.HasPrefix(a.op, "decrypt") {
					seen = a.plaintext
				}
			}
			out, err := w.ReEncrypt(admin, kms.ReEncryptInput{Source: c.source, Destination: c.dest, DataKeyBytes: c.bytes})
			w.hsm.hook = nil
			wantCode(t, err, "ok")
			if len(seen) != len(text) || !bytes.Equal(seen, make([]byte, len(seen))) {
				t.Errorf("plaintext is still there: %q", seen)
			}
			if out.Purpose != c.purpose || out.KeyID != c.dest.KeyID || out.SourceAlgorithm == "" || out.Algorithm == "" {
				t.Errorf("answered %+v", out)
			}
			rec := w.audit.last(t)
			if rec.KeyID != c.dest.KeyID.String() || rec.SourceKeyID != out.SourceKeyID.String() || rec.Version != 1 || rec.SourceVersion != 1 {
				t.Errorf("audited as %+v", rec)
			}
			in := kms.DecryptInput{Ciphertext: out.Ciphertext, Algorithm: c.dest.Algorithm, Context: c.dest.Context, AAD: c.dest.AAD}
			open := w.Decrypt
			if c.dest.Algorithm != "" {
				in.KeyID = &block.ID
			} else if c.purpose == kms.PurposeDataKey {
				open = w.DecryptDataKey
			}
			opened, err := open(admin, in)
			wantCode(t, err, "ok")
			if !bytes.Equal(opened.Plaintext, text) {
				t.Errorf("came out as %q", opened.Plaintext)
			}
		})
	}
}

// TestReEncryptRefusals holds that each of the two keys must be fit for its part before anything is decrypted.
func TestReEncryptRefusals(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	one := w.create(t, kms.CreateKeyInput{Alias: "one"})
	two := w.create(t, kms.CreateKeyInput{Alias: "two"})
	off := w.create(t, kms.CreateKeyInput{Alias: "off"})
	block := w.create(t, kms.CreateKeyInput{Alias: "rsa", Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	signer := w.create(t, kms.CreateKeyInput{Alias: "signer", Spec: kms.ECP256})
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: one.ID, Plaintext: []byte("text")})
	wantCode(t, err, "ok")
	good := kms.DecryptInput{Ciphertext: out.Ciphertext}
	out, err = w.Encrypt(admin, kms.EncryptInput{KeyID: one.ID, Plaintext: make([]byte, 191)})
	wantCode(t, err, "ok")
	long := kms.DecryptInput{Ciphertext: out.Ciphertext}
	out, err = w.Encrypt(admin, kms.EncryptInput{KeyID: off.ID, Plaintext: []byte("text")})
	wantCode(t, err, "ok")
	ofDisabled := kms.DecryptInput{Ciphertext: out.Ciphertext}
	out, err = w.Encrypt(admin, kms.EncryptInput{KeyID: block.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("text")})
	wantCode(t, err, "ok")
	ofRSA := kms.DecryptInput{Ciphertext: out.Ciphertext, Algorithm: kms.RSAOAEPSHA256, KeyID: &block.ID}
	_, err = w.DisableKey(admin, off.ID)
	wantCode(t, err, "ok")
	to := func(id kms.KeyID) kms.EncryptInput { return kms.EncryptInput{KeyID: id} }
	toRSA := kms.EncryptInput{KeyID: block.ID, Algorithm: kms.RSAOAEPSHA256}
	bad := kms.DecryptInput{Ciphertext: bytes.Clone(good.Ciphertext)}
	bad.Ciphertext[len(bad.Ciphertext)-1] ^= 1

	for name, c := range map[string]struct {
		source kms.DecryptInput
		dest   kms.EncryptInput
		bytes  int
		want   kms.Code
		opens  bool // the source is decrypted before it is known
	}{
		"damaged":             {bad, to(two.ID), 0, kms.CodeInvalidCiphertext, false},
		"other context":       {kms.DecryptInput{Ciphertext: good.Ciphertext, AAD: []byte("x")}, to(two.ID), 0, kms.CodeInvalidCiphertext, false},
		"other source":        {kms.DecryptInput{Ciphertext: good.Ciphertext, KeyID: &two.ID}, to(two.ID), 0, kms.CodeInvalidCiphertext, false},
		"rsa without key":     {kms.DecryptInput{Ciphertext: ofRSA.Ciphertext, Algorithm: kms.RSAOAEPSHA256}, to(two.ID), 0, kms.CodeInvalidRequest, false},
		"disabled source":     {ofDisabled, to(two.ID), 0, kms.CodeKeyDisabled, false},
		"disabled dest":       {good, to(off.ID), 0, kms.CodeKeyDisabled, false},
		"unknown dest":        {good, to(uuid.New()), 0, kms.CodeNotFound, false},
		"signing dest":        {good, to(signer.ID), 0, isElliptic, false},
		"mismatched dest":     {good, to(block.ID), 0, kms.CodeInvalidAlgorithm, false},
		"mismatched reverse":  {good, kms.EncryptInput{KeyID: two.ID, Algorithm: kms.RSAOAEPSHA256}, 0, kms.CodeInvalidAlgorithm, false},
		"context under rsa":   {good, kms.EncryptInput{KeyID: block.ID, Algorithm: kms.RSAOAEPSHA256, AAD: []byte("x")}, 0, kms.CodeInvalidRequest, false},
		"aad too long":        {good, kms.EncryptInput{KeyID: two.ID, AAD: make([]byte, 129)}, 0, kms.CodeInvalidRequest, false},
		"too long for rsa":    {long, toRSA, 0, tooLong, true},
		"data key's length":   {ofRSA, to(two.ID), 5, kms.CodeInvalidCiphertext, true},
		"data key below zero": {ofRSA, to(two.ID), -1, "InvalidRequest/data_key_bytes/out_of_range", false},
		"data key too long":   {ofRSA, to(two.ID), 1025, "InvalidRequest/data_key_bytes/out_of_range", false},
	} {
		opened := false
		w.hsm.hook = func(a *answer) { opened = opened || strings.HasPrefix(a.op, "decrypt") }
		got, err := w.ReEncrypt(admin, kms.ReEncryptInput{Source: c.source, Destination: c.dest, DataKeyBytes: c.bytes})
		w.hsm.hook = nil
		if !is(err, c.want) || got != nil || opened != c.opens {
			t.Errorf("%s: %v, want %s; decrypted: %t", name, err, c.want, opened)
		}
		if rec := w.audit.last(t); rec.KeyID != c.dest.KeyID.String() || !recorded(&rec, err) {
			t.Errorf("%s: audited as %+v", name, rec)
		}
	}
}
