package policy

import (
	"cmp"
	"strings"

	"github.com/keyside/keyside/policy/spelling"
)

// Operation is one thing that a principal can do. Its value is the stored name: it stands in grants, Cedar policies and
// audit records, and never changes. Most values follow the grant operations of the Huawei KMS user guide (table 2-13).
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
	OpReadAudit           Operation = "read-audit-log"

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

	OpSetDeletionProtection Operation = "set-deletion-protection"
	OpCreateKeyVersion      Operation = "create-key-version"

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

	OpCreateGrant         Operation = "create-grant"
	OpListGrants          Operation = "list-grants"
	OpListRetirableGrants Operation = "list-retirable-grants"
	OpRevokeGrant         Operation = "revoke-grant"
	OpRetireGrant         Operation = "retire-grant"

	OpCanI          Operation = "can-i"
	OpCanIForOthers Operation = "can-i-for-others"

	OpGetInstances Operation = "show-user-instances"
	OpGetQuotas    Operation = "show-user-quotas"

	OpCreateCredential Operation = "create-credential"
	OpListCredentials  Operation = "list-credentials"
	OpDeleteCredential Operation = "delete-credential"
	OpCreateToken      Operation = "create-token"
	OpCreateTokenFor   Operation = "create-token-for-others"

	OpCreateBackup     Operation = "create-backup"
	OpRestoreBackup    Operation = "restore-backup"
	OpConfirmDeletions Operation = "confirm-deletions"

	OpRotateKey      Operation = "rotate-key"
	OpDestroyKey     Operation = "destroy-key"
	OpExpireMaterial Operation = "expire-key-material"
)

// group is the kind of an operation. In policies, Action::"use" stands for every operation of the group use.
type group string

const (
	use    group = "use"    // uses key material; roles: administrator, user
	read   group = "read"   // reads anything but content; roles: administrator, auditor
	manage group = "manage" // changes keys, grants or credentials, or makes random bytes; roles: administrator
)

// trait is a set of facts about an operation.
type trait uint16

const (
	aboutKey   trait = 1 << iota // the decision depends on a key
	grantable                    // a grant may include it
	hasContext                   // it has an encryption context
	forAnyone                    // every principal may do it
	forUser                      // the role user may do it, too, although its group is not use
	forService                   // a service may do it with its own default key
	slow                         // it generates an asymmetric key, which can take a minute
	scheduled                    // only the scheduler does it, or a verb on a stopped node; callers are refused
)

// row holds the facts about one operation.
type row struct {
	operation Operation
	group     group
	traits    trait
	name      string // the neutral name; empty: the stored one
	trace     string // the trace name; empty: the stored name in camel case
	other     string // a cloud's name that is none of these in another spelling
	lookUps   []Operation
}

// discover is what a cloud's SDK asks before its first operation, to learn its project and domain. It is decided and
// recorded under the stored name of the look-up that the cloud's dialect serves: one of the row's lookUps.
const discover = "discover"

// table has one row per operation, in the order of the lists that are derived from it. Grantable are the nine operations
// of the Huawei KMS user guide (table 2-13), and the others that use key material. The trace names are those of its table 1-7.
var table = []row{
	{operation: OpCreateKey, group: manage, traits: slow},
	{operation: OpDescribeKey, group: read, traits: aboutKey | grantable | forUser | forService},
	{operation: OpListKeys, group: read, traits: forUser},
	{operation: OpEnableKey, group: manage, traits: aboutKey},
	{operation: OpDisableKey, group: manage, traits: aboutKey},
	{operation: OpEncryptData, group: use, traits: aboutKey | grantable | hasContext | forService, name: "encrypt"},
	{operation: OpDecryptData, group: use, traits: aboutKey | grantable | hasContext | forService, name: "decrypt"},
	{operation: OpCreateDataKey, group: use, traits: aboutKey | grantable | hasContext | forService, name: "generate-data-key", trace: "createDataKey"},
	{operation: OpCreateDataKeyNoText, group: use, traits: aboutKey | grantable | hasContext | forService, name: "generate-data-key-without-plaintext", trace: "createDataKeyWithoutPlaintext"},
	{operation: OpEncryptDataKey, group: use, traits: aboutKey | grantable | hasContext | forService, name: "encrypt-data-key"},
	{operation: OpDecryptDataKey, group: use, traits: aboutKey | grantable | hasContext | forService, name: "decrypt-data-key"},
	{operation: OpGenRandom, group: manage, traits: forUser, name: "generate-random"},
	{operation: OpSign, group: use, traits: aboutKey | grantable},
	{operation: OpVerify, group: use, traits: aboutKey | grantable},
	{operation: OpGetPublicKey, group: use, traits: aboutKey | grantable, name: "get-public-key"},
	{operation: OpHSMStatus, group: read, name: "get-hsm-status"},
	{operation: OpReadAudit, group: read},

	{operation: OpScheduleDeletion, group: manage, traits: aboutKey},
	{operation: OpCancelDeletion, group: manage, traits: aboutKey},
	{operation: OpConfirmDeletions, group: manage},
	{operation: OpUpdateAlias, group: manage, traits: aboutKey, name: "rename-key"},
	{operation: OpUpdateDescription, group: manage, traits: aboutKey, name: "set-key-description"},
	{operation: OpSetDeletionProtection, group: manage, traits: aboutKey},
	{operation: OpCreateKeyVersion, group: manage, traits: aboutKey | slow},

	{operation: OpReEncrypt, group: use, traits: aboutKey | grantable | hasContext},
	{operation: OpCreateRSAKeyPair, group: use, traits: aboutKey | grantable | hasContext | slow, name: "generate-rsa-data-key-pair"},
	{operation: OpCreateECKeyPair, group: use, traits: aboutKey | grantable | hasContext, name: "generate-ec-data-key-pair"},
	{operation: OpGenerateMAC, group: use, traits: aboutKey | grantable},
	{operation: OpVerifyMAC, group: use, traits: aboutKey | grantable},
	{operation: OpDeriveSharedSecret, group: use, traits: aboutKey | grantable},

	{operation: OpEnableRotation, group: manage, traits: aboutKey},
	{operation: OpUpdateRotation, group: manage, traits: aboutKey, name: "set-key-rotation-interval"},
	{operation: OpDisableRotation, group: manage, traits: aboutKey},
	{operation: OpGetRotation, group: read, traits: aboutKey, name: "get-key-rotation"},

	{operation: OpTagKey, group: manage, traits: aboutKey, name: "tag-key", other: "TagResource"},
	{operation: OpUntagKey, group: manage, traits: aboutKey, name: "untag-key", other: "UntagResource"},
	{operation: OpListKeyTags, group: read, traits: aboutKey | forUser, other: "ListResourceTags"},
	{operation: OpListTags, group: read, traits: forUser},
	{operation: OpFindKeys, group: read, traits: forUser, name: "find-keys"},

	{operation: OpCreateAlias, group: manage, traits: aboutKey},
	{operation: OpListAliases, group: read, traits: forUser},
	{operation: OpDeleteAlias, group: manage, traits: aboutKey},
	{operation: OpAssociateAlias, group: manage, traits: aboutKey, name: "move-alias"},

	{operation: OpGetImportParameters, group: manage, traits: aboutKey | slow, name: "get-import-parameters"},
	{operation: OpImportMaterial, group: manage, traits: aboutKey},
	{operation: OpDeleteMaterial, group: manage, traits: aboutKey, name: "delete-key-material"},

	{operation: OpCreateGrant, group: manage, traits: aboutKey | grantable},
	{operation: OpListGrants, group: read, traits: aboutKey},
	{operation: OpListRetirableGrants, group: read, traits: forAnyone},
	{operation: OpRevokeGrant, group: manage, traits: aboutKey},
	{operation: OpRetireGrant, group: manage, traits: aboutKey | grantable},
	{operation: OpCanI, group: read, traits: forAnyone},
	{operation: OpCanIForOthers, group: read},
	{operation: OpGetInstances, group: read, name: "count-keys"},
	{operation: OpGetQuotas, group: read, name: "get-quotas"},

	{operation: OpCreateCredential, group: manage},
	{operation: OpListCredentials, group: read},
	{operation: OpDeleteCredential, group: manage},
	{operation: OpCreateToken, group: manage},
	{operation: OpCreateTokenFor, group: manage},
	{name: discover, group: read, traits: forAnyone, lookUps: []Operation{"list-projects", "list-domains", "list-regions", "list-algorithms", "get-account-status"}},

	{operation: OpCreateBackup, group: manage},

	{operation: OpRestoreBackup, group: manage, traits: scheduled},
	{operation: OpRotateKey, group: manage, traits: scheduled, other: "RotateKeyOnDemand"},
	{operation: OpDestroyKey, group: manage, traits: scheduled},
	{operation: OpExpireMaterial, group: manage, traits: scheduled},
}

// index is the table by the names of operations.
type index struct {
	rows                  map[Operation]row    // by stored name, every column filled in
	names                 map[string]Operation // by every name, as plain returns it
	operations, scheduled []Operation
}

var all = newIndex()

func newIndex() index {
	x := index{rows: map[Operation]row{}, names: map[string]Operation{}}
	for _, r := range table {
		if r.lookUps == nil {
			x.add(r)
		}
		for _, op := range r.lookUps {
			r.operation = op
			x.add(r)
		}
	}
	return x
}

func (x *index) add(r row) {
	op := r.operation
	r.trace = cmp.Or(r.trace, camelCase(string(op)))
	x.names[plain(string(op))], x.names[plain(r.trace)] = op, op
	if r.other != "" {
		x.names[plain(r.other)] = op
	}
	if r.lookUps == nil { // the neutral name of look-ups stands for none of them
		r.name = cmp.Or(r.name, string(op))
		x.names[plain(r.name)] = op
	}
	x.rows[op] = r
	if r.traits&scheduled != 0 {
		x.scheduled = append(x.scheduled, op)
	} else {
		x.operations = append(x.operations, op)
	}
}

func camelCase(name string) string {
	words := strings.Split(name, "-")
	for i, word := range words[1:] {
		words[i+1] = strings.ToUpper(word[:1]) + word[1:]
	}
	return strings.Join(words, "")
}

// Operations lists every operation that a caller can ask for. All others are refused.
var Operations = all.operations

// Scheduled lists the operations of the scheduler and of verbs on a stopped node. They are recorded like all others; callers are refused.
var Scheduled = all.scheduled

// ParseOperation returns the operation with a neutral, stored or trace name, or a name that a cloud gives it. Upper case, hyphens and
// underscores do not matter, nor does AWS's prefix kms: decrypt, decrypt-data, decryptData, Decrypt and kms:Decrypt are one operation.
func ParseOperation(name string) (op Operation, ok bool) {
	op, ok = all.names[plain(name)]
	return op, ok
}

// plain returns a name in the form in which its spellings are the same.
func plain(name string) string { return strings.TrimPrefix(spelling.Plain(name), "kms:") }

func (op Operation) has(t trait) bool { return all.rows[op].traits&t != 0 }

// Name returns the neutral name of an operation: in the native API, the command line and the documents.
func (op Operation) Name() string { return cmp.Or(all.rows[op].name, string(op)) }

// Trace returns the trace name of an operation, for audit records. It follows table 1-7 of the Huawei KMS user guide.
func (op Operation) Trace() string {
	if r, ok := all.rows[op]; ok {
		return r.trace
	}
	return camelCase(string(op)) // of a record's own, such as audit-begun
}

// AboutKey reports whether the operation is about a key, on which its decision depends.
func (op Operation) AboutKey() bool { return op.has(aboutKey) }

// Changes reports whether the operation changes something: keys, grants or credentials. Default keys of services cannot
// be changed.
func (op Operation) Changes() bool { return all.rows[op].group == manage }

// Grantable reports whether a grant may include the operation.
func (op Operation) Grantable() bool { return op.has(grantable) }

// HasContext reports whether the operation has an encryption context, to which grants can be limited.
func (op Operation) HasContext() bool { return op.has(hasContext) }

// Slow reports whether the operation generates an asymmetric key pair, which can take a minute in an HSM.
func (op Operation) Slow() bool { return op.has(slow) }

// Trace names of what an operation does to several tags at once (Huawei KMS user guide, table 1-7).
const (
	TraceTagInBatch   = "batchCreateKeyTags"
	TraceUntagInBatch = "batchDeleteKeyTags"
)
