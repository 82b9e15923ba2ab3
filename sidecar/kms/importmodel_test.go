package kms_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/sidecar/kms"
)

// modelToken is a token that was given out.
type modelToken struct {
	key   *modelKey
	p     *kms.ImportParameters
	ended bool // by a later one
}

// privateKeys are two elliptic keys as the fake HSM takes them.
var privateKeys = sync.OnceValue(func() (keys [2][]byte) {
	for i := range keys {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		keys[i] = append(der, make([]byte, 8-len(der)%8)...)
	}
	return keys
})

// importable is the code of an operation on a key that is to get material.
func (k *modelKey) importable(repeat bool) kms.Code {
	there := k.state == kms.Enabled || k.state == kms.Disabled
	return first(k.own(), unless(k.external, isGenerated),
		unless(k.state == kms.PendingImport || repeat && there, kms.CodeKeyNotPendingImport), unless(k.spec != kms.HMAC256, isMAC))
}

func (m *model) parameters(rt *rapid.T) { m.parametersFor(rt, m.pick(rt)) }

func (m *model) parametersFor(rt *rapid.T, k *modelKey) {
	in := kms.ImportParametersInput{
		KeyID: k.id, Algorithm: rapid.SampledFrom([]kms.WrappingAlgorithm{kms.WrapOAEPSHA256, kms.WrapOAEPSHA1, kms.WrapPKCS1}).Draw(rt, "algorithm"),
		OnlyLast: rapid.Bool().Draw(rt, "only last"), Repeat: rapid.Bool().Draw(rt, "repeat"),
	}
	p, err := m.w.GetImportParameters(admin, in)
	if !m.expect(rt, err, k.importable(in.Repeat)) {
		return
	}
	for _, t := range m.tokens {
		t.ended = t.ended || in.OnlyLast && t.key == k
	}
	m.tokens = append(m.tokens, &modelToken{key: k, p: p})
}

// importAgain gets parameters for an external key, whatever it has, and imports something.
func (m *model) importAgain(rt *rapid.T) {
	keys := slices.DeleteFunc(slices.Clone(m.keys), func(k *modelKey) bool { return k.gone || !k.external })
	if len(keys) == 0 {
		rt.Skip("no external keys yet")
	}
	m.parametersFor(rt, rapid.SampledFrom(keys).Draw(rt, "key"))
	m.importMaterial(rt)
}

func (m *model) importMaterial(rt *rapid.T) {
	if len(m.tokens) == 0 {
		rt.Skip("no tokens yet")
	}
	t := m.tokens[len(m.tokens)-1]
	if rapid.IntRange(0, 3).Draw(rt, "older") == 0 {
		t = rapid.SampledFrom(m.tokens).Draw(rt, "token")
	}
	k := t.key
	if rapid.IntRange(0, 9).Draw(rt, "stray") == 0 {
		k = m.pick(rt)
	}
	which := rapid.SampledFrom([]int{1, 1, 1, 2, 0}).Draw(rt, "material") // 0: what does not open
	days := rapid.SampledFrom([]int{0, 0, -1, 1, 25, 200}).Draw(rt, "expires in days")
	in := kms.ImportInput{KeyID: k.id, Token: t.p.Token, Material: wrap(t.p, ours), Repeat: rapid.Bool().Draw(rt, "repeat")}
	if days != 0 {
		in.ExpiresAt = m.w.clock.Now().Add(day(days))
	}
	switch {
	case which == 0:
		in.Material = wrap(t.p, ours[1:])
	case k.spec == kms.AES256 && which == 2:
		in.Material = wrap(t.p, theirs)
	}
	if k.spec == kms.ECP256 {
		in.PrivateKey = privateKeys()[max(0, which-1)]
	}
	_, err := m.w.ImportKeyMaterial(admin, in)
	if !m.expect(rt, err, first(k.importable(in.Repeat), unless(m.w.clock.Now().Before(t.p.ExpiresAt), kms.CodeImportTokenExpired),
		unless(k == t.key, otherToken), unless(!t.ended, kms.CodeImportTokenExpired), unless(which != 0, badMaterial),
		unless(days >= 0, expiryPast), unless(k.material == 0 || k.material == which, kms.CodeKeyMaterialMismatch))) {
		m.w.clock.advance(time.Minute) // so that the key has its tries again
		return
	}
	if k.versions == 0 {
		k.state = kms.Enabled
	}
	k.material, k.versions, k.expires = which, 1, in.ExpiresAt.Truncate(time.Millisecond)
}

func (m *model) deleteMaterial(rt *rapid.T) {
	k := m.pick(rt)
	_, err := m.w.DeleteImportedKeyMaterial(admin, k.id)
	if m.expect(rt, err, first(k.own(), unless(k.external, isGenerated),
		unless(k.state == kms.Enabled || k.state == kms.Disabled, kms.CodeKeyMaterialMissing), unless(k.spec != kms.HMAC256, isMAC),
		unless(k.spec == kms.AES256, kms.CodeKeyMaterialPermanent))) {
		m.done++ // that it would be, too
		k.lose()
	}
}

// lose takes a key's material away.
func (k *modelKey) lose() {
	k.versions, k.expires = 0, time.Time{}
	if k.state != kms.PendingDeletion {
		k.state = kms.PendingImport
	}
}

// expired reports whether the material's time is over.
func (k *modelKey) expired(now time.Time) bool { return !k.expires.IsZero() && !k.expires.After(now) }

// pairs reports whether there may be wrapping keys that end one day.
func (m *model) pairs() bool { return len(m.tokens) > 0 }
