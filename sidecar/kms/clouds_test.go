package kms_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// byRules returns an administrator's call under the rules of a dialect.
func byRules(rules *kms.Rules) context.Context {
	call := *kms.CallFrom(admin)
	call.Rules = rules
	return kms.WithCall(context.Background(), &call)
}

// TestArchive holds that an archived key opens what it encrypted, encrypts nothing more, and can be enabled.
func TestArchive(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, other := w.create(t, kms.CreateKeyInput{Alias: "key"}), w.create(t, kms.CreateKeyInput{Alias: "other"})
	data, dataKey := w.ciphertexts(t, key)
	if k, err := w.ArchiveKey(admin, key.ID); err != nil || k.State != kms.Archived {
		t.Fatal(k, err)
	}
	out, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: data})
	if wantCode(t, err, "ok"); string(out.Plaintext) != "secret" {
		t.Errorf("decrypted %q", out.Plaintext)
	}
	_, err = w.DecryptDataKey(admin, kms.DecryptInput{Ciphertext: dataKey})
	wantCode(t, err, "ok")
	moved, err := w.ReEncrypt(admin, kms.ReEncryptInput{Source: kms.DecryptInput{Ciphertext: data}, Destination: kms.EncryptInput{KeyID: other.ID}})
	wantCode(t, err, "ok")
	_, err = w.ReEncrypt(admin, kms.ReEncryptInput{Source: kms.DecryptInput{Ciphertext: moved.Ciphertext}, Destination: kms.EncryptInput{KeyID: key.ID}})
	wantCode(t, err, kms.CodeKeyArchived)
	_, err = w.ArchiveKey(admin, key.ID)
	wantCode(t, err, kms.CodeKeyNotEnabled)
	_, err = w.ArchiveKey(user, other.ID)
	wantCode(t, err, kms.CodeDenied)
	k, err := w.EnableKey(admin, key.ID)
	if wantCode(t, err, "ok"); k.State != kms.Enabled {
		t.Errorf("enabled, it is %s", k.State)
	}
}

// TestKeep holds when a re-encryption leaves a ciphertext as it is.
func TestKeep(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, other := w.create(t, kms.CreateKeyInput{Alias: "key"}), w.create(t, kms.CreateKeyInput{Alias: "other"})
	in := map[string]string{"a": "1"}
	made, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("secret"), Context: in})
	wantCode(t, err, "ok")
	for what, c := range map[string]struct {
		in   kms.ReEncryptInput
		kept bool
	}{
		"same":          {kms.ReEncryptInput{Keep: true, Destination: kms.EncryptInput{KeyID: key.ID, Context: in}}, true},
		"named so":      {kms.ReEncryptInput{Keep: true, SameKey: true, Destination: kms.EncryptInput{Context: in}}, true},
		"not asked for": {kms.ReEncryptInput{SameKey: true, Destination: kms.EncryptInput{Context: in}}, false},
		"other context": {kms.ReEncryptInput{Keep: true, SameKey: true}, false},
		"other key":     {kms.ReEncryptInput{Keep: true, Destination: kms.EncryptInput{KeyID: other.ID, Context: in}}, false},
	} {
		c.in.Source = kms.DecryptInput{Ciphertext: made.Ciphertext, Context: in}
		out, err := w.ReEncrypt(admin, c.in)
		wantCode(t, err, "ok")
		if out.Kept != c.kept || bytes.Equal(out.Ciphertext, made.Ciphertext) != c.kept {
			t.Errorf("%s: kept %v", what, out.Kept)
		}
		c.in.Source.Context = nil
		_, err = w.ReEncrypt(admin, c.in)
		wantCode(t, err, kms.CodeInvalidCiphertext)
	}
	w.set(key.ID, func(k *kms.Key) {
		k.Rotation = kms.Rotation{Enabled: true, Interval: 30, Next: w.clock.Now().Add(day(30))}
	})
	_, err = w.RotateKey(admin, key.ID)
	wantCode(t, err, "ok")
	out, err := w.ReEncrypt(admin, kms.ReEncryptInput{
		Keep: true, SameKey: true, Source: kms.DecryptInput{Ciphertext: made.Ciphertext, Context: in}, Destination: kms.EncryptInput{Context: in},
	})
	if wantCode(t, err, "ok"); out.Kept || out.Version != 2 {
		t.Errorf("after a rotation: kept %v, version %d", out.Kept, out.Version)
	}
}

// TestRotateKey holds who can have a key rotated, when, and what its schedule is then.
func TestRotateKey(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Alias: "key"})
	_, err := w.RotateKey(admin, key.ID)
	wantCode(t, err, kms.CodeRotationDisabled)
	_, err = w.EnableRotation(admin, key.ID, 30)
	wantCode(t, err, "ok")
	_, err = w.RotateKey(user, key.ID)
	wantCode(t, err, kms.CodeDenied)
	due := w.stored(t, key.ID).Rotation.Next
	k, err := w.RotateKey(admin, key.ID)
	if wantCode(t, err, "ok"); len(k.Versions) != 2 || k.Rotation.Count != 1 || !k.Rotation.Next.Equal(due.Add(day(30))) {
		t.Errorf("rotated, it has %d versions and the schedule %+v", len(k.Versions), k.Rotation)
	}
	if rec := w.audit.last(t); rec.Operation != policy.OpCreateKeyVersion || rec.Version != 2 || rec.Outcome != "ok" {
		t.Errorf("recorded as %+v", rec)
	}
	w.clock.advance(24*time.Hour - time.Second)
	_, err = w.RotateKey(admin, key.ID)
	wantCode(t, err, kms.CodeQuotaExceeded)
	w.clock.advance(time.Second)
	_, err = w.RotateKey(admin, key.ID)
	wantCode(t, err, "ok")
	_, err = w.RotateKey(admin, w.create(t, kms.CreateKeyInput{Alias: "ec", Spec: kms.ECP256}).ID)
	wantCode(t, err, "InvalidKeyUsage/asymmetric")
	external := w.external(t, "external", kms.AES256)
	wantCode(t, w.imports(t, external, ours, time.Time{}), "ok")
	_, err = w.RotateKey(admin, external)
	wantCode(t, err, "InvalidOrigin/external")
}

// TestShortMaterial imports 16 bytes into a key that is made for 32 or 16, and then the same alone.
func TestShortMaterial(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	short := ours[:16]
	into := func(id kms.KeyID, material []byte, allowed bool) error {
		i := in(w.parameters(t, id, kms.WrapOAEPSHA256), material)
		i.Short, i.Repeat = allowed, true
		_, err := w.ImportKeyMaterial(admin, i)
		return err
	}
	id := w.external(t, "key", kms.AES256)
	wantCode(t, into(id, short, false), kms.CodeInvalidKeyMaterial)
	wantCode(t, into(id, ours[:24], true), kms.CodeInvalidKeyMaterial)
	wantCode(t, into(id, short, true), "ok")
	if k := w.stored(t, id); k.Spec != kms.AES128 || k.State != kms.Enabled {
		t.Errorf("key is %s and %s", k.Spec, k.State)
	}
	made, err := w.Encrypt(admin, kms.EncryptInput{KeyID: id, Plaintext: []byte("secret")})
	wantCode(t, err, "ok")
	wantCode(t, into(id, ours, true), kms.CodeKeyMaterialMismatch)
	wantCode(t, into(id, theirs[:16], true), kms.CodeKeyMaterialMismatch)
	_, err = w.DeleteImportedKeyMaterial(admin, id)
	wantCode(t, err, "ok")
	wantCode(t, into(id, ours, true), kms.CodeKeyMaterialMismatch)
	wantCode(t, into(id, short, true), "ok")
	out, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: made.Ciphertext})
	if wantCode(t, err, "ok"); string(out.Plaintext) != "secret" {
		t.Errorf("decrypted %q", out.Plaintext)
	}
	whole := w.external(t, "whole", kms.AES256)
	wantCode(t, into(whole, ours, true), "ok")
	wantCode(t, into(whole, short, true), kms.CodeKeyMaterialMismatch)
	if k := w.stored(t, whole); k.Spec != kms.AES256 {
		t.Errorf("key is %s", k.Spec)
	}
}

// TestPendingUncounted leaves keys that wait for their deletion out of the limit, under such rules alone.
func TestPendingUncounted(t *testing.T) {
	w := newWorld(t, kms.Limits{Keys: 1})
	first := w.create(t, kms.CreateKeyInput{Alias: "first"}).ID
	lenient := byRules(&kms.Rules{PendingUncounted: true})
	_, err := w.CreateKey(lenient, kms.CreateKeyInput{Alias: "second"})
	wantCode(t, err, kms.CodeQuotaExceeded)
	_, err = w.ScheduleKeyDeletion(admin, first, 7)
	wantCode(t, err, "ok")
	_, err = w.CreateKey(admin, kms.CreateKeyInput{Alias: "second"})
	wantCode(t, err, kms.CodeQuotaExceeded)
	_, err = w.CreateKey(lenient, kms.CreateKeyInput{Alias: "second"})
	wantCode(t, err, "ok")
	_, err = w.CreateKey(lenient, kms.CreateKeyInput{Alias: "third"})
	wantCode(t, err, kms.CodeQuotaExceeded)
}

// TestListMatching lists the keys that a function accepts, a page at a time, in either order.
func TestListMatching(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	for i := range 7 {
		w.create(t, kms.CreateKeyInput{Alias: fmt.Sprint("key-", i), Tags: []kms.Tag{{Key: "half", Value: fmt.Sprint(i % 2)}}})
	}
	odd := []kms.TagValues{{Key: "half", Values: []string{"1"}}}
	most := func(k *kms.Key) bool { return k.Alias != "key-3" }
	for what, c := range map[string]struct {
		in    kms.ListKeysInput
		want  string
		total int
	}{
		"all":       {kms.ListKeysInput{Match: most}, "012456", 6},
		"newest":    {kms.ListKeysInput{Newest: true}, "6543210", 7},
		"page":      {kms.ListKeysInput{Match: most, Offset: 2, Limit: 2}, "24", 6},
		"last page": {kms.ListKeysInput{Match: most, Newest: true, Offset: 4, Limit: 4}, "10", 6},
		"beyond":    {kms.ListKeysInput{Match: most, Offset: 9}, "", 6},
		"tags":      {kms.ListKeysInput{Match: most, Tags: odd}, "15", 2},
		"tags only": {kms.ListKeysInput{Tags: odd}, "135", 3},
	} {
		page, err := w.ListKeys(admin, c.in)
		wantCode(t, err, "ok")
		got := ""
		for _, k := range page.Keys {
			got += k.Alias[len("key-"):]
		}
		if got != c.want || page.Total != c.total {
			t.Errorf("%s: %s of %d, want %s of %d", what, got, page.Total, c.want, c.total)
		}
	}
}

// TestDryChange tries a change and leaves the key as it is.
func TestDryChange(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	call := *kms.CallFrom(admin)
	call.DryRun = true
	dry := kms.WithCall(context.Background(), &call)
	_, err := w.EnableKey(dry, id)
	wantCode(t, err, kms.CodeKeyNotDisabled)
	_, err = w.DisableKey(dry, id)
	wantCode(t, err, kms.CodeDryRun)
	if k := w.stored(t, id); k.State != kms.Enabled {
		t.Errorf("key is %s", k.State)
	}
}
