package tencent

import (
	"context"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Look-ups are recorded like operations, and anyone with a name may do them.
const (
	opListRegions    policy.Operation = "list-regions"
	opListAlgorithms policy.Operation = "list-algorithms"
)

// routes returns every action of the API, those that are not available among them.
func (d *Dialect) routes() []dialect.Route {
	routes := []dialect.Route{
		{Path: "CreateKey", Operation: policy.OpCreateKey, Handle: d.createKey, Fields: createFields},
		{Path: "DescribeKey", Operation: policy.OpDescribeKey, Handle: onKey(d.describeKey), Fields: oneID},
		{Path: "DescribeKeys", Operation: policy.OpDescribeKey, Handle: d.describeKeys, Fields: manyIDs},
		{Path: "ListKeys", Operation: policy.OpListKeys, Handle: d.listKeys, Fields: listFields},
		{Path: "ListKeyDetail", Operation: policy.OpListKeys, Handle: d.listKeyDetail, Fields: detailFields},
		{Path: "EnableKey", Operation: policy.OpEnableKey, Handle: changed(d.enableKey), Fields: oneID},
		{Path: "EnableKeys", Operation: policy.OpEnableKey, Handle: allChanged(d.enableKey), Fields: manyIDs},
		{Path: "DisableKey", Operation: policy.OpDisableKey, Handle: changed(d.disableKey), Fields: oneID},
		{Path: "DisableKeys", Operation: policy.OpDisableKey, Handle: allChanged(d.disableKey), Fields: manyIDs},
		{Path: "ArchiveKey", Operation: policy.OpDisableKey, Handle: changedAs("archiveKey", &toArchive, d.archiveKey), Fields: oneID},
		{Path: "CancelKeyArchive", Operation: policy.OpEnableKey, Handle: changedAs("cancelKeyArchive", &toCancelArchive, d.enableKey), Fields: oneID},
		{Path: "ScheduleKeyDeletion", Operation: policy.OpScheduleDeletion, Handle: onKey(d.scheduleDeletion), Fields: dialect.Fields(keyID, pendingDays)},
		{Path: "CancelKeyDeletion", Operation: policy.OpCancelDeletion, Handle: onKey(d.cancelDeletion), Fields: oneID},
		{Path: "UpdateAlias", Operation: policy.OpUpdateAlias, Handle: onKey(d.updateAlias), Fields: dialect.Fields(alias, keyID)},
		{Path: "UpdateKeyDescription", Operation: policy.OpUpdateDescription, Handle: onKey(d.updateDescription), Fields: dialect.Fields(newText, keyID)},

		{Path: "GetParametersForImport", Operation: policy.OpGetImportParameters, Handle: onKey(d.importParameters), Fields: parameterFields},
		{Path: "ImportKeyMaterial", Operation: policy.OpImportMaterial, Handle: onKey(d.importMaterial), Fields: importFields},
		{Path: "DeleteImportedKeyMaterial", Operation: policy.OpDeleteMaterial, Handle: changed(d.deleteMaterial), Fields: oneID},

		{Path: "Encrypt", Operation: policy.OpEncryptData, Handle: onKey(d.encrypt), Body: dialect.DataBody, Fields: encryptFields},
		{Path: "Decrypt", Operation: policy.OpDecryptData, Handle: d.decrypt, Body: dialect.DataBody, Fields: decryptFields, Asked: decrypting},
		{Path: "ReEncrypt", Operation: policy.OpReEncrypt, Handle: d.reEncrypt, Body: dialect.ReEncryptBody, Fields: reEncryptFields},
		{Path: "GenerateDataKey", Operation: policy.OpCreateDataKey, Handle: onKey(d.generateDataKey), Body: dialect.DataBody, Fields: dataKeyFields},
		{Path: "GenerateRandom", Operation: policy.OpGenRandom, Handle: d.generateRandom, Fields: randomFields},

		{Path: "GetPublicKey", Operation: policy.OpGetPublicKey, Handle: onKey(d.getPublicKey), Fields: oneID},
		{Path: "AsymmetricRsaDecrypt", Operation: policy.OpDecryptData, Handle: onKey(d.decryptRSA), Fields: rsaFields},
		{Path: "SignByAsymmetricKey", Operation: policy.OpSign, Handle: onKey(d.sign), Body: dialect.DataBody, Fields: signFields},
		{Path: "VerifyByAsymmetricKey", Operation: policy.OpVerify, Handle: onKey(d.verify), Body: dialect.DataBody, Fields: verifyFields},
		{Path: "ListAlgorithms", Operation: opListAlgorithms, Handle: d.listAlgorithms},

		{Path: "EnableKeyRotation", Operation: policy.OpEnableRotation, Handle: onKey(d.enableRotation), Fields: dialect.Fields(keyID, rotateDays)},
		{Path: "DisableKeyRotation", Operation: policy.OpDisableRotation, Handle: changed(d.disableRotation), Fields: oneID},
		{Path: "GetKeyRotationStatus", Operation: policy.OpGetRotation, Handle: onKey(d.rotationStatus), Fields: oneID},
		{Path: "RotateKey", Operation: policy.OpCreateKeyVersion, Handle: changed(d.rotateKey), Fields: oneID},
		{Path: "GetRegions", Operation: opListRegions, Handle: d.getRegions},
		{Path: "DescribeWhiteBoxServiceStatus", Operation: policy.OpGetQuotas, Handle: d.whiteBoxStatus},
		{Path: "GetServiceStatus", Operation: policy.OpGetQuotas, Handle: d.getServiceStatus},
	}
	for code, actions := range unavailable {
		for _, name := range actions {
			routes = append(routes, dialect.Route{Path: name, Operation: kms.OpUnserved, Handle: refuses(code)})
		}
	}
	return dialect.Routes(routes...)
}

// unavailable are the actions of features that Keyside does not have, by the code with which they are refused.
var unavailable = map[string][]string{
	codeUnsupported: {
		"BindCloudResource",
		"CancelDataKeyDeletion", "DescribeDataKey", "DescribeDataKeys", "DisableDataKey", "DisableDataKeys", "EnableDataKey", "EnableDataKeys",
		"GetDataKeyCiphertextBlob", "GetDataKeyPlaintext", "ImportDataKey", "ListDataKeyDetail", "ListDataKeys", "ScheduleDataKeyDeletion",
		"UpdateDataKeyDescription", "UpdateDataKeyName",
		"PostQuantumCryptoDecrypt", "PostQuantumCryptoEncrypt", "PostQuantumCryptoSign", "PostQuantumCryptoVerify",
	},
	codeNotPurchased: {
		"CreateWhiteBoxKey", "DeleteWhiteBoxKey", "DescribeWhiteBoxDecryptKey", "DescribeWhiteBoxDeviceFingerprints", "DescribeWhiteBoxKey",
		"DescribeWhiteBoxKeyDetails", "DisableWhiteBoxKey", "DisableWhiteBoxKeys", "EnableWhiteBoxKey",
		"EnableWhiteBoxKeys", "EncryptByWhiteBox", "OverwriteWhiteBoxDeviceFingerprints",
	},
	codeNotBound:  {"UnbindCloudResource"},
	codeUsageHere: {"AsymmetricSm2Decrypt"},
}

func refuses(code string) dialect.Handler {
	return func(context.Context, policy.Operation, *dialect.Exchange) error {
		return refuse(code, kms.CodeUnsupported, "", "the feature of this action is not available")
	}
}

// Routes returns every action of the API, for tests and documentation.
func Routes() []dialect.Route { return new(Dialect).routes() }

// Served lists what the dialect serves, for documentation, and Unavailable what it refuses with which code.
func Served() (served []dialect.Served) {
	for _, rt := range Routes() {
		if rt.Operation != kms.OpUnserved {
			served = append(served, dialect.Served{Call: rt.Path, Operation: rt.Operation})
		}
	}
	return served
}

// Unavailable lists the actions that are refused for want of their feature, by the code.
func Unavailable() map[string][]string { return unavailable }
