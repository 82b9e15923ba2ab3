package tencent

import (
	"net/http"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// failure is an error's answer. Its HTTP status is 200: the cloud's SDKs take any other for a failure of the network.
func failure(code string) dialect.Answer { return dialect.Answer{Status: http.StatusOK, Code: code} }

// Codes for several errors, and for what the translation itself refuses.
const (
	codeInternal     = "InternalError"
	codeMissing      = "MissingParameter"
	codeParameter    = "InvalidParameter"
	codeValue        = "InvalidParameterValue"
	codeUnauthorized = "UnauthorizedOperation"
	codeUnsupported  = "UnsupportedOperation"
	codeNoAction     = "InvalidAction"
	codeNoVersion    = "NoSuchVersion"
	codeBusy         = "RequestLimitExceeded"
	codeTooLarge     = "RequestSizeLimitExceeded"
	codeSignature    = "AuthFailure.SignatureFailure"
	codeNoProof      = "AuthFailure.InvalidAuthorization"
	codeToken        = "AuthFailure.TokenFailure"
	codeKeyID        = "InvalidParameterValue.InvalidKeyId"
	codeDuplicate    = "InvalidParameterValue.DuplicatedKeyId"
	codeAlias        = "InvalidParameterValue.InvalidAlias"
	codeUsage        = "InvalidParameterValue.InvalidKeyUsage"
	codeType         = "InvalidParameterValue.InvalidType"
	codeCluster      = "InvalidParameterValue.InvalidHsmClusterId"
	codePlaintext    = "InvalidParameterValue.InvalidPlaintext"
	codeCiphertext   = "InvalidParameterValue.InvalidCiphertext"
	codeTagTwice     = "InvalidParameterValue.TagKeysDuplicated"
	codeWindow       = "InvalidParameter.InvalidPendingWindowInDays"
	codeMaterial     = "InvalidParameter.DecryptMaterialError"
	codeUsageHere    = "UnsupportedOperation.UnsupportedKeyUsageInCurrentRegion"
	codeNoRotation   = "UnsupportedOperation.RotateNotSupported"
	codeNotExternal  = "UnsupportedOperation.NotExternalCmk"
	codeUnavailable  = "UnsupportedOperation.ServiceTemporaryUnavailable"
	codeEncryption   = "FailedOperation.EncryptionError"
	codeDecryption   = "FailedOperation.DecryptError"
	codeState        = "ResourceUnavailable.CmkStateNotSupport"
	codeDisabled     = "ResourceUnavailable.CmkDisabled"
	codeArchived     = "ResourceUnavailable.CmkArchived"
	codeNotPurchased = "ResourceUnavailable.NotPurchased"
	codeNotBound     = "ResourceUnavailable.CloudResourceBindingNotFound"
)

var conditions = map[dialect.Condition]dialect.Answer{
	dialect.NoRoute:            failure(codeNoAction),
	dialect.NotOffered:         failure(codeUnsupported),
	dialect.NoMethod:           failure("UnsupportedProtocol"),
	dialect.SeveralMarks:       failure("InvalidRequest"),
	dialect.WebPage:            failure(codeUnauthorized),
	dialect.CallerEnded:        failure(codeUnauthorized),
	dialect.ProofOnSocket:      failure(codeNoProof),
	dialect.OnlyOnSocket:       failure(codeUnauthorized),
	dialect.SeveralProofs:      failure(codeNoProof),
	dialect.NoProof:            failure(codeNoProof),
	dialect.WrongSignature:     failure(codeSignature),
	dialect.WrongToken:         failure(codeToken),
	dialect.NoPrincipal:        failure(codeUnauthorized),
	dialect.BodyTooLong:        failure(codeTooLarge),
	dialect.BodyNotObject:      failure(codeParameter),
	dialect.BodyCut:            failure(codeParameter),
	dialect.BadQuery:           failure(codeParameter),
	dialect.FieldMissing:       failure(codeMissing),
	dialect.TooManyConnections: failure(codeBusy),
	dialect.ProgramFault:       failure(codeInternal),
}

// on returns the condition that a request is for an action.
func on(action string) func(*dialect.Exchange) bool {
	return func(x *dialect.Exchange) bool { return x != nil && x.Route != nil && x.Route.Path == action }
}

// answers maps the errors of the core to the cloud's codes. Which state is told apart from others depends on the action.
var answers = dialect.Answers{
	Codes: map[kms.Code]dialect.Answer{
		kms.CodeInvalidRequest:        failure(codeValue),
		kms.CodeUnsupported:           failure(codeUnsupported),
		kms.CodeAlreadyExists:         failure("InvalidParameterValue.AliasAlreadyExists"),
		kms.CodeQuotaExceeded:         failure("LimitExceeded.CmkLimitExceeded"),
		kms.CodeNotFound:              failure("ResourceUnavailable.CmkNotFound"),
		kms.CodeDenied:                failure(codeUnauthorized),
		kms.CodeUnauthenticated:       failure(codeSignature),
		kms.CodeTokenExpired:          failure(codeToken),
		kms.CodeKeyDisabled:           failure(codeState),
		kms.CodeKeyArchived:           failure(codeState),
		kms.CodeKeyPendingDeletion:    failure(codeState),
		kms.CodeKeyPendingImport:      failure(codeState),
		kms.CodeKeyUnavailable:        failure(codeUnavailable),
		kms.CodeKeyExhausted:          failure(codeEncryption),
		kms.CodeKeyNotDisabled:        failure(codeState),
		kms.CodeKeyNotEnabled:         failure(codeState),
		kms.CodeKeyNotPendingDeletion: failure("ResourceUnavailable.CmkNotPendingDelete"),
		kms.CodeKeyNotPendingImport:   failure(codeState),
		kms.CodeInvalidKeyUsage:       failure(codeUsage),
		kms.CodeInvalidAlgorithm:      failure(codeValue),
		kms.CodeKeyProtected:          failure(codeUnsupported),
		kms.CodeDryRun:                failure("DryRunOperation"),
		kms.CodeServiceKey:            failure("UnsupportedOperation.NotUserCreatedCmk"),
		kms.CodeInvalidOrigin:         failure(codeNotExternal),
		kms.CodeRotationEnabled:       failure(codeValue),
		kms.CodeRotationDisabled:      failure(codeNoRotation),
		kms.CodeInvalidCiphertext:     failure(codeCiphertext),
		kms.CodeInvalidKeyMaterial:    failure(codeMaterial),
		kms.CodeKeyMaterialMismatch:   failure("InvalidParameterValue.MaterialNotMatch"),
		kms.CodeKeyMaterialMissing:    failure(codeState),
		kms.CodeKeyMaterialPermanent:  failure(codeUnsupported),
		kms.CodeInvalidImportToken:    failure(codeParameter),
		kms.CodeImportTokenExpired:    failure("ResourceUnavailable.TokenExpired"),
		kms.CodeInvalidGrant:          failure(codeValue),
		kms.CodeBusy:                  failure(codeBusy),
		kms.CodeDeadlineExceeded:      failure(codeInternal),
		kms.CodeInternal:              failure(codeInternal),
	},
	Exceptions: []dialect.Exception{
		{When: on("AsymmetricRsaDecrypt"), Code: kms.CodeKeyDisabled, As: codeState},
		{Operation: policy.OpEncryptData, Code: kms.CodeKeyDisabled, As: codeDisabled},
		{Operation: policy.OpDecryptData, Code: kms.CodeKeyDisabled, As: codeDisabled},
		{Operation: policy.OpReEncrypt, Code: kms.CodeKeyDisabled, As: codeDisabled},
		{Operation: policy.OpCreateDataKey, Code: kms.CodeKeyDisabled, As: codeDisabled},
		{Operation: policy.OpEncryptData, Code: kms.CodeKeyArchived, As: codeArchived},
		{Operation: policy.OpReEncrypt, Code: kms.CodeKeyArchived, As: codeArchived},
		{Operation: policy.OpCreateDataKey, Code: kms.CodeKeyArchived, As: codeArchived},
		{Operation: policy.OpCreateDataKey, Code: kms.CodeKeyPendingDeletion, As: "ResourceUnavailable.KeyPendingDelete"},
		{Operation: policy.OpScheduleDeletion, Code: kms.CodeKeyNotDisabled, As: "ResourceUnavailable.CmkShouldBeDisabled"},

		{When: on("AsymmetricRsaDecrypt"), Code: kms.CodeInvalidCiphertext, As: codeDecryption},
		{When: on("AsymmetricRsaDecrypt"), Code: kms.CodeInvalidAlgorithm, As: codeUsage},
		{When: on("Encrypt"), Code: kms.CodeInvalidAlgorithm, As: codeUsage},
		{When: on("GenerateDataKey"), Code: kms.CodeInvalidAlgorithm, As: codeUsage},
		{When: on("ReEncrypt"), Code: kms.CodeInvalidAlgorithm, As: codeUsage},
		{Operation: policy.OpEncryptData, Code: kms.CodeInvalidRequest, Field: "plaintext", As: codePlaintext},
		{Operation: policy.OpCreateKey, Code: kms.CodeUnsupported, As: codeUsageHere},
		{Operation: policy.OpCreateKey, Code: kms.CodeQuotaExceeded, Field: "tags", As: codeValue},
		{Code: kms.CodeInvalidRequest, Field: "alias", As: codeAlias},
		{Code: kms.CodeInvalidRequest, Field: "context", As: codeParameter},
		{Code: kms.CodeInvalidRequest, Field: "pending_days", As: codeWindow},

		{Operation: policy.OpEnableRotation, Code: kms.CodeInvalidOrigin, As: "UnsupportedOperation.ExternalCmkCanNotRotate"},
		{Operation: policy.OpDisableRotation, Code: kms.CodeInvalidOrigin, As: "UnsupportedOperation.ExternalCmkCanNotRotate"},
		{Operation: policy.OpCreateKeyVersion, Code: kms.CodeInvalidOrigin, As: codeNoRotation},
		{Operation: policy.OpEnableRotation, Code: kms.CodeInvalidKeyUsage, As: codeNoRotation},
		{Operation: policy.OpDisableRotation, Code: kms.CodeInvalidKeyUsage, As: codeNoRotation},
		{Operation: policy.OpCreateKeyVersion, Code: kms.CodeInvalidKeyUsage, As: codeNoRotation},
		{Operation: policy.OpCreateKeyVersion, Code: kms.CodeQuotaExceeded, As: "RequestLimitExceeded.RotateRateLimited"},
	},
}

// refuse makes a refusal of a request's content.
func refuse(code string, core kms.Code, field, message string) error {
	return &dialect.Refusal{Answer: failure(code), Core: &kms.Error{Code: core, Field: field, Message: message}}
}

// appendError appends an error. The message begins with the field at fault, by the name that the action has for it.
func appendError(x *dialect.Exchange, rt *dialect.Route, a dialect.Answer, e *kms.Error) {
	message := e.Message
	if e.Field != "" {
		name := e.Field
		if rt != nil {
			for i := range rt.Fields {
				if rt.Fields[i].As == e.Field {
					name = rt.Fields[i].Name
				}
			}
		}
		message = name + ": " + message
	}
	x.Out = append(append(append(x.Out, `{"Response":{"Error":{"Code":"`...), a.Code...), '"')
	x.Out = dialect.AppendMember(x.Out, `,"Message":`, message)
	x.Out = append(dialect.AppendMember(x.Out, `},"RequestId":`, x.RequestID), "}}"...)
}
