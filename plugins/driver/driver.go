// Package driver is what the author of a Keyside driver imports: the contract driver.v1 as a Go interface, its typed
// errors, the seal record that built-in drivers share, and [Serve], which turns an implementation into a go-plugin
// process.
//
// The messages are those of plugins/driverv1/driver.proto, under this package's own names so that an author needs no
// other import. Byte slices of a request belong to the driver until it returns; those of an answer belong to the caller.
package driver

import (
	"context"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Driver is the contract driver.v1. The PKCS#11 driver, the soft driver, hsmd's Mux and the clients of a driver process
// and of hsmd all implement it, and plugins/drivertest holds each of them to the same tests.
//
// Every method may be called from many goroutines. Errors are *[Error]; any other error counts as Internal. A method
// whose context ends returns soon, with Deadline; work already inside the device may go on.
type Driver interface {
	// Describe returns what the driver can do. The answer does not change during the driver's life.
	Describe(ctx context.Context) (*Description, error)
	// InitTenant makes the tenant's root, mac and audit keys where they are missing. It is idempotent, also after a
	// kill in its midst.
	InitTenant(ctx context.Context, req *InitTenantRequest) (*Tenant, error)
	// DescribeTenant reports the tenant's keys: TenantUnknown where there are none, KeyUnavailable where some are gone.
	DescribeTenant(ctx context.Context, req *DescribeTenantRequest) (*Tenant, error)
	// MakeKey generates a key and returns it sealed. Nothing lasting stays in the HSM.
	MakeKey(ctx context.Context, req *MakeKeyRequest) (*SealedKey, error)
	// MakeWrappingKey generates an RSA key pair for import; its private half comes back sealed.
	MakeWrappingKey(ctx context.Context, req *MakeWrappingKeyRequest) (*SealedKey, error)
	// ImportKey opens material under a wrapping key and returns it sealed. Every fault of the material is BadMaterial.
	ImportKey(ctx context.Context, req *ImportKeyRequest) (*SealedKey, error)
	// Reseal moves a sealed key under the newest root of its tenant.
	Reseal(ctx context.Context, req *ResealRequest) (*SealedKey, error)
	// DestroyKey forgets the live handles of a sealed key. It is idempotent.
	DestroyKey(ctx context.Context, req *DestroyKeyRequest) error
	// Execute does one hot operation for a tenant. Failures of the operation come as the error, and Result.Error is
	// left unset; only the wire uses that field.
	Execute(ctx context.Context, tenant string, op *Op) (*Result, error)
	// Status reports slots, sessions, queues and latencies from memory.
	Status(ctx context.Context) ([]*Member, error)
	// Health does one real operation with the tenant's keys ("" for any tenant the driver knows, or none).
	Health(ctx context.Context, tenant string) error
	// Watch calls fn for each event until the context ends or the driver goes away.
	Watch(ctx context.Context, fn func(*Event)) error
	// Drain refuses new work and waits for what is in flight. The driver is of no use afterwards.
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

// Operations of Execute; driver.proto says what each takes and gives.
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

	// LastOp is the highest of them, for tables that have one place for each.
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

// Labels that separate the uses of a tenant's mac key. A driver prepends them itself; no caller can choose another.
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

// Slow reports whether an operation belongs to the slow lane: asymmetric work, which takes a driver hundreds of
// microseconds, must not stand in front of operations that take ten.
func Slow(kind OpKind) bool {
	return kind == Sign || kind == Derive || kind == AuditSign || kind == DecryptRSA
}
