package dialect

import (
	"context"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Gate is what the kernel itself needs of the core. *kms.Service implements it and every interface below; the core
// authorizes and audits each operation. A dialect declares the interface of its core from those that it uses.
type Gate interface {
	// Refuse records an operation that the dialect refuses, or a request for no operation (kms.OpUnserved). It returns err,
	// or the error of the record.
	Refuse(ctx context.Context, op policy.Operation, err error) error
	// Authenticate and AuthenticateToken return the principal of an access key and of a token. They record nothing: the
	// kernel records a refusal with the operation that the request asks for.
	Authenticate(ctx context.Context, accessKey string, verify func(secret []byte) bool) (policy.Principal, error)
	AuthenticateToken(ctx context.Context, token string) (policy.Principal, error)
	// Admit authorizes and records an operation that the dialect does by itself.
	Admit(ctx context.Context, op policy.Operation) error
}

// Keys creates, finds and describes keys.
type Keys interface {
	CreateKey(ctx context.Context, in kms.CreateKeyInput) (*kms.Key, error)
	DescribeKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	ListKeys(ctx context.Context, in kms.ListKeysInput) (*kms.KeyPage, error)
	FindKeys(ctx context.Context, in kms.FindKeysInput) (*kms.KeyPage, error)
	UpdateAlias(ctx context.Context, id kms.KeyID, alias string) (*kms.Key, error)
	UpdateDescription(ctx context.Context, id kms.KeyID, description string) (*kms.Key, error)
	SetDeletionProtection(ctx context.Context, id kms.KeyID, p kms.DeletionProtection) (*kms.Key, error)
	Quotas(ctx context.Context) (*kms.Usage, error)
	CountKeys(ctx context.Context) (int, error)
	Instances(ctx context.Context) ([]kms.Instance, error)
	CanMake(spec kms.KeySpec, usage kms.KeyUsage) bool
}

// LifeCycle changes the states of keys.
type LifeCycle interface {
	EnableKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	DisableKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	ArchiveKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	ScheduleKeyDeletion(ctx context.Context, id kms.KeyID, days int) (*kms.Key, error)
	CancelKeyDeletion(ctx context.Context, id kms.KeyID) (*kms.Key, error)
}

// Rotation plans the rotation of keys.
type Rotation interface {
	EnableRotation(ctx context.Context, id kms.KeyID, interval int) (*kms.Key, error)
	UpdateRotation(ctx context.Context, id kms.KeyID, interval int) (*kms.Key, error)
	SetRotation(ctx context.Context, id kms.KeyID, enabled bool, interval int) (*kms.Key, error)
	CreateKeyVersion(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	RotateKey(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	DisableRotation(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	RotationStatus(ctx context.Context, id kms.KeyID) (*kms.Key, error)
}

// Crypto encrypts and decrypts data, and generates random bytes.
type Crypto interface {
	Encrypt(ctx context.Context, in kms.EncryptInput) (*kms.EncryptOutput, error)
	Decrypt(ctx context.Context, in kms.DecryptInput) (*kms.DecryptOutput, error)
	ReEncrypt(ctx context.Context, in kms.ReEncryptInput) (*kms.ReEncryptOutput, error)
	Random(ctx context.Context, bytes int) ([]byte, error)
}

// DataKeys generates, encrypts and decrypts data keys and data key pairs.
type DataKeys interface {
	GenerateDataKey(ctx context.Context, in kms.DataKeyInput) (*kms.DataKeyOutput, error)
	EncryptDataKey(ctx context.Context, in kms.EncryptInput) (*kms.EncryptOutput, error)
	DecryptDataKey(ctx context.Context, in kms.DecryptInput) (*kms.DecryptOutput, error)
	GenerateDataKeyPair(ctx context.Context, in kms.DataKeyPairInput) (*kms.DataKeyPairOutput, error)
}

// Signatures uses asymmetric keys and MAC keys.
type Signatures interface {
	Sign(ctx context.Context, in kms.SignInput) (*kms.SignOutput, error)
	Verify(ctx context.Context, in kms.VerifyInput) (bool, error)
	PublicKey(ctx context.Context, id kms.KeyID) (*kms.PublicKeyOutput, error)
	PublicKeyOf(ctx context.Context, id kms.KeyID, version uint32) (*kms.PublicKeyOutput, error)
	GenerateMAC(ctx context.Context, in kms.MACInput) ([]byte, error)
	VerifyMAC(ctx context.Context, in kms.MACInput, mac []byte) (bool, error)
	DeriveSharedSecret(ctx context.Context, in kms.DeriveInput) ([]byte, error)
}

// Tags sets, deletes and lists tags.
type Tags interface {
	SetTags(ctx context.Context, id kms.KeyID, tags []kms.Tag) (*kms.Key, error)
	DeleteTags(ctx context.Context, id kms.KeyID, keys []string, strict bool) (*kms.Key, error)
	KeyTags(ctx context.Context, id kms.KeyID) (*kms.Key, error)
	ListTags(ctx context.Context) ([]kms.TagValues, error)
}

// Aliases names keys, and resolves their names.
type Aliases interface {
	Resolve(ctx context.Context, op policy.Operation, name string) (kms.KeyID, error)
	CreateAlias(ctx context.Context, id kms.KeyID, name string) (*kms.Alias, error)
	AssociateAlias(ctx context.Context, name string, target kms.KeyID) (*kms.Alias, error)
	DeleteAliases(ctx context.Context, id kms.KeyID, names []string) error
	ListAliases(ctx context.Context, in kms.ListAliasesInput) (*kms.AliasPage, error)
}

// Grants creates, lists and ends grants.
type Grants interface {
	CreateGrant(ctx context.Context, in kms.CreateGrantInput) (*policy.Grant, error)
	ListGrants(ctx context.Context, id kms.KeyID, offset, limit int) (*kms.GrantPage, error)
	ListRetirableGrants(ctx context.Context, offset, limit int) (*kms.GrantPage, error)
	RevokeGrant(ctx context.Context, key kms.KeyID, id string) error
	RetireGrant(ctx context.Context, key kms.KeyID, id string) error
}

// Imports imports key material.
type Imports interface {
	GetImportParameters(ctx context.Context, in kms.ImportParametersInput) (*kms.ImportParameters, error)
	ImportKeyMaterial(ctx context.Context, in kms.ImportInput) (*kms.Key, error)
	DeleteImportedKeyMaterial(ctx context.Context, id kms.KeyID) (*kms.Key, error)
}
