package huawei

import (
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// fakeHSM makes the same keys, IVs and random bytes in every run, so that whole answers can be compared.
type fakeHSM struct {
	rsa *rsa.PrivateKey

	mu    sync.Mutex
	count uint64
	fail  error // of every operation, once set
}

func newFakeHSM(t testing.TB) *fakeHSM {
	text, err := os.ReadFile("testdata/rsa2048.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeHSM{rsa: key.(*rsa.PrivateKey)}
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

func ec(key kms.KeyRef) *ecdsa.PrivateKey {
	sum := sha256.Sum256(key.Sealed)
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), sum[:])
	if err != nil {
		panic(err)
	}
	return k
}

func (f *fakeHSM) DecryptRSA(context.Context, kms.KeyRef, kms.EncryptionAlgorithm, []byte) ([]byte, error) {
	return nil, errors.New("not here yet")
}

func (f *fakeHSM) MAC(context.Context, kms.KeyRef, kms.MACAlgorithm, []byte) ([]byte, error) {
	return nil, errors.New("not here yet")
}

func (f *fakeHSM) Derive(context.Context, kms.KeyRef, []byte) ([]byte, error) {
	return nil, errors.New("not here yet")
}

func (f *fakeHSM) DestroyKey(context.Context, kms.KeyRef) error { return nil }

func (f *fakeHSM) Supports(spec kms.KeySpec, _ kms.KeyUsage) (bool, string) {
	return spec != kms.RSA4096, "no RSA_4096 here"
}

func (f *fakeHSM) MakeKey(_ context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	n, err := f.next()
	if err != nil {
		return nil, err
	}
	sealed := &kms.SealedKey{Sealed: stream(n, 48), Root: 1, Protection: kms.ProtectionHSM}
	ref.Sealed = sealed.Sealed
	switch ref.Spec {
	case kms.RSA2048:
		sealed.PublicKey, err = x509.MarshalPKIXPublicKey(f.rsa.Public())
	case kms.ECP256:
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
	hash := map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}[len(digest)]
	switch alg {
	case kms.RSAPKCS1SHA256, kms.RSAPKCS1SHA384, kms.RSAPKCS1SHA512:
		return rsa.SignPKCS1v15(nil, f.rsa, hash, digest)
	case kms.RSAPSSSHA256, kms.RSAPSSSHA384, kms.RSAPSSSHA512:
		return f.rsa.Sign(cryptoRand{}, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
	default:
		return ec(key).Sign(nil, digest, hash)
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

// last returns the newest record and how many there are.
func (a *memoryAudit) last() (kms.AuditRecord, int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.record, a.count
}

// fixedClock always tells the same time.
type fixedClock struct{}

func (fixedClock) Now() time.Time { return time.UnixMilli(1790000000123) }
