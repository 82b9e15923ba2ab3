// Package kms is the core of Keyside: keys, versions, states, data keys and their rules, without HTTP, database, driver or
// words of a cloud. Dialects translate requests into calls of a [Service], which uses the interfaces in ports.go.
package kms

import (
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// KeyID identifies a key. Its text form is a lower-case UUID.
type KeyID = uuid.UUID

// KeyUsage is what a key may be used for. It is fixed at creation.
type KeyUsage string

// The key usages.
const (
	EncryptDecrypt    KeyUsage = "ENCRYPT_DECRYPT"
	SignVerify        KeyUsage = "SIGN_VERIFY"
	GenerateVerifyMAC KeyUsage = "GENERATE_VERIFY_MAC"
	KeyAgreement      KeyUsage = "KEY_AGREEMENT"
	Unwrap            KeyUsage = "UNWRAP" // of wrapping keys only
)

// Origin is the source of a key's material.
type Origin string

// The origins.
const (
	OriginKMS      Origin = "kms"
	OriginExternal Origin = "external"
)

// KeyState is the state of a key. Unavailable is never stored: a key is Unavailable while its HSM does not find it.
type KeyState string

// The key states.
const (
	Enabled         KeyState = "Enabled"
	Disabled        KeyState = "Disabled"
	PendingImport   KeyState = "PendingImport"
	PendingDeletion KeyState = "PendingDeletion"
	Archived        KeyState = "Archived" // symmetric ciphertexts can be decrypted, and nothing else
	Unavailable     KeyState = "Unavailable"
)

// KeyStates are all key states.
var KeyStates = []KeyState{Enabled, Disabled, PendingImport, PendingDeletion, Unavailable}

// Protection is what protects a key's material in use, as drivers report it.
type Protection string

// The protections.
const (
	ProtectionHSM              Protection = "hsm"
	ProtectionModuleUnenforced Protection = "module-unenforced"
	ProtectionDriver           Protection = "driver"
)

// SigningAlgorithm is a signature scheme with its hash.
type SigningAlgorithm string

// The signing algorithms. PSS salts are as long as the hash; ECDSA signatures are ASN.1 DER.
const (
	RSAPSSSHA256   SigningAlgorithm = "RSASSA_PSS_SHA_256"
	RSAPSSSHA384   SigningAlgorithm = "RSASSA_PSS_SHA_384"
	RSAPSSSHA512   SigningAlgorithm = "RSASSA_PSS_SHA_512"
	RSAPKCS1SHA256 SigningAlgorithm = "RSASSA_PKCS1_V1_5_SHA_256"
	RSAPKCS1SHA384 SigningAlgorithm = "RSASSA_PKCS1_V1_5_SHA_384"
	RSAPKCS1SHA512 SigningAlgorithm = "RSASSA_PKCS1_V1_5_SHA_512"
	ECDSASHA256    SigningAlgorithm = "ECDSA_SHA_256"
	ECDSASHA384    SigningAlgorithm = "ECDSA_SHA_384"
	ECDSASHA512    SigningAlgorithm = "ECDSA_SHA_512"
)

// EncryptionAlgorithm is how data is encrypted under a key.
type EncryptionAlgorithm string

// The encryption algorithms. The symmetric one is the only one for symmetric keys, and the zero value stands for it.
const (
	SymmetricDefault EncryptionAlgorithm = "SYMMETRIC_DEFAULT"
	RSAOAEPSHA1      EncryptionAlgorithm = "RSAES_OAEP_SHA_1" // MGF1 with the same hash, empty label
	RSAOAEPSHA256    EncryptionAlgorithm = "RSAES_OAEP_SHA_256"
)

// MACAlgorithm is an HMAC with its hash.
type MACAlgorithm string

// The MAC algorithms, one for each HMAC spec.
const (
	HMACSHA256 MACAlgorithm = "HMAC_SHA_256"
	HMACSHA384 MACAlgorithm = "HMAC_SHA_384"
	HMACSHA512 MACAlgorithm = "HMAC_SHA_512"
)

// WrappingAlgorithm is how key material is wrapped for an import.
type WrappingAlgorithm string

// The wrapping algorithms. OAEP has MGF1 with the same hash and an empty label. The last two are PKCS#11's
// CKM_RSA_AES_KEY_WRAP: a temporary AES key under OAEP, followed by the material under that key.
const (
	WrapPKCS1        WrappingAlgorithm = "RSAES_PKCS1_V1_5"
	WrapOAEPSHA1     WrappingAlgorithm = "RSAES_OAEP_SHA_1"
	WrapOAEPSHA256   WrappingAlgorithm = "RSAES_OAEP_SHA_256"
	WrapRSAAESSHA1   WrappingAlgorithm = "RSA_AES_KEY_WRAP_SHA_1"
	WrapRSAAESSHA256 WrappingAlgorithm = "RSA_AES_KEY_WRAP_SHA_256"
)

// Purpose is what a ciphertext contains. The permission to decrypt data does not include data keys, so decryption states the
// purpose that it expects, and the authenticated header of the ciphertext must agree.
type Purpose uint8

// The purposes.
const (
	PurposeData    Purpose = 1
	PurposeDataKey Purpose = 2
)

// Key is a customer master key. A *Key from the store or the service is shared and must not be changed.
type Key struct {
	ID          KeyID
	Alias       string // the name given at creation, unique in the tenant
	Description string
	Spec        KeySpec
	Usage       KeyUsage
	Origin      Origin
	State       KeyState
	CreatedAt   time.Time
	Versions    []KeyVersion // oldest first; the last one encrypts and signs
	Service     string       // the cloud service whose default master key this is, or empty
	DeletionAt  time.Time    // when a key that is PendingDeletion is destroyed; else zero
	Rotation    Rotation
	Tags        []Tag // in the byte order of their keys, each key once
	// CheckValue identifies the material of an external key: a MAC of the tenant of 32 bytes, computed at the first import.
	// No other material can be imported into the key.
	CheckValue        []byte
	MaterialExpiresAt time.Time // when imported material is destroyed; zero means never
	// DeletionClock and ExpiryClock are how the clock was when DeletionAt and MaterialExpiresAt were set.
	DeletionClock, ExpiryClock ClockReading
	// Instance is the name of the KMS instance that the key belongs to, or empty. The material of an instance's key cannot be
	// deleted, and its imports take RSAES_PKCS1_V1_5 and RSAES_OAEP_SHA_256 alone.
	Instance  string
	Protected DeletionProtection
}

// DeletionProtection keeps a key from being scheduled for deletion.
type DeletionProtection struct {
	Enabled     bool
	Description string // why, in the words of who enabled it; empty where Enabled is false
}

// shownCheckValue is the length of the public form of a check value, in bytes.
const shownCheckValue = 8

// ShownCheckValue returns the public form of the key's check value: its first 8 bytes; nil for a key that has none.
func (k *Key) ShownCheckValue() []byte {
	if len(k.CheckValue) < shownCheckValue {
		return nil
	}
	return k.CheckValue[:shownCheckValue]
}

// Rotation is the rotation schedule of a key and its history. It does not change while a key is Disabled or PendingDeletion;
// such a key is not rotated.
type Rotation struct {
	Enabled  bool
	Interval int       // in days; 0 means that none was ever set
	Next     time.Time // when the next rotation is due; zero where Enabled is false
	Last     time.Time // zero means never
	Count    int       // rotations so far
}

// Tag is a name with a value that an operator gave a key.
type Tag = policy.Tag

// IsDefault reports whether the key is a service's default key, which cannot be changed.
func (k *Key) IsDefault() bool { return k.Service != "" }

// CountsMessages reports whether the number of messages that a version of the key can encrypt is limited.
func (k *Key) CountsMessages() bool { return k.Spec.row().kind(k.Usage) == symmetricKey }

// Due returns when the scheduler must act on the key, zero for never: destroy a key that is PendingDeletion, rotate one that
// is Enabled, destroy material that expires. After a jump of the clock, destructions are due later.
func (k *Key) Due() time.Time {
	switch {
	case k.State == PendingDeletion:
		return earlier(k.DeletionAt, k.MaterialExpiresAt)
	case k.State == Enabled && k.Rotation.Enabled:
		return earlier(k.Rotation.Next, k.MaterialExpiresAt)
	}
	return k.MaterialExpiresAt
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// Alias is a further name of a key, unique in the tenant, that can be moved to another key. It is not the key's own Alias.
type Alias struct {
	Name      string
	KeyID     KeyID
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Credential is an access key, which signs requests. The HSM seals its secret.
type Credential struct {
	AccessKey string // 20 characters of A-Z and 0-9
	User      string // the principal's name
	Role      policy.Role
	Service   string // the cloud service that the user acts for, or empty
	CreatedAt time.Time
	Dialects  []string // whose requests it signs; nil: those of all
	Sealed    []byte   // the secret, encrypted under the tenant's credential key, which also authenticates the rest
}

// Token is the record of a short-lived token: its SHA-256, not the token.
type Token struct {
	Hash      [32]byte
	User      string
	Role      policy.Role
	Service   string
	ExpiresAt time.Time
	Sealed    []byte // the hash, encrypted under the tenant's credential key, which also authenticates the rest
}

// Current returns the newest version, or nil for a key without material.
func (k *Key) Current() *KeyVersion {
	if len(k.Versions) == 0 {
		return nil
	}
	return &k.Versions[len(k.Versions)-1]
}

// Version returns the version with that number, or nil.
func (k *Key) Version(n uint32) *KeyVersion {
	for i := range k.Versions {
		if k.Versions[i].Number == n {
			return &k.Versions[i]
		}
	}
	return nil
}

// KeyVersion is one version of a key's material.
type KeyVersion struct {
	Number     uint32 // from 1
	CreatedAt  time.Time
	Sealed     []byte // opaque: only the driver opens it
	Root       uint32 // number of the tenant's root that it is sealed under
	Protection Protection
	PublicKey  []byte     // DER SubjectPublicKeyInfo of asymmetric keys
	OpenedIn   Protection // where imported material was unwrapped: ProtectionHSM or ProtectionDriver; else empty
}

// WrappingPair is an RSA key pair whose public half wraps material for an import into one key.
type WrappingPair struct {
	ID         uuid.UUID
	Spec       KeySpec
	KeyID      KeyID
	CreatedAt  time.Time // when it was issued
	ExpiresAt  time.Time // from then on it is invalid, and destroyed
	Sealed     []byte    // the private half: opaque, only the driver opens it
	Root       uint32
	Protection Protection
	PublicKey  []byte // DER SubjectPublicKeyInfo
}

// Ref returns the reference to the pair's private half.
func (p *WrappingPair) Ref() KeyRef {
	return KeyRef{ID: p.ID, Version: 1, Spec: p.Spec, Usage: Unwrap, Sealed: p.Sealed}
}

// KeyRef identifies a key version to the HSM, with everything that its seal binds.
type KeyRef struct {
	ID      KeyID
	Version uint32
	Spec    KeySpec
	Usage   KeyUsage
	Sealed  []byte
}

// Ref returns the reference to one of the key's versions.
func (k *Key) Ref(v *KeyVersion) KeyRef {
	return KeyRef{ID: k.ID, Version: v.Number, Spec: k.Spec, Usage: k.Usage, Sealed: v.Sealed}
}
