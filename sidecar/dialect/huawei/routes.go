// Package huawei is the dialect of Huawei Cloud's key management service (DEW), version 1.0 of its HTTP API, as the
// vendor's SDKs, Terraform provider and the Open Telekom Cloud family speak it.
//
// Its traps are on purpose: numbers may come as strings, an empty string counts as absent, lengths are bits in one
// operation and bytes in the next, every answer's JSON types are exactly those that the strictest SDK decodes.
package huawei

import (
	"net/http"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
)

// Name is the dialect's name in audit records.
const Name = "huawei"

const (
	get  = http.MethodGet
	post = http.MethodPost
	del  = http.MethodDelete
)

// Paths of operations are pathBase and what the table of routes has.
const (
	pathVersion = "/v1.0"
	pathRoot    = pathVersion + "/"
	pathBase    = pathRoot + "{" + projectVariable + "}/kms/"

	projectVariable = "project_id"
)

// routes returns every operation that the dialect serves.
func (d *Dialect) routes() []dialect.Route {
	return dialect.Routes(
		dialect.Route{Path: "create-key", Operation: policy.OpCreateKey, Handle: d.createKey, Fields: createKeyFields},
		dialect.Route{Path: "describe-key", Operation: policy.OpDescribeKey, Handle: d.onKey(d.describeKey), Fields: fields(namedKey)},
		dialect.Route{Path: "list-keys", Operation: policy.OpListKeys, Handle: d.listKeys, Fields: listKeysFields},
		dialect.Route{Path: "enable-key", Operation: policy.OpEnableKey, Handle: d.onKey(d.enableKey), Fields: fields(idOfKey)},
		dialect.Route{Path: "disable-key", Operation: policy.OpDisableKey, Handle: d.onKey(d.disableKey), Fields: fields(idOfKey)},
		dialect.Route{Path: "schedule-key-deletion", Operation: policy.OpScheduleDeletion, Handle: d.onKey(d.scheduleDeletion), Fields: fields(idOfKey, pendingDays)},
		dialect.Route{Path: "cancel-key-deletion", Operation: policy.OpCancelDeletion, Handle: d.onKey(d.cancelDeletion), Fields: fields(idOfKey)},
		dialect.Route{Path: "update-key-alias", Operation: policy.OpUpdateAlias, Handle: d.onKey(d.updateAlias), Fields: fields(idOfKey, keyAlias)},
		dialect.Route{Path: "update-key-description", Operation: policy.OpUpdateDescription, Handle: d.onKey(d.updateDescription), Fields: fields(idOfKey, newDescription)},

		dialect.Route{Path: "create-datakey", Operation: policy.OpCreateDataKey, Handle: d.createDataKey, Body: dialect.DataBody, Fields: dataKeyFields},
		dialect.Route{Path: "create-datakey-without-plaintext", Operation: policy.OpCreateDataKeyNoText, Handle: d.createDataKey, Body: dialect.DataBody, Fields: dataKeyFields},
		dialect.Route{Path: "encrypt-datakey", Operation: policy.OpEncryptDataKey, Handle: d.encryptDataKey, Body: dialect.DataBody, Fields: encryptDataKeyFields},
		dialect.Route{Path: "decrypt-datakey", Operation: policy.OpDecryptDataKey, Handle: d.decryptDataKey, Body: dialect.DataBody, Fields: decryptDataKeyFields},
		dialect.Route{Path: "create-rsa-datakey-pair", Operation: policy.OpCreateRSAKeyPair, Handle: d.onKey(d.createKeyPair), Fields: rsaPairFields},
		dialect.Route{Path: "create-ec-datakey-pair", Operation: policy.OpCreateECKeyPair, Handle: d.onKey(d.createKeyPair), Fields: ecPairFields},

		dialect.Route{Path: "encrypt-data", Operation: policy.OpEncryptData, Handle: d.onKey(d.encryptData), Body: dialect.DataBody, Fields: encryptDataFields},
		dialect.Route{Path: "decrypt-data", Operation: policy.OpDecryptData, Handle: d.decryptData, Body: dialect.DataBody, Fields: decryptDataFields},
		dialect.Route{Path: "re-encrypt", Operation: policy.OpReEncrypt, Handle: d.reEncrypt, Body: dialect.ReEncryptBody, Fields: reEncryptFields},
		dialect.Route{Path: "sign", Operation: policy.OpSign, Handle: d.onKey(d.sign), Body: dialect.DataBody, Fields: signFields},
		dialect.Route{Path: "verify", Operation: policy.OpVerify, Handle: d.onKey(d.verify), Body: dialect.DataBody, Fields: verifyFields},
		dialect.Route{Path: "get-publickey", Operation: policy.OpGetPublicKey, Handle: d.onKey(d.getPublicKey), Fields: fields(namedKey)},
		dialect.Route{Path: "generate-mac", Operation: policy.OpGenerateMAC, Handle: d.onKey(d.generateMAC), Body: dialect.DataBody, Fields: macFields},
		dialect.Route{Path: "verify-mac", Operation: policy.OpVerifyMAC, Handle: d.onKey(d.verifyMAC), Body: dialect.DataBody, Fields: verifyMACFields},
		dialect.Route{Path: "derive-shared-secret", Operation: policy.OpDeriveSharedSecret, Handle: d.onKey(d.deriveSharedSecret), Fields: deriveFields},
		dialect.Route{Path: "gen-random", Operation: policy.OpGenRandom, Handle: d.genRandom, Fields: fields(randomLength)},

		dialect.Route{Path: "get-parameters-for-import", Operation: policy.OpGetImportParameters, Handle: d.onKey(d.importParameters), Fields: importParametersFields},
		dialect.Route{Path: "import-key-material", Operation: policy.OpImportMaterial, Handle: d.onKey(d.importMaterial), Body: dialect.DataBody, Fields: importFields},
		dialect.Route{Path: "delete-imported-key-material", Operation: policy.OpDeleteMaterial, Handle: d.onKey(d.deleteMaterial), Fields: fields(idOfKey)},

		dialect.Route{Path: "enable-key-rotation", Operation: policy.OpEnableRotation, Handle: d.onKey(d.enableRotation), Fields: fields(idOfKey)},
		dialect.Route{Path: "update-key-rotation-interval", Operation: policy.OpUpdateRotation, Handle: d.onKey(d.updateRotation), Fields: fields(idOfKey, rotationInterval)},
		dialect.Route{Path: "disable-key-rotation", Operation: policy.OpDisableRotation, Handle: d.onKey(d.disableRotation), Fields: fields(idOfKey)},
		dialect.Route{Path: "get-key-rotation-status", Operation: policy.OpGetRotation, Handle: d.onKey(d.rotationStatus), Fields: fields(idOfKey)},

		dialect.Route{Method: get, Path: "{key_id}/tags", Operation: policy.OpListKeyTags, Handle: d.onKey(d.keyTags), Fields: fields(idInPath)},
		dialect.Route{Path: "{key_id}/tags", Operation: policy.OpTagKey, Handle: d.onKey(d.createTag), Status: 204, Fields: fields(idInPath, oneTag)},
		dialect.Route{Path: "{key_id}/tags/action", Operation: policy.OpTagKey, Handle: d.changeTags, Status: 204, Fields: fields(idInPath, tagAction, someTags), Asked: tagsAsked},
		dialect.Route{Method: del, Path: "{key_id}/tags/{key}", Operation: policy.OpUntagKey, Handle: d.onKey(d.deleteTag), Status: 204, Fields: fields(idInPath, tagInPath)},
		dialect.Route{Method: get, Path: "tags", Operation: policy.OpListTags, Handle: d.projectTags},
		dialect.Route{Path: "resource_instances/action", Operation: policy.OpFindKeys, Handle: d.findKeys, Body: dialect.DataBody, Fields: findKeysFields},

		dialect.Route{Path: "aliases", Operation: policy.OpCreateAlias, Handle: d.onKey(d.createAlias), Status: 201, Fields: fields(idOfKey, alias)},
		dialect.Route{Method: get, Path: "aliases", Operation: policy.OpListAliases, Handle: d.listAliases, Fields: listAliasesFields},
		dialect.Route{Method: del, Path: "aliases", Operation: policy.OpDeleteAlias, Handle: d.onKey(d.deleteAliases), Body: dialect.DataBody, Status: 204, Fields: fields(idOfKey, someAliases)},
		dialect.Route{Path: "alias/associate", Operation: policy.OpAssociateAlias, Handle: d.associateAlias, Fields: fields(targetKey, alias)},

		dialect.Route{Path: "create-grant", Operation: policy.OpCreateGrant, Handle: d.createGrant, Body: dialect.DataBody, Fields: createGrantFields},
		dialect.Route{Path: "list-grants", Operation: policy.OpListGrants, Handle: d.onKey(d.listGrants), Fields: listGrantFields},
		dialect.Route{Path: "list-retirable-grants", Operation: policy.OpListRetirableGrants, Handle: d.listRetirableGrants, Fields: retirableFields},
		dialect.Route{Path: "revoke-grant", Operation: policy.OpRevokeGrant, Handle: d.onKey(d.revokeGrant), Fields: oneGrantFields},
		dialect.Route{Path: "retire-grant", Operation: policy.OpRetireGrant, Handle: d.onKey(d.retireGrant), Fields: oneGrantFields},

		dialect.Route{Method: get, Path: "user-instances", Operation: policy.OpGetInstances, Handle: d.userInstances},
		dialect.Route{Method: get, Path: "user-quotas", Operation: policy.OpGetQuotas, Handle: d.userQuotas},

		dialect.Route{Method: get, Path: projectsPath, Operation: opListProjects, Handle: d.listProjects, Fields: dialect.Fields(regionName)},
		dialect.Route{Method: get, Path: domainsPath, Operation: opListDomains, Handle: d.listDomains},
	)
}

// tagsAsked is the operation on the one path where the body says which it is.
func tagsAsked(x *dialect.Exchange) policy.Operation {
	if string(x.Text(tagAction)) == deleteTags {
		return policy.OpUntagKey
	}
	return policy.OpTagKey
}

// Served lists what the dialect serves, for documentation. Paths begin below the project, with the exception of those that
// begin with a slash.
func Served() []dialect.Served { return dialect.ServedBy(new(Dialect).routes()) }

// Core is what the dialect needs of the core.
type Core interface {
	dialect.Gate
	dialect.Keys
	dialect.LifeCycle
	dialect.Rotation
	dialect.Crypto
	dialect.DataKeys
	dialect.Signatures
	dialect.Tags
	dialect.Aliases
	dialect.Grants
	dialect.Imports
}

// Config is what the dialect needs.
type Config struct {
	dialect.Host
	Core      Core
	Region    string // answered as realm
	ProjectID string // the only project whose paths are served
	DomainID  string // answered as domain_id
}

// Dialect serves the API.
type Dialect struct {
	*dialect.Server
	cfg    Config
	config dialect.Config
	urn    string // before an alias's name
}

// New returns the dialect.
func New(cfg Config) *Dialect {
	d := &Dialect{cfg: cfg, urn: "kms:" + cfg.Region + ":" + cfg.DomainID + ":alias:"}
	d.config = dialect.Config{
		Host: cfg.Host, Core: cfg.Core, Name: Name, Table: dialect.NewPathTable(pathBase, d.routes()), Place: d.inProject,
		Proofs: Proofs(),
		Errors: dialect.Errors{Conditions: conditions, Of: answers.To, Write: appendError},
	}
	d.Server = dialect.NewServer(d.config)
	return d
}

// Marks are those of the dialect's requests. Of the paths without a version they are GET / without a query, and the look-ups.
var Marks = dialect.Marks{
	Paths:  []string{pathRoot, get + " " + pathVersion, get + " " + projectsPath, get + " " + domainsPath},
	Root:   true,
	Proofs: []string{headerAuthorization, headerToken},
}

// ServeHTTP implements http.Handler.
func (d *Dialect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if asksVersions(r) {
		x := dialect.Begin()
		defer x.End()
		appendVersions(x, r)
		x.Send(w, http.StatusOK)
		return
	}
	d.Server.ServeHTTP(w, r)
}
