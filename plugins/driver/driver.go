// Package driver has everything that the author of a Keyside driver imports: the contract driver.v1 as the interface [Driver], its
// typed errors, the table of key specs, a [Checker] for requests, the [SealRecord] that built-in drivers use, and [Serve], which
// runs an implementation as a go-plugin process.
//
// The messages are those of plugins/driverv1/driver.proto under names of this package, so that authors need no other import.
// Byte slices of a request belong to the driver until it returns; those of an answer belong to the caller.
package driver

import (
	"context"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Driver is the contract driver.v1. The PKCS#11 driver, the soft driver, hsmd's Mux and the clients of a driver process
// and of hsmd implement it; plugins/drivertest runs the same tests on each of them.
//
// Methods are safe for concurrent use. Errors are *[Error]; any other error counts as Internal. A method returns Deadline
// within seconds after its context ends; work in the device may continue.
type Driver interface {
	// Describe returns what the driver can do. The answer never changes.
	Describe(ctx context.Context) (*Description, error)
	// InitTenant creates those of the tenant's root, MAC and audit keys that do not exist. It is idempotent, also after the
	// process was killed during a call.
	InitTenant(ctx context.Context, req *InitTenantRequest) (*Tenant, error)
	// DescribeTenant reports the tenant's keys. It returns TenantUnknown if none exists and KeyUnavailable if only some do.
	DescribeTenant(ctx context.Context, req *DescribeTenantRequest) (*Tenant, error)
	// MakeKey generates a key and returns it sealed. It leaves no token object in the HSM.
	MakeKey(ctx context.Context, req *MakeKeyRequest) (*SealedKey, error)
	// MakeWrappingKey generates an RSA key pair for imports and returns its private key sealed.
	MakeWrappingKey(ctx context.Context, req *MakeWrappingKeyRequest) (*SealedKey, error)
	// ImportKey opens material with a wrapping key and returns it sealed. Every fault of the material is BadMaterial.
	ImportKey(ctx context.Context, req *ImportKeyRequest) (*SealedKey, error)
	// Reseal seals a sealed key again under the newest root of its tenant.
	Reseal(ctx context.Context, req *ResealRequest) (*SealedKey, error)
	// DestroyKey removes a sealed key from the driver's cache. It is idempotent. The caller deletes the sealed bytes.
	DestroyKey(ctx context.Context, req *DestroyKeyRequest) error
	// Execute runs one operation for a tenant. It returns failures as the error; Result.Error is for the wire only.
	Execute(ctx context.Context, tenant string, op *Op) (*Result, error)
	// Status reports slots, sessions, queues and latencies from memory, without calling the device.
	Status(ctx context.Context) ([]*Member, error)
	// Health runs one operation with the tenant's keys. With "" it uses any tenant, or none if no tenant exists.
	Health(ctx context.Context, tenant string) error
	// Watch calls fn for each event until the context ends or the driver exits.
	Watch(ctx context.Context, fn func(*Event)) error
	// Drain refuses new calls and waits for those in flight. The driver cannot be used afterwards.
	Drain(ctx context.Context) error
}

// The messages of the contract.
type (
	Algorithm              = driverv1.Algorithm
	Capability             = driverv1.Capability
	DescribeTenantRequest  = driverv1.DescribeTenantRequest
	Description            = driverv1.Description
	DestroyKeyRequest      = driverv1.DestroyKeyRequest
	Event                  = driverv1.Event
	ImportKeyRequest       = driverv1.ImportKeyRequest
	InitTenantRequest      = driverv1.InitTenantRequest
	KeyIdentity            = driverv1.KeyIdentity
	KeySpec                = driverv1.KeySpec
	KeyUsage               = driverv1.KeyUsage
	Latency                = driverv1.Latency
	MakeKeyRequest         = driverv1.MakeKeyRequest
	MakeWrappingKeyRequest = driverv1.MakeWrappingKeyRequest
	Member                 = driverv1.Member
	Op                     = driverv1.Op
	OpKind                 = driverv1.OpKind
	Protection             = driverv1.Protection
	ResealRequest          = driverv1.ResealRequest
	Result                 = driverv1.Result
	SealedKey              = driverv1.SealedKey
	Tenant                 = driverv1.Tenant
)

// Operations of Execute. driver.proto documents their fields.
const (
	Encrypt    = driverv1.OpKind_ENCRYPT
	Decrypt    = driverv1.OpKind_DECRYPT
	Sign       = driverv1.OpKind_SIGN
	MAC        = driverv1.OpKind_MAC
	VerifyMAC  = driverv1.OpKind_VERIFY_MAC
	Random     = driverv1.OpKind_RANDOM
	DataKey    = driverv1.OpKind_DATA_KEY
	TenantMAC  = driverv1.OpKind_TENANT_MAC
	AuditSign  = driverv1.OpKind_AUDIT_SIGN
	Derive     = driverv1.OpKind_DERIVE
	DecryptRSA = driverv1.OpKind_DECRYPT_RSA

	// LastOp is the highest operation, for arrays that have one element per operation.
	LastOp = DecryptRSA
)

// Key usages.
const (
	EncryptDecrypt    = driverv1.KeyUsage_ENCRYPT_DECRYPT
	SignVerify        = driverv1.KeyUsage_SIGN_VERIFY
	GenerateVerifyMAC = driverv1.KeyUsage_GENERATE_VERIFY_MAC
	KeyAgreement      = driverv1.KeyUsage_KEY_AGREEMENT
	Unwrap            = driverv1.KeyUsage_UNWRAP
)

// Algorithms.
const (
	AESGCM              = driverv1.Algorithm_AES_GCM
	OAEPSHA1            = driverv1.Algorithm_RSAES_OAEP_SHA_1
	OAEPSHA256          = driverv1.Algorithm_RSAES_OAEP_SHA_256
	PKCS1v15            = driverv1.Algorithm_RSAES_PKCS1_V1_5
	RSAAESKeyWrapSHA1   = driverv1.Algorithm_RSA_AES_KEY_WRAP_SHA_1
	RSAAESKeyWrapSHA256 = driverv1.Algorithm_RSA_AES_KEY_WRAP_SHA_256
	PKCS1v15SHA256      = driverv1.Algorithm_RSASSA_PKCS1_V1_5_SHA_256
	PKCS1v15SHA384      = driverv1.Algorithm_RSASSA_PKCS1_V1_5_SHA_384
	PKCS1v15SHA512      = driverv1.Algorithm_RSASSA_PKCS1_V1_5_SHA_512
	PSSSHA256           = driverv1.Algorithm_RSASSA_PSS_SHA_256
	PSSSHA384           = driverv1.Algorithm_RSASSA_PSS_SHA_384
	PSSSHA512           = driverv1.Algorithm_RSASSA_PSS_SHA_512
	ECDSASHA256         = driverv1.Algorithm_ECDSA_SHA_256
	ECDSASHA384         = driverv1.Algorithm_ECDSA_SHA_384
	ECDSASHA512         = driverv1.Algorithm_ECDSA_SHA_512
	HMACSHA256          = driverv1.Algorithm_HMAC_SHA_256
	HMACSHA384          = driverv1.Algorithm_HMAC_SHA_384
	HMACSHA512          = driverv1.Algorithm_HMAC_SHA_512
	ECDH                = driverv1.Algorithm_ECDH
)

// Protections.
const (
	ProtectionHSM     = driverv1.Protection_HSM
	ModuleUnenforced  = driverv1.Protection_MODULE_UNENFORCED
	ProtectionProcess = driverv1.Protection_DRIVER_PROCESS
)

// Labels that separate the uses of a tenant's MAC key. Drivers prepend them; callers cannot choose others.
const (
	// SealMACLabel precedes the authenticated bytes of a seal record.
	SealMACLabel = "keyside seal v1\x00"
	// CheckValueMACLabel precedes a material's check value.
	CheckValueMACLabel = "keyside check value v1\x00"
	// TenantMACLabel precedes the data of a TenantMAC operation.
	TenantMACLabel = "keyside tenant mac v1\x00"
)

// Sizes of the contract, in bytes.
const (
	KeyIDSize  = 16
	GCMIVSize  = 12
	GCMTagSize = 16
	MACSize    = 32
)

// Slow reports whether an operation belongs to the slow lane: asymmetric operations take hundreds of microseconds and must not
// delay those that take ten.
func Slow(kind OpKind) bool {
	return kind == Sign || kind == Derive || kind == AuditSign || kind == DecryptRSA
}
