// Package alibaba is the dialect of Alibaba Cloud's Key Management Service, version 2016-01-20 of its RPC API, as the vendor's
// SDKs and command line speak it.
//
// Every request is for "/". Its action is a header or a parameter, its fields are parameters in the query or in a form, and
// answers are JSON or XML. Keys with a DKMSInstanceId follow the rules of Dedicated KMS.
package alibaba

import (
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Name is the dialect's name in audit records.
const Name = "alibaba"

// Version is the one version of the API.
const Version = "2016-01-20"

// Look-ups that the API has and whose answers depend on no key.
const (
	opListRegions   policy.Operation = "list-regions"
	opAccountStatus policy.Operation = "get-account-status"
)

// routes returns every action that the dialect serves.
func (d *Dialect) routes() []dialect.Route {
	return dialect.Routes(
		dialect.Route{Path: "CreateKey", Operation: policy.OpCreateKey, Handle: d.createKey, Body: dialect.DataBody, Fields: createKeyFields},
		dialect.Route{Path: "DescribeKey", Operation: policy.OpDescribeKey, Handle: d.onName(d.describeKey), Fields: fields(keyID)},
		dialect.Route{Path: "ListKeys", Operation: policy.OpListKeys, Handle: d.listKeys, Fields: fields(filters, pageNumber, pageSize)},
		dialect.Route{Path: "EnableKey", Operation: policy.OpEnableKey, Handle: d.onKey(d.enableKey), Fields: fields(keyID)},
		dialect.Route{Path: "DisableKey", Operation: policy.OpDisableKey, Handle: d.onKey(d.disableKey), Fields: fields(keyID)},
		dialect.Route{Path: "UpdateKeyDescription", Operation: policy.OpUpdateDescription, Handle: d.onKey(d.updateDescription), Body: dialect.DataBody, Fields: fields(keyID, newDescription)},
		dialect.Route{Path: "ScheduleKeyDeletion", Operation: policy.OpScheduleDeletion, Handle: d.onKey(d.scheduleDeletion), Fields: fields(keyID, pendingWindow)},
		dialect.Route{Path: "CancelKeyDeletion", Operation: policy.OpCancelDeletion, Handle: d.onKey(d.cancelDeletion), Fields: fields(keyID)},
		dialect.Route{Path: "SetDeletionProtection", Operation: policy.OpSetDeletionProtection, Handle: d.setDeletionProtection, Body: dialect.DataBody, Fields: protectionFields},
		dialect.Route{Path: "DescribeRegions", Operation: opListRegions, Handle: d.describeRegions, Fields: fields()},
		dialect.Route{Path: "DescribeAccountKmsStatus", Operation: opAccountStatus, Handle: d.accountStatus, Fields: fields()},
		dialect.Route{Path: "ListKmsInstances", Operation: policy.OpGetInstances, Handle: d.listInstances, Fields: fields(noFilters, pageNumber, instancePage)},
		dialect.Route{Path: "GetKmsInstance", Operation: policy.OpGetInstances, Handle: d.getInstance, Fields: fields(instanceID)},

		dialect.Route{Path: "GetParametersForImport", Operation: policy.OpGetImportParameters, Handle: d.onKey(d.importParameters), Fields: fields(keyID, wrappingAlgorithm, wrappingSpec)},
		dialect.Route{Path: "ImportKeyMaterial", Operation: policy.OpImportMaterial, Handle: d.onKey(d.importMaterial), Body: dialect.DataBody, Fields: fields(keyID, material, importToken, materialExpiry)},
		dialect.Route{Path: "DeleteKeyMaterial", Operation: policy.OpDeleteMaterial, Handle: d.onKey(d.deleteMaterial), Fields: fields(keyID)},

		dialect.Route{Path: "Encrypt", Operation: policy.OpEncryptData, Handle: d.used(d.encrypt), Body: dialect.DataBody, Fields: use(keyID, plaintext, encryptionContext)},
		dialect.Route{Path: "Decrypt", Operation: policy.OpDecryptData, Handle: d.tried(d.decrypt), Body: dialect.DataBody, Fields: use(ciphertext, encryptionContext, recipient), Asked: decryptAsked},
		dialect.Route{Path: "ReEncrypt", Operation: policy.OpReEncrypt, Handle: d.tried(d.reEncrypt), Body: dialect.ReEncryptBody, Fields: reEncryptFields},
		dialect.Route{Path: "GenerateDataKey", Operation: policy.OpCreateDataKey, Handle: d.used(d.generateDataKey), Body: dialect.DataBody, Fields: use(keyID, dataKeySpec, numberOfBytes, encryptionContext, recipient)},
		dialect.Route{Path: "GenerateDataKeyWithoutPlaintext", Operation: policy.OpCreateDataKeyNoText, Handle: d.used(d.generateSealedKey), Body: dialect.DataBody, Fields: use(keyID, dataKeySpec, numberOfBytes, encryptionContext)},
		dialect.Route{Path: "ExportDataKey", Operation: policy.OpDecryptDataKey, Handle: d.tried(d.exportDataKey), Body: dialect.DataBody, Fields: use(ciphertext, encryptionContext, publicKeyBlob, exportAlgorithm, exportSpec)},
		dialect.Route{Path: "GenerateAndExportDataKey", Operation: policy.OpCreateDataKey, Handle: d.used(d.generateExportedKey), Body: dialect.DataBody, Fields: use(keyID, dataKeySpec, numberOfBytes, encryptionContext, publicKeyBlob, exportAlgorithm, exportSpec)},
		dialect.Route{Path: "GenerateMac", Operation: policy.OpGenerateMAC, Handle: d.used(d.generateMAC), Body: dialect.DataBody, Fields: use(keyID, macAlgorithm, message)},
		dialect.Route{Path: "VerifyMac", Operation: policy.OpVerifyMAC, Handle: d.used(d.verifyMAC), Body: dialect.DataBody, Fields: use(keyID, macAlgorithm, message, mac)},

		dialect.Route{Path: "AsymmetricEncrypt", Operation: policy.OpEncryptData, Handle: d.used(d.asymmetricEncrypt), Body: dialect.DataBody, Fields: use(keyID, keyVersionID, encryptionAlgorithm, rawPlaintext)},
		dialect.Route{Path: "AsymmetricDecrypt", Operation: policy.OpDecryptData, Handle: d.used(d.asymmetricDecrypt), Body: dialect.DataBody, Fields: use(keyID, keyVersionID, encryptionAlgorithm, ciphertext)},
		dialect.Route{Path: "AsymmetricSign", Operation: policy.OpSign, Handle: d.used(d.asymmetricSign), Body: dialect.DataBody, Fields: use(keyID, keyVersionID, signingAlgorithm, digest)},
		dialect.Route{Path: "AsymmetricVerify", Operation: policy.OpVerify, Handle: d.used(d.asymmetricVerify), Body: dialect.DataBody, Fields: use(keyID, keyVersionID, signingAlgorithm, digest, signatureValue)},
		dialect.Route{Path: "GetPublicKey", Operation: policy.OpGetPublicKey, Handle: d.used(d.getPublicKey), Fields: use(keyID, keyVersionID)},

		dialect.Route{Path: "CreateKeyVersion", Operation: policy.OpCreateKeyVersion, Handle: d.onName(d.createKeyVersion), Fields: fields(keyID)},
		dialect.Route{Path: "DescribeKeyVersion", Operation: policy.OpDescribeKey, Handle: d.onName(d.describeKeyVersion), Fields: fields(keyID, keyVersionID)},
		dialect.Route{Path: "ListKeyVersions", Operation: policy.OpDescribeKey, Handle: d.onName(d.listKeyVersions), Fields: fields(keyID, pageNumber, pageSize)},
		dialect.Route{Path: "UpdateRotationPolicy", Operation: policy.OpEnableRotation, Handle: d.onKey(d.updateRotation), Fields: fields(keyID, rotationRequired, rotationInterval), Asked: rotationAsked},

		dialect.Route{Path: "CreateAlias", Operation: policy.OpCreateAlias, Handle: d.onKey(d.createAlias), Fields: fields(keyID, aliasName)},
		dialect.Route{Path: "UpdateAlias", Operation: policy.OpAssociateAlias, Handle: d.onKey(d.updateAlias), Fields: fields(keyID, aliasName)},
		dialect.Route{Path: "DeleteAlias", Operation: policy.OpDeleteAlias, Handle: d.deleteAlias, Fields: fields(aliasName)},
		dialect.Route{Path: "ListAliases", Operation: policy.OpListAliases, Handle: d.listAliases, Fields: fields(pageNumber, pageSize)},
		dialect.Route{Path: "ListAliasesByKeyId", Operation: policy.OpListAliases, Handle: d.onKey(d.listKeyAliases), Fields: fields(keyID, pageNumber, pageSize)},

		dialect.Route{Path: "TagResource", Operation: policy.OpTagKey, Handle: d.onKey(d.tagResource), Body: dialect.DataBody, Fields: fields(keyID, tags, secretName, certificateID)},
		dialect.Route{Path: "UntagResource", Operation: policy.OpUntagKey, Handle: d.onKey(d.untagResource), Body: dialect.DataBody, Fields: fields(keyID, tagKeys, secretName, certificateID)},
		dialect.Route{Path: "ListResourceTags", Operation: policy.OpListKeyTags, Handle: d.onKey(d.listResourceTags), Fields: fields(keyID)},
		dialect.Route{Path: "TagResources", Operation: policy.OpTagKey, Handle: d.tagResources, Body: dialect.DataBody, Fields: fields(resourceType, resourceIDs, resourceTags)},
		dialect.Route{Path: "UntagResources", Operation: policy.OpUntagKey, Handle: d.untagResources, Body: dialect.DataBody, Fields: fields(resourceType, resourceIDs, resourceTagKeys, notEveryTag)},
		dialect.Route{Path: "ListTagResources", Operation: policy.OpFindKeys, Handle: d.listTagResources, Body: dialect.DataBody, Fields: fields(resourceType, someResourceIDs, wantedTags, nextToken)},
	)
}

// unsupported are the actions of the cloud that are answered UnsupportedOperation: commerce, networks and policies of instances,
// resource policies, and secrets.
var unsupported = []string{
	"OpenKmsService", "SetKeyPolicy", "GetKeyPolicy", "GetRandomPassword", "GetDefaultKmsInstance", "GetKmsInstanceQuotaInfos",
	"ConnectKmsInstance", "UpdateKmsInstanceBindVpc", "ReleaseKmsInstance", "CreateNetworkRule", "DescribeNetworkRule",
	"UpdateNetworkRule", "DeleteNetworkRule", "ListNetworkRules", "CreatePolicy", "DescribePolicy", "UpdatePolicy", "DeletePolicy",
	"ListPolicies", "CreateApplicationAccessPoint", "DescribeApplicationAccessPoint", "UpdateApplicationAccessPoint",
	"DeleteApplicationAccessPoint", "ListApplicationAccessPoints", "CreateClientKey", "GetClientKey", "ListClientKeys",
	"DeleteClientKey", "GetManagedDataKey", "ListManagedDataKeyVersions", "CreateSecret", "DeleteSecret", "DescribeSecret",
	"GetSecretValue", "ListSecrets", "ListSecretVersionIds", "PutSecretValue", "RestoreSecret", "RotateSecret", "UpdateSecret",
	"UpdateSecretRotationPolicy", "UpdateSecretVersionStage", "GetSecretPolicy", "SetSecretPolicy",
}

// decryptAsked is the operation that opens a ciphertext: that of its purpose.
func decryptAsked(x *dialect.Exchange) policy.Operation {
	if kms.PurposeOf(x.Bytes(ciphertext)) == kms.PurposeDataKey {
		return policy.OpDecryptDataKey
	}
	return policy.OpDecryptData
}

// rotationAsked is the operation on the one path whose parameter says which it is.
func rotationAsked(x *dialect.Exchange) policy.Operation {
	if x.Flag(rotationRequired, true) {
		return policy.OpEnableRotation
	}
	return policy.OpDisableRotation
}

// rules are where the cloud differs from the core (Alibaba Cloud KMS, impact of the states of a key on API operations).
func (s *Settings) rules() *kms.Rules {
	return &kms.Rules{
		States: map[policy.Operation]map[kms.KeyState]*kms.Error{
			policy.OpEnableKey:           {kms.Enabled: nil},
			policy.OpDisableKey:          {kms.Disabled: nil},
			policy.OpDeleteAlias:         {kms.PendingDeletion: nil},
			policy.OpGetImportParameters: {kms.PendingDeletion: nil},
			policy.OpDeleteMaterial:      {kms.PendingDeletion: nil, kms.PendingImport: nil},
			policy.OpEnableRotation:      {kms.PendingImport: kms.Errorf(kms.CodeKeyPendingImport, "key has no material yet")},
			policy.OpDisableRotation:     {kms.PendingImport: kms.Errorf(kms.CodeKeyPendingImport, "key has no material yet")},
		},
		Restored: kms.Enabled, MinRotation: 7, MaxRotation: 730, VersionDays: s.VersionDays,
	}
}
