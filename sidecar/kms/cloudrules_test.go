package kms_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestVersionsAtRequest gives asymmetric keys new versions: the newest signs, and the others stay for calls that name them.
func TestVersionsAtRequest(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	weekly := byRules(&kms.Rules{VersionDays: 7})
	signing := w.create(t, kms.CreateKeyInput{Spec: kms.ECP256})
	sealing := w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
	sign := func(version uint32) *kms.SignOutput {
		t.Helper()
		out, err := w.Sign(admin, kms.SignInput{KeyID: signing.ID, Version: version, Algorithm: kms.ECDSASHA256, Message: []byte("m")})
		wantCode(t, err, "ok")
		return out
	}
	verifies := func(version uint32, signature []byte) bool {
		t.Helper()
		valid, err := w.Verify(admin, kms.VerifyInput{
			KeyID: signing.ID, Version: version, Algorithm: kms.ECDSASHA256, Message: []byte("m"), Signature: signature,
		})
		wantCode(t, err, "ok")
		return valid
	}
	_, err := w.CreateKeyVersion(weekly, signing.ID)
	wantCode(t, err, kms.CodeQuotaExceeded)
	w.clock.advance(day(7))
	for _, id := range []kms.KeyID{signing.ID, sealing.ID} {
		key, err := w.CreateKeyVersion(weekly, id)
		if wantCode(t, err, "ok"); len(key.Versions) != 2 || key.Current().Number != 2 || w.stored(t, id).Version(1) == nil {
			t.Errorf("versions %+v", key.Versions)
		}
		if rec := w.audit.last(t); rec.Version != 2 || rec.Outcome != "ok" {
			t.Errorf("audited as %+v", rec)
		}
	}
	_, err = w.CreateKeyVersion(weekly, signing.ID)
	wantCode(t, err, kms.CodeQuotaExceeded)

	first, second := sign(1), sign(0)
	if first.Version != 1 || second.Version != 2 {
		t.Errorf("signed with versions %d and %d", first.Version, second.Version)
	}
	for _, c := range []struct {
		version   uint32
		signature []byte
		valid     bool
	}{
		{1, first.Signature, true}, {2, first.Signature, false}, {0, first.Signature, false}, {0, second.Signature, true}, {1, second.Signature, false},
	} {
		if got := verifies(c.version, c.signature); got != c.valid {
			t.Errorf("with version %d: %v", c.version, got)
		}
	}
	_, err = w.Sign(admin, kms.SignInput{KeyID: signing.ID, Version: 3, Algorithm: kms.ECDSASHA256, Message: []byte("m")})
	wantCode(t, err, kms.CodeNotFound)
	one, err := w.PublicKeyOf(admin, signing.ID, 1)
	wantCode(t, err, "ok")
	two, err := w.PublicKey(admin, signing.ID)
	if wantCode(t, err, "ok"); bytes.Equal(one.DER, two.DER) || one.Version != 1 || two.Version != 2 {
		t.Error("both versions have one public key")
	}

	sealed, err := w.Encrypt(admin, kms.EncryptInput{KeyID: sealing.ID, Version: 1, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("m")})
	wantCode(t, err, "ok")
	for version, want := range map[uint32]kms.Code{1: "ok", 3: kms.CodeNotFound} {
		_, err := w.Decrypt(admin, kms.DecryptInput{KeyID: &sealing.ID, Version: version, Algorithm: kms.RSAOAEPSHA256, Ciphertext: sealed.Ciphertext})
		wantCode(t, err, want)
	}
	for len(w.stored(t, signing.ID).Versions) < 50 {
		_, err := w.CreateKeyVersion(admin, signing.ID) // whose rules have no days
		wantCode(t, err, "ok")
	}
	_, err = w.CreateKeyVersion(admin, signing.ID)
	wantCode(t, err, kms.CodeQuotaExceeded)
	_, err = w.CreateKeyVersion(admin, w.create(t, kms.CreateKeyInput{}).ID)
	wantCode(t, err, isSymmetric)
	_, err = w.CreateKeyVersion(user, signing.ID)
	wantCode(t, err, kms.CodeDenied)
}

// TestSetRotation enables, changes and disables rotation in one call each, with a dialect's intervals, and rotates after the shortest.
func TestSetRotation(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	ctx := byRules(&kms.Rules{MinRotation: 7, MaxRotation: 730})
	for _, c := range []struct {
		ctx      context.Context
		interval int
		code     kms.Code
	}{{ctx, 6, invalidInterval}, {ctx, 731, invalidInterval}, {ctx, 730, "ok"}, {ctx, 7, "ok"}, {admin, 7, invalidInterval}, {admin, 365, "ok"}, {ctx, 7, "ok"}} {
		key, err := w.SetRotation(c.ctx, id, true, c.interval)
		if wantCode(t, err, c.code); err == nil && (!key.Rotation.Enabled || key.Rotation.Interval != c.interval) {
			t.Errorf("rotation %+v, want every %d days", key.Rotation, c.interval)
		}
	}
	w.clock.advance(day(7) + time.Hour)
	w.RunDue(admin)
	if key := w.stored(t, id); len(key.Versions) != 2 || key.Rotation.Next.Sub(w.clock.peek()) > day(7) {
		t.Errorf("after 7 days: %d versions, %+v", len(key.Versions), key.Rotation)
	}
	for range 2 { // disabling twice is no error
		key, err := w.SetRotation(ctx, id, false, 0)
		if wantCode(t, err, "ok"); key.Rotation.Enabled {
			t.Error("still rotated")
		}
	}
}

// TestDryRun holds that a dry run passes every check and then uses no key.
func TestDryRun(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	ec, rsa, mac := w.create(t, kms.CreateKeyInput{Spec: kms.ECP256}), w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048, Usage: kms.EncryptDecrypt}), w.create(t, kms.CreateKeyInput{Spec: kms.HMAC256})
	key := w.create(t, kms.CreateKeyInput{})
	data, dataKey := w.ciphertexts(t, key)
	call := *kms.CallFrom(admin)
	call.DryRun = true
	dry := kms.WithCall(context.Background(), &call)
	block, err := w.Encrypt(admin, kms.EncryptInput{KeyID: rsa.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("m")})
	wantCode(t, err, "ok")
	w.hsm.hook = func(*answer) { t.Error("the HSM was used") }
	message := kms.SignInput{KeyID: ec.ID, Algorithm: kms.ECDSASHA256, Message: []byte("m")}
	for what, do := range map[string]func() error{
		"encrypt": func() error {
			_, err := w.Encrypt(dry, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("m")})
			return err
		},
		"decrypt":  func() error { _, err := w.Decrypt(dry, kms.DecryptInput{Ciphertext: data}); return err },
		"data key": func() error { _, err := w.GenerateDataKey(dry, kms.DataKeyInput{KeyID: key.ID, Bytes: 32}); return err },
		"open":     func() error { _, err := w.DecryptDataKey(dry, kms.DecryptInput{Ciphertext: dataKey}); return err },
		"move": func() error {
			_, err := w.ReEncrypt(dry, kms.ReEncryptInput{Source: kms.DecryptInput{Ciphertext: data}, Destination: kms.EncryptInput{KeyID: key.ID}})
			return err
		},
		"encrypt RSA": func() error {
			_, err := w.Encrypt(dry, kms.EncryptInput{KeyID: rsa.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("m")})
			return err
		},
		"decrypt RSA": func() error {
			_, err := w.Decrypt(dry, kms.DecryptInput{KeyID: &rsa.ID, Algorithm: kms.RSAOAEPSHA256, Ciphertext: block.Ciphertext})
			return err
		},
		"sign": func() error { _, err := w.Sign(dry, message); return err },
		"verify": func() error {
			_, err := w.Verify(dry, kms.VerifyInput{KeyID: ec.ID, Algorithm: message.Algorithm, Message: message.Message, Signature: []byte("s")})
			return err
		},
		"public key": func() error { _, err := w.PublicKey(dry, ec.ID); return err },
		"mac": func() error {
			_, err := w.GenerateMAC(dry, kms.MACInput{KeyID: mac.ID, Algorithm: kms.HMACSHA256, Message: []byte("m")})
			return err
		},
		"random": func() error { _, err := w.Random(dry, 8); return err },
	} {
		if err := do(); kms.AsError(err).Code != kms.CodeDryRun {
			t.Errorf("%s: %v", what, err)
		}
		if rec := w.audit.last(t); rec.Decision != "allow" || rec.Outcome != string(kms.CodeDryRun) {
			t.Errorf("%s is audited as %+v", what, rec)
		}
	}
	call.Principal = kms.CallFrom(user).Principal
	_, err = w.Encrypt(dry, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("m")})
	wantCode(t, err, kms.CodeDenied)
}

// TestText holds that the mark of a text survives decryption and re-encryption, and cannot be changed.
func TestText(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, other := w.create(t, kms.CreateKeyInput{Alias: "key"}), w.create(t, kms.CreateKeyInput{Alias: "other"})
	for _, text := range []bool{false, true} {
		made, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("hello"), Text: text})
		wantCode(t, err, "ok")
		moved, err := w.ReEncrypt(admin, kms.ReEncryptInput{Source: kms.DecryptInput{Ciphertext: made.Ciphertext}, Destination: kms.EncryptInput{KeyID: other.ID}})
		wantCode(t, err, "ok")
		for _, sealed := range [][]byte{made.Ciphertext, moved.Ciphertext} {
			out, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: sealed})
			if wantCode(t, err, "ok"); out.Text != text || string(out.Plaintext) != "hello" {
				t.Errorf("%q, text %v, want %v", out.Plaintext, out.Text, text)
			}
			for _, flags := range []byte{1, 2, 3, 0x80} {
				changed := slices.Clone(sealed)
				changed[7] ^= flags
				_, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: changed})
				wantCode(t, err, kms.CodeInvalidCiphertext)
			}
		}
	}
}

// TestDeletionProtection holds that a protected key cannot be scheduled for deletion, and keeps its protection.
func TestDeletionProtection(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	protect := func(p kms.DeletionProtection) {
		t.Helper()
		_, err := w.SetDeletionProtection(admin, id, p)
		wantCode(t, err, "ok")
	}
	protect(kms.DeletionProtection{Enabled: true, Description: "why"})
	_, err := w.ScheduleKeyDeletion(admin, id, 7)
	wantCode(t, err, kms.CodeKeyProtected)
	if key := w.stored(t, id); key.State != kms.Enabled || key.Protected != (kms.DeletionProtection{Enabled: true, Description: "why"}) {
		t.Errorf("%s, %+v", key.State, key.Protected)
	}
	protect(kms.DeletionProtection{Description: "dropped"})
	if key := w.stored(t, id); key.Protected != (kms.DeletionProtection{}) {
		t.Errorf("ended, it is %+v", key.Protected)
	}
	_, err = w.ScheduleKeyDeletion(admin, id, 7)
	wantCode(t, err, "ok")
	_, err = w.SetDeletionProtection(user, id, kms.DeletionProtection{Enabled: true})
	wantCode(t, err, kms.CodeDenied)
}

// TestInstanceKeys holds what is special about keys of an instance, and that instances are those of keys.
func TestInstanceKeys(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Alias: "one", Origin: kms.OriginExternal, Instance: "kst-1"})
	w.create(t, kms.CreateKeyInput{Alias: "two", Instance: "kst-1"})
	w.create(t, kms.CreateKeyInput{Alias: "three", Instance: "kst-0"})
	w.create(t, kms.CreateKeyInput{Alias: "none"})
	instances, err := w.Instances(admin)
	if wantCode(t, err, "ok"); !slices.Equal(instances, []kms.Instance{{Name: "kst-0", Keys: 1}, {Name: "kst-1", Keys: 2}}) {
		t.Errorf("instances %v", instances)
	}
	for alg, want := range map[kms.WrappingAlgorithm]kms.Code{
		kms.WrapPKCS1: "ok", kms.WrapOAEPSHA256: "ok", kms.WrapOAEPSHA1: kms.CodeInvalidRequest + "/wrapping_algorithm/conflict", kms.WrapRSAAESSHA256: kms.CodeInvalidRequest + "/wrapping_algorithm/conflict",
	} {
		_, err := w.GetImportParameters(admin, kms.ImportParametersInput{KeyID: key.ID, Algorithm: alg})
		wantCode(t, err, want)
	}
	wantCode(t, w.imports(t, key.ID, make([]byte, 32), time.Time{}), "ok")
	_, err = w.DeleteImportedKeyMaterial(admin, key.ID)
	wantCode(t, err, kms.CodeKeyMaterialPermanent)
}

// TestNewKeys creates keys without a name, with tags, a rotation schedule and a protection.
func TestNewKeys(t *testing.T) {
	w := newWorld(t, kms.Limits{Tags: 1})
	made, err := w.CreateKey(byRules(&kms.Rules{MinRotation: 7, MaxRotation: 730}), kms.CreateKeyInput{
		Unnamed: true, Rotation: 7, Tags: []kms.Tag{{Key: "k", Value: "v"}}, Protection: kms.ProtectionHSM,
	})
	wantCode(t, err, "ok")
	key := w.stored(t, made.ID)
	if key.Alias != key.ID.String() || key.Rotation.Interval != 7 || !slices.Equal(key.Tags, []kms.Tag{{Key: "k", Value: "v"}}) {
		t.Errorf("made %+v", key)
	}
	for code, in := range map[kms.Code]kms.CreateKeyInput{
		invalidInterval:       {Alias: "a", Rotation: 7},
		isExternal:            {Alias: "a", Rotation: 30, Origin: kms.OriginExternal},
		isAsymmetric:          {Alias: "a", Rotation: 30, Spec: kms.RSA2048},
		kms.CodeQuotaExceeded: {Alias: "a", Tags: []kms.Tag{{Key: "k"}, {Key: "l"}}},
		kms.CodeUnsupported:   {Alias: "a", Protection: kms.ProtectionDriver},
	} {
		_, err := w.CreateKey(admin, in)
		wantCode(t, err, code)
	}
	if n, _, _ := w.store.CountKeys(admin); n != 1 {
		t.Errorf("%d keys", n)
	}
}
