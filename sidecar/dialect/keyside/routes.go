// Package keyside is the native API: POST /keyside/v1/OPERATION with a JSON object. The command line, the console and the
// clients of other languages use it. Package client has its requests and results as Go types; GET /keyside/v1/openapi.json
// describes them for all others.
package keyside

import (
	"context"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
)

// Name is the dialect's name in audit records.
const Name = "keyside"

// row is one operation of the API.
type row struct {
	path      string // empty: the operation's name
	operation policy.Operation
	handle    func(*Dialect, context.Context, policy.Operation, *dialect.Exchange) error
	access    access
	fields    []dialect.Field
	result    any    // zero value of the result's type; nil: nothing
	summary   string // for documents
}

// access says how much a request may send, and who may send it.
type access uint8

const (
	control access = iota
	data           // a longer body
	socket         // only known callers on the Unix socket: what it shows and creates never crosses a port
)

// lines is the result of an operation that streams JSON lines, archive that of one that streams a file.
type (
	lines   struct{ client.AuditEntry }
	archive struct{}
)

var fields = dialect.Fields

// table is every operation of the API.
var table = []row{
	{"", policy.OpCreateKey, (*Dialect).createKey, control, fields(alias, description, keySpec, keyUsage, origin, newTags), client.Key{},
		"Create a key"},
	{"", policy.OpDescribeKey, (*Dialect).describeKey, control, fields(keyID), client.Key{},
		"Return a key"},
	{"", policy.OpListKeys, (*Dialect).listKeys, control, fields(keySpec, state, limit(dialect.Unbounded), offsetMarker), client.KeyPage{},
		"List keys in order of creation"},
	{"", policy.OpEnableKey, (*Dialect).enableKey, control, fields(keyID), client.KeyStatus{},
		"Enable a disabled key"},
	{"", policy.OpDisableKey, (*Dialect).disableKey, control, fields(keyID), client.KeyStatus{},
		"Disable an enabled key"},
	{"", policy.OpScheduleDeletion, (*Dialect).scheduleDeletion, control, fields(keyID, pendingDays), client.KeyStatus{},
		"Make a key unusable and destroy it later"},
	{"", policy.OpCancelDeletion, (*Dialect).cancelDeletion, control, fields(keyID), client.KeyStatus{},
		"Cancel the deletion of a key, which is disabled then"},
	{"", policy.OpConfirmDeletions, (*Dialect).confirmDeletions, socket, nil, client.ClockState{},
		"Confirm the node's clock after a jump, so that destructions that wait happen at their dates"},
	{"", policy.OpUpdateAlias, (*Dialect).renameKey, control, fields(keyID, alias), nil,
		"Give a key another alias of its own"},
	{"", policy.OpUpdateDescription, (*Dialect).setDescription, control, fields(keyID, newDescription), nil,
		"Replace the description of a key"},
	{"", policy.OpSetDeletionProtection, (*Dialect).setDeletionProtection, control, fields(keyID, protected, protectedFor), client.KeyStatus{},
		"Protect a key against deletion, or end that"},
	{"", policy.OpCreateKeyVersion, (*Dialect).createKeyVersion, control, fields(keyID), client.Key{},
		"Give an asymmetric key a new version"},

	{"", policy.OpEncryptData, (*Dialect).encrypt, data, fields(keyID, encryptionAlgorithm, plaintext, encryptionContext, aad), client.Encrypted{},
		"Encrypt data"},
	{"", policy.OpDecryptData, (*Dialect).decrypt, data, fields(optionalKeyID, encryptionAlgorithm, ciphertext, encryptionContext, aad), client.Decrypted{},
		"Decrypt data"},
	{"", policy.OpReEncrypt, (*Dialect).reEncrypt, data, fields(
		ciphertext, sourceKey, sourceAlgorithm, sourceContext, sourceAAD,
		destinationKey, destinationAlgorithm, destinationContext, destinationAAD, dataKeyBytes,
	), client.ReEncrypted{},
		"Encrypt a ciphertext under another key"},
	{"", policy.OpCreateDataKey, (*Dialect).generateDataKey, data, fields(keyID, dataKeyLength, encryptionContext, aad), client.DataKey{},
		"Generate a data key and return it plain and encrypted"},
	{"", policy.OpCreateDataKeyNoText, (*Dialect).generateDataKey, data, fields(keyID, dataKeyLength, encryptionContext, aad), client.Encrypted{},
		"Generate a data key and return it encrypted only"},
	{"", policy.OpEncryptDataKey, (*Dialect).encryptDataKey, data, fields(keyID, plaintext, encryptionContext, aad), client.Encrypted{},
		"Encrypt a data key"},
	{"", policy.OpDecryptDataKey, (*Dialect).decryptDataKey, data, fields(optionalKeyID, ciphertext, encryptionContext, aad), client.Decrypted{},
		"Decrypt a data key or the private key of a data key pair"},
	{"", policy.OpCreateRSAKeyPair, (*Dialect).generateDataKeyPair, data, fields(keyID, rsaSpec, withoutPlaintext, encryptionContext, aad), client.DataKeyPair{},
		"Generate an RSA key pair and encrypt its private key"},
	{"", policy.OpCreateECKeyPair, (*Dialect).generateDataKeyPair, data, fields(keyID, ecSpec, withoutPlaintext, encryptionContext, aad), client.DataKeyPair{},
		"Generate an elliptic curve key pair and encrypt its private key"},
	{"", policy.OpGenRandom, (*Dialect).generateRandom, control, fields(randomLength), client.Random{},
		"Return random bytes of the HSM"},
	{"", policy.OpSign, (*Dialect).sign, data, fields(keyID, signingAlgorithm, message, digest), client.Signature{},
		"Sign a message or a digest"},
	{"", policy.OpVerify, (*Dialect).verify, data, fields(keyID, signingAlgorithm, message, digest, signature), client.Verified{},
		"Verify a signature"},
	{"", policy.OpGetPublicKey, (*Dialect).getPublicKey, control, fields(keyID), client.PublicKey{},
		"Return the public half of an asymmetric key"},
	{"", policy.OpGenerateMAC, (*Dialect).generateMAC, data, fields(keyID, macAlgorithm, message), client.MAC{},
		"Compute the HMAC of a message"},
	{"", policy.OpVerifyMAC, (*Dialect).verifyMAC, data, fields(keyID, macAlgorithm, message, mac), client.Verified{},
		"Verify an HMAC"},
	{"", policy.OpDeriveSharedSecret, (*Dialect).deriveSharedSecret, control, fields(keyID, publicKey), client.SharedSecret{},
		"Derive a shared secret with a peer's public key (ECDH)"},

	{"", policy.OpGetImportParameters, (*Dialect).getImportParameters, control, fields(keyID, wrappingAlgorithm, wrappingSpec, onlyLast, repeat), client.ImportParameters{},
		"Return a wrapping key and an import token"},
	{"", policy.OpImportMaterial, (*Dialect).importMaterial, data, fields(keyID, importToken, material, privateKey, expiresAt, checkValue, repeat), client.KeyStatus{},
		"Import key material into an external key"},
	{"", policy.OpDeleteMaterial, (*Dialect).deleteMaterial, control, fields(keyID), client.KeyStatus{},
		"Destroy the imported material of a symmetric key"},

	{"", policy.OpEnableRotation, (*Dialect).enableRotation, control, fields(keyID, interval), nil,
		"Rotate a key regularly"},
	{"", policy.OpUpdateRotation, (*Dialect).setRotationInterval, control, fields(keyID, newInterval), nil,
		"Change how often a key is rotated"},
	{"", policy.OpDisableRotation, (*Dialect).disableRotation, control, fields(keyID), nil,
		"Stop the rotation of a key"},
	{"", policy.OpGetRotation, (*Dialect).getRotation, control, fields(keyID), client.Rotation{},
		"Return the rotation schedule of a key"},

	{"", policy.OpTagKey, (*Dialect).tagKey, control, fields(keyID, tags), nil,
		"Give a key tags"},
	{"", policy.OpUntagKey, (*Dialect).untagKey, control, fields(keyID, tagKeys, ignoreMissing), nil,
		"Remove tags from a key"},
	{"", policy.OpListKeyTags, (*Dialect).listKeyTags, control, fields(keyID), client.Tags{},
		"List the tags of a key"},
	{"", policy.OpListTags, (*Dialect).listTags, control, nil, client.AllTags{},
		"List the tags of all keys with their values"},
	{"", policy.OpFindKeys, (*Dialect).findKeys, data, fields(searchedTags, aliasPart, limit(1000), offsetMarker, countOnly), client.KeyPage{},
		"Find keys by tags and by a part of their alias"},

	{"", policy.OpCreateAlias, (*Dialect).createAlias, control, fields(keyID, alias), client.Alias{},
		"Give a key a further alias"},
	{"", policy.OpListAliases, (*Dialect).listAliases, control, fields(optionalKeyID, limit(1000), marker), client.AliasPage{},
		"List further aliases in the order of their names"},
	{"", policy.OpDeleteAlias, (*Dialect).deleteAliases, data, fields(keyID, aliases), nil,
		"Delete further aliases of a key"},
	{"", policy.OpAssociateAlias, (*Dialect).moveAlias, control, fields(keyID, alias), client.Alias{},
		"Make a further alias one of another key"},

	{"", policy.OpCreateGrant, (*Dialect).createGrant, data, fields(
		keyID, grantee, account, operations, grantName, retiring, encryptionContext, contextExact, expiresAt, source,
	), client.Grant{},
		"Allow a user or an account some operations on a key"},
	{"", policy.OpListGrants, (*Dialect).listGrants, control, fields(keyID, limit(100), offsetMarker), client.GrantPage{},
		"List the grants of a key in order of creation"},
	{"", policy.OpListRetirableGrants, (*Dialect).listRetirableGrants, control, fields(limit(100), offsetMarker), client.GrantPage{},
		"List the grants that the caller may retire"},
	{"", policy.OpRevokeGrant, (*Dialect).revokeGrant, control, fields(keyID, grantID), nil,
		"Delete a grant"},
	{"", policy.OpRetireGrant, (*Dialect).retireGrant, control, fields(keyID, grantID), nil,
		"Delete a grant that the caller holds, issued or may retire"},

	{"", policy.OpGetInstances, (*Dialect).countKeys, control, nil, client.KeyCount{},
		"Return the number of keys"},
	{"", policy.OpGetQuotas, (*Dialect).getQuotas, control, nil, client.Quotas{},
		"Return the use of everything limited"},

	{"", policy.OpCanI, (*Dialect).canI, socket, fields(operation, askedKey, askedUser, encryptionContext), client.Decision{},
		"Explain whether an operation would be allowed"},
	{"", policy.OpCreateCredential, (*Dialect).createCredential, socket, fields(user, role, dialects), client.NewCredential{},
		"Create an access key"},
	{"", policy.OpListCredentials, (*Dialect).listCredentials, socket, nil, client.Credentials{},
		"List access keys in order of creation"},
	{"", policy.OpDeleteCredential, (*Dialect).deleteCredential, socket, fields(accessKey), nil,
		"Delete an access key and the tokens of its user"},
	{"", policy.OpCreateToken, (*Dialect).createToken, socket, fields(optionalUser, ttl), client.Token{},
		"Create a short-lived token"},
	{"", policy.OpHSMStatus, (*Dialect).getHSMStatus, socket, nil, client.HSMStatus{},
		"Return slots, sessions, queues and latencies of the HSM"},
	{"", policy.OpReadAudit, (*Dialect).readAudit, socket, fields(
		since, until, principal, recordedKey, recordedName, decision, outcome, requestID, last, follow,
	), lines{},
		"Read records of the audit log, one JSON object per line"},
	{"verify-audit-log", policy.OpReadAudit, (*Dialect).verifyAudit, socket, fields(verifierKey), client.AuditReport{},
		"Verify the audit log"},
	{"", policy.OpCreateBackup, (*Dialect).createBackup, socket, nil, archive{},
		"Write a backup of the database, which only the tenant's HSM opens"},
	{"export-audit-log", policy.OpReadAudit, (*Dialect).exportAudit, socket, nil, archive{},
		"Export the audit log as a tar archive"},
}

// Route returns the row as the kernel serves it.
func (r *row) route(d *Dialect) dialect.Route {
	rt := dialect.Route{Path: r.path, Operation: r.operation, Fields: r.fields, SocketOnly: r.access == socket}
	if rt.Path == "" {
		rt.Path = r.operation.Name()
	}
	switch {
	case r.operation == policy.OpReEncrypt:
		rt.Body = dialect.ReEncryptBody
	case r.access == data:
		rt.Body = dialect.DataBody
	}
	rt.Handle = func(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
		return r.handle(d, ctx, op, x)
	}
	return rt
}

// routes returns every operation as the kernel serves it.
func (d *Dialect) routes() []dialect.Route {
	routes := make([]dialect.Route, len(table))
	for i := range table {
		routes[i] = table[i].route(d)
	}
	return dialect.Routes(routes...)
}

// Routes lists what the dialect serves, for tests. Paths are below client.BasePath.
func Routes() []dialect.Route { return new(Dialect).routes() }

// Served lists what the dialect serves, for documents and tests. Paths are below client.BasePath.
func Served() []dialect.Served { return dialect.ServedBy(Routes()) }
