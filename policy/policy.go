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

	OpGetImportParameters Operation = "get-parameters-for-import"
	OpImportMaterial      Operation = "import-key-material"
	OpDeleteMaterial      Operation = "delete-imported-key-material"

	OpGetInstances Operation = "show-user-instances"
	OpGetQuotas    Operation = "show-user-quotas"

	OpCreateCredential Operation = "create-credential"
	OpListCredentials  Operation = "list-credentials"
	OpDeleteCredential Operation = "delete-credential"
	OpCreateToken      Operation = "create-token"

	// What a cloud's SDK asks before its first operation, to learn where it is.
	OpListProjects Operation = "list-projects"
	OpListDomains  Operation = "list-domains"

	// What the scheduler does by itself, on record like everything else. No caller may ask for them.
	OpRotateKey      Operation = "rotate-key"
	OpDestroyKey     Operation = "destroy-key"
	OpExpireMaterial Operation = "expire-key-material"
)

// Operations lists every operation that a caller can ask for; an operation outside it is refused.
var Operations = []Operation{
	OpCreateKey, OpDescribeKey, OpListKeys, OpEnableKey, OpDisableKey, OpEncryptData, OpDecryptData, OpCreateDataKey,
	OpCreateDataKeyNoText, OpEncryptDataKey, OpDecryptDataKey, OpGenRandom, OpSign, OpVerify, OpGetPublicKey, OpHSMStatus,
	OpScheduleDeletion, OpCancelDeletion, OpUpdateAlias, OpUpdateDescription,
	OpReEncrypt, OpCreateRSAKeyPair, OpCreateECKeyPair, OpGenerateMAC, OpVerifyMAC, OpDeriveSharedSecret,
	OpEnableRotation, OpUpdateRotation, OpDisableRotation, OpGetRotation,
	OpTagKey, OpUntagKey, OpListKeyTags, OpListTags, OpFindKeys,
	OpCreateAlias, OpListAliases, OpDeleteAlias, OpAssociateAlias,
	OpGetImportParameters, OpImportMaterial, OpDeleteMaterial, OpGetInstances, OpGetQuotas,
	OpCreateCredential, OpListCredentials, OpDeleteCredential, OpCreateToken, OpListProjects, OpListDomains,
}

// Scheduled lists what the scheduler does by itself; no caller can ask for it.
var Scheduled = []Operation{OpRotateKey, OpDestroyKey, OpExpireMaterial}

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

// Users maps the uids of callers to principals while there are no grants. Every other caller is nobody, and so is one
// that no kernel vouches for.
type Users map[uint32]Principal

// Principal returns who the caller is.
func (u Users) Principal(c Caller) Principal {
	if !c.Known {
		return Principal{}
	}
	return u[c.UID]
}

// Decision is the answer of Decide.
type Decision struct {
	Allow  bool
	By     string // the grant or policy that decided
	Reason string // for a refusal: what is missing
	// Service limits what is allowed to the default master key of this cloud service; On says what that means for a
	// key. Empty: there is no limit.
	Service string
}

// On returns the decision for one key, where service is the cloud service whose default master key it is, or empty.
func (d Decision) On(service string) Decision {
	if d.Allow && d.Service != "" && d.Service != service {
		return Decision{Reason: "not the default key of " + d.Service}
	}
	return d
}

func set(ops ...Operation) map[Operation]bool {
	m := make(map[Operation]bool, len(ops))
	for _, op := range ops {
		m[op] = true
	}
	return m
}

var (
	known = set(Operations...)
	// ofAnybody is what every principal may do: it tells nothing that GET /healthz does not.
	ofAnybody = set(OpListProjects, OpListDomains)
	// ofServices is what a cloud service does with its default master key.
	ofServices = set(OpDescribeKey, OpEncryptData, OpDecryptData, OpCreateDataKey, OpCreateDataKeyNoText,
		OpEncryptDataKey, OpDecryptDataKey)
)

// Decide answers whether a principal may do an operation. What no rule allows is refused. A decision with a Service
// holds only for the keys that On accepts.
func Decide(p Principal, op Operation) Decision {
	switch {
	case !known[op]:
		return Decision{Reason: "unknown operation " + string(op)}
	case p.Name == "":
		return Decision{Reason: "no principal for this caller"}
	case p.Administrator:
		return Decision{Allow: true, By: "administrator"}
	case ofAnybody[op]:
		return Decision{Allow: true, By: "any principal"}
	case p.Service != "" && ofServices[op]:
		return Decision{Allow: true, By: "service", Service: p.Service}
	default:
		return Decision{Reason: "missing permission " + string(op)}
	}
}
