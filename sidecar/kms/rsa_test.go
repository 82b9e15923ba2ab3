package kms_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/kms"
)

// fieldOf returns the field at fault.
func fieldOf(err error) string { return kms.AsError(err).Field }

// TestRSAEncryption holds that what an RSA key encrypts decrypts, up to what a block can hold, whoever encrypted it.
func TestRSAEncryption(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	for alg, most := range map[kms.EncryptionAlgorithm]int{kms.RSAOAEPSHA256: 256 - 66, kms.RSAOAEPSHA1: 256 - 42} {
		for _, n := range []int{1, 32, most} {
			plaintext := bytes.Repeat([]byte("x"), n)
			out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Algorithm: alg, Plaintext: plaintext})
			wantCode(t, err, "ok")
			if len(out.Ciphertext) != 256 || out.KeyID != key.ID {
				t.Errorf("%s: a block of %d bytes by %s", alg, len(out.Ciphertext), out.KeyID)
			}
			opened, err := w.Decrypt(admin, kms.DecryptInput{KeyID: &key.ID, Algorithm: alg, Ciphertext: out.Ciphertext})
			wantCode(t, err, "ok")
			if !bytes.Equal(opened.Plaintext, plaintext) || opened.KeyID != key.ID {
				t.Errorf("%s: %d bytes came back as %q", alg, n, opened.Plaintext)
			}
		}
		_, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Algorithm: alg, Plaintext: make([]byte, most+1)})
		wantCode(t, err, tooLong)
	}
	if n := w.store.reserved(t, key.ID, 1); n != 0 {
		t.Errorf("%d messages are counted, although blocks have no IV", n)
	}
	public, err := w.PublicKey(admin, key.ID)
	wantCode(t, err, "ok")
	parsed, err := x509.ParsePKIXPublicKey(public.DER)
	if err != nil {
		t.Fatal(err)
	}
	block, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, parsed.(*rsa.PublicKey), []byte("from outside"), nil)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := w.Decrypt(admin, kms.DecryptInput{KeyID: &key.ID, Algorithm: kms.RSAOAEPSHA256, Ciphertext: block})
	wantCode(t, err, "ok")
	if string(opened.Plaintext) != "from outside" {
		t.Errorf("decrypted %q", opened.Plaintext)
	}
}

// TestRSARefusals holds which pairs of keys and algorithms, and which inputs, RSA does not go with.
func TestRSARefusals(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Alias: "rsa", Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	signer := w.create(t, kms.CreateKeyInput{Alias: "signer", Spec: kms.RSA2048})
	aes := w.create(t, kms.CreateKeyInput{Alias: "aes"})
	unknown := uuid.New()
	symmetric, err := w.Encrypt(admin, kms.EncryptInput{KeyID: aes.ID, Plaintext: []byte("x")})
	wantCode(t, err, "ok")
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("x")})
	wantCode(t, err, "ok")
	block := out.Ciphertext
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &other.PublicKey, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ours := &rsaKey().PublicKey
	empty, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, ours, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	sha1Block, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, ours, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	bound := map[string]string{"a": "b"}
	for name, c := range map[string]struct {
		in    kms.EncryptInput
		code  kms.Code
		field string
	}{
		"no algorithm":    {kms.EncryptInput{KeyID: key.ID}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"symmetric":       {kms.EncryptInput{KeyID: key.ID, Algorithm: kms.SymmetricDefault}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"unknown":         {kms.EncryptInput{KeyID: key.ID, Algorithm: "SM2_ENCRYPT"}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"rsa with aes":    {kms.EncryptInput{KeyID: aes.ID, Algorithm: kms.RSAOAEPSHA256}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"unknown and aes": {kms.EncryptInput{KeyID: aes.ID, Algorithm: "SM2_ENCRYPT"}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"context":         {kms.EncryptInput{KeyID: key.ID, Algorithm: kms.RSAOAEPSHA256, Context: bound}, kms.CodeInvalidRequest, "context"},
		"aad":             {kms.EncryptInput{KeyID: key.ID, Algorithm: kms.RSAOAEPSHA256, AAD: []byte("a")}, kms.CodeInvalidRequest, "aad"},
		"signing key":     {kms.EncryptInput{KeyID: signer.ID, Algorithm: kms.RSAOAEPSHA256}, isSigning, ""},
	} {
		c.in.Plaintext = []byte("x")
		if _, err := w.Encrypt(admin, c.in); !is(err, c.code) || fieldOf(err) != c.field {
			t.Errorf("encrypt: %s: %v in %q, want %s in %q", name, err, fieldOf(err), c.code, c.field)
		}
	}
	const sha256Alg = kms.RSAOAEPSHA256
	for name, c := range map[string]struct {
		in    kms.DecryptInput
		code  kms.Code
		field string
	}{
		"good":              {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: block}, "ok", ""},
		"no key":            {kms.DecryptInput{Algorithm: sha256Alg, Ciphertext: block}, kms.CodeInvalidRequest, "key_id"},
		"unknown key":       {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &unknown, Ciphertext: block}, kms.CodeNotFound, ""},
		"signing key":       {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &signer.ID, Ciphertext: block}, isSigning, ""},
		"rsa with aes":      {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &aes.ID, Ciphertext: block}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"no algorithm":      {kms.DecryptInput{KeyID: &key.ID, Ciphertext: block}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"unknown algorithm": {kms.DecryptInput{Algorithm: "SM2_ENCRYPT", KeyID: &key.ID, Ciphertext: block}, kms.CodeInvalidAlgorithm, "encryption_algorithm"},
		"block for no key":  {kms.DecryptInput{Ciphertext: block}, kms.CodeInvalidCiphertext, "ciphertext"},
		"block for aes":     {kms.DecryptInput{KeyID: &aes.ID, Ciphertext: block}, kms.CodeInvalidCiphertext, "ciphertext"},
		"block for unknown": {kms.DecryptInput{KeyID: &unknown, Ciphertext: block}, kms.CodeInvalidCiphertext, "ciphertext"},
		"symmetric":         {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: symmetric.Ciphertext}, kms.CodeInvalidCiphertext, "ciphertext"},
		"other hash":        {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: sha1Block}, kms.CodeInvalidCiphertext, "ciphertext"},
		"other key":         {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: foreign}, kms.CodeInvalidCiphertext, "ciphertext"},
		"nothing in it":     {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: empty}, kms.CodeInvalidCiphertext, "ciphertext"},
		"empty":             {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID}, kms.CodeInvalidCiphertext, "ciphertext"},
		"short":             {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: block[1:]}, kms.CodeInvalidCiphertext, "ciphertext"},
		"context":           {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: block, Context: bound}, kms.CodeInvalidRequest, "context"},
		"aad":               {kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: block, AAD: []byte("a")}, kms.CodeInvalidRequest, "aad"},
	} {
		got, err := w.Decrypt(admin, c.in)
		if !is(err, c.code) || err != nil && fieldOf(err) != c.field {
			t.Errorf("decrypt: %s: %v, want %s in %q", name, err, c.code, c.field)
		}
		if err != nil && got != nil {
			t.Errorf("decrypt: %s: an answer beside the error", name)
		}
	}
	_, err = w.DecryptDataKey(admin, kms.DecryptInput{Algorithm: sha256Alg, KeyID: &key.ID, Ciphertext: block})
	wantCode(t, err, isAsymmetric)
}

// TestRSASecretsAreWiped holds that a block's plaintext whose answer is withheld does not stay in memory.
func TestRSASecretsAreWiped(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("topsecret")})
	wantCode(t, err, "ok")
	var seen []byte
	w.hsm.hook = func(a *answer) { seen = a.plaintext; w.audit.down = context.DeadlineExceeded }
	_, err = w.Decrypt(admin, kms.DecryptInput{KeyID: &key.ID, Algorithm: kms.RSAOAEPSHA256, Ciphertext: out.Ciphertext})
	wantCode(t, err, kms.CodeInternal)
	if !bytes.Equal(seen, make([]byte, 9)) {
		t.Errorf("plaintext is still there: %q", seen)
	}
}

// TestFalsePublicKey holds that nothing is encrypted to a public key that was put into the database, nor to one that an HSM
// made up, and that the proof is asked for once.
func TestFalsePublicKey(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	in := kms.EncryptInput{KeyID: key.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("topsecret")}
	opened := 0
	w.hsm.hook = func(a *answer) {
		if a.op == "decrypt-rsa" {
			opened++
		}
	}
	for range 3 {
		_, err := w.Encrypt(admin, in)
		wantCode(t, err, "ok")
	}
	if opened != 1 {
		t.Errorf("the HSM was asked %d times for its proof", opened)
	}
	w.hsm.hook = nil
	thief, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&thief.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	w.set(key.ID, func(k *kms.Key) {
		k.Versions = []kms.KeyVersion{k.Versions[0]}
		k.Versions[0].PublicKey = public
	})
	out, err := w.Encrypt(admin, in)
	if wantCode(t, err, kms.CodeKeyUnavailable); out != nil {
		t.Error("something is encrypted to the thief")
	}

	w.hsm.hook = func(a *answer) {
		if a.op == "decrypt-rsa" { // an HSM that opens nothing and says so of everything
			a.plaintext = make([]byte, len(a.plaintext))
		}
	}
	other := w.create(t, kms.CreateKeyInput{Alias: "other", Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	_, err = w.Encrypt(admin, kms.EncryptInput{KeyID: other.ID, Algorithm: kms.RSAOAEPSHA1, Plaintext: []byte("topsecret")})
	wantCode(t, err, kms.CodeKeyUnavailable)
}
