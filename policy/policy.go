// Package policy decides who may do what. It is pure: functions over values, no I/O, no clock.
package policy

// Operation is one thing that a principal can do. The names are those of the Huawei guide's grant operations where the
// guide has one.
type Operation string

// The operations.
const (
	OpCreateKey           Operation = "create-key"
	OpDescribeKey         Operation = "describe-key"
	OpListKeys            Operation = "list-keys"
	OpEnableKey           Operation = "enable-key"
	OpDisableKey          Operation = "disable-key"
	OpEncryptData         Operation = "encrypt-data"
	OpDecryptData         Operation = "decrypt-data"
	OpCreateDataKey       Operation = "create-datakey"
	OpCreateDataKeyNoText Operation = "create-datakey-without-plaintext"
	OpEncryptDataKey      Operation = "encrypt-datakey"
	OpDecryptDataKey      Operation = "decrypt-datakey"
	OpGenRandom           Operation = "gen-random"
	OpSign                Operation = "sign"
	OpVerify              Operation = "verify"
	OpGetPublicKey        Operation = "get-publickey"
	OpHSMStatus           Operation = "hsm-status"

	OpScheduleDeletion  Operation = "schedule-key-deletion"
	OpCancelDeletion    Operation = "cancel-key-deletion"
	OpUpdateAlias       Operation = "update-key-alias"
	OpUpdateDescription Operation = "update-key-description"

	OpReEncrypt          Operation = "re-encrypt"
	OpCreateRSAKeyPair   Operation = "create-rsa-datakey-pair"
	OpCreateECKeyPair    Operation = "create-ec-datakey-pair"
	OpGenerateMAC        Operation = "generate-mac"
	OpVerifyMAC          Operation = "verify-mac"
	OpDeriveSharedSecret Operation = "derive-shared-secret"

	OpEnableRotation  Operation = "enable-key-rotation"
	OpUpdateRotation  Operation = "update-key-rotation-interval"
	OpDisableRotation Operation = "disable-key-rotation"
	OpGetRotation     Operation = "get-key-rotation-status"

	OpTagKey      Operation = "create-key-tag"
	OpUntagKey    Operation = "delete-key-tag"
	OpListKeyTags Operation = "list-key-tags"
	OpListTags    Operation = "list-tags"
	OpFindKeys    Operation = "list-resource-instances"

	OpCreateAlias    Operation = "create-alias"
	OpListAliases    Operation = "list-aliases"
	OpDeleteAlias    Operation = "delete-alias"
	OpAssociateAlias Operation = "associate-alias"

	OpGetInstances Operation = "show-user-instances"
	OpGetQuotas    Operation = "show-user-quotas"

	OpCreateCredential Operation = "create-credential"
	OpListCredentials  Operation = "list-credentials"
	OpDeleteCredential Operation = "delete-credential"
	OpCreateToken      Operation = "create-token"

	// What the scheduler does by itself, on record like everything else. No caller may ask for them.
	OpRotateKey  Operation = "rotate-key"
	OpDestroyKey Operation = "destroy-key"
)

// Operations lists every operation that a caller can ask for; an operation outside it is refused.
var Operations = []Operation{
	OpCreateKey, OpDescribeKey, OpListKeys, OpEnableKey, OpDisableKey, OpEncryptData, OpDecryptData, OpCreateDataKey,
	OpCreateDataKeyNoText, OpEncryptDataKey, OpDecryptDataKey, OpGenRandom, OpSign, OpVerify, OpGetPublicKey, OpHSMStatus,
	OpScheduleDeletion, OpCancelDeletion, OpUpdateAlias, OpUpdateDescription,
	OpReEncrypt, OpCreateRSAKeyPair, OpCreateECKeyPair, OpGenerateMAC, OpVerifyMAC, OpDeriveSharedSecret,
	OpEnableRotation, OpUpdateRotation, OpDisableRotation, OpGetRotation,
	OpTagKey, OpUntagKey, OpListKeyTags, OpListTags, OpFindKeys,
	OpCreateAlias, OpListAliases, OpDeleteAlias, OpAssociateAlias, OpGetInstances, OpGetQuotas,
	OpCreateCredential, OpListCredentials, OpDeleteCredential, OpCreateToken,
}

// Scheduled lists what the scheduler does by itself; no caller can ask for it.
var Scheduled = []Operation{OpRotateKey, OpDestroyKey}

// Caller is what the kernel says of the process at the other end of a connection.
type Caller struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
	PID int32  `json:"pid"`
	// Known is false where no kernel vouches for the caller, as on localhost; such a caller is nobody.
	Known bool `json:"known"`
}

// Principal is who a caller is taken to be. The zero Principal is nobody.
type Principal struct {
	Name          string
	Administrator bool
	Service       string // the cloud service that it stands for (obs, evs, ims, …), or empty
}

// Owner maps callers to principals while there are no grants: the owner's uid is the administrator, everyone else nobody.
type Owner struct {
	UID uint32
}

// Principal returns who the caller is.
func (o Owner) Principal(c Caller) Principal {
	if c.Known && c.UID == o.UID {
		return Principal{Name: "owner", Administrator: true}
	}
	return Principal{}
}

// Decision is the answer of Decide.
type Decision struct {
	Allow  bool
	By     string // the grant or policy that decided
	Reason string // for a refusal: what is missing
}

// known is Operations as a set.
var known = func() map[Operation]bool {
	m := make(map[Operation]bool, len(Operations))
	for _, op := range Operations {
		m[op] = true
	}
	return m
}()

// Decide answers whether a principal may do an operation. What no rule allows is refused.
func Decide(p Principal, op Operation) Decision {
	switch {
	case !known[op]:
		return Decision{Reason: "unknown operation " + string(op)}
	case p.Name == "":
		return Decision{Reason: "no principal for this caller"}
	case p.Administrator:
		return Decision{Allow: true, By: "administrator"}
	default:
		return Decision{Reason: "missing permission " + string(op)}
	}
}
