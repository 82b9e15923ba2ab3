package audit

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// plainHSM is an HSM for operations that change keys and use none. What it seals it only XORs: the tests are about records.
type plainHSM struct{ kms.HSM }

func (plainHSM) Supports(kms.KeySpec, kms.KeyUsage) (bool, string) { return true, "" }
func (plainHSM) Imports() kms.Imports {
	return kms.Imports{Algorithms: []kms.WrappingAlgorithm{kms.WrapOAEPSHA256}, Specs: []kms.KeySpec{kms.RSA2048}}
}
func (plainHSM) DestroyKey(context.Context, kms.KeyRef) error { return nil }

func (plainHSM) MakeKey(_ context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	made := &kms.SealedKey{Sealed: append(ref.ID[:], rand.Text()...), Root: 1, Protection: kms.ProtectionHSM}
	if ref.Spec == kms.RSA2048 {
		made.PublicKey = rsaKey()
	}
	return made, nil
}

// rsaKey is the public half of all RSA keys.
var rsaKey = sync.OnceValue(func() []byte {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	return der
})

func (plainHSM) MakeWrappingKey(_ context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	return &kms.SealedKey{Sealed: append(ref.ID[:], rand.Text()...), Root: 1, Protection: kms.ProtectionHSM, PublicKey: rsaKey()}, nil
}

func (plainHSM) ImportKey(_ context.Context, ref kms.KeyRef, _ kms.WrappedMaterial) (*kms.SealedKey, error) {
	check := sha256.Sum256(ref.ID[:])
	return &kms.SealedKey{
		Sealed: append(ref.ID[:], rand.Text()...), Root: 1, Protection: kms.ProtectionHSM, CheckValue: check[:], OpenedIn: kms.ProtectionHSM,
	}, nil
}

func (plainHSM) Encrypt(_ context.Context, _ kms.KeyRef, plaintext, _ []byte) (iv, ciphertext []byte, err error) {
	iv = make([]byte, 12)
	rand.Read(iv) // never fails
	return iv, append(xor(plaintext), make([]byte, 16)...), nil
}

func (plainHSM) Decrypt(_ context.Context, _ kms.KeyRef, _, ciphertext, _ []byte) ([]byte, error) {
	return xor(ciphertext[:len(ciphertext)-16]), nil
}

func (plainHSM) TenantMAC(_ context.Context, data []byte) ([]byte, error) {
	m := hmac.New(sha256.New, []byte("tenant"))
	m.Write(data)
	return m.Sum(nil), nil
}

func xor(b []byte) []byte {
	out := make([]byte, len(b))
	for i := range b {
		out[i] = b[i] ^ 0xa5
	}
	return out
}

type wallClock struct{}

func (wallClock) Now() time.Time { return time.Now() }

// node is a core with a database and an audit log in a folder.
type node struct {
	*kms.Service
	store *store.Store
	log   *Log
	clock kms.Clock
	dir   string
}

// openNode opens them, as the sidecar does at start. wrap, if not nil, wraps the log.
func openNode(dir string, clock kms.Clock, failpoint func(string), wrap func(kms.Auditor) kms.Auditor) (*node, error) {
	s, err := store.Open(store.Options{Dir: filepath.Join(dir, "db"), Create: true, Tenant: "default"})
	if err != nil {
		return nil, err
	}
	l, err := Open(Options{
		Dir: filepath.Join(dir, "audit"), Sync: true, MaxFileSize: 64 << 10, Tenant: "default", Heads: s, journalSize: 8000, failpoint: failpoint,
		watchEvery: time.Hour, // these tests move the log's files
	})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	auditor := kms.Auditor(l)
	if wrap != nil {
		auditor = wrap(l)
	}
	core, err := kms.New(kms.Config{
		Store: s, HSM: plainHSM{}, Auditor: auditor, Tenant: "default", Credentials: s, Clock: clock,
		Principals: func(name string) (policy.Principal, bool) {
			return policy.Principal{Name: name}, name == "grantee"
		},
	})
	if err != nil {
		return nil, errors.Join(err, l.Close(), s.Close())
	}
	return &node{Service: core, store: s, log: l, clock: clock, dir: dir}, nil
}

func (n *node) close() error { return errors.Join(n.log.Close(), n.store.Close()) }

// call returns the context of a request of an administrator.
func call(id string) context.Context {
	return kms.WithCall(context.Background(), &kms.Call{
		RequestID: id, Dialect: "native", Principal: policy.Principal{Name: "admin", Role: policy.Administrator},
	})
}

// stoppedSource is what a verification of a stopped node's files reads.
func stoppedSource(dir string) (Source, *store.State, error) {
	found, err := store.Inspect(filepath.Join(dir, "db"))
	if err != nil {
		return Source{}, nil, err
	}
	return Source{
		Dir: filepath.Join(dir, "audit"), Anchor: []byte(found.AuditAnchor), Head: []byte(found.AuditHead), Recorded: found.Recorded, Outbox: found.Outbox,
	}, found, nil
}

// full stands for a full disk: what is written to the log's file fails with ENOSPC, until the log opens it again.
func full(t testing.TB, l *Log) {
	t.Helper()
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	_ = l.file.Close()
	l.file = f
}
