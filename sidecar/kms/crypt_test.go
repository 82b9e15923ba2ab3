package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestCreateKey holds what a new key is and which ones are refused.
func TestCreateKey(t *testing.T) {
	long := strings.Repeat("a", 256)
	for name, c := range map[string]struct {
		in   kms.CreateKeyInput
		want kms.Code
	}{
		"defaults":              {kms.CreateKeyInput{Alias: "a"}, "ok"},
		"all characters":        {kms.CreateKeyInput{Alias: "aZ09:/_-"}, "ok"},
		"rsa":                   {kms.CreateKeyInput{Alias: "a", Spec: kms.RSA2048}, "ok"},
		"external":              {kms.CreateKeyInput{Alias: "a", Origin: kms.OriginExternal}, "ok"},
		"longest":               {kms.CreateKeyInput{Alias: long[1:], Description: strings.Repeat("ü", 255)}, "ok"},
		"no alias":              {kms.CreateKeyInput{}, invalidAlias},
		"alias too long":        {kms.CreateKeyInput{Alias: long}, invalidAlias},
		"alias with space":      {kms.CreateKeyInput{Alias: "a b"}, invalidAlias},
		"alias with line end":   {kms.CreateKeyInput{Alias: "a\n"}, invalidAlias},
		"default key":           {kms.CreateKeyInput{Alias: "obs/default"}, invalidAlias},
		"default key in caps":   {kms.CreateKeyInput{Alias: "obs/DEFAULT"}, invalidAlias},
		"description too long":  {kms.CreateKeyInput{Alias: "a", Description: strings.Repeat("ü", 256)}, invalidDescription},
		"description no text":   {kms.CreateKeyInput{Alias: "a", Description: "\xff"}, invalidDescription},
		"unknown spec":          {kms.CreateKeyInput{Alias: "a", Spec: "DES"}, invalidSpec},
		"known but unsupported": {kms.CreateKeyInput{Alias: "a", Spec: kms.SM4}, kms.CodeUnsupported},
		"HSM cannot":            {kms.CreateKeyInput{Alias: "a", Spec: kms.AES192}, kms.CodeUnsupported},
		"usage of another spec": {kms.CreateKeyInput{Alias: "a", Spec: kms.ECP256, Usage: kms.EncryptDecrypt}, invalidUsage},
		"unknown usage":         {kms.CreateKeyInput{Alias: "a", Usage: "WRAP"}, invalidUsage},
		"unknown origin":        {kms.CreateKeyInput{Alias: "a", Origin: "heaven"}, kms.CodeInvalidRequest},
		"alias taken":           {kms.CreateKeyInput{Alias: "taken"}, kms.CodeAlreadyExists},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, kms.Limits{})
			w.create(t, kms.CreateKeyInput{Alias: "taken"})
			key, err := w.CreateKey(admin, c.in)
			wantCode(t, err, c.want)
			if err != nil {
				return
			}
			state, versions := kms.Enabled, 1
			if c.in.Origin == kms.OriginExternal {
				state, versions = kms.PendingImport, 0
			}
			if key.State != state || len(key.Versions) != versions || key.CreatedAt.IsZero() || key.ID == uuid.Nil {
				t.Errorf("new key is %+v", key)
			}
			if rec := w.audit.last(t); rec.KeyID != key.ID.String() {
				t.Errorf("audited as %+v", rec)
			}
		})
	}
	w := newWorld(t, kms.Limits{Keys: 1})
	w.create(t, kms.CreateKeyInput{Alias: "only"})
	_, err := w.CreateKey(admin, kms.CreateKeyInput{Alias: "more"})
	wantCode(t, err, kms.CodeQuotaExceeded)
	_, err = w.CreateKey(admin, kms.CreateKeyInput{Alias: "m", Spec: kms.AES192})
	if !strings.Contains(err.Error(), "CKM_AES_KEY_GEN") {
		t.Errorf("the missing capability is not named: %v", err)
	}
}

// TestListKeys holds pages, filters and their limits.
func TestListKeys(t *testing.T) {
	w := newWorld(t, kms.Limits{Page: 3})
	var ids []kms.KeyID
	for i := range 5 {
		spec := kms.AES256
		if i == 2 {
			spec = kms.ECP256
		}
		ids = append(ids, w.create(t, kms.CreateKeyInput{Alias: string(rune('a' + i)), Spec: spec}).ID)
	}
	_, err := w.DisableKey(admin, ids[4])
	wantCode(t, err, "ok")
	for name, c := range map[string]struct {
		in          kms.ListKeysInput
		want        []int
		total, next int
	}{
		"first page":    {kms.ListKeysInput{}, []int{0, 1, 2}, 5, 3},
		"last page":     {kms.ListKeysInput{Offset: 3}, []int{3, 4}, 5, 0},
		"exactly last":  {kms.ListKeysInput{Offset: 2, Limit: 3}, []int{2, 3, 4}, 5, 0},
		"past the end":  {kms.ListKeysInput{Offset: 9}, nil, 5, 0},
		"spec":          {kms.ListKeysInput{Spec: kms.AES256, Limit: 2, Offset: 1}, []int{1, 3}, 4, 3},
		"state":         {kms.ListKeysInput{State: kms.Disabled}, []int{4}, 1, 0},
		"spec no key":   {kms.ListKeysInput{Spec: kms.RSA4096}, nil, 0, 0},
		"both, nothing": {kms.ListKeysInput{Spec: kms.ECP256, State: kms.Disabled}, nil, 0, 0},
	} {
		page, err := w.ListKeys(admin, c.in)
		wantCode(t, err, "ok")
		if len(page.Keys) != len(c.want) || page.Total != c.total || page.Next != c.next {
			t.Errorf("%s: %d keys, total %d, next %d", name, len(page.Keys), page.Total, page.Next)
			continue
		}
		for i, n := range c.want {
			if page.Keys[i].ID != ids[n] {
				t.Errorf("%s: key %d is not %d", name, i, n)
			}
		}
	}
	_, err = w.ListKeys(admin, kms.ListKeysInput{Limit: 4})
	wantCode(t, err, invalidLimit)
	_, err = w.ListKeys(admin, kms.ListKeysInput{Limit: -1})
	wantCode(t, err, invalidLimit)
	_, err = w.ListKeys(admin, kms.ListKeysInput{Offset: -1})
	wantCode(t, err, invalidMarker)
}

// TestUnknownKey holds what an administrator is told of a key that does not exist.
func TestUnknownKey(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	data, dataKey := w.ciphertexts(t, key)
	unknown := &kms.Key{ID: uuid.New()}
	copy(data[8:24], unknown.ID[:])
	copy(dataKey[8:24], unknown.ID[:])
	for op, do := range w.operations(unknown, data, dataKey) {
		want := kms.CodeNotFound
		if strings.HasPrefix(string(op), "decrypt") || op == policy.OpReEncrypt {
			want = kms.CodeInvalidCiphertext
		}
		wantCode(t, do(admin), want)
	}
}

// TestEncryptDecrypt holds what a ciphertext is bound to.
func TestEncryptDecrypt(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, other := w.create(t, kms.CreateKeyInput{Alias: "key"}), w.create(t, kms.CreateKeyInput{Alias: "other"})
	bound := map[string]string{"app": "billing", "env": "prod"}
	plaintext := bytes.Repeat([]byte("x"), 4096)
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: plaintext, Context: bound, AAD: []byte("aad")})
	wantCode(t, err, "ok")
	if len(out.Ciphertext) != len(plaintext)+140 || kms.CiphertextOverhead != 140 {
		t.Errorf("ciphertext has %d bytes more than its plaintext, want 140", len(out.Ciphertext)-len(plaintext))
	}
	good := kms.DecryptInput{Ciphertext: out.Ciphertext, Context: bound, AAD: []byte("aad")}
	for name, c := range map[string]struct {
		change func(*kms.DecryptInput)
		want   kms.Code
	}{
		"as it was":       {func(*kms.DecryptInput) {}, "ok"},
		"key named":       {func(in *kms.DecryptInput) { in.KeyID = &key.ID }, "ok"},
		"other key named": {func(in *kms.DecryptInput) { in.KeyID = &other.ID }, kms.CodeInvalidCiphertext},
		"no context":      {func(in *kms.DecryptInput) { in.Context = nil }, kms.CodeInvalidCiphertext},
		"less context":    {func(in *kms.DecryptInput) { in.Context = map[string]string{"app": "billing"} }, kms.CodeInvalidCiphertext},
		"context joined": {func(in *kms.DecryptInput) {
			in.Context = map[string]string{"app": "billingenv", "prod": ""}
		}, kms.CodeInvalidCiphertext},
		"no aad":         {func(in *kms.DecryptInput) { in.AAD = nil }, kms.CodeInvalidCiphertext},
		"other aad":      {func(in *kms.DecryptInput) { in.AAD = []byte("aae") }, kms.CodeInvalidCiphertext},
		"aad too long":   {func(in *kms.DecryptInput) { in.AAD = make([]byte, 129) }, kms.CodeInvalidRequest},
		"empty":          {func(in *kms.DecryptInput) { in.Ciphertext = nil }, kms.CodeInvalidCiphertext},
		"cut":            {func(in *kms.DecryptInput) { in.Ciphertext = in.Ciphertext[:140] }, kms.CodeInvalidCiphertext},
		"one byte short": {func(in *kms.DecryptInput) { in.Ciphertext = in.Ciphertext[:len(in.Ciphertext)-1] }, kms.CodeInvalidCiphertext},
		"too long":       {func(in *kms.DecryptInput) { in.Ciphertext = append(bytes.Clone(in.Ciphertext), 0) }, kms.CodeInvalidCiphertext},
		"other key in header": {func(in *kms.DecryptInput) {
			in.Ciphertext = bytes.Clone(in.Ciphertext)
			copy(in.Ciphertext[8:], other.ID[:])
		}, kms.CodeInvalidCiphertext},
		"other version in header": {func(in *kms.DecryptInput) {
			in.Ciphertext = bytes.Clone(in.Ciphertext)
			in.Ciphertext[27] = 2
		}, kms.CodeInvalidCiphertext},
	} {
		in := good
		c.change(&in)
		opened, err := w.Decrypt(admin, in)
		if !is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if err == nil && (!bytes.Equal(opened.Plaintext, plaintext) || opened.KeyID != key.ID) {
			t.Errorf("%s: wrong answer", name)
		}
		if err != nil && opened != nil {
			t.Errorf("%s: an answer beside the error", name)
		}
	}
	_, err = w.DecryptDataKey(admin, good)
	wantCode(t, err, kms.CodeInvalidCiphertext) // a right to open data keys opens no data
}

// TestLongCiphertext holds that what is longer than the limit is not handed to the HSM.
func TestLongCiphertext(t *testing.T) {
	w := newWorld(t, kms.Limits{Data: 5000})
	key := w.create(t, kms.CreateKeyInput{})
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: make([]byte, 5000)})
	wantCode(t, err, "ok")
	for limit, want := range map[int]kms.Code{5000: "ok", 4999: kms.CodeInvalidCiphertext} {
		_, err := w.restart(t, kms.Limits{Data: limit}).Decrypt(admin, kms.DecryptInput{Ciphertext: out.Ciphertext})
		wantCode(t, err, want)
	}
}

// TestEveryBitCounts holds that a ciphertext with any one bit changed is refused.
func TestEveryBitCounts(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("plain")})
	wantCode(t, err, "ok")
	for i := range out.Ciphertext {
		for bit := range 8 {
			c := bytes.Clone(out.Ciphertext)
			c[i] ^= 1 << bit
			if _, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: c}); !is(err, kms.CodeInvalidCiphertext) {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, err)
			}
		}
	}
}

// TestInputLimits holds the limits of what is encrypted, signed and asked for.
func TestInputLimits(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	ec := w.create(t, kms.CreateKeyInput{Spec: kms.ECP256})
	encrypt := func(n int) error {
		_, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: make([]byte, n)})
		return err
	}
	encryptDataKey := func(n int) error {
		_, err := w.EncryptDataKey(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: make([]byte, n)})
		return err
	}
	dataKey := func(n int) error {
		_, err := w.GenerateDataKey(admin, kms.DataKeyInput{KeyID: key.ID, Bytes: n})
		return err
	}
	random := func(n int) error { _, err := w.Random(admin, n); return err }
	aad := func(n int) error {
		_, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x"), AAD: make([]byte, n)})
		return err
	}
	bound := func(name, value string) error {
		_, err := w.Encrypt(admin, kms.EncryptInput{
			KeyID: key.ID, Plaintext: []byte("x"), Context: map[string]string{name: value},
		})
		return err
	}
	sign := func(n int) error {
		_, err := w.Sign(admin, kms.SignInput{KeyID: ec.ID, Algorithm: kms.ECDSASHA256, Message: make([]byte, n)})
		return err
	}
	digest := func(n int) error {
		_, err := w.Sign(admin, kms.SignInput{KeyID: ec.ID, Algorithm: kms.ECDSASHA384, Message: make([]byte, n), Digest: true})
		return err
	}
	for name, c := range map[string]struct {
		err  error
		want kms.Code
	}{
		"encrypt 0": {encrypt(0), kms.CodeInvalidRequest}, "encrypt 1": {encrypt(1), "ok"},
		"encrypt 4096": {encrypt(4096), "ok"}, "encrypt 4097": {encrypt(4097), tooLong},
		"encrypt-datakey 0": {encryptDataKey(0), "InvalidRequest/plaintext/out_of_range"}, "encrypt-datakey 1024": {encryptDataKey(1024), "ok"},
		"encrypt-datakey 1025": {encryptDataKey(1025), "InvalidRequest/plaintext/out_of_range"},
		"datakey 0":            {dataKey(0), invalidLength}, "datakey -1": {dataKey(-1), invalidLength},
		"datakey 1": {dataKey(1), "ok"}, "datakey 1024": {dataKey(1024), "ok"}, "datakey 1025": {dataKey(1025), invalidLength},
		"random 0": {random(0), invalidLength}, "random 1": {random(1), "ok"}, "random 1025": {random(1025), invalidLength},
		"aad 128": {aad(128), "ok"}, "aad 129": {aad(129), kms.CodeInvalidRequest},
		"context 8192": {bound("k", strings.Repeat("ü", 8191)), "ok"},
		"context 8193": {bound("kk", strings.Repeat("ü", 8191)), kms.CodeInvalidRequest},
		"context name": {bound("", "v"), kms.CodeInvalidRequest}, "context value": {bound("k", ""), "ok"},
		"context text": {bound("k", "\xff"), kms.CodeInvalidRequest},
		"sign 0":       {sign(0), kms.CodeInvalidRequest}, "sign 4096": {sign(4096), "ok"}, "sign 4097": {sign(4097), "InvalidRequest/message/length"},
		"digest 32": {digest(32), notDigest}, "digest 48": {digest(48), "ok"}, "digest 49": {digest(49), notDigest},
	} {
		if !is(c.err, c.want) {
			t.Errorf("%s: %v, want %s", name, c.err, c.want)
		}
	}
}

// TestDataKeys holds that a data key comes back as it was made, and without its plaintext where the caller did not ask for it.
func TestDataKeys(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	bound := map[string]string{"a": "b"}
	out, err := w.GenerateDataKey(admin, kms.DataKeyInput{KeyID: key.ID, Bytes: 32, Context: bound})
	wantCode(t, err, "ok")
	opened, err := w.DecryptDataKey(admin, kms.DecryptInput{Ciphertext: out.Ciphertext, Context: bound})
	wantCode(t, err, "ok")
	if !bytes.Equal(opened.Plaintext, out.Plaintext) || len(out.Plaintext) != 32 {
		t.Errorf("data key %x came back as %x", out.Plaintext, opened.Plaintext)
	}
	_, err = w.Decrypt(admin, kms.DecryptInput{Ciphertext: out.Ciphertext, Context: bound})
	wantCode(t, err, kms.CodeInvalidCiphertext) // a right to decrypt data opens no data key

	var made []byte
	w.hsm.hook = func(a *answer) {
		if a.op == "datakey" {
			made = a.plaintext
		}
	}
	out, err = w.GenerateDataKey(admin, kms.DataKeyInput{KeyID: key.ID, Bytes: 32, WithoutPlaintext: true})
	wantCode(t, err, "ok")
	if out.Plaintext != nil || !bytes.Equal(made, make([]byte, 32)) {
		t.Errorf("plaintext of a data key without plaintext: answered %x, left in memory %x", out.Plaintext, made)
	}
	again, err := w.EncryptDataKey(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: opened.Plaintext})
	wantCode(t, err, "ok")
	opened2, err := w.DecryptDataKey(admin, kms.DecryptInput{Ciphertext: again.Ciphertext})
	wantCode(t, err, "ok")
	if !bytes.Equal(opened2.Plaintext, opened.Plaintext) {
		t.Error("an encrypted data key came back as another")
	}
}

// TestSecretsAreWiped holds that a plaintext whose answer is withheld does not stay in memory.
func TestSecretsAreWiped(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("topsecret")})
	wantCode(t, err, "ok")
	var seen []byte
	w.hsm.hook = func(a *answer) { seen = a.plaintext; w.audit.down = context.DeadlineExceeded }
	_, err = w.Decrypt(admin, kms.DecryptInput{Ciphertext: out.Ciphertext})
	wantCode(t, err, kms.CodeInternal)
	if !bytes.Equal(seen, make([]byte, 9)) {
		t.Errorf("plaintext is still there: %q", seen)
	}
}

// TestSignVerify holds signatures of each algorithm against Go's cryptography, by message and by digest.
func TestSignVerify(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	message := []byte("message")
	digest := sha256.Sum256(message)
	for _, c := range []struct {
		spec kms.KeySpec
		algs []kms.SigningAlgorithm
	}{
		{kms.RSA2048, []kms.SigningAlgorithm{
			kms.RSAPSSSHA256, kms.RSAPSSSHA384, kms.RSAPSSSHA512, kms.RSAPKCS1SHA256, kms.RSAPKCS1SHA384, kms.RSAPKCS1SHA512,
		}},
		{kms.ECP256, []kms.SigningAlgorithm{kms.ECDSASHA256, kms.ECDSASHA384, kms.ECDSASHA512}},
		{kms.ECP384, []kms.SigningAlgorithm{kms.ECDSASHA384}},
		{kms.ECP521, []kms.SigningAlgorithm{kms.ECDSASHA512}},
	} {
		key := w.create(t, kms.CreateKeyInput{Spec: c.spec})
		for _, alg := range c.algs {
			out, err := w.Sign(admin, kms.SignInput{KeyID: key.ID, Algorithm: alg, Message: message})
			wantCode(t, err, "ok")
			in := kms.VerifyInput{KeyID: key.ID, Algorithm: alg, Message: message, Signature: out.Signature}
			w.hsm.down = context.DeadlineExceeded // Verify asks no HSM
			valid, err := w.Verify(admin, in)
			wantCode(t, err, "ok")
			in.Message = []byte("massage")
			forged, err := w.Verify(admin, in)
			wantCode(t, err, "ok")
			w.hsm.down = nil
			if !valid || forged {
				t.Errorf("%s with %s: valid %t, of another message %t", c.spec, alg, valid, forged)
			}
		}
		wrong := kms.ECDSASHA256
		if c.spec != kms.RSA2048 {
			wrong = kms.RSAPSSSHA256
		}
		_, err := w.Sign(admin, kms.SignInput{KeyID: key.ID, Algorithm: wrong, Message: message})
		wantCode(t, err, kms.CodeInvalidAlgorithm)
	}
	key := w.create(t, kms.CreateKeyInput{Alias: "independent", Spec: kms.ECP256})
	out, err := w.Sign(admin, kms.SignInput{KeyID: key.ID, Algorithm: kms.ECDSASHA256, Message: digest[:], Digest: true})
	wantCode(t, err, "ok")
	public, err := w.PublicKey(admin, key.ID)
	wantCode(t, err, "ok")
	parsed, err := x509.ParsePKIXPublicKey(public.DER)
	if err != nil || !ecdsa.VerifyASN1(parsed.(*ecdsa.PublicKey), digest[:], out.Signature) {
		t.Errorf("a signature of a digest does not verify outside (%v)", err)
	}
}

// TestVerifyForeignPSS holds that a PSS signature made elsewhere with another salt length is accepted.
func TestVerifyForeignPSS(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048})
	digest := sha256.Sum256([]byte("message"))
	signature, err := rsa.SignPSS(rand.Reader, rsaKey(), crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: 20})
	if err != nil {
		t.Fatal(err)
	}
	valid, err := w.Verify(admin, kms.VerifyInput{
		KeyID: key.ID, Algorithm: kms.RSAPSSSHA256, Message: digest[:], Digest: true, Signature: signature,
	})
	wantCode(t, err, "ok")
	if !valid {
		t.Error("a salt of 20 bytes is refused")
	}
}

func TestParseKeyID(t *testing.T) {
	const id = "0d0466b0-e727-4d9c-b35d-f84bb474a37f"
	if got, err := kms.ParseKeyID(id); err != nil || got.String() != id {
		t.Errorf("%s was read as %s, %v", id, got, err)
	}
	for _, bad := range []string{
		"", "x", strings.ToUpper(id), "{" + id + "}", "urn:uuid:" + id, strings.ReplaceAll(id, "-", ""), id + "\n", id[1:], "g" + id[1:],
	} {
		_, err := kms.ParseKeyID(bad)
		wantCode(t, err, invalidKeyID)
	}
}

// TestWithheldRandomIsWiped holds that random bytes whose record failed do not stay in memory: a key may be made
// of them.
func TestWithheldRandomIsWiped(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	var seen []byte
	w.hsm.hook = func(a *answer) { seen = a.output; w.audit.down = context.DeadlineExceeded }
	_, err := w.Random(admin, 32)
	wantCode(t, err, kms.CodeInternal)
	if !bytes.Equal(seen, make([]byte, 32)) {
		t.Errorf("random bytes are still there: %x", seen)
	}
}
