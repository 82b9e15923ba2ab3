package huawei

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// answer is an error as the wire knows it: a code of the service, or one of the gateway in front of it.
type answer struct {
	status int
	code   string
}

// answers maps every code of the core.
var answers = map[kms.Code]answer{
	kms.CodeInvalidRequest:        {http.StatusBadRequest, codeParameter},
	kms.CodeUnsupported:           {http.StatusBadRequest, codeSpec},
	kms.CodeAlreadyExists:         {http.StatusBadRequest, "KMS.1104"},
	kms.CodeQuotaExceeded:         {http.StatusBadRequest, "KMS.1105"},
	kms.CodeNotFound:              {http.StatusNotFound, "KMS.0207"},
	kms.CodeDenied:                {http.StatusForbidden, "KMS.0307"},
	kms.CodeUnauthenticated:       {http.StatusUnauthorized, "APIGW.0301"},
	kms.CodeTokenExpired:          {http.StatusForbidden, "KMS.0303"},
	kms.CodeKeyDisabled:           {http.StatusBadRequest, "KMS.0209"},
	kms.CodeKeyPendingDeletion:    {http.StatusBadRequest, "KMS.0210"},
	kms.CodeKeyPendingImport:      {http.StatusBadRequest, "KMS.1301"},
	kms.CodeKeyUnavailable:        {http.StatusServiceUnavailable, "KMS.0104"},
	kms.CodeKeyExhausted:          {http.StatusBadRequest, "KMS.0320"},
	kms.CodeKeyNotDisabled:        {http.StatusBadRequest, "KMS.1201"},
	kms.CodeKeyNotEnabled:         {http.StatusBadRequest, "KMS.1301"},
	kms.CodeKeyNotPendingDeletion: {http.StatusBadRequest, "KMS.1501"},
	kms.CodeKeyNotPendingImport:   {http.StatusBadRequest, "KMS.0310"},
	kms.CodeInvalidKeyUsage:       {http.StatusBadRequest, codeParameter},
	kms.CodeInvalidAlgorithm:      {http.StatusBadRequest, codeAlgorithm},
	kms.CodeServiceKey:            {http.StatusBadRequest, "KMS.0211"},
	kms.CodeInvalidOrigin:         {http.StatusBadRequest, "KMS.0309"},
	kms.CodeRotationEnabled:       {http.StatusBadRequest, "KMS.2901"},
	kms.CodeRotationDisabled:      {http.StatusBadRequest, "KMS.0313"},
	kms.CodeInvalidCiphertext:     {http.StatusBadRequest, codeCipherText},
	kms.CodeInvalidKeyMaterial:    {http.StatusBadRequest, codeUnwrap},
	kms.CodeKeyMaterialMismatch:   {http.StatusBadRequest, "KMS.2606"},
	kms.CodeKeyMaterialMissing:    {http.StatusBadRequest, "KMS.2701"},
	kms.CodeKeyMaterialPermanent:  {http.StatusBadRequest, "KMS.2702"},
	kms.CodeInvalidImportToken:    {http.StatusBadRequest, codeToken},
	kms.CodeImportTokenExpired:    {http.StatusBadRequest, "KMS.2601"},
	kms.CodeInvalidGrant:          {http.StatusBadRequest, codeGrantee},
	kms.CodeBusy:                  {http.StatusServiceUnavailable, "KMS.0104"},
	kms.CodeDeadlineExceeded:      {http.StatusGatewayTimeout, "KMS.0101"},
	kms.CodeInternal:              {http.StatusInternalServerError, "KMS.0103"},
}

// exception is an error of the core that has an answer of its own where these hold. An empty field always holds.
type exception struct {
	operation policy.Operation
	code      kms.Code
	field     string // the core's name of the field at fault
	reason    kms.Reason
	algorithm string // prefix of the encryption algorithm that the request names
	answer    string
	status    int // 0: as in answers
}

// rsaNames is how the names of RSA's encryption algorithms begin.
const rsaNames = "RSA"

// exceptions go before answers, the first that holds.
var exceptions = []exception{
	{operation: policy.OpGenRandom, code: kms.CodeInvalidRequest, field: "length", answer: codeRandomLength},
	{operation: policy.OpEncryptDataKey, code: kms.CodeInvalidRequest, field: "plaintext", answer: codePlainLength},
	{operation: policy.OpEncryptData, code: kms.CodeInvalidRequest, field: "plaintext", reason: kms.ReasonLength, algorithm: rsaNames, answer: codeRSATooLong},
	{operation: policy.OpEncryptData, code: kms.CodeInvalidRequest, field: "plaintext", reason: kms.ReasonLength, answer: codePlainText},
	{operation: policy.OpReEncrypt, code: kms.CodeInvalidRequest, field: "plaintext", reason: kms.ReasonLength, answer: codeRSATooLong},
	{operation: policy.OpCreateRSAKeyPair, code: kms.CodeInvalidRequest, field: "key_spec", answer: codeKeyLengthSpec},
	{operation: policy.OpCreateECKeyPair, code: kms.CodeInvalidRequest, field: "key_spec", answer: codeKeyLengthSpec},
	{code: kms.CodeInvalidRequest, field: "context", answer: codeContext},
	{code: kms.CodeInvalidRequest, field: "key_id", reason: kms.ReasonMalformed, answer: codeKeyID},
	{code: kms.CodeInvalidRequest, field: "alias", answer: codeAlias},
	{code: kms.CodeInvalidRequest, field: "description", answer: codeDescription},
	{code: kms.CodeInvalidRequest, field: "key_spec", answer: codeSpec},
	{code: kms.CodeInvalidRequest, field: "wrapping_key_spec", answer: codeSpec},
	{code: kms.CodeInvalidRequest, field: "limit", answer: codeLimit},
	{code: kms.CodeInvalidRequest, field: "marker", answer: codeMarker},
	{code: kms.CodeInvalidRequest, field: "offset", answer: codeOffset},
	{code: kms.CodeInvalidRequest, field: "length", answer: codeKeyLength},
	{code: kms.CodeInvalidRequest, field: "data_key_bytes", answer: codeCipherLength},
	{code: kms.CodeInvalidRequest, field: "message", reason: kms.ReasonDigest, answer: "KMS.0329"},
	{code: kms.CodeInvalidRequest, field: "pending_days", answer: codePendingDays},
	{code: kms.CodeInvalidRequest, field: "rotation_interval", answer: codeInterval},
	{code: kms.CodeInvalidRequest, field: "expiration_time", answer: codeExpiry},
	{code: kms.CodeInvalidRequest, field: "key", reason: kms.ReasonLength, answer: "KMS.0411"},
	{code: kms.CodeInvalidRequest, field: "key", reason: kms.ReasonMalformed, answer: codeTagKey},
	{code: kms.CodeInvalidRequest, field: "value", reason: kms.ReasonLength, answer: "KMS.0410"},
	{code: kms.CodeInvalidRequest, field: "value", reason: kms.ReasonMalformed, answer: codeTagValue},
	{code: kms.CodeInvalidRequest, field: "values", reason: kms.ReasonTooMany, answer: codeTagValues},
	{code: kms.CodeInvalidRequest, field: "tags", reason: kms.ReasonTooMany, answer: codeTagCount},

	{code: kms.CodeUnsupported, field: "wrapping_algorithm", answer: codeParameter},
	{code: kms.CodeQuotaExceeded, field: "tags", answer: "KMS.0409"},
	{code: kms.CodeQuotaExceeded, field: "grants", answer: "KMS.2404"},
	{code: kms.CodeNotFound, field: "tags", answer: "KMS.0416"},
	{code: kms.CodeNotFound, field: "grant_id", answer: "KMS.2502", status: http.StatusBadRequest},
	{code: kms.CodeInvalidGrant, reason: kms.ReasonCreateGrantOnly, answer: "KMS.2401"},
	{code: kms.CodeInvalidOrigin, reason: kms.ReasonExternal, answer: "KMS.0312"},
	{code: kms.CodeInvalidKeyMaterial, field: "private_key", reason: kms.ReasonMissing, answer: "KMS.2608"},
	{code: kms.CodeInvalidKeyMaterial, field: "private_key", reason: kms.ReasonMalformed, answer: codePrivateKey},
	{code: kms.CodeInvalidImportToken, reason: kms.ReasonOtherKey, answer: "KMS.2603"},
	{operation: policy.OpScheduleDeletion, code: kms.CodeKeyPendingDeletion, answer: "KMS.1402"},

	{operation: policy.OpEncryptData, code: kms.CodeInvalidAlgorithm, algorithm: rsaNames, answer: codeNotSymmetric},
	{operation: policy.OpEncryptData, code: kms.CodeInvalidAlgorithm, answer: codeNotRSA},
	{operation: policy.OpDecryptData, code: kms.CodeInvalidAlgorithm, algorithm: rsaNames, answer: codeNotSymmetric},
	{operation: policy.OpDecryptData, code: kms.CodeInvalidAlgorithm, answer: codeNotRSA},
	{operation: policy.OpReEncrypt, code: kms.CodeInvalidAlgorithm, answer: codeParameter},
	{operation: policy.OpGenerateMAC, code: kms.CodeInvalidAlgorithm, answer: codeParameter},
	{operation: policy.OpVerifyMAC, code: kms.CodeInvalidAlgorithm, answer: codeParameter},

	{operation: policy.OpGenerateMAC, code: kms.CodeInvalidKeyUsage, answer: codeParameter},
	{operation: policy.OpVerifyMAC, code: kms.CodeInvalidKeyUsage, answer: codeParameter},
	{operation: policy.OpDeriveSharedSecret, code: kms.CodeInvalidKeyUsage, reason: kms.ReasonEncryptDecrypt, answer: codeParameter},
	{operation: policy.OpDeriveSharedSecret, code: kms.CodeInvalidKeyUsage, reason: kms.ReasonSignVerify, answer: codeParameter},
	{operation: policy.OpEncryptData, code: kms.CodeInvalidKeyUsage, reason: kms.ReasonKeyAgreement, answer: codeElliptic},
	{operation: policy.OpDecryptData, code: kms.CodeInvalidKeyUsage, reason: kms.ReasonKeyAgreement, answer: codeElliptic},
	{operation: policy.OpReEncrypt, code: kms.CodeInvalidKeyUsage, reason: kms.ReasonKeyAgreement, answer: codeElliptic},
	{code: kms.CodeInvalidKeyUsage, reason: kms.ReasonSymmetric, answer: "KMS.0331"},
	{code: kms.CodeInvalidKeyUsage, reason: kms.ReasonAsymmetric, answer: "KMS.0325"},
	{code: kms.CodeInvalidKeyUsage, reason: kms.ReasonMAC, answer: "KMS.0341"},
	{code: kms.CodeInvalidKeyUsage, reason: kms.ReasonEncryptDecrypt, answer: "KMS.0334"},
	{code: kms.CodeInvalidKeyUsage, reason: kms.ReasonSignVerify, answer: "KMS.0335"},
	{code: kms.CodeInvalidKeyUsage, reason: kms.ReasonElliptic, answer: codeElliptic},
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
	dialect.NoRoute:        {Status: http.StatusNotFound, Code: "APIGW.0101"},
	dialect.NoMethod:       {Status: http.StatusMethodNotAllowed, Code: "KMS.0215"},
	dialect.WebPage:        {Status: http.StatusForbidden, Code: "APIGW.0304"},
	dialect.CallerEnded:    {Status: http.StatusForbidden, Code: codeDenied},
	dialect.ProofOnSocket:  unauthenticated,
	dialect.OnlyOnSocket:   {Status: http.StatusForbidden, Code: codeDenied},
	dialect.SeveralProofs:  unauthenticated,
	dialect.NoProof:        unauthenticated,
	dialect.WrongSignature: unauthenticated,
	dialect.WrongToken:     {Status: http.StatusForbidden, Code: "KMS.0302"},
	dialect.NoPrincipal:    {Status: http.StatusForbidden, Code: codeDenied},
	dialect.BodyTooLong:    {Status: http.StatusBadRequest, Code: codeTooLong},
	dialect.BodyNotObject:  {Status: http.StatusBadRequest, Code: codeBadJSON},
	dialect.BodyCut:        {Status: http.StatusBadRequest, Code: codeBadJSON},
	dialect.BadQuery:       {Status: http.StatusBadRequest, Code: codeURL},
	dialect.FieldMissing:   {Status: http.StatusBadRequest, Code: codeMissing},
	dialect.ProgramFault:   {Status: http.StatusInternalServerError, Code: codeInternal},
}

// unauthenticated answers a request whose sender is not known.
var unauthenticated = dialect.Answer{Status: http.StatusUnauthorized, Code: "APIGW.0301"}

// refuse makes a refusal of a request's content, which is HTTP 400 always.
func refuse(code string, core kms.Code, field, message string) error {
	return &dialect.Refusal{
		Answer: dialect.Answer{Status: http.StatusBadRequest, Code: code}, Core: &kms.Error{Code: core, Field: field, Message: message},
	}
}

// answerTo returns the answer to an error of the core.
func answerTo(rt *dialect.Route, x *dialect.Exchange, e *kms.Error) dialect.Answer {
	a := answers[e.Code]
	for i := range exceptions {
		if ex := &exceptions[i]; ex.holds(rt, x, e) {
			return dialect.Answer{Status: cmp.Or(ex.status, a.status), Code: ex.answer}
		}
	}
	return dialect.Answer{Status: a.status, Code: a.code}
}

func (ex *exception) holds(rt *dialect.Route, x *dialect.Exchange, e *kms.Error) bool {
	return ex.code == e.Code && (ex.operation == "" || rt != nil && ex.operation == rt.Operation) &&
		(ex.field == "" || ex.field == e.Field) && (ex.reason == "" || ex.reason == e.Reason) &&
		(ex.algorithm == "" || strings.HasPrefix(string(x.Text(encryptionAlgorithm)), ex.algorithm))
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
