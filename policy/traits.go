package policy

// group is what an operation does, in policies: Action::"use" and Action::"read" stand for all of theirs.
type group string

const (
	use    group = "use"    // of a key's material
	read   group = "read"   // of what is no content
	manage group = "manage" // of keys, grants and credentials
)

// trait is what decisions need to know of an operation. One that is not in the table is refused.
type trait struct {
	group     group
	keyed     bool // it is about a key, on which its decision depends
	grantable bool // a grant may have it
	context   bool // it has an encryption context
}

// The rows.
var (
	encrypting  = trait{group: use, keyed: true, grantable: true, context: true}
	using       = trait{group: use, keyed: true, grantable: true}
	granting    = trait{group: manage, keyed: true, grantable: true}
	readingKey  = trait{group: read, keyed: true}
	changingKey = trait{group: manage, keyed: true}
	reading     = trait{group: read}
	changing    = trait{group: manage}
)

// traits has a row for every operation that a caller can ask for. Grantable are the nine of the user guide (table 2-13),
// and, in Keyside's own words, what else uses a key's material.
var traits = map[Operation]trait{
	OpDescribeKey: {group: read, keyed: true, grantable: true},
	OpCreateGrant: granting, OpRetireGrant: granting,
	OpEncryptData: encrypting, OpDecryptData: encrypting, OpCreateDataKey: encrypting, OpCreateDataKeyNoText: encrypting,
	OpEncryptDataKey: encrypting, OpDecryptDataKey: encrypting,

	OpReEncrypt: encrypting, OpCreateRSAKeyPair: encrypting, OpCreateECKeyPair: encrypting,
	OpSign: using, OpVerify: using, OpGetPublicKey: using, OpGenerateMAC: using, OpVerifyMAC: using, OpDeriveSharedSecret: using,

	OpEnableKey: changingKey, OpDisableKey: changingKey, OpScheduleDeletion: changingKey, OpCancelDeletion: changingKey,
	OpUpdateAlias: changingKey, OpUpdateDescription: changingKey, OpEnableRotation: changingKey, OpUpdateRotation: changingKey,
	OpDisableRotation: changingKey, OpTagKey: changingKey, OpUntagKey: changingKey, OpCreateAlias: changingKey,
	OpDeleteAlias: changingKey, OpAssociateAlias: changingKey, OpRevokeGrant: changingKey,
	OpGetImportParameters: changingKey, OpImportMaterial: changingKey, OpDeleteMaterial: changingKey,

	OpGetRotation: readingKey, OpListKeyTags: readingKey, OpListGrants: readingKey,

	OpListKeys: reading, OpListTags: reading, OpFindKeys: reading, OpListAliases: reading, OpGetInstances: reading,
	OpGetQuotas: reading, OpListCredentials: reading, OpHSMStatus: reading, OpReadAudit: reading, OpListProjects: reading, OpListDomains: reading,
	OpListRetirableGrants: reading, OpCanI: reading, OpCanIForOthers: reading,

	OpCreateKey: changing, OpGenRandom: changing, OpCreateCredential: changing, OpDeleteCredential: changing, OpCreateToken: changing,
}

// AboutKey reports whether an operation is about a key, on which its decision depends.
func (op Operation) AboutKey() bool { return traits[op].keyed }

// Grantable reports whether a grant may have the operation.
func (op Operation) Grantable() bool { return traits[op].grantable }

// HasContext reports whether the operation has an encryption context, which grants can be limited to.
func (op Operation) HasContext() bool { return traits[op].context }
