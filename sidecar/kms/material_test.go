package kms_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// ours and theirs are two materials of AES_256 keys.
var ours, theirs = bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{8}, 32)

func (w *world) external(t testing.TB, alias string, spec kms.KeySpec) kms.KeyID {
	t.Helper()
	return w.create(t, kms.CreateKeyInput{Alias: alias, Spec: spec, Origin: kms.OriginExternal}).ID
}

func (w *world) parameters(t testing.TB, id kms.KeyID, alg kms.WrappingAlgorithm) *kms.ImportParameters {
	t.Helper()
	p, err := w.GetImportParameters(admin, kms.ImportParametersInput{KeyID: id, Algorithm: alg, Repeat: true})
	wantCode(t, err, "ok")
	return p
}

// wrap encrypts material as openssl does for an importer.
func wrap(p *kms.ImportParameters, material []byte) []byte {
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		panic(err)
	}
	var block []byte
	switch p.Algorithm {
	case kms.WrapPKCS1:
		//lint:ignore SA1019 clouds offer it for import
		block, err = rsa.EncryptPKCS1v15(rand.Reader, public.(*rsa.PublicKey), material)
	case kms.WrapOAEPSHA1:
		block, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	default:
		block, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	}
	if err != nil {
		panic(err)
	}
	return block
}

// in wraps material under parameters.
func in(p *kms.ImportParameters, material []byte) kms.ImportInput {
	return kms.ImportInput{KeyID: p.KeyID, Token: p.Token, Material: wrap(p, material)}
}

// imports gets parameters and imports material.
func (w *world) imports(t testing.TB, id kms.KeyID, material []byte, expires time.Time) error {
	t.Helper()
	i := in(w.parameters(t, id, kms.WrapOAEPSHA256), material)
	i.ExpiresAt = expires
	_, err := w.ImportKeyMaterial(admin, i)
	return err
}

// TestImport follows an import under each algorithm that the HSM has: what the key is before and after, and what is on
// record.
func TestImport(t *testing.T) {
	for alg, warned := range map[kms.WrappingAlgorithm]bool{kms.WrapPKCS1: true, kms.WrapOAEPSHA1: true, kms.WrapOAEPSHA256: false} {
		w := newWorld(t, kms.Limits{})
		id := w.external(t, "key", kms.AES256)
		before := w.clock.Now()
		p := w.parameters(t, id, alg)
		life := p.ExpiresAt.Sub(before)
		if life > 24*time.Hour || life < 24*time.Hour-2*time.Second || (p.Warning != "") != warned || p.ExpiresAt.Nanosecond() != 0 {
			t.Errorf("%s: parameters for %s, warning %q", alg, life, p.Warning)
		}
		if n := base64.StdEncoding.EncodedLen(len(p.Token)); n < 200 || n > 6144 {
			t.Errorf("token has %d characters", n)
		}
		rec := w.audit.last(t)
		if rec.Target == "" || (rec.Warning != "") != warned || rec.KeyID != id.String() {
			t.Errorf("audited as %+v", rec)
		}
		key, err := w.ImportKeyMaterial(admin, in(p, ours))
		wantCode(t, err, "ok")
		v := key.Current()
		if key.State != kms.Enabled || len(key.Versions) != 1 || v.Number != 1 || v.OpenedIn != kms.ProtectionDriver ||
			len(key.CheckValue) != 32 || len(key.ShownCheckValue()) != 8 || !key.MaterialExpiresAt.IsZero() {
			t.Errorf("%s: imported, the key is %+v", alg, key)
		}
		if again := w.audit.last(t); again.Target != rec.Target || again.Version != 1 || again.OpenedIn != kms.ProtectionDriver || (again.Warning != "") != warned {
			t.Errorf("audited as %+v", again)
		}
		w.opens(t, w.encrypt(t, id))
		_, err = w.ImportKeyMaterial(admin, in(p, ours))
		wantCode(t, err, kms.CodeKeyNotPendingImport)
		_, err = w.EnableRotation(admin, id, 30)
		wantCode(t, err, isExternal)
	}
}

// TestImportOfPrivateKey imports an elliptic key, and refuses what has not the form of one before anything is opened.
func TestImportOfPrivateKey(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.ECP256)
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	der = append(der, make([]byte, 8-len(der)%8)...)
	i := in(w.parameters(t, id, kms.WrapOAEPSHA256), ours)
	for _, c := range []struct {
		private []byte
		want    kms.Code
	}{
		{nil, noPrivateKey}, {make([]byte, 16), badPrivateKey}, {der[1:], badPrivateKey},
		{make([]byte, 4104), badPrivateKey}, {make([]byte, 136), badMaterial}, {der, "ok"},
	} {
		i.PrivateKey = c.private
		if c.want == "ok" {
			i.CheckValue = make([]byte, 32)
			_, err := w.ImportKeyMaterial(admin, i)
			wantCode(t, err, kms.CodeKeyMaterialMismatch)
			public, _ := x509.MarshalPKIXPublicKey(&private.PublicKey)
			sum := sha256.Sum256(public)
			i.CheckValue = sum[:]
		}
		_, err := w.ImportKeyMaterial(admin, i)
		wantCode(t, err, c.want)
	}
	if w.hsm.imported != 3 {
		t.Errorf("the HSM was asked for %d imports, want 3", w.hsm.imported)
	}
	out, err := w.Sign(admin, kms.SignInput{KeyID: id, Algorithm: kms.ECDSASHA256, Message: []byte("m")})
	wantCode(t, err, "ok")
	digest := sha256.Sum256([]byte("m"))
	if !ecdsa.VerifyASN1(&private.PublicKey, digest[:], out.Signature) {
		t.Error("the signature is not the importer's")
	}
	_, err = w.DeleteImportedKeyMaterial(admin, id)
	wantCode(t, err, kms.CodeKeyMaterialPermanent)
	w.stored(t, id)

	whole := in(w.parameters(t, w.external(t, "whole", kms.ECP256), kms.WrapRSAAESSHA256), ours)
	_, err = w.ImportKeyMaterial(admin, whole)
	wantCode(t, err, noPrivateKey)
	whole.PrivateKey = der
	_, err = w.ImportKeyMaterial(admin, whole)
	wantCode(t, err, kms.CodeInvalidRequest)
	symmetric := in(w.parameters(t, w.external(t, "symmetric", kms.AES256), kms.WrapOAEPSHA256), ours)
	symmetric.PrivateKey = der
	_, err = w.ImportKeyMaterial(admin, symmetric)
	wantCode(t, err, kms.CodeInvalidRequest)
}

// TestImportRules holds which keys take part in imports, in which state.
func TestImportRules(t *testing.T) {
	states := []kms.KeyState{kms.Enabled, kms.Disabled, kms.PendingImport, kms.PendingDeletion, kms.Archived}
	for _, c := range []struct {
		spec             kms.KeySpec
		origin           kms.Origin
		takes, takeAgain string
		deletes          string
	}{
		{kms.AES256, kms.OriginExternal, "KeyNotPendingImport KeyNotPendingImport ok KeyNotPendingImport KeyNotPendingImport", "ok ok ok KeyNotPendingImport KeyNotPendingImport", "ok ok KeyMaterialMissing KeyMaterialMissing ok"},
		{kms.ECP256, kms.OriginExternal, "KeyNotPendingImport KeyNotPendingImport ok KeyNotPendingImport KeyNotPendingImport", "ok ok ok KeyNotPendingImport KeyNotPendingImport", "KeyMaterialPermanent KeyMaterialPermanent KeyMaterialMissing KeyMaterialMissing KeyMaterialPermanent"},
		{kms.HMAC256, kms.OriginExternal, "KeyNotPendingImport KeyNotPendingImport InvalidKeyUsage/mac KeyNotPendingImport KeyNotPendingImport", "InvalidKeyUsage/mac InvalidKeyUsage/mac InvalidKeyUsage/mac KeyNotPendingImport KeyNotPendingImport", "InvalidKeyUsage/mac InvalidKeyUsage/mac KeyMaterialMissing KeyMaterialMissing InvalidKeyUsage/mac"},
		{kms.AES256, kms.OriginKMS, "InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated", "InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated", "InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated InvalidOrigin/generated"},
	} {
		w := newWorld(t, kms.Limits{})
		id := w.create(t, kms.CreateKeyInput{Alias: "key", Spec: c.spec, Origin: c.origin}).ID
		for i, state := range states {
			t.Run(fmt.Sprint(c.spec, c.origin, state), func(t *testing.T) {
				takes, again, deletes := fields(c.takes)[i], fields(c.takeAgain)[i], fields(c.deletes)[i]
				p := kms.ImportParametersInput{KeyID: id, Algorithm: kms.WrapOAEPSHA256}
				token := kms.ImportInput{KeyID: id, Token: []byte("token")}
				refused := func(code kms.Code) kms.Code { // by the token, where the key takes part
					if code == "ok" {
						return badToken
					}
					return code
				}
				w.set(id, func(k *kms.Key) { k.State = state })
				_, err := w.GetImportParameters(admin, p)
				wantCode(t, err, takes)
				_, err = w.ImportKeyMaterial(admin, token)
				wantCode(t, err, refused(takes))
				p.Repeat, token.Repeat = true, true
				_, err = w.GetImportParameters(admin, p)
				wantCode(t, err, again)
				_, err = w.ImportKeyMaterial(admin, token)
				wantCode(t, err, refused(again))
				_, err = w.DeleteImportedKeyMaterial(admin, id)
				wantCode(t, err, deletes)
			})
		}
	}
	w := newWorld(t, kms.Limits{})
	id := w.defaultKey(t, "obs")
	_, err := w.GetImportParameters(admin, kms.ImportParametersInput{KeyID: id, Algorithm: kms.WrapOAEPSHA256})
	wantCode(t, err, kms.CodeServiceKey)
	external := w.external(t, "key", kms.AES256)
	for _, c := range []struct {
		alg  kms.WrappingAlgorithm
		spec kms.KeySpec
		want kms.Code
	}{
		{"SM2_ENCRYPT", "", kms.CodeInvalidRequest}, {"", "", kms.CodeInvalidRequest}, {kms.WrapRSAAESSHA1, "", kms.CodeUnsupported},
		{kms.WrapOAEPSHA256, kms.RSA3072, kms.CodeUnsupported}, {kms.WrapOAEPSHA256, kms.AES256, "InvalidRequest/wrapping_key_spec/unknown"},
		{kms.WrapOAEPSHA256, kms.RSA2048, "ok"},
	} {
		_, err := w.GetImportParameters(admin, kms.ImportParametersInput{KeyID: external, Algorithm: c.alg, WrappingSpec: c.spec})
		wantCode(t, err, c.want)
	}
}

func fields(codes string) (out []kms.Code) {
	for _, f := range bytes.Fields([]byte(codes)) {
		out = append(out, kms.Code(f))
	}
	return out
}

// TestTheSameMaterialForEver holds that a key takes no other material than its first, and opens with that what it ever
// encrypted: through deletion, through expiry, and while it is there.
func TestTheSameMaterialForEver(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.AES256)
	wantCode(t, w.imports(t, id, ours, time.Time{}), "ok")
	check := w.stored(t, id).CheckValue
	ciphertext := w.encrypt(t, id)
	gone := func() {
		t.Helper()
		key := w.stored(t, id)
		if key.State != kms.PendingImport || len(key.Versions) != 0 || !key.MaterialExpiresAt.IsZero() || !bytes.Equal(key.CheckValue, check) {
			t.Fatalf("without its material, the key is %+v", key)
		}
		_, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: ciphertext})
		wantCode(t, err, kms.CodeKeyPendingImport)
		_, err = w.Encrypt(admin, kms.EncryptInput{KeyID: id, Plaintext: []byte("x")})
		wantCode(t, err, kms.CodeKeyPendingImport)
		wantCode(t, w.imports(t, id, theirs, time.Time{}), kms.CodeKeyMaterialMismatch)
	}
	_, err := w.DeleteImportedKeyMaterial(admin, id)
	wantCode(t, err, "ok")
	if d := w.hsm.destroyed; len(d) != 1 || d[0].ID != id {
		t.Errorf("the HSM was told to forget %+v", d)
	}
	w.wantOutcomes(t, policy.OpDeleteMaterial, "begun", "ok")
	gone()
	w.Service = w.restart(t, kms.Limits{})
	gone()
	expires := w.clock.Now().Add(time.Hour)
	wantCode(t, w.imports(t, id, ours, expires), "ok")
	w.opens(t, ciphertext)
	if key := w.stored(t, id); !key.MaterialExpiresAt.Equal(expires.Truncate(time.Millisecond)) {
		t.Errorf("expires at %s, want %s", key.MaterialExpiresAt, expires)
	}
	w.clock.advance(time.Hour)
	_, err = w.Decrypt(admin, kms.DecryptInput{Ciphertext: ciphertext})
	wantCode(t, err, kms.CodeKeyPendingImport) // before any check
	_, err = w.Encrypt(admin, kms.EncryptInput{KeyID: id, Plaintext: []byte("x")})
	wantCode(t, err, kms.CodeKeyPendingImport)
	w.RunDue(admin)
	w.wantOutcomes(t, policy.OpExpireMaterial, "begun", "ok")
	gone()
	wantCode(t, w.imports(t, id, ours, time.Time{}), "ok")
	w.opens(t, ciphertext)

	i := in(w.parameters(t, id, kms.WrapOAEPSHA256), ours)
	i.ExpiresAt, i.Repeat = w.clock.Now().Add(time.Hour), true
	was := w.stored(t, id)
	for _, state := range []kms.KeyState{kms.Enabled, kms.Disabled} {
		w.set(id, func(k *kms.Key) { k.State = state })
		key, err := w.ImportKeyMaterial(admin, i)
		wantCode(t, err, "ok")
		if key.State != state || key.MaterialExpiresAt.IsZero() || !bytes.Equal(key.Current().Sealed, was.Current().Sealed) {
			t.Errorf("imported again, the key is %+v", key)
		}
	}
	i = in(w.parameters(t, id, kms.WrapOAEPSHA256), theirs)
	i.Repeat = true
	_, err = w.ImportKeyMaterial(admin, i)
	wantCode(t, err, kms.CodeKeyMaterialMismatch)
}

// TestExpiry holds when material can expire, in which states, and what else is due meanwhile.
func TestExpiry(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.AES256)
	for _, late := range []time.Duration{-time.Hour, 0} {
		wantCode(t, w.imports(t, id, ours, w.clock.Now().Add(late)), expiryPast)
	}
	if key := w.stored(t, id); key.State != kms.PendingImport || key.CheckValue != nil {
		t.Errorf("refused, the key is %+v", key)
	}
	wantCode(t, w.imports(t, id, theirs, w.clock.Now().Add(time.Hour)), "ok") // nothing was bound
	disabled, doomed := w.external(t, "disabled", kms.AES256), w.external(t, "doomed", kms.ECP256)
	wantCode(t, w.imports(t, disabled, ours, w.clock.Now().Add(time.Hour)), "ok")
	_, err := w.DisableKey(admin, disabled)
	wantCode(t, err, "ok")
	w.set(doomed, func(k *kms.Key) {
		k.Versions = []kms.KeyVersion{{Number: 1, Sealed: []byte("x"), Protection: kms.ProtectionHSM}}
		k.State, k.DeletionAt = kms.PendingDeletion, w.clock.Now().Add(day(7)).Truncate(time.Millisecond)
		k.MaterialExpiresAt = w.clock.Now().Add(time.Hour).Truncate(time.Millisecond)
	})
	w.clock.advance(2 * time.Hour)
	next := w.RunDue(admin)
	for alias, want := range map[string]kms.KeyState{"key": kms.PendingImport, "disabled": kms.PendingImport, "doomed": kms.PendingDeletion} {
		found, err := w.store.Named(admin, alias)
		wantCode(t, err, "ok")
		if key := w.stored(t, found); key.State != want || len(key.Versions) != 0 {
			t.Errorf("%s is %s with %d versions", alias, key.State, len(key.Versions))
		}
	}
	if in := next.Sub(w.clock.Now()); in < 21*time.Hour || in > 22*time.Hour {
		t.Errorf("something is due in %s, want the end of the first wrapping key", in)
	}
	key, err := w.CancelKeyDeletion(admin, doomed)
	wantCode(t, err, "ok")
	if key.State != kms.PendingImport {
		t.Errorf("taken back without material, the key is %s", key.State)
	}
}

// TestNoAuditNoLoss holds that no material is destroyed that is not on record before, and that expiry is made up for later.
func TestNoAuditNoLoss(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.AES256)
	wantCode(t, w.imports(t, id, ours, w.clock.Now().Add(time.Hour)), "ok")
	w.audit.down = errors.New("disk full")
	_, err := w.DeleteImportedKeyMaterial(admin, id)
	wantCode(t, err, kms.CodeInternal)
	w.clock.advance(time.Hour)
	w.RunDue(admin)
	if key := w.stored(t, id); len(key.Versions) != 1 {
		t.Error("the material is gone")
	}
	w.audit.down = nil
	w.clock.advance(time.Second)
	w.RunDue(admin)
	if key := w.stored(t, id); len(key.Versions) != 0 {
		t.Error("the material is still there")
	}
}

// TestExpiryPutOff holds that material that was imported anew in the last moment stays.
func TestExpiryPutOff(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.AES256)
	wantCode(t, w.imports(t, id, ours, w.clock.Now().Add(time.Hour)), "ok")
	w.clock.advance(time.Hour)
	w.store.beforeUpdate = func() {
		w.store.beforeUpdate = nil
		w.set(id, func(k *kms.Key) { k.MaterialExpiresAt = time.Time{} })
	}
	w.RunDue(admin)
	if key := w.stored(t, id); len(key.Versions) != 1 || key.State != kms.Enabled {
		t.Errorf("key is %+v", key)
	}
}

// TestClientsCheckValue holds that a check value that the client sends is compared before anything binds.
func TestClientsCheckValue(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.AES256)
	wantCode(t, w.imports(t, id, ours, time.Time{}), "ok")
	shown := w.stored(t, id).ShownCheckValue()
	i := in(w.parameters(t, w.external(t, "other", kms.AES256), kms.WrapOAEPSHA256), theirs)
	for _, c := range []struct {
		value []byte
		want  kms.Code
	}{
		{shown[:7], kms.CodeInvalidRequest}, {make([]byte, 32), kms.CodeInvalidRequest}, {make([]byte, 43), kms.CodeInvalidRequest},
		{shown, kms.CodeKeyMaterialMismatch}, {make([]byte, 44), kms.CodeKeyMaterialMismatch}, {proof(i.KeyID, ours), kms.CodeKeyMaterialMismatch},
	} {
		i.CheckValue = c.value
		_, err := w.ImportKeyMaterial(admin, i)
		wantCode(t, err, c.want)
	}
	if key := w.stored(t, i.KeyID); key.CheckValue != nil || key.State != kms.PendingImport {
		t.Errorf("the key is %+v", key)
	}
	if d := w.hsm.destroyed; len(d) != 2 || d[0].ID != i.KeyID || len(d[0].Sealed) == 0 {
		t.Errorf("the HSM was told to forget %+v", d)
	}
	i.CheckValue = proof(i.KeyID, theirs)
	_, err := w.ImportKeyMaterial(admin, i)
	wantCode(t, err, "ok")
	i = in(w.parameters(t, w.external(t, "third", kms.AES256), kms.WrapOAEPSHA256), ours)
	i.CheckValue = shown
	_, err = w.ImportKeyMaterial(admin, i)
	wantCode(t, err, "ok")
}

// proof is what a client says of material that is to be imported into a key, for what the fake HSM makes of it.
func proof(id kms.KeyID, material []byte) []byte {
	check := sha256.Sum256(append([]byte("check"), material...))
	ref := kms.KeyRef{ID: id, Version: 1, Spec: kms.AES256, Usage: kms.EncryptDecrypt}
	ref.Sealed = append(identity(ref), hex.EncodeToString(check[:])...)
	iv, sealed, err := newHSM().Encrypt(context.Background(), ref, make([]byte, 16), []byte(kms.ProofLabel))
	if err != nil {
		panic(err)
	}
	return append(iv, sealed...)
}
