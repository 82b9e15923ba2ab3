package audit

import "github.com/keyside/keyside/sidecar/kms"

// formerCodes has the codes that records held until the core's codes became fewer, with the code of today. A query for
// either finds both.
var formerCodes = map[string]kms.Code{
	"InvalidKeyID": kms.CodeInvalidRequest, "InvalidAlias": kms.CodeInvalidRequest, "InvalidDesc": kms.CodeInvalidRequest,
	"InvalidSpec": kms.CodeInvalidRequest, "InvalidLimit": kms.CodeInvalidRequest, "InvalidMarker": kms.CodeInvalidRequest,
	"InvalidLength": kms.CodeInvalidRequest, "UnsupportedUsage": kms.CodeInvalidRequest,
	"DigestLength": kms.CodeInvalidRequest, "DataTooLong": kms.CodeInvalidRequest, "InvalidPublicKey": kms.CodeInvalidRequest,
	"InvalidWait": kms.CodeInvalidRequest, "InvalidInterval": kms.CodeInvalidRequest, "InvalidTagKey": kms.CodeInvalidRequest,
	"InvalidTagValue": kms.CodeInvalidRequest, "TagKeyLength": kms.CodeInvalidRequest,
	"TagValueLength": kms.CodeInvalidRequest, "MaterialExpiry": kms.CodeInvalidRequest,
	"UnsupportedSpec": kms.CodeUnsupported,
	"AliasExists":     kms.CodeAlreadyExists,
	"TooManyTags":     kms.CodeQuotaExceeded, "TooManyGrants": kms.CodeQuotaExceeded,
	"TagNotFound": kms.CodeNotFound, "GrantNotFound": kms.CodeNotFound,
	"KeyPendingDelete": kms.CodeKeyPendingDeletion, "AlreadyPending": kms.CodeKeyPendingDeletion,
	"NotDisabled":      kms.CodeKeyNotDisabled,
	"NotEnabled":       kms.CodeKeyNotEnabled,
	"NotPending":       kms.CodeKeyNotPendingDeletion,
	"NotPendingImport": kms.CodeKeyNotPendingImport,
	"SymmetricKey":     kms.CodeInvalidKeyUsage, "AsymmetricKey": kms.CodeInvalidKeyUsage, "MACKey": kms.CodeInvalidKeyUsage,
	"NotMACKey": kms.CodeInvalidKeyUsage, "EllipticKey": kms.CodeInvalidKeyUsage, "UsageIsEncrypt": kms.CodeInvalidKeyUsage,
	"UsageIsSign": kms.CodeInvalidKeyUsage, "UsageIsAgreement": kms.CodeInvalidKeyUsage,
	"NotAgreementKey":   kms.CodeInvalidKeyUsage,
	"AlgorithmMismatch": kms.CodeInvalidAlgorithm,
	"DefaultKey":        kms.CodeServiceKey,
	"ExternalKey":       kms.CodeInvalidOrigin, "NotExternal": kms.CodeInvalidOrigin,
	"BadMaterial": kms.CodeInvalidKeyMaterial, "NoPrivateKey": kms.CodeInvalidKeyMaterial,
	"InvalidPrivateKey":  kms.CodeInvalidKeyMaterial,
	"MaterialDiffers":    kms.CodeKeyMaterialMismatch,
	"NoMaterial":         kms.CodeKeyMaterialMissing,
	"PrivateMaterial":    kms.CodeKeyMaterialPermanent,
	"ImportTokenInvalid": kms.CodeInvalidImportToken, "ImportTokenOther": kms.CodeInvalidImportToken,
	"OnlyCreateGrant": kms.CodeInvalidGrant, "InvalidGrantee": kms.CodeInvalidGrant,
	"Deadline": kms.CodeDeadlineExceeded,
}
