package kms

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// Clock tells the time. Tests inject their own.
type Clock interface {
	Now() time.Time
}

// HSM is what the core needs from the layers below: the keys of one tenant. Its errors are *Error. The core trusts none of
// its results: it checks lengths, key ids and signatures.
type HSM interface {
	// Supports reports whether keys of this spec and usage can be made; if not, missing names the capability.
	Supports(spec KeySpec, usage KeyUsage) (ok bool, missing string)
	// MakeKey generates the material of a key version; ref.Sealed is empty.
	MakeKey(ctx context.Context, ref KeyRef) (*SealedKey, error)
	// Encrypt encrypts plaintext with AES-GCM under an IV that the HSM generates (12 bytes); ciphertext ends in the 16-byte tag.
	Encrypt(ctx context.Context, key KeyRef, plaintext, aad []byte) (iv, ciphertext []byte, err error)
	// Decrypt decrypts a ciphertext of Encrypt or DataKey; CodeInvalidCiphertext if it is invalid.
	Decrypt(ctx context.Context, key KeyRef, iv, ciphertext, aad []byte) ([]byte, error)
	// DataKey makes n random bytes and returns them both plain and encrypted as Encrypt does.
	DataKey(ctx context.Context, key KeyRef, n int, aad []byte) (plaintext, iv, ciphertext []byte, err error)
	// Sign signs a digest as long as the algorithm's hash.
	Sign(ctx context.Context, key KeyRef, alg SigningAlgorithm, digest []byte) ([]byte, error)
	// Random returns n bytes from the HSM's generator.
	Random(ctx context.Context, n int) ([]byte, error)
	// DecryptRSA decrypts a bare RSA block; CodeInvalidCiphertext for every fault of it.
	DecryptRSA(ctx context.Context, key KeyRef, alg EncryptionAlgorithm, ciphertext []byte) ([]byte, error)
	// MAC returns the HMAC of a message.
	MAC(ctx context.Context, key KeyRef, alg MACAlgorithm, message []byte) ([]byte, error)
	// Derive does ECDH with a peer's public key (DER SubjectPublicKeyInfo, checked by the core to be a point of the
	// key's curve) and returns the shared secret's X coordinate, as long as the curve's field.
	Derive(ctx context.Context, key KeyRef, peer []byte) ([]byte, error)
	// DestroyKey makes the layers below drop their handles of a key version. It is idempotent.
	DestroyKey(ctx context.Context, key KeyRef) error
	// Imports says how material can be imported.
	Imports() Imports
	// MakeWrappingKey generates an RSA key pair for imports; ref.Usage is Unwrap. Nothing lasting stays in the HSM.
	MakeWrappingKey(ctx context.Context, ref KeyRef) (*SealedKey, error)
	// ImportKey unwraps material and seals it as the key that ref names; CodeInvalidKeyMaterial for every fault of the
	// material. Nothing lasting stays in the HSM.
	ImportKey(ctx context.Context, ref KeyRef, m WrappedMaterial) (*SealedKey, error)
	// TenantMAC returns the MAC of data under the tenant's own key, 32 bytes.
	TenantMAC(ctx context.Context, data []byte) ([]byte, error)
}

// Imports is what an HSM can import, and under which wrapping keys.
type Imports struct {
	Algorithms []WrappingAlgorithm
	Specs      []KeySpec
}

// WrappedMaterial is wrapped key material for an import.
type WrappedMaterial struct {
	WrappingKey KeyRef
	Algorithm   WrappingAlgorithm
	Material    []byte // as long as the modulus; under RSA_AES_KEY_WRAP the material under the temporary key follows
	PrivateKey  []byte // for asymmetric keys, but under RSA_AES_KEY_WRAP: PKCS #8 DER under RFC 5649 with the key that Material holds
}

// SealedKey is the sealed material of a key version.
type SealedKey struct {
	Sealed     []byte
	Root       uint32
	Protection Protection
	PublicKey  []byte     // DER SubjectPublicKeyInfo of asymmetric keys
	CheckValue []byte     // of imported material alone: the tenant's MAC over what identifies it, 32 bytes
	OpenedIn   Protection // of imported material alone: where it was unwrapped
}

// Store persists what belongs to the keys of one tenant. For all of its parts: a write that returned nil is durable, every
// failure is an error, and CodeNotFound means only that the entry does not exist. A write whose context has a [Pending] stores its
// audit record in the same transaction.
type Store interface {
	KeyStore
	KeyIndex
	AliasStore
	GrantStore
	MessageStore
	PairStore
	ClockStore
}

// KeyStore persists keys.
type KeyStore interface {
	// Key returns the key with that id. The result is shared and must not be changed.
	Key(ctx context.Context, id KeyID) (*Key, error)
	// Named returns the id of the key whose own Alias this is (CodeNotFound).
	Named(ctx context.Context, alias string) (KeyID, error)
	// CheckNew returns the error with which CreateKey would now refuse a new key of that alias. It spares the HSM a useless
	// key pair; only CreateKey's own answer counts.
	CheckNew(ctx context.Context, alias string, quota int) error
	// CreateKey stores a new key if its id is free, no key has its alias or a name that means the same (CodeAlreadyExists), and
	// fewer than quota keys exist (CodeQuotaExceeded), all in one transaction. Default keys neither count nor are counted.
	CreateKey(ctx context.Context, key *Key, quota int) error
	// UpdateKey runs change on a copy of the key inside one transaction and stores the result. It returns an error of
	// change and then stores nothing. change must replace the copy's slices, not write to them. Neither a new Alias nor a name
	// that means the same may be another key's (CodeAlreadyExists). Versions may be added; the material of versions that change
	// removes or empties is purged as by DestroyKeys before UpdateKey returns.
	UpdateKey(ctx context.Context, id KeyID, change func(*Key) error) (*Key, error)
	// DestroyKeys removes the keys among ids that doomed still accepts, with all that belongs to them (versions, message
	// counts, tags, aliases), in few transactions, and then purges their sealed bytes from the database files: after a nil
	// return, no database file contains them. After a crash, the next Open completes the purge. It returns the keys that
	// were removed, also those removed before an error, as they were. Ids that do not exist are skipped; without any ids,
	// it completes the purge of an earlier call.
	DestroyKeys(ctx context.Context, ids []KeyID, doomed func(*Key) bool) ([]*Key, error)
}

// KeyIndex finds keys by their properties.
type KeyIndex interface {
	// DueKeys returns up to limit ids of keys whose Due is not after now, the earliest first, and when the earliest of
	// the others is due (zero: none is). It answers from memory.
	DueKeys(ctx context.Context, now time.Time, limit int) (ids []KeyID, next time.Time, err error)
	// DueAfter returns the ids of all keys whose Due is after a time.
	DueAfter(ctx context.Context, at time.Time) ([]KeyID, error)
	// ListKeys returns up to limit keys that filter accepts, in order of creation, skipping the first offset of them,
	// and how many filter accepts in all. The keys' versions come without their sealed bytes.
	ListKeys(ctx context.Context, filter KeyFilter, offset, limit int) (keys []*Key, total int, err error)
	// CountKeys returns the number of keys except default keys, and the number of default keys.
	CountKeys(ctx context.Context) (keys, defaults int, err error)
	// ListTags returns the tags that keys have, in byte order, each with its values in byte order. It answers from memory.
	ListTags(ctx context.Context) ([]TagValues, error)
}

// AliasStore persists further aliases of keys. Of the names that mean the same ([SameNames]), all are one key's.
type AliasStore interface {
	// Alias returns the alias of that name (CodeNotFound).
	Alias(ctx context.Context, name string) (*Alias, error)
	// CreateAlias stores a new alias of an existing key (CodeNotFound) that has fewer than limit aliases
	// (CodeQuotaExceeded), if no alias has its name and no other key a name that means the same (CodeAlreadyExists).
	CreateAlias(ctx context.Context, alias Alias, limit int) error
	// MoveAlias assigns an alias (CodeNotFound) to another key (CodeNotFound) that has fewer than limit (CodeQuotaExceeded), if all
	// other names that mean the same are that key's (CodeAlreadyExists).
	MoveAlias(ctx context.Context, name string, target KeyID, at time.Time, limit int) (*Alias, error)
	// DeleteAliases removes aliases of a key, all or none: CodeNotFound if one does not exist or is another key's.
	DeleteAliases(ctx context.Context, key KeyID, names []string) error
	// NameConflicts returns the names of a key with those of other keys that mean the same. Databases of earlier versions have some.
	NameConflicts(ctx context.Context, id KeyID) ([]NameConflict, error)
	// ListAliases returns up to limit aliases in the byte order of their names, of one key or (nil) of all, that come
	// after a name ("" for the first), and whether there are more.
	ListAliases(ctx context.Context, key *KeyID, after string, limit int) (aliases []*Alias, more bool, err error)
}

// GrantStore persists grants. Its reads answer from memory, which holds exactly what is durable.
type GrantStore interface {
	// Grants returns the grants of a key in order of creation. The result is shared and must not be changed.
	Grants(id KeyID) []*policy.Grant
	// FindGrants returns up to limit of the grants that accept takes, skipping the first offset of them, and how many it
	// takes in all, in the order of their keys' ids and then of creation.
	FindGrants(accept func(*policy.Grant) bool, offset, limit int) (grants []*policy.Grant, total int)
	// MostGrants returns the number of grants of the key that has the most.
	MostGrants() int
	// ChangeGrants runs change on a key (CodeNotFound), which comes without its material, and on its grants, inside one
	// transaction. The grants that change returns replace those of the key: new ones are stored, missing ones removed. It
	// returns an error of change and then stores nothing. Destroying a key removes its grants.
	ChangeGrants(ctx context.Context, id KeyID, change func(*Key, []*policy.Grant) ([]*policy.Grant, error)) error
}

// MessageStore reserves message numbers of key versions.
type MessageStore interface {
	// ReserveMessages durably reserves the next n message numbers of a key version and returns the first of them, from 0;
	// CodeNotFound if the key does not exist. No number is returned twice, whichever process crashes.
	ReserveMessages(ctx context.Context, id KeyID, version uint32, n uint64) (first uint64, err error)
	// ReservedMessages returns how many message numbers of a key version are reserved or were used.
	ReservedMessages(ctx context.Context, id KeyID, version uint32) (uint64, error)
	// MessageCounts calls visit for each key version with message numbers that are reserved or were used.
	MessageCounts(ctx context.Context, visit func(id KeyID, version uint32, reserved uint64) error) error
	// ReleaseMessages returns reserved numbers that were never used, if no later ones were reserved since.
	ReleaseMessages(ctx context.Context, unused []MessageRange) error
	// AdvanceMessages durably skips the next n message numbers of every key version. It has one audit record, in its last transaction.
	AdvanceMessages(ctx context.Context, n uint64) error
}

// PairStore persists wrapping pairs.
type PairStore interface {
	// CreatePair stores a wrapping pair that is issued for a key. The oldest other pairs of the key expire, so that no more
	// than limit are valid.
	CreatePair(ctx context.Context, p *WrappingPair, limit int) error
	// Pair returns a wrapping pair, expired or not (CodeNotFound).
	Pair(ctx context.Context, id uuid.UUID) (*WrappingPair, error)
	// DestroyPairs removes up to limit pairs that expired by now, and purges their sealed halves as DestroyKeys does. It
	// returns them, and when the first of the others expires (zero: there are no others).
	DestroyPairs(ctx context.Context, now time.Time, limit int) (gone []*WrappingPair, next time.Time, err error)
}

// ClockStore persists the mark of the clock.
type ClockStore interface {
	// ClockMark returns the mark, the zero value where none was stored.
	ClockMark(ctx context.Context) (ClockMark, error)
	// SetClockMark replaces the mark.
	SetClockMark(ctx context.Context, m ClockMark) error
}

// CredentialStore persists access keys and tokens, with the guarantees of [Store].
type CredentialStore interface {
	// CredentialKey returns the tenant's credential key: a sealed AES-256 key that encrypts the secrets, and that no list of
	// keys shows (CodeNotFound).
	CredentialKey(ctx context.Context) (*Key, error)
	// CreateCredentialKey stores the credential key if none exists, and returns the stored one.
	CreateCredentialKey(ctx context.Context, key *Key) (*Key, error)
	// CreateCredential stores a new access key if fewer than quota exist (CodeQuotaExceeded).
	CreateCredential(ctx context.Context, c *Credential, quota int) error
	// Credential returns an access key (CodeNotFound).
	Credential(ctx context.Context, accessKey string) (*Credential, error)
	// ListCredentials returns all access keys in order of creation.
	ListCredentials(ctx context.Context) ([]*Credential, error)
	// DeleteCredential removes an access key (CodeNotFound), and with it all tokens of its user, or with allTokens all tokens.
	DeleteCredential(ctx context.Context, accessKey string, allTokens bool) error
	// CreateToken stores a new token, and removes those that expired before now.
	CreateToken(ctx context.Context, t *Token, now time.Time) error
	// Token returns the token with that SHA-256 (CodeNotFound).
	Token(ctx context.Context, hash [32]byte) (*Token, error)
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
	// Tags selects the keys that have each of these tags, with one of its values (none: with any value).
	Tags []TagValues
	// Name selects the keys whose Alias contains this text, ignoring case.
	Name string
}

// Accepts reports whether the filter selects the key.
func (f KeyFilter) Accepts(k *Key) bool {
	if (f.Spec != "" && f.Spec != k.Spec) || (f.State != "" && f.State != k.State) ||
		!strings.Contains(strings.ToLower(k.Alias), strings.ToLower(f.Name)) {
		return false
	}
	for _, want := range f.Tags {
		if !slices.ContainsFunc(k.Tags, func(t Tag) bool {
			return t.Key == want.Key && (len(want.Values) == 0 || slices.Contains(want.Values, t.Value))
		}) {
			return false
		}
	}
	return true
}

// TagValues is a tag key with some values.
type TagValues struct {
	Key    string
	Values []string
}

// Auditor records every operation. Record returns when the record is durable. If it fails, an operation without a change fails as
// well. The record of a change is already durable in the store, and must be in the log before Ready returns nil again.
type Auditor interface {
	Record(ctx context.Context, r *AuditRecord) error
	// Line returns the line of the log as which Record writes a record.
	Line(r *AuditRecord) []byte
	// Ready returns an error if a record could not be made durable now. No operation starts then. It is cheap without an
	// error.
	Ready(ctx context.Context) error
}

// AuditRecord is the audit record of one operation: time, caller, principal, key, decision and outcome, but no content.
type AuditRecord struct {
	// InFlight is the number of other operations whose records are still to be written: a log that syncs several at a time
	// may wait for some. It is no part of the record.
	InFlight int `json:"-"`
	// Next is another record of the same change, written together with this one; nil for the last. It is no part of the record.
	Next *AuditRecord `json:"-"`

	Time      time.Time        `json:"time"`
	RequestID string           `json:"request_id"`
	Operation policy.Operation `json:"operation"`
	Trace     string           `json:"trace,omitempty"` // the operation's name in the cloud's trace service
	Dialect   string           `json:"dialect"`
	Tenant    string           `json:"tenant"`
	Principal string           `json:"principal,omitempty"`
	AccessKey string           `json:"access_key,omitempty"` // that signed the request or was claimed to
	Caller    policy.Caller    `json:"caller"`
	KeyID     string           `json:"key_id,omitempty"`
	Version   uint32           `json:"version,omitempty"`
	Decision  string           `json:"decision"`                     // "allow" or "deny"
	By        string           `json:"by,omitempty"`                 // the role, grant or policy that decided; several are joined by ", "
	Missing   policy.Operation `json:"missing_permission,omitempty"` // permission that the caller would need
	Outcome   string           `json:"outcome"`                      // "ok", a Code, or "begun" before an irreversible act
	Reason    Reason           `json:"reason,omitempty"`             // of the error
	Latency   int64            `json:"latency_us"`                   // microseconds
	Warning   string           `json:"warning,omitempty"`            // for auditors to check
	Protect   Protection       `json:"protection,omitempty"`
	OpenedIn  Protection       `json:"opened_in,omitempty"` // where imported material was unwrapped
	// SourceKeyID and SourceVersion are the key that a re-encryption decrypted with; KeyID is then the one it encrypted with.
	SourceKeyID   string `json:"source_key_id,omitempty"`
	SourceVersion uint32 `json:"source_version,omitempty"`
	Target        string `json:"target,omitempty"` // what the operation is about besides a key: an access key, a user, an alias; for imports, the wrapping key
	// Change is the number of the transaction that made the operation's change; 0: it changed nothing. PreviousChange is that of the
	// record before: numbers between them belong to transactions without a record.
	Change         uint64 `json:"change,omitempty"`
	PreviousChange uint64 `json:"previous_change,omitempty"`
}
