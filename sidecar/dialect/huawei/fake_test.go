package huawei

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"hash"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// fakeHSM makes the same keys, IVs and random bytes in every run, so that whole answers can be compared.
type fakeHSM struct {
	rsa map[kms.KeySpec]*rsa.PrivateKey // one for all keys of a spec: making them takes seconds

	mu    sync.Mutex
	count uint64
	fail  error // of every operation, once set
	lacks kms.KeySpec
}

func newFakeHSM(t testing.TB) *fakeHSM {
	f := &fakeHSM{rsa: map[kms.KeySpec]*rsa.PrivateKey{}, lacks: kms.RSA4096}
	for spec, file := range map[kms.KeySpec]string{kms.RSA2048: "rsa2048.pem", kms.RSA3072: "rsa3072.pem", kms.RSA4096: "rsa4096.pem"} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		f.rsa[spec] = key.(*rsa.PrivateKey)
	}
	return f
}

func (f *fakeHSM) next() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count++
	return f.count, f.fail
}

// stream returns n bytes that look random.
func stream(seed uint64, n int) []byte {
	var out []byte
	for block := uint64(0); len(out) < n; block++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, seed), block))
		out = append(out, sum[:]...)
	}
	return out[:n]
}

func gcm(key kms.KeyRef) cipher.AEAD {
	sum := sha256.Sum256(append(key.ID[:], key.Sealed...))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// elliptics are the curves that the fake has.
var elliptics = map[kms.KeySpec]elliptic.Curve{kms.ECP256: elliptic.P256(), kms.ECP384: elliptic.P384(), kms.ECP521: elliptic.P521()}

func ec(key kms.KeyRef) *ecdsa.PrivateKey {
	curve := elliptics[key.Spec]
	sum := sha256.Sum256(key.Sealed)
	k, err := ecdsa.ParseRawPrivateKey(curve, append(make([]byte, (curve.Params().BitSize+7)/8-len(sum)), sum[:]...))
	if err != nil {
		panic(err)
	}
	return k
}

func (f *fakeHSM) DecryptRSA(_ context.Context, key kms.KeyRef, alg kms.EncryptionAlgorithm, block []byte) ([]byte, error) {
	if _, err := f.next(); err != nil {
		return nil, err
	}
	h := sha256.New()
	if alg == kms.RSAOAEPSHA1 {
		h = sha1.New()
	}
	plain, err := rsa.DecryptOAEP(h, nil, f.rsa[key.Spec], block, nil)
	if err != nil {
		return nil, kms.Errorf(kms.CodeInvalidCiphertext, "ciphertext is not valid")
	}
	return plain, nil
}

func (f *fakeHSM) MAC(_ context.Context, key kms.KeyRef, alg kms.MACAlgorithm, message []byte) ([]byte, error) {
	if _, err := f.next(); err != nil {
		return nil, err
	}
	m := hmac.New(map[kms.MACAlgorithm]func() hash.Hash{
		kms.HMACSHA256: sha256.New, kms.HMACSHA384: sha512.New384, kms.HMACSHA512: sha512.New,
	}[alg], key.Sealed)
	m.Write(message)
	return m.Sum(nil), nil
}

func (f *fakeHSM) Derive(_ context.Context, key kms.KeyRef, peer []byte) ([]byte, error) {
	if _, err := f.next(); err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(peer)
	if err != nil {
		return nil, err
	}
	theirs, err := public.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return nil, err
	}
	ours, err := ec(key).ECDH()
	if err != nil {
		return nil, err
	}
	return ours.ECDH(theirs)
}

func (f *fakeHSM) Imports() kms.Imports {
	return kms.Imports{
		Algorithms: []kms.WrappingAlgorithm{kms.WrapPKCS1, kms.WrapOAEPSHA1, kms.WrapOAEPSHA256, kms.WrapRSAAESSHA256},
		Specs:      []kms.KeySpec{kms.RSA2048, kms.RSA3072, kms.RSA4096},
	}
}

func (f *fakeHSM) MakeWrappingKey(ctx context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	return f.MakeKey(ctx, ref)
}

// ImportKey takes keys of 32 bytes, and private keys where the material beside them opens, whatever they are: it seals them
// as a digest of what was sent.
func (f *fakeHSM) ImportKey(_ context.Context, ref kms.KeyRef, m kms.WrappedMaterial) (*kms.SealedKey, error) {
	if _, err := f.next(); err != nil {
		return nil, err
	}
	h := sha256.New()
	if m.Algorithm == kms.WrapOAEPSHA1 {
		h = sha1.New()
	}
	opened, err := rsa.DecryptOAEP(h, nil, f.rsa[m.WrappingKey.Spec], m.Material, nil)
	if m.Algorithm == kms.WrapPKCS1 {
		//lint:ignore SA1019 clouds offer it for import
		opened, err = rsa.DecryptPKCS1v15(nil, f.rsa[m.WrappingKey.Spec], m.Material)
	}
	if err != nil || len(opened) != 32 {
		return nil, kms.Errorf(kms.CodeInvalidKeyMaterial, "it does not open")
	}
	check := sha256.Sum256(append(opened, m.PrivateKey...))
	sealed := &kms.SealedKey{
		Sealed: check[:], Root: 1, Protection: kms.ProtectionHSM, CheckValue: check[:], OpenedIn: kms.ProtectionHSM,
	}
	ref.Sealed = sealed.Sealed
	if elliptics[ref.Spec] != nil {
		sealed.PublicKey, err = x509.MarshalPKIXPublicKey(ec(ref).Public())
	}
	return sealed, err
}

func (f *fakeHSM) TenantMAC(_ context.Context, data []byte) ([]byte, error) {
	if _, err := f.next(); err != nil {
		return nil, err
	}
	m := hmac.New(sha256.New, []byte("tenant"))
	m.Write(data)
	return m.Sum(nil), nil
}

func (f *fakeHSM) DestroyKey(context.Context, kms.KeyRef) error { return nil }

func (f *fakeHSM) Supports(spec kms.KeySpec, _ kms.KeyUsage) (bool, string) {
	return spec != f.lacks, "no " + string(f.lacks) + " here"
}

// secp256k1Public is the public half of a key that openssl made: Go has no such curve. Nothing is signed with it here.
const secp256k1Public = "3056301006072a8648ce3d020106052b8104000a03420004f130893ab617a6a90462d5500b7a1fd0d4681dec178edbba9ad06c6fc4bbaace" +
	"c9375e9323661576058eaf0b5f4e6d6a1e24d32b9f6a6c6594ae7ca1ec1af554"

func (f *fakeHSM) MakeKey(_ context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	n, err := f.next()
	if err != nil {
		return nil, err
	}
	sealed := &kms.SealedKey{Sealed: stream(n, 48), Root: 1, Protection: kms.ProtectionHSM}
	ref.Sealed = sealed.Sealed
	switch {
	case ref.Spec == kms.Secp256k1:
		sealed.PublicKey, err = hex.DecodeString(secp256k1Public)
	case f.rsa[ref.Spec] != nil:
		sealed.PublicKey, err = x509.MarshalPKIXPublicKey(f.rsa[ref.Spec].Public())
	case elliptics[ref.Spec] != nil:
		sealed.PublicKey, err = x509.MarshalPKIXPublicKey(ec(ref).Public())
	}
	return sealed, err
}

func (f *fakeHSM) Encrypt(_ context.Context, key kms.KeyRef, plaintext, aad []byte) (iv, ciphertext []byte, err error) {
	n, err := f.next()
	if err != nil {
		return nil, nil, err
	}
	iv = stream(n, 12)
	return iv, gcm(key).Seal(nil, iv, plaintext, aad), nil
}

func (f *fakeHSM) Decrypt(_ context.Context, key kms.KeyRef, iv, ciphertext, aad []byte) ([]byte, error) {
	if _, err := f.next(); err != nil {
		return nil, err
	}
	plain, err := gcm(key).Open(nil, iv, ciphertext, aad)
	if err != nil {
		return nil, kms.Errorf(kms.CodeInvalidCiphertext, "ciphertext is not valid")
	}
	return plain, nil
}

func (f *fakeHSM) DataKey(ctx context.Context, key kms.KeyRef, n int, aad []byte) (plaintext, iv, ciphertext []byte, err error) {
	plaintext, err = f.Random(ctx, n)
	if err == nil {
		iv, ciphertext, err = f.Encrypt(ctx, key, plaintext, aad)
	}
	return plaintext, iv, ciphertext, err
}

func (f *fakeHSM) Sign(_ context.Context, key kms.KeyRef, alg kms.SigningAlgorithm, digest []byte) ([]byte, error) {
	if _, err := f.next(); err != nil {
		return nil, err
	}
	digestHash := map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}[len(digest)]
	switch alg {
	case kms.RSAPKCS1SHA256, kms.RSAPKCS1SHA384, kms.RSAPKCS1SHA512:
		return rsa.SignPKCS1v15(nil, f.rsa[key.Spec], digestHash, digest)
	case kms.RSAPSSSHA256, kms.RSAPSSSHA384, kms.RSAPSSSHA512:
		return f.rsa[key.Spec].Sign(cryptoRand{}, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: digestHash})
	default:
		return ec(key).Sign(nil, digest, digestHash)
	}
}

func (f *fakeHSM) Random(_ context.Context, n int) ([]byte, error) {
	count, err := f.next()
	if err != nil {
		return nil, err
	}
	return stream(count, n), nil
}

// cryptoRand is a source of salts that is always the same.
type cryptoRand struct{}

func (cryptoRand) Read(b []byte) (int, error) { return copy(b, stream(7, len(b))), nil }

// newStore returns the real store, in memory.
func newStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Tenant: "test", InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// memoryAudit counts the records and keeps the newest.
type memoryAudit struct {
	mu     sync.Mutex
	record kms.AuditRecord // the newest
	count  int
	fail   error
}

func (a *memoryAudit) Record(_ context.Context, r *kms.AuditRecord) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail != nil {
		return a.fail
	}
	a.record, a.count = *r, a.count+1
	return nil
}

func (a *memoryAudit) Ready(context.Context) error { return nil }

func (a *memoryAudit) Line(r *kms.AuditRecord) []byte { return []byte(r.RequestID) }

// last returns the newest record and how many there are.
func (a *memoryAudit) last() (kms.AuditRecord, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record, a.count
}

// testClock stands still until it is told to go on.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *testClock { return &testClock{now: time.UnixMilli(1790000000123)} }

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *testClock) advance(days int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Duration(days) * 24 * time.Hour)
}
