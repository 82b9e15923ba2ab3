package kms

import (
	"context"
	"time"

	"github.com/keyside/keyside/policy"
)

// Clock tells the time. Tests inject their own.
type Clock interface {
	Now() time.Time
}

// HSM is what the core needs of the layers below: one tenant's keys. Its errors are *Error.
// Nothing that it returns is trusted: the core checks lengths, key ids and signatures.
type HSM interface {
	// Supports reports whether keys of this spec and usage can be made; if not, missing names the capability.
	Supports(spec KeySpec, usage KeyUsage) (ok bool, missing string)
	// MakeKey generates the material of a key version; ref.Sealed is empty.
	MakeKey(ctx context.Context, ref KeyRef) (*SealedKey, error)
	// Encrypt seals plaintext with AES-GCM under an IV of the HSM's own (12 bytes); ciphertext ends in the 16-byte tag.
	Encrypt(ctx context.Context, key KeyRef, plaintext, aad []byte) (iv, ciphertext []byte, err error)
	// Decrypt opens what Encrypt or DataKey made; CodeInvalidCiphertext if it does not open.
	Decrypt(ctx context.Context, key KeyRef, iv, ciphertext, aad []byte) ([]byte, error)
	// DataKey makes n random bytes and returns them both plain and encrypted as Encrypt does.
	DataKey(ctx context.Context, key KeyRef, n int, aad []byte) (plaintext, iv, ciphertext []byte, err error)
	// Sign signs a digest as long as the algorithm's hash.
	Sign(ctx context.Context, key KeyRef, alg SigningAlgorithm, digest []byte) ([]byte, error)
	// Random returns n bytes from the HSM's generator.
	Random(ctx context.Context, n int) ([]byte, error)
}

// SealedKey is a key version's material as the HSM gave it out.
type SealedKey struct {
	Sealed     []byte
	Root       uint32
	Protection Protection
	PublicKey  []byte // DER SubjectPublicKeyInfo of asymmetric keys
}

// Store keeps the keys of one tenant. A write that returned nil is durable. What it cannot do is an error, never a
// silent nothing; only a key that is not there is CodeNotFound.
type Store interface {
	// Key returns the key with that id. The result is shared: nobody changes it.
	Key(ctx context.Context, id KeyID) (*Key, error)
	// CheckNew says whether CreateKey would refuse a new key of that alias now. Only CreateKey's own answer counts; this
	// one spares the HSM a key pair that has no future.
	CheckNew(ctx context.Context, alias string, quota int) error
	// CreateKey stores a new key if its id and its alias are free (CodeAliasExists) and fewer than quota keys exist
	// (CodeQuotaExceeded), all in one transaction.
	CreateKey(ctx context.Context, key *Key, quota int) error
	// UpdateKey runs change on a copy of the key inside one transaction and stores the result; an error of change
	// leaves everything as it was and is returned. change must not touch what the copy's slices point to.
	UpdateKey(ctx context.Context, id KeyID, change func(*Key) error) (*Key, error)
	// ListKeys returns up to limit keys that filter accepts, in order of creation, skipping the first offset of them,
	// and how many filter accepts in all.
	ListKeys(ctx context.Context, filter KeyFilter, offset, limit int) (keys []*Key, total int, err error)
	// CountKeys returns how many keys there are.
	CountKeys(ctx context.Context) (int, error)
	// ReserveMessages durably reserves the next n message numbers of a key version and returns the first of them,
	// from 0. Numbers never come twice, whatever dies in between.
	ReserveMessages(ctx context.Context, id KeyID, version uint32, n uint64) (first uint64, err error)
}

// MessageReleaser is a Store that takes reserved message numbers back.
type MessageReleaser interface {
	// ReleaseMessages gives reserved numbers back that were never used, where no later ones were reserved since.
	ReleaseMessages(ctx context.Context, unused []MessageRange) error
}

// MessageRange is the message numbers of a key version from First up to, but not including, End.
type MessageRange struct {
	ID         KeyID
	Version    uint32
	First, End uint64
}

// KeyFilter selects keys. A zero field accepts every key.
type KeyFilter struct {
	Spec  KeySpec
	State KeyState
}

// Accepts reports whether the filter selects a key of that spec and state.
func (f KeyFilter) Accepts(spec KeySpec, state KeyState) bool {
	return (f.Spec == "" || f.Spec == spec) && (f.State == "" || f.State == state)
}

// Auditor writes the record of every operation. Record returns when the record is durable; if it fails, so does the
// operation, whatever it did.
type Auditor interface {
	Record(ctx context.Context, r *AuditRecord) error
	// Ready reports whether a record could be made durable now. No operation begins while it cannot. It is cheap while
	// all is well.
	Ready(ctx context.Context) error
}

// AuditRecord is one operation as the audit log states it: who, what, which key, decided how, ended how. Never content.
type AuditRecord struct {
	Time      time.Time        `json:"time"`
	RequestID string           `json:"request_id"`
	Operation policy.Operation `json:"operation"`
	Dialect   string           `json:"dialect"`
	Tenant    string           `json:"tenant"`
	Principal string           `json:"principal,omitempty"`
	Caller    policy.Caller    `json:"caller"`
	KeyID     string           `json:"key_id,omitempty"`
	Version   uint32           `json:"version,omitempty"`
	Decision  string           `json:"decision"`          // "allow" or "deny"
	By        string           `json:"by,omitempty"`      // the grant or policy that decided
	Outcome   string           `json:"outcome"`           // "ok" or the core's code
	Latency   int64            `json:"latency_us"`        // microseconds
	Warning   string           `json:"warning,omitempty"` // something an auditor should look at
	Protect   Protection       `json:"protection,omitempty"`
}
