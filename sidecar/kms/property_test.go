package kms_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// modelCiphertext is a ciphertext and what it must open as for as long as its key is there.
type modelCiphertext struct {
	key       *modelKey
	version   int
	bytes     []byte
	plaintext []byte
	context   map[string]string
	isDataKey bool
}

// longer is for sequences in which a key can live to see several rotations and its end.
func longer(steps int) int { return 4 * steps }

// scale changes one of rapid's numbers for a test.
func scale(t *testing.T, name string, f func(int) int) {
	value := flag.Lookup(name).Value
	before := value.String()
	n, err := strconv.Atoi(before)
	if err == nil {
		err = value.Set(strconv.Itoa(f(n)))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { value.Set(before) })
}

// TestServiceAgainstModel runs random operations and compares each answer with the model's.
func TestServiceAgainstModel(t *testing.T) {
	scale(t, "rapid.steps", longer)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, modelLimits)
		checkModel(rt, w, w.store, func() { w.Service = w.restart(rt, modelLimits) })
	})
}

// TestServiceOnDiskAgainstModel does the same on the real store, and a restart opens the database anew, which takes so
// many syncs that it is done a fifth as often.
func TestServiceOnDiskAgainstModel(t *testing.T) {
	scale(t, "rapid.checks", func(n int) int { return max(1, n/5) })
	scale(t, "rapid.steps", longer)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "db")
		if err != nil {
			rt.Fatal(err)
		}
		w := &world{hsm: newHSM(), audit: new(fakeAudit), clock: newClock()}
		var db *store.Store
		current := new(reopened)
		reopen := func() {
			if db != nil {
				if err := errors.Join(w.Close(admin), db.Close()); err != nil {
					rt.Fatal(err)
				}
			}
			if db, err = store.Open(store.Options{Dir: dir, Create: true, Tenant: "test"}); err != nil {
				rt.Fatal(err)
			}
			w.Service, err = kms.New(kms.Config{
				Store: db, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Limits: modelLimits, Clock: w.clock,
			})
			if err != nil {
				rt.Fatal(err)
			}
			current.Store = db
		}
		reopen()
		defer func() { db.Close() }()
		checkModel(rt, w, current, reopen)
	})
}

// reopened is the store after the last restart.
type reopened struct{ kms.Store }

func checkModel(rt *rapid.T, w *world, keys kms.Store, restart func()) {
	m := &model{w: w, store: keys, names: make(map[string]*modelKey), aliases: make(map[string]*modelKey)}
	m.create(rt)
	rt.Repeat(map[string]func(*rapid.T){
		"create": m.create, "enable": m.enable, "disable": m.disable, "schedule": m.schedule, "cancel": m.cancel,
		"rename": m.rename, "describe": m.describe, "tag": m.tag, "untag": m.untag, "find": m.find,
		"createAlias": m.createAlias, "moveAlias": m.moveAlias, "deleteAlias": m.deleteAlias, "resolve": m.resolve,
		"firstUse": m.firstUse, "enableRotation": m.enableRotation, "updateRotation": m.updateRotation,
		"disableRotation": m.disableRotation, "unauthorized": m.unauthorized, "quotas": m.quotas,
		"encrypt": m.encrypt, "encryptMore": m.encrypt, "decrypt": m.decrypt, "sign": m.sign, "list": m.list,
		"advance": m.advance, "advanceMore": m.advance, "runDue": m.runDue, "restart": func(*rapid.T) { restart() },
		"enableRotationMore": m.enableRotation, "enableMore": m.enable,
		"parameters": m.parameters, "parametersMore": m.parameters, "import": m.importMaterial, "importAgain": m.importAgain, "importMore": m.importAgain,
		"deleteMaterial": m.deleteMaterial,
		"":               m.check,
	})
	for _, c := range m.sealed {
		m.open(rt, c)
	}
}

func (m *model) encrypt(rt *rapid.T) {
	k := m.pick(rt)
	c := modelCiphertext{
		key:       k,
		plaintext: rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(rt, "plaintext"),
		context:   rapid.MapOfN(rapid.StringMatching("[a-c]"), rapid.StringMatching("[a-c]?"), 0, 2).Draw(rt, "context"),
		isDataKey: rapid.Bool().Draw(rt, "data key"),
	}
	want := k.using(m.w.clock.Now())
	if want == "ok" && k.spec != kms.AES256 {
		switch {
		case k.spec == kms.HMAC256:
			want = isMAC
		case c.isDataKey:
			want = isAsymmetric
		case k.spec == kms.ECP256:
			want = isElliptic
		default:
			want = isSigning
		}
	}
	do := m.w.Encrypt
	if c.isDataKey {
		do = m.w.EncryptDataKey
	}
	out, err := do(admin, kms.EncryptInput{KeyID: k.id, Plaintext: c.plaintext, Context: c.context})
	if m.expect(rt, err, want) {
		c.bytes, c.version = out.Ciphertext, k.versions
		if version(c.bytes) != uint32(c.version) {
			rt.Fatalf("version %d of %d encrypted", version(c.bytes), k.versions)
		}
		m.sealed = append(m.sealed, c)
	}
}

// opening returns the code of decrypting the ciphertext as it is, and what does it. A key that is gone is no key.
func (c *modelCiphertext) opening(m *model) (kms.Code, func(context.Context, kms.DecryptInput) (*kms.DecryptOutput, error)) {
	want, do := c.key.using(m.w.clock.Now()), m.w.Decrypt
	if c.key.gone {
		want = kms.CodeInvalidCiphertext
	}
	if c.isDataKey {
		do = m.w.DecryptDataKey
	}
	return want, do
}

// open decrypts a ciphertext of whatever version.
func (m *model) open(rt *rapid.T, c modelCiphertext) {
	want, do := c.opening(m)
	out, err := do(admin, kms.DecryptInput{Ciphertext: c.bytes, Context: c.context})
	if m.expect(rt, err, want) && !bytes.Equal(out.Plaintext, c.plaintext) {
		rt.Fatalf("decrypted %x, want %x", out.Plaintext, c.plaintext)
	}
}

func (m *model) decrypt(rt *rapid.T) {
	if len(m.sealed) == 0 {
		rt.Skip("no ciphertexts yet")
	}
	c := rapid.SampledFrom(m.sealed).Draw(rt, "ciphertext")
	in := kms.DecryptInput{Ciphertext: bytes.Clone(c.bytes), Context: c.context}
	want, do := c.opening(m)
	switch rapid.SampledFrom([]string{"", "flip", "purpose", "context", "key"}).Draw(rt, "fault") {
	case "flip":
		// Only what is behind the key id: a changed id may name no key, and that of a disabled key says so.
		at := rapid.IntRange(28, len(in.Ciphertext)-1).Draw(rt, "at")
		in.Ciphertext[at] ^= byte(rapid.IntRange(1, 255).Draw(rt, "by"))
		if want == "ok" || (at >= 36 && at < 112) {
			want = kms.CodeInvalidCiphertext
		}
	case "purpose":
		want = kms.CodeInvalidCiphertext
		do = m.w.DecryptDataKey
		if c.isDataKey {
			do = m.w.Decrypt
		}
	case "context":
		in.Context = maps.Clone(c.context)
		if in.Context == nil {
			in.Context = map[string]string{}
		}
		in.Context["z"] = "z"
		if want == "ok" {
			want = kms.CodeInvalidCiphertext
		}
	case "key":
		other := m.pick(rt)
		in.KeyID = &other.id
		if other != c.key {
			want = kms.CodeInvalidCiphertext
		}
	}
	out, err := do(admin, in)
	if m.expect(rt, err, want) && (!bytes.Equal(out.Plaintext, c.plaintext) || out.KeyID != c.key.id) {
		rt.Fatalf("decrypted %x, want %x", out.Plaintext, c.plaintext)
	}
}

func (m *model) sign(rt *rapid.T) {
	k := m.pick(rt)
	message := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(rt, "message")
	want := k.using(m.w.clock.Now())
	if want == "ok" {
		switch k.spec {
		case kms.AES256:
			want = isSymmetric
		case kms.HMAC256:
			want = isMAC
		}
	}
	in := kms.SignInput{KeyID: k.id, Algorithm: kms.ECDSASHA256, Message: message}
	out, err := m.w.Sign(admin, in)
	if !m.expect(rt, err, want) {
		return
	}
	valid, err := m.w.Verify(admin, kms.VerifyInput{
		KeyID: in.KeyID, Algorithm: in.Algorithm, Message: in.Message, Signature: out.Signature,
	})
	if m.expect(rt, err, "ok") && !valid {
		rt.Fatal("own signature is not valid")
	}
}

func (m *model) list(rt *rapid.T) {
	filter := kms.KeyFilter{
		Spec:  rapid.SampledFrom([]kms.KeySpec{"", kms.AES256, kms.ECP256}).Draw(rt, "spec"),
		State: rapid.SampledFrom([]kms.KeyState{"", kms.Enabled, kms.Disabled, kms.PendingImport, kms.PendingDeletion}).Draw(rt, "state"),
	}
	limit := rapid.IntRange(1, 3).Draw(rt, "limit")
	var want, got []kms.KeyID
	for _, k := range m.keys {
		if !k.gone && filter.Accepts(&kms.Key{Spec: k.spec, State: k.state}) {
			want = append(want, k.id)
		}
	}
	for offset := 0; ; {
		page, err := m.w.ListKeys(admin, kms.ListKeysInput{Spec: filter.Spec, State: filter.State, Offset: offset, Limit: limit})
		m.expect(rt, err, "ok")
		if page.Total != len(want) {
			rt.Fatalf("total %d, want %d", page.Total, len(want))
		}
		for _, k := range page.Keys {
			got = append(got, k.ID)
		}
		if offset = page.Next; offset == 0 {
			break
		}
	}
	if !slices.Equal(got, want) {
		rt.Fatalf("listed %v, want %v", got, want)
	}
}
