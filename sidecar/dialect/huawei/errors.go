package huawei

import (
	"net/http"
	"strings"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// answers maps the errors of the core to codes of the service, and of the gateway in front of it.
var answers = dialect.Answers{Codes: coreCodes, Exceptions: exceptions}

var coreCodes = map[kms.Code]dialect.Answer{
	kms.CodeInvalidRequest:        {Status: http.StatusBadRequest, Code: codeParameter},
	kms.CodeUnsupported:           {Status: http.StatusBadRequest, Code: codeSpec},
	kms.CodeAlreadyExists:         {Status: http.StatusBadRequest, Code: "KMS.1104"},
	kms.CodeQuotaExceeded:         {Status: http.StatusBadRequest, Code: "KMS.1105"},
	kms.CodeNotFound:              {Status: http.StatusNotFound, Code: "KMS.0207"},
	kms.CodeDenied:                {Status: http.StatusForbidden, Code: "KMS.0307"},
	kms.CodeUnauthenticated:       {Status: http.StatusUnauthorized, Code: "APIGW.0301"},
	kms.CodeTokenExpired:          {Status: http.StatusForbidden, Code: "KMS.0303"},
	kms.CodeKeyDisabled:           {Status: http.StatusBadRequest, Code: "KMS.0209"},
	kms.CodeKeyArchived:           {Status: http.StatusBadRequest, Code: "KMS.0209"},
	kms.CodeKeyPendingDeletion:    {Status: http.StatusBadRequest, Code: "KMS.0210"},
	kms.CodeKeyPendingImport:      {Status: http.StatusBadRequest, Code: "KMS.1301"},
	kms.CodeKeyUnavailable:        {Status: http.StatusServiceUnavailable, Code: "KMS.0104"},
	kms.CodeKeyExhausted:          {Status: http.StatusBadRequest, Code: "KMS.0320"},
	kms.CodeKeyNotDisabled:        {Status: http.StatusBadRequest, Code: "KMS.1201"},
	kms.CodeKeyNotEnabled:         {Status: http.StatusBadRequest, Code: "KMS.1301"},
	kms.CodeKeyNotPendingDeletion: {Status: http.StatusBadRequest, Code: "KMS.1501"},
	kms.CodeKeyNotPendingImport:   {Status: http.StatusBadRequest, Code: "KMS.0310"},
	kms.CodeInvalidKeyUsage:       {Status: http.StatusBadRequest, Code: codeParameter},
	kms.CodeInvalidAlgorithm:      {Status: http.StatusBadRequest, Code: codeAlgorithm},
	kms.CodeKeyProtected:          {Status: http.StatusBadRequest, Code: codeParameter},
	kms.CodeDryRun:                {Status: http.StatusBadRequest, Code: codeParameter},
	kms.CodeServiceKey:            {Status: http.StatusBadRequest, Code: "KMS.0211"},
	kms.CodeInvalidOrigin:         {Status: http.StatusBadRequest, Code: "KMS.0309"},
	kms.CodeRotationEnabled:       {Status: http.StatusBadRequest, Code: "KMS.2901"},
	kms.CodeRotationDisabled:      {Status: http.StatusBadRequest, Code: "KMS.0313"},
	kms.CodeInvalidCiphertext:     {Status: http.StatusBadRequest, Code: codeCipherText},
	kms.CodeInvalidKeyMaterial:    {Status: http.StatusBadRequest, Code: codeUnwrap},
	kms.CodeKeyMaterialMismatch:   {Status: http.StatusBadRequest, Code: "KMS.2606"},
	kms.CodeKeyMaterialMissing:    {Status: http.StatusBadRequest, Code: "KMS.2701"},
	kms.CodeKeyMaterialPermanent:  {Status: http.StatusBadRequest, Code: "KMS.2702"},
	kms.CodeInvalidImportToken:    {Status: http.StatusBadRequest, Code: codeToken},
	kms.CodeImportTokenExpired:    {Status: http.StatusBadRequest, Code: "KMS.2601"},
	kms.CodeInvalidGrant:          {Status: http.StatusBadRequest, Code: codeGrantee},
	kms.CodeBusy:                  {Status: http.StatusServiceUnavailable, Code: "KMS.0104"},
	kms.CodeDeadlineExceeded:      {Status: http.StatusGatewayTimeout, Code: "KMS.0101"},
	kms.CodeInternal:              {Status: http.StatusInternalServerError, Code: "KMS.0103"},
}

// namesRSA reports whether a request names an encryption algorithm of RSA.
func namesRSA(x *dialect.Exchange) bool {
	return strings.HasPrefix(string(x.Text(encryptionAlgorithm)), "RSA")
}

var exceptions = []dialect.Exception{
	{Operation: policy.OpGenRandom, Code: kms.CodeInvalidRequest, Field: "length", As: codeRandomLength},
	{Operation: policy.OpEncryptDataKey, Code: kms.CodeInvalidRequest, Field: "plaintext", As: codePlainLength},
	{Operation: policy.OpEncryptData, Code: kms.CodeInvalidRequest, Field: "plaintext", Reason: kms.ReasonLength, When: namesRSA, As: codeRSATooLong},
	{Operation: policy.OpEncryptData, Code: kms.CodeInvalidRequest, Field: "plaintext", Reason: kms.ReasonLength, As: codePlainText},
	{Operation: policy.OpReEncrypt, Code: kms.CodeInvalidRequest, Field: "plaintext", Reason: kms.ReasonLength, As: codeRSATooLong},
	{Operation: policy.OpCreateRSAKeyPair, Code: kms.CodeInvalidRequest, Field: "key_spec", As: codeKeyLengthSpec},
	{Operation: policy.OpCreateECKeyPair, Code: kms.CodeInvalidRequest, Field: "key_spec", As: codeKeyLengthSpec},
	{Code: kms.CodeInvalidRequest, Field: "context", As: codeContext},
	{Code: kms.CodeInvalidRequest, Field: "key_id", Reason: kms.ReasonMalformed, As: codeKeyID},
	{Code: kms.CodeInvalidRequest, Field: "alias", As: codeAlias},
	{Code: kms.CodeInvalidRequest, Field: "description", As: codeDescription},
	{Code: kms.CodeInvalidRequest, Field: "key_spec", As: codeSpec},
	{Code: kms.CodeInvalidRequest, Field: "wrapping_key_spec", As: codeSpec},
	{Code: kms.CodeInvalidRequest, Field: "limit", As: codeLimit},
	{Operation: policy.OpFindKeys, Code: kms.CodeInvalidRequest, Field: "marker", As: codeOffset},
	{Code: kms.CodeInvalidRequest, Field: "marker", As: codeMarker},
	{Code: kms.CodeInvalidRequest, Field: "length", As: codeKeyLength},
	{Code: kms.CodeInvalidRequest, Field: "data_key_bytes", As: codeCipherLength},
	{Code: kms.CodeInvalidRequest, Field: "message", Reason: kms.ReasonDigest, As: "KMS.0329"},
	{Code: kms.CodeInvalidRequest, Field: "pending_days", As: codePendingDays},
	{Code: kms.CodeInvalidRequest, Field: "rotation_interval", As: codeInterval},
	{Operation: policy.OpImportMaterial, Code: kms.CodeInvalidRequest, Field: "expires_at", As: codeExpiry},
	{Code: kms.CodeInvalidRequest, Field: "key", Reason: kms.ReasonLength, As: "KMS.0411"},
	{Code: kms.CodeInvalidRequest, Field: "key", Reason: kms.ReasonMalformed, As: codeTagKey},
	{Code: kms.CodeInvalidRequest, Field: "value", Reason: kms.ReasonLength, As: "KMS.0410"},
	{Code: kms.CodeInvalidRequest, Field: "value", Reason: kms.ReasonMalformed, As: codeTagValue},
	{Code: kms.CodeInvalidRequest, Field: "values", Reason: kms.ReasonTooMany, As: codeTagValues},
	{Code: kms.CodeInvalidRequest, Field: "tags", Reason: kms.ReasonTooMany, As: codeTagCount},

	{Code: kms.CodeUnsupported, Field: "wrapping_algorithm", As: codeParameter},
	{Code: kms.CodeQuotaExceeded, Field: "tags", As: "KMS.0409"},
	{Code: kms.CodeQuotaExceeded, Field: "grants", As: "KMS.2404"},
	{Code: kms.CodeNotFound, Field: "tags", As: "KMS.0416"},
	{Code: kms.CodeNotFound, Field: "grant_id", As: "KMS.2502", Status: http.StatusBadRequest},
	{Code: kms.CodeInvalidGrant, Reason: kms.ReasonCreateGrantOnly, As: "KMS.2401"},
	{Code: kms.CodeInvalidOrigin, Reason: kms.ReasonExternal, As: "KMS.0312"},
	{Code: kms.CodeInvalidKeyMaterial, Field: "private_key", Reason: kms.ReasonMissing, As: "KMS.2608"},
	{Code: kms.CodeInvalidKeyMaterial, Field: "private_key", Reason: kms.ReasonMalformed, As: codePrivateKey},
	{Code: kms.CodeInvalidImportToken, Reason: kms.ReasonOtherKey, As: "KMS.2603"},
	{Operation: policy.OpScheduleDeletion, Code: kms.CodeKeyPendingDeletion, As: "KMS.1402"},

	{Operation: policy.OpEncryptData, Code: kms.CodeInvalidAlgorithm, When: namesRSA, As: codeNotSymmetric},
	{Operation: policy.OpEncryptData, Code: kms.CodeInvalidAlgorithm, As: codeNotRSA},
	{Operation: policy.OpDecryptData, Code: kms.CodeInvalidAlgorithm, When: namesRSA, As: codeNotSymmetric},
	{Operation: policy.OpDecryptData, Code: kms.CodeInvalidAlgorithm, As: codeNotRSA},
	{Operation: policy.OpReEncrypt, Code: kms.CodeInvalidAlgorithm, As: codeParameter},
	{Operation: policy.OpGenerateMAC, Code: kms.CodeInvalidAlgorithm, As: codeParameter},
	{Operation: policy.OpVerifyMAC, Code: kms.CodeInvalidAlgorithm, As: codeParameter},

	{Operation: policy.OpGenerateMAC, Code: kms.CodeInvalidKeyUsage, As: codeParameter},
	{Operation: policy.OpVerifyMAC, Code: kms.CodeInvalidKeyUsage, As: codeParameter},
	{Operation: policy.OpDeriveSharedSecret, Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonEncryptDecrypt, As: codeParameter},
	{Operation: policy.OpDeriveSharedSecret, Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonSignVerify, As: codeParameter},
	{Operation: policy.OpEncryptData, Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonKeyAgreement, As: codeElliptic},
	{Operation: policy.OpDecryptData, Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonKeyAgreement, As: codeElliptic},
	{Operation: policy.OpReEncrypt, Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonKeyAgreement, As: codeElliptic},
	{Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonSymmetric, As: "KMS.0331"},
	{Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonAsymmetric, As: "KMS.0325"},
	{Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonMAC, As: "KMS.0341"},
	{Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonEncryptDecrypt, As: "KMS.0334"},
	{Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonSignVerify, As: "KMS.0335"},
	{Code: kms.CodeInvalidKeyUsage, Reason: kms.ReasonElliptic, As: codeElliptic},
}

// Codes for what the translation itself refuses.
const (
	codeInternal        = "KMS.0103"
	codeDenied          = "KMS.0307"
	codeURL             = "KMS.0201"
	codeBadJSON         = "KMS.0202"
	codeTooLong         = "KMS.0203"
	codeMissing         = "KMS.0204"
	codeKeyID           = "KMS.0205"
	codeSequence        = "KMS.0206"
	codeContext         = "KMS.0208"
	codeParameter       = "KMS.0308"
	codeAlgorithm       = "KMS.0332"
	codeUnwrap          = "KMS.0311"
	codeKeystore        = "KMS.0340"
	codeNoTags          = "KMS.0401"
	codeMatchValue      = "KMS.0402"
	codeMatchKey        = "KMS.0403"
	codeAction          = "KMS.0404"
	codeTagValue        = "KMS.0405"
	codeTagKey          = "KMS.0406"
	codeTagCount        = "KMS.0407"
	codeTagValues       = "KMS.0413"
	codeTags            = "KMS.0414"
	codeMatches         = "KMS.0415"
	codeOffset          = "KMS.0417"
	codeOffsetUnwelcome = "KMS.0418"
	codeAlias           = "KMS.1101"
	codeDescription     = "KMS.1103"
	codeSpec            = "KMS.1110"
	codeElliptic        = "KMS.1114"
	codePendingDays     = "KMS.1401"
	codeLimit           = "KMS.1601"
	codeMarker          = "KMS.1602"
	codeRandomLength    = "KMS.1801"
	codeRandomMultiple  = "KMS.1802"
	codeKeyLength       = "KMS.1901"
	codeKeyLengthSpec   = "KMS.1902"
	codeKeyMultiple     = "KMS.1903"
	codePlainText       = "KMS.2101"
	codePlainLength     = "KMS.2102"
	codePlainDigest     = "KMS.2103"
	codePlainMismatch   = "KMS.2104"
	codeNotSymmetric    = "KMS.2105"
	codeNotRSA          = "KMS.2106"
	codeRSATooLong      = "KMS.2108"
	codeCipherText      = "KMS.2201"
	codeCipherLength    = "KMS.2202"
	codeCipherMismatch  = "KMS.2204"
	codeExpiry          = "KMS.2602"
	codeToken           = "KMS.2605"
	codePrivateKey      = "KMS.2609"
	codeGrantee         = "KMS.2402"
	codeGrantID         = "KMS.2501"
	codeInterval        = "KMS.3001"
)

// conditions are the answers to what the kernel refuses.
var conditions = map[dialect.Condition]dialect.Answer{
	dialect.NoRoute:            {Status: http.StatusNotFound, Code: "APIGW.0101"},
	dialect.NotOffered:         {Status: http.StatusNotFound, Code: "APIGW.0101"},
	dialect.NoMethod:           {Status: http.StatusMethodNotAllowed, Code: "KMS.0215"},
	dialect.SeveralMarks:       {Status: http.StatusBadRequest, Code: codeURL},
	dialect.WebPage:            {Status: http.StatusForbidden, Code: "APIGW.0304"},
	dialect.CallerEnded:        {Status: http.StatusForbidden, Code: codeDenied},
	dialect.ProofOnSocket:      unauthenticated,
	dialect.OnlyOnSocket:       {Status: http.StatusForbidden, Code: codeDenied},
	dialect.SeveralProofs:      unauthenticated,
	dialect.NoProof:            unauthenticated,
	dialect.WrongSignature:     unauthenticated,
	dialect.WrongToken:         {Status: http.StatusForbidden, Code: "KMS.0302"},
	dialect.NoPrincipal:        {Status: http.StatusForbidden, Code: codeDenied},
	dialect.BodyTooLong:        {Status: http.StatusBadRequest, Code: codeTooLong},
	dialect.BodyNotObject:      {Status: http.StatusBadRequest, Code: codeBadJSON},
	dialect.BodyCut:            {Status: http.StatusBadRequest, Code: codeBadJSON},
	dialect.BadQuery:           {Status: http.StatusBadRequest, Code: codeURL},
	dialect.FieldMissing:       {Status: http.StatusBadRequest, Code: codeMissing},
	dialect.TooManyConnections: {Status: http.StatusServiceUnavailable, Code: "KMS.0104"},
	dialect.ProgramFault:       {Status: http.StatusInternalServerError, Code: codeInternal},
}

// unauthenticated answers a request whose sender is not known.
var unauthenticated = dialect.Answer{Status: http.StatusUnauthorized, Code: "APIGW.0301"}

// refuse makes a refusal of a request's content, which is HTTP 400 always.
func refuse(code string, core kms.Code, field, message string) error {
	return &dialect.Refusal{
		Answer: dialect.Answer{Status: http.StatusBadRequest, Code: code}, Core: &kms.Error{Code: core, Field: field, Message: message},
	}
}

// appendError appends an error: the gateway's in the gateway's flat form, the service's in its nested one.
func appendError(x *dialect.Exchange, rt *dialect.Route, a dialect.Answer, e *kms.Error) {
	flat := a.Code[0] == 'A'
	if !flat {
		x.Out = append(x.Out, `{"error":`...)
	}
	x.Out = dialect.AppendMember(append(append(x.Out, `{"error_code":"`...), a.Code...), `","error_msg":`, text(rt, e))
	if flat {
		x.Out = dialect.AppendMember(x.Out, `,"request_id":`, x.RequestID)
	} else {
		x.Out = append(x.Out, '}')
	}
	x.Out = append(x.Out, '}')
}

// text is what a client reads: the field at fault, if there is one, by the name that the operation has for it, and what
// is wrong. All bad ciphertexts are told the same.
func text(rt *dialect.Route, e *kms.Error) string {
	switch {
	case e.Code == kms.CodeInvalidCiphertext:
		return "cipher_text: is not valid"
	case e.Field == "":
		return e.Message
	case rt != nil:
		for i := range rt.Fields {
			if rt.Fields[i].As == e.Field {
				return rt.Fields[i].Name + ": " + e.Message
			}
		}
	}
	return e.Field + ": " + e.Message
}
