package kms_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// fakeHSM does with Go's cryptography what an HSM does. Its sealed keys hold their identity, and it refuses one that is
// used as another. Symmetric material is a digest of the sealed key, so that another process opens it, too; asymmetric
// material stays in the process. A hook can change any answer.
type fakeHSM struct {
	mu        sync.Mutex
	keys      map[string]any // sealed → asymmetric material
	hook      func(answer *answer)
	down      error
	made      []kms.KeyRef // what it was asked for, also where it then failed
	destroyed []kms.KeyRef
	imported  int // imports that it was asked for
}

// answer is what a hook may change before it leaves.
type answer struct {
	op                    string
	sealed                *kms.SealedKey
	plaintext, iv, output []byte
}

func newHSM() *fakeHSM { return &fakeHSM{keys: make(map[string]any)} }

func (h *fakeHSM) answer(a answer) answer {
	if h.hook != nil {
		h.hook(&a)
	}
	return a
}

func (h *fakeHSM) Supports(spec kms.KeySpec, _ kms.KeyUsage) (bool, string) {
	return spec != kms.AES192, "CKM_AES_KEY_GEN of 24 bytes"
}

// rsaVariable hands the RSA key on to a process of the same test, in base64.
const rsaVariable = "KEYSIDE_KMS_TEST_RSA"

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	if der, err := base64.StdEncoding.DecodeString(os.Getenv(rsaVariable)); err == nil && len(der) > 0 {
		key, err := x509.ParsePKCS1PrivateKey(der)
		if err != nil {
			panic(err)
		}
		return key
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func (h *fakeHSM) MakeKey(_ context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	h.mu.Lock()
	h.made = append(h.made, ref)
	down := h.down
	h.mu.Unlock()
	if down != nil {
		return nil, down
	}
	var material any
	var public []byte
	switch ref.Spec {
	case kms.RSA2048:
		material = rsaKey() // making one takes too long to do it more than once
	case kms.ECP256, kms.ECP384, kms.ECP521:
		curve := map[kms.KeySpec]elliptic.Curve{
			kms.ECP256: elliptic.P256(), kms.ECP384: elliptic.P384(), kms.ECP521: elliptic.P521(),
		}[ref.Spec]
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		material = key
	}
	if signer, ok := material.(crypto.Signer); ok {
		public, _ = x509.MarshalPKIXPublicKey(signer.Public())
	}
	sealed := append(identity(ref), rand.Text()...)
	h.mu.Lock()
	h.keys[string(sealed)] = material
	h.mu.Unlock()
	a := h.answer(answer{op: "make", sealed: &kms.SealedKey{
		Sealed: sealed, Root: 1, Protection: kms.ProtectionHSM, PublicKey: public,
	}})
	return a.sealed, nil
}

func identity(ref kms.KeyRef) []byte {
	ref.Sealed = nil
	b, _ := json.Marshal(ref)
	return b
}

// open returns a key's material as an HSM does: only under the identity that its seal binds.
func (h *fakeHSM) open(ref kms.KeyRef) (any, error) {
	if h.down != nil {
		return nil, h.down
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !bytes.HasPrefix(ref.Sealed, identity(ref)) {
		return nil, kms.Errorf(kms.CodeKeyUnavailable, "key is unavailable in the HSM")
	}
	if material := h.keys[string(ref.Sealed)]; material != nil {
		return material, nil
	}
	if ref.Usage == kms.Unwrap {
		return rsaKey(), nil // that of an earlier process
	}
	material := sha256.Sum256(ref.Sealed)
	return material[:], nil
}

func (h *fakeHSM) aead(ref kms.KeyRef) (cipher.AEAD, error) {
	material, err := h.open(ref)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(material.([]byte))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (h *fakeHSM) Encrypt(_ context.Context, ref kms.KeyRef, plaintext, aad []byte) ([]byte, []byte, error) {
	aead, err := h.aead(ref)
	if err != nil {
		return nil, nil, err
	}
	iv := make([]byte, 12)
	rand.Read(iv)
	a := h.answer(answer{op: "encrypt", plaintext: plaintext, iv: iv, output: aead.Seal(nil, iv, plaintext, aad)})
	return a.iv, a.output, nil
}

func (h *fakeHSM) Decrypt(_ context.Context, ref kms.KeyRef, iv, ciphertext, aad []byte) ([]byte, error) {
	aead, err := h.aead(ref)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, iv, ciphertext, aad)
	if err != nil {
		return nil, kms.Errorf(kms.CodeInvalidCiphertext, "ciphertext cannot be decrypted")
	}
	return h.answer(answer{op: "decrypt", plaintext: plaintext}).plaintext, nil
}

func (h *fakeHSM) DataKey(ctx context.Context, ref kms.KeyRef, n int, aad []byte) ([]byte, []byte, []byte, error) {
	plaintext := make([]byte, n)
	rand.Read(plaintext)
	iv, output, err := h.Encrypt(ctx, ref, plaintext, aad)
	if err != nil {
		return nil, nil, nil, err
	}
	a := h.answer(answer{op: "datakey", plaintext: plaintext, iv: iv, output: output})
	return a.plaintext, a.iv, a.output, nil
}

func (h *fakeHSM) Sign(_ context.Context, ref kms.KeyRef, alg kms.SigningAlgorithm, digest []byte) ([]byte, error) {
	material, err := h.open(ref)
	if err != nil {
		return nil, err
	}
	hashes := map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}
	var opts crypto.SignerOpts = hashes[len(digest)]
	if slices.Contains([]kms.SigningAlgorithm{kms.RSAPSSSHA256, kms.RSAPSSSHA384, kms.RSAPSSSHA512}, alg) {
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hashes[len(digest)]}
	}
	signature, err := material.(crypto.Signer).Sign(rand.Reader, digest, opts)
	if err != nil {
		return nil, err
	}
	return h.answer(answer{op: "sign", output: signature}).output, nil
}

func (h *fakeHSM) DecryptRSA(_ context.Context, ref kms.KeyRef, alg kms.EncryptionAlgorithm, block []byte) ([]byte, error) {
	material, err := h.open(ref)
	if err != nil {
		return nil, err
	}
	hashes := map[kms.EncryptionAlgorithm]crypto.Hash{kms.RSAOAEPSHA1: crypto.SHA1, kms.RSAOAEPSHA256: crypto.SHA256}
	plaintext, err := rsa.DecryptOAEP(hashes[alg].New(), nil, material.(*rsa.PrivateKey), block, nil)
	if err != nil {
		return nil, kms.Errorf(kms.CodeInvalidCiphertext, "ciphertext cannot be decrypted")
	}
	return h.answer(answer{op: "decrypt-rsa", plaintext: plaintext}).plaintext, nil
}

func (h *fakeHSM) MAC(_ context.Context, ref kms.KeyRef, alg kms.MACAlgorithm, message []byte) ([]byte, error) {
	material, err := h.open(ref)
	if err != nil {
		return nil, err
	}
	hashes := map[kms.MACAlgorithm]crypto.Hash{
		kms.HMACSHA256: crypto.SHA256, kms.HMACSHA384: crypto.SHA384, kms.HMACSHA512: crypto.SHA512,
	}
	m := hmac.New(hashes[alg].New, material.([]byte))
	m.Write(message)
	return h.answer(answer{op: "mac", output: m.Sum(nil)}).output, nil
}

func (h *fakeHSM) Derive(_ context.Context, ref kms.KeyRef, peer []byte) ([]byte, error) {
	material, err := h.open(ref)
	if err != nil {
		return nil, err
	}
	own, err := material.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(peer)
	if err != nil {
		return nil, err
	}
	public, err := parsed.(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return nil, err
	}
	shared, err := own.ECDH(public)
	if err != nil {
		return nil, err
	}
	return h.answer(answer{op: "derive", output: shared}).output, nil
}

func (h *fakeHSM) DestroyKey(_ context.Context, ref kms.KeyRef) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.destroyed = append(h.destroyed, ref)
	return h.down
}

func (h *fakeHSM) Imports() kms.Imports {
	return kms.Imports{
		Algorithms: []kms.WrappingAlgorithm{kms.WrapPKCS1, kms.WrapOAEPSHA1, kms.WrapOAEPSHA256, kms.WrapRSAAESSHA256},
		Specs:      []kms.KeySpec{kms.RSA2048, kms.RSA4096},
	}
}

func (h *fakeHSM) MakeWrappingKey(ctx context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	if ref.Usage != kms.Unwrap || !slices.Contains(h.Imports().Specs, ref.Spec) {
		return nil, kms.Errorf(kms.CodeInternal, "%+v is no wrapping key of this fake", ref)
	}
	return h.MakeKey(ctx, ref)
}

// ImportKey takes symmetric material under any of its algorithms, and EC private keys in the clear: what is sent as the
// private key is PKCS #8, filled up with zeros. What a symmetric key is sealed as depends on the material alone.
func (h *fakeHSM) ImportKey(_ context.Context, ref kms.KeyRef, m kms.WrappedMaterial) (*kms.SealedKey, error) {
	h.mu.Lock()
	h.imported++
	h.mu.Unlock()
	wrapping, err := h.open(m.WrappingKey)
	if err != nil {
		return nil, err
	}
	bad := kms.Errorf(kms.CodeInvalidKeyMaterial, "the HSM's own words")
	block := m.Material[:min(len(m.Material), 256)]
	var opened []byte
	switch m.Algorithm {
	case kms.WrapPKCS1:
		//lint:ignore SA1019 clouds offer it for import
		opened, err = rsa.DecryptPKCS1v15(nil, wrapping.(*rsa.PrivateKey), block)
	case kms.WrapOAEPSHA1:
		opened, err = rsa.DecryptOAEP(sha1.New(), nil, wrapping.(*rsa.PrivateKey), block, nil)
	default:
		opened, err = rsa.DecryptOAEP(sha256.New(), nil, wrapping.(*rsa.PrivateKey), block, nil)
	}
	size := 32
	if ref.Spec == kms.AES128 {
		size = 16
	}
	if err != nil || len(opened) != size {
		return nil, bad
	}
	var material any
	var public []byte
	if m.PrivateKey != nil {
		key, err := x509.ParsePKCS8PrivateKey(bytes.TrimRight(m.PrivateKey, "\x00"))
		if err != nil {
			return nil, bad
		}
		material = key
		public, _ = x509.MarshalPKIXPublicKey(key.(crypto.Signer).Public())
		opened = public
	}
	check := sha256.Sum256(append([]byte("check"), opened...))
	sealed := append(identity(ref), hex.EncodeToString(check[:])...)
	h.mu.Lock()
	h.keys[string(sealed)] = material
	h.mu.Unlock()
	return h.answer(answer{op: "import", sealed: &kms.SealedKey{
		Sealed: sealed, Root: 1, Protection: kms.ProtectionHSM, PublicKey: public, CheckValue: check[:], OpenedIn: kms.ProtectionDriver,
	}}).sealed, nil
}

func (h *fakeHSM) TenantMAC(_ context.Context, data []byte) ([]byte, error) {
	if h.down != nil {
		return nil, h.down
	}
	m := hmac.New(sha256.New, []byte("tenant"))
	m.Write(data)
	return h.answer(answer{op: "tenant-mac", output: m.Sum(nil)}).output, nil
}

func (h *fakeHSM) Random(_ context.Context, n int) ([]byte, error) {
	if h.down != nil {
		return nil, h.down
	}
	b := make([]byte, n)
	rand.Read(b)
	return h.answer(answer{op: "random", output: b}).output, nil
}

// memStore is the real store, in memory, with faults that tests can set.
type memStore struct {
	*store.Store
	down, noReserve, noDestroy, noPurge error
	beforeUpdate                        func() // what happens just before a key is changed or destroyed
}

// checker is what testing.TB and rapid.T have in common: a test, or one of its sequences, which ends what it began.
type checker interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

func newStore(t checker) *memStore {
	t.Helper()
	s, err := store.Open(store.Options{Tenant: "test", InMemory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &memStore{Store: s}
}

func (m *memStore) Key(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
	if m.down != nil {
		return nil, m.down
	}
	return m.Store.Key(ctx, id)
}

func (m *memStore) CheckNew(ctx context.Context, alias string, quota int) error {
	if m.down != nil {
		return m.down
	}
	return m.Store.CheckNew(ctx, alias, quota)
}

func (m *memStore) UpdateKey(ctx context.Context, id kms.KeyID, change func(*kms.Key) error) (*kms.Key, error) {
	if m.down != nil {
		return nil, m.down
	}
	if m.beforeUpdate != nil {
		m.beforeUpdate()
	}
	return m.Store.UpdateKey(ctx, id, change)
}

func (m *memStore) DestroyKeys(ctx context.Context, ids []kms.KeyID, doomed func(*kms.Key) bool) ([]*kms.Key, error) {
	if err := errors.Join(m.noDestroy, m.down); err != nil {
		return nil, err
	}
	if m.beforeUpdate != nil {
		m.beforeUpdate()
	}
	gone, err := m.Store.DestroyKeys(ctx, ids, doomed)
	return gone, errors.Join(err, m.noPurge)
}

func (m *memStore) ListKeys(ctx context.Context, f kms.KeyFilter, offset, limit int) ([]*kms.Key, int, error) {
	if m.down != nil {
		return nil, 0, m.down
	}
	return m.Store.ListKeys(ctx, f, offset, limit)
}

func (m *memStore) ReserveMessages(ctx context.Context, id kms.KeyID, version uint32, n uint64) (uint64, error) {
	if err := errors.Join(m.noReserve, m.down); err != nil {
		return 0, err
	}
	return m.Store.ReserveMessages(ctx, id, version, n)
}

// reserved returns how many message numbers of a key's version are reserved.
func (m *memStore) reserved(t testing.TB, id kms.KeyID, version uint32) uint64 {
	t.Helper()
	n, err := m.Store.ReserveMessages(context.Background(), id, version, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// fakeAudit keeps the records.
type fakeAudit struct {
	mu             sync.Mutex
	records        []kms.AuditRecord
	down, notReady error
}

func (a *fakeAudit) Record(ctx context.Context, r *kms.AuditRecord) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ; r != nil; r = r.Next {
		a.records = append(a.records, *r)
	}
	return errors.Join(a.down, ctx.Err())
}

func (a *fakeAudit) Line(r *kms.AuditRecord) []byte { return fmt.Appendln(nil, r.Operation, r.KeyID) }

func (a *fakeAudit) Ready(context.Context) error { return a.notReady }

func (a *fakeAudit) last(t testing.TB) kms.AuditRecord {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.records) == 0 {
		t.Fatal("nothing was audited")
	}
	return a.records[len(a.records)-1]
}

// fakeClock moves one millisecond with every look at it.
type fakeClock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *fakeClock { return &fakeClock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

// advance moves the clock, back if d is negative.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// peek is the time without moving the clock.
func (c *fakeClock) peek() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func day(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Millisecond)
	return c.now
}

// world is a service and the fakes around it.
type world struct {
	*kms.Service
	hsm   *fakeHSM
	store *memStore
	audit *fakeAudit
	clock *fakeClock
}

func newWorld(t checker, limits kms.Limits) *world {
	t.Helper()
	w := &world{hsm: newHSM(), store: newStore(t), audit: new(fakeAudit), clock: newClock()}
	w.Service = w.restart(t, limits)
	return w
}

// restart makes another service on the same store, as a new process would.
func (w *world) restart(t checker, limits kms.Limits) *kms.Service {
	t.Helper()
	s, err := kms.New(kms.Config{
		Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Limits: limits, Credentials: w.store,
		Clock: w.clock, Account: "acc", Principals: named,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) create(t testing.TB, in kms.CreateKeyInput) *kms.Key {
	t.Helper()
	if in.Alias == "" {
		in.Alias = "key-" + string(in.Spec)
	}
	key, err := w.CreateKey(admin, in)
	if err != nil {
		t.Fatalf("create %+v: %v", in, err)
	}
	return key
}

// stored returns a key as the store has it.
func (w *world) stored(t testing.TB, id kms.KeyID) *kms.Key {
	t.Helper()
	key, err := w.store.Store.Key(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// defaultKey has a service make its default key.
func (w *world) defaultKey(t testing.TB, service string) kms.KeyID {
	t.Helper()
	id, err := w.Resolve(callAs(policy.Principal{Name: service, Service: service}), policy.OpCreateDataKey, service+"/default")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// encrypt returns a ciphertext of the key's newest version.
func (w *world) encrypt(t testing.TB, id kms.KeyID) []byte {
	t.Helper()
	out, err := w.Encrypt(admin, kms.EncryptInput{KeyID: id, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	return out.Ciphertext
}

// opens holds that what encrypt returned can be decrypted.
func (w *world) opens(t testing.TB, ciphertexts ...[]byte) {
	t.Helper()
	for _, c := range ciphertexts {
		out, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: c})
		if err != nil || string(out.Plaintext) != "secret" {
			t.Errorf("a ciphertext of version %d opens as %v (%v)", version(c), out, err)
		}
	}
}

// version is the key version that a ciphertext's header names.
func version(ciphertext []byte) uint32 { return binary.BigEndian.Uint32(ciphertext[24:28]) }

var (
	admin  = callAs(policy.Principal{Name: "owner", Role: policy.Administrator})
	user   = callAs(policy.Principal{Name: "app"})
	nobody = callAs(policy.Principal{})
)

// named has the principals that the configuration of these tests knows.
func named(name string) (policy.Principal, bool) {
	p, ok := map[string]policy.Principal{
		"owner": {Name: "owner", Role: policy.Administrator}, "app": {Name: "app"}, "other": {Name: "other"}, "third": {Name: "third"},
		"else": {Name: "else", Account: "elsewhere"},
	}[name]
	return p, ok
}

// anonymousUsers numbers the users of anonymous.
var anonymousUsers atomic.Uint32

// anonymous is a call of a user without a principal, another one each time, since of one user's only the first refusals are
// on record each.
func anonymous() context.Context {
	call := *kms.CallFrom(nobody)
	call.Caller.UID = 10_000 + anonymousUsers.Add(1)
	return kms.WithCall(context.Background(), &call)
}

func callAs(p policy.Principal) context.Context {
	return kms.WithCall(context.Background(), &kms.Call{
		RequestID: "req-1", Dialect: "test", Caller: policy.Caller{UID: 7, GID: 8, PID: 9, Known: true}, Principal: p,
	})
}

// The errors of the service in full, as [codeOf] has them; a short one stands for all that begin so.
const (
	invalidKeyID       kms.Code = "InvalidRequest/key_id/malformed"
	invalidAlias       kms.Code = "InvalidRequest/alias"
	invalidDescription kms.Code = "InvalidRequest/description"
	invalidSpec        kms.Code = "InvalidRequest/key_spec/unknown"
	invalidLimit       kms.Code = "InvalidRequest/limit/out_of_range"
	invalidMarker      kms.Code = "InvalidRequest/marker/out_of_range"
	invalidLength      kms.Code = "InvalidRequest/length/out_of_range"
	invalidUsage       kms.Code = "InvalidRequest/key_usage/conflict"
	isSymmetric        kms.Code = "InvalidKeyUsage/symmetric"
	isAsymmetric       kms.Code = "InvalidKeyUsage/asymmetric"
	isMAC              kms.Code = "InvalidKeyUsage/mac"
	isSigning          kms.Code = "InvalidKeyUsage/sign_verify"
	isElliptic         kms.Code = "InvalidKeyUsage/elliptic"
	notDigest          kms.Code = "InvalidRequest/message/digest"
	tooLong            kms.Code = "InvalidRequest/plaintext/length"
	invalidWait        kms.Code = "InvalidRequest/pending_days/out_of_range"
	isExternal         kms.Code = "InvalidOrigin/external"
	isGenerated        kms.Code = "InvalidOrigin/generated"
	invalidInterval    kms.Code = "InvalidRequest/rotation_interval/out_of_range"
	invalidTagKey      kms.Code = "InvalidRequest/key/malformed"
	invalidTagValue    kms.Code = "InvalidRequest/value/malformed"
	tagKeyLength       kms.Code = "InvalidRequest/key/length"
	tagValueLength     kms.Code = "InvalidRequest/value/length"
	tooManyTags        kms.Code = "QuotaExceeded/tags"
	tagNotFound        kms.Code = "NotFound/tags"
	invalidPublicKey   kms.Code = "InvalidRequest/public_key/malformed"
	onlyCreateGrant    kms.Code = "InvalidGrant/operations/create_grant_only"
	unknownGrantee     kms.Code = "InvalidGrant/grantee/unknown"
	tooManyGrants      kms.Code = "QuotaExceeded/grants"
	grantNotFound      kms.Code = "NotFound/grant_id"
	badMaterial        kms.Code = "InvalidKeyMaterial/material"
	expiryPast         kms.Code = "InvalidRequest/expires_at/past"
	badToken           kms.Code = "InvalidImportToken/import_token/malformed"
	otherToken         kms.Code = "InvalidImportToken/import_token/other_key"
	noPrivateKey       kms.Code = "InvalidKeyMaterial/private_key/missing"
	badPrivateKey      kms.Code = "InvalidKeyMaterial/private_key/malformed"
)

// codeOf returns the code of an error of the service with its field and reason, "ok" for none.
func codeOf(err error) kms.Code {
	if err == nil {
		return "ok"
	}
	var e *kms.Error
	if !errors.As(err, &e) {
		return kms.Code("not a kms.Error: " + err.Error())
	}
	full := string(e.Code)
	for _, more := range []string{e.Field, string(e.Reason)} {
		if more != "" {
			full += "/" + more
		}
	}
	return kms.Code(full)
}

// is reports whether an error has the code, and the field and the reason if want has them.
func is(err error, want kms.Code) bool {
	got := codeOf(err)
	return got == want || strings.HasPrefix(string(got), string(want)+"/")
}

// recorded reports whether a record has the outcome and the reason of an error of the service, nil for none.
func recorded(rec *kms.AuditRecord, err error) bool {
	if err == nil {
		return rec.Outcome == "ok" && rec.Reason == ""
	}
	e := kms.AsError(err)
	return rec.Outcome == string(e.Code) && rec.Reason == e.Reason
}

func wantCode(t testing.TB, err error, want kms.Code) {
	t.Helper()
	if !is(err, want) {
		t.Fatalf("error %v is %s, want %s", err, codeOf(err), want)
	}
}
