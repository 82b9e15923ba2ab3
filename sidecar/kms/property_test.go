package kms_test

import (
	"bytes"
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

// model is what the service should know, in the simplest form.
type model struct {
	w       *world
	keys    []*modelKey
	sealed  []modelCiphertext
	done    int // operations so far, each of which has one audit record
	aliases map[string]bool
}

type modelKey struct {
	id    kms.KeyID
	spec  kms.KeySpec
	state kms.KeyState
}

type modelCiphertext struct {
	key       *modelKey
	bytes     []byte
	plaintext []byte
	context   map[string]string
	isDataKey bool
}

const modelQuota = 5

// TestServiceAgainstModel runs random operations and compares each answer with the model's.
func TestServiceAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, kms.Limits{Keys: modelQuota})
		checkModel(rt, w, func() { w.Service = w.restart(t, kms.Limits{Keys: modelQuota}) })
	})
}

// TestServiceOnDiskAgainstModel does the same on the real store, and a restart opens the database anew, which takes so
// many syncs that it is done a fifth as often.
func TestServiceOnDiskAgainstModel(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	all := checks.String()
	n, err := strconv.Atoi(all)
	if err != nil {
		t.Fatal(err)
	}
	checks.Set(strconv.Itoa(max(1, n/5)))
	defer checks.Set(all)
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "db")
		if err != nil {
			rt.Fatal(err)
		}
		w := &world{hsm: newHSM(), audit: new(fakeAudit)}
		var db *store.Store
		reopen := func() {
			if db != nil {
				if err := errors.Join(w.Close(admin), db.Close()); err != nil {
					rt.Fatal(err)
				}
			}
			if db, err = store.Open(store.Options{Dir: dir, Tenant: "test"}); err != nil {
				rt.Fatal(err)
			}
			w.Service, err = kms.New(kms.Config{
				Store: db, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Limits: kms.Limits{Keys: modelQuota},
			})
			if err != nil {
				rt.Fatal(err)
			}
		}
		reopen()
		defer func() { db.Close() }()
		checkModel(rt, w, reopen)
	})
}

func checkModel(rt *rapid.T, w *world, restart func()) {
	m := &model{w: w, aliases: make(map[string]bool)}
	rt.Repeat(map[string]func(*rapid.T){
		"create":  m.create,
		"enable":  func(rt *rapid.T) { m.setState(rt, true) },
		"disable": func(rt *rapid.T) { m.setState(rt, false) },
		"encrypt": m.encrypt,
		"decrypt": m.decrypt,
		"sign":    m.sign,
		"list":    m.list,
		"restart": func(*rapid.T) { restart() },
		"": func(rt *rapid.T) {
			if got := len(m.w.audit.records); got != m.done {
				rt.Fatalf("%d audit records of %d operations", got, m.done)
			}
		},
	})
}

// expect compares the code of an answer with the model's.
func (m *model) expect(rt *rapid.T, err error, want kms.Code) bool {
	m.done++
	if got := codeOf(err); got != want {
		rt.Fatalf("%v, want %s", err, want)
	}
	if rec := m.w.audit.records[len(m.w.audit.records)-1]; rec.Outcome != string(want) {
		rt.Fatalf("audited as %s, want %s", rec.Outcome, want)
	}
	return want == "ok"
}

func (m *model) create(rt *rapid.T) {
	in := kms.CreateKeyInput{
		Alias:  rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "bad alias", "x/default"}).Draw(rt, "alias"),
		Spec:   rapid.SampledFrom([]kms.KeySpec{kms.AES256, kms.AES256, kms.AES256, kms.ECP256, kms.HMAC256, kms.SM2}).Draw(rt, "spec"),
		Origin: rapid.SampledFrom([]kms.Origin{kms.OriginKMS, kms.OriginKMS, kms.OriginKMS, kms.OriginExternal}).Draw(rt, "origin"),
	}
	want := kms.Code("ok")
	switch {
	case in.Alias == "bad alias" || in.Alias == "x/default":
		want = kms.CodeInvalidAlias
	case in.Spec == kms.SM2:
		want = kms.CodeUnsupportedSpec
	case len(m.keys) >= modelQuota:
		want = kms.CodeQuotaExceeded
	case m.aliases[in.Alias]:
		want = kms.CodeAliasExists
	}
	key, err := m.w.CreateKey(admin, in)
	if m.expect(rt, err, want) {
		state := kms.Enabled
		if in.Origin == kms.OriginExternal {
			state = kms.PendingImport
		}
		m.aliases[in.Alias] = true
		m.keys = append(m.keys, &modelKey{key.ID, in.Spec, state})
	}
}

// pick draws a key, or ends the action where there is none.
func (m *model) pick(rt *rapid.T) *modelKey {
	if len(m.keys) == 0 {
		rt.Skip("no keys yet")
	}
	return rapid.SampledFrom(m.keys).Draw(rt, "key")
}

func (m *model) setState(rt *rapid.T, enable bool) {
	k := m.pick(rt)
	do, from, to, otherwise := m.w.DisableKey, kms.Enabled, kms.Disabled, kms.CodeNotEnabled
	if enable {
		do, from, to, otherwise = m.w.EnableKey, kms.Disabled, kms.Enabled, kms.CodeNotDisabled
	}
	want := kms.Code("ok")
	if k.state != from {
		want = otherwise
	}
	key, err := do(admin, k.id)
	if m.expect(rt, err, want) {
		k.state = to
		if key.State != to {
			rt.Fatalf("answer has state %s, want %s", key.State, to)
		}
	}
}

// using is the code of using a key of this state, "ok" where it may be used.
func (k *modelKey) using() kms.Code {
	switch k.state {
	case kms.Disabled:
		return kms.CodeKeyDisabled
	case kms.PendingImport:
		return kms.CodeKeyPendingImport
	}
	return "ok"
}

func (m *model) encrypt(rt *rapid.T) {
	k := m.pick(rt)
	c := modelCiphertext{
		key:       k,
		plaintext: rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(rt, "plaintext"),
		context:   rapid.MapOfN(rapid.StringMatching("[a-c]"), rapid.StringMatching("[a-c]?"), 0, 2).Draw(rt, "context"),
		isDataKey: rapid.Bool().Draw(rt, "data key"),
	}
	want := k.using()
	if want == "ok" && k.spec != kms.AES256 {
		switch {
		case k.spec == kms.HMAC256:
			want = kms.CodeMACKey
		case c.isDataKey:
			want = kms.CodeAsymmetricKey
		default:
			want = kms.CodeUsageIsSign
		}
	}
	do := m.w.Encrypt
	if c.isDataKey {
		do = m.w.EncryptDataKey
	}
	out, err := do(admin, kms.EncryptInput{KeyID: k.id, Plaintext: c.plaintext, Context: c.context})
	if m.expect(rt, err, want) {
		c.bytes = out.Ciphertext
		m.sealed = append(m.sealed, c)
	}
}

func (m *model) decrypt(rt *rapid.T) {
	if len(m.sealed) == 0 {
		rt.Skip("no ciphertexts yet")
	}
	c := rapid.SampledFrom(m.sealed).Draw(rt, "ciphertext")
	in := kms.DecryptInput{Ciphertext: bytes.Clone(c.bytes), Context: c.context}
	want := c.key.using()
	do := m.w.Decrypt
	if c.isDataKey {
		do = m.w.DecryptDataKey
	}
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
	want := k.using()
	if want == "ok" {
		switch k.spec {
		case kms.AES256:
			want = kms.CodeSymmetricKey
		case kms.HMAC256:
			want = kms.CodeMACKey
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
		State: rapid.SampledFrom([]kms.KeyState{"", kms.Enabled, kms.Disabled, kms.PendingImport}).Draw(rt, "state"),
	}
	limit := rapid.IntRange(1, 3).Draw(rt, "limit")
	var want, got []kms.KeyID
	for _, k := range m.keys {
		if filter.Accepts(&kms.Key{Spec: k.spec, State: k.state}) {
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
