package alibaba

import (
	"net/http"
	"strconv"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func badRequest(code string) dialect.Answer {
	return dialect.Answer{Status: http.StatusBadRequest, Code: code}
}

func conflict(code string) dialect.Answer {
	return dialect.Answer{Status: http.StatusConflict, Code: code}
}

// codeStateModified says that a key cannot change from its state to the state asked for.
const codeStateModified = "Rejected.StateModifiedFailed"

// The answers that several errors have, and those of the translation itself.
var (
	missing              = badRequest("MissingParameter")
	invalid              = badRequest("InvalidParameter")
	malformed            = badRequest("ParseRequestParameterException")
	unsupportedOperation = badRequest("UnsupportedOperation")
	unsupportedAlias     = badRequest("Unsupported.Alias")
	unsigned             = badRequest("IncompleteSignature")
	wrongSignature       = badRequest("SignatureDoesNotMatch")
	denied               = dialect.Answer{Status: http.StatusForbidden, Code: "Forbidden.NoPermission"}
	keyNotFound          = dialect.Answer{Status: http.StatusNotFound, Code: "Forbidden.KeyNotFound"}
	versionNotFound      = dialect.Answer{Status: http.StatusNotFound, Code: "Forbidden.KeyVersionNotFound"}
	instanceNotFound     = dialect.Answer{Status: http.StatusForbidden, Code: "Forbidden.DKMSInstanceNotFound"}
	busy                 = dialect.Answer{Status: http.StatusTooManyRequests, Code: "Rejected.Throttling"}
	unavailable          = dialect.Answer{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailableTemporary"}
	internal             = dialect.Answer{Status: http.StatusInternalServerError, Code: "InternalFailure"}
)

// conditions are the answers to what the kernel refuses.
var conditions = map[dialect.Condition]dialect.Answer{
	dialect.NoRoute:            {Status: http.StatusNotFound, Code: "InvalidAction.NotFound"},
	dialect.NotOffered:         unsupportedOperation,
	dialect.NoMethod:           {Status: http.StatusForbidden, Code: "UnsupportedHTTPMethod"},
	dialect.SeveralMarks:       malformed,
	dialect.WebPage:            denied,
	dialect.CallerEnded:        denied,
	dialect.ProofOnSocket:      {Status: http.StatusForbidden, Code: "Forbidden.AccessKey"},
	dialect.OnlyOnSocket:       denied,
	dialect.SeveralProofs:      unsigned,
	dialect.NoProof:            unsigned,
	dialect.WrongSignature:     wrongSignature,
	dialect.WrongToken:         wrongSignature,
	dialect.NoPrincipal:        denied,
	dialect.BodyTooLong:        invalid,
	dialect.BodyNotObject:      malformed,
	dialect.BodyCut:            malformed,
	dialect.BadQuery:           malformed,
	dialect.FieldMissing:       missing,
	dialect.TooManyConnections: busy,
	dialect.ProgramFault:       internal,
}

// answers are the cloud's words for the core's errors.
var answers = dialect.Answers{Codes: map[kms.Code]dialect.Answer{
	kms.CodeInvalidRequest:        invalid,
	kms.CodeUnsupported:           unsupportedOperation,
	kms.CodeAlreadyExists:         badRequest("AliasAlreadyExists"),
	kms.CodeQuotaExceeded:         badRequest("Rejected.LimitExceeded"),
	kms.CodeNotFound:              keyNotFound,
	kms.CodeDenied:                denied,
	kms.CodeUnauthenticated:       wrongSignature,
	kms.CodeTokenExpired:          wrongSignature,
	kms.CodeKeyDisabled:           conflict("Rejected.Disabled"),
	kms.CodeKeyArchived:           conflict("Rejected.Disabled"),
	kms.CodeKeyPendingDeletion:    conflict("Rejected.PendingDeletion"),
	kms.CodeKeyPendingImport:      conflict("Rejected.PendingImport"),
	kms.CodeKeyUnavailable:        unavailable,
	kms.CodeKeyExhausted:          conflict("Rejected.Disabled"),
	kms.CodeKeyNotDisabled:        conflict(codeStateModified),
	kms.CodeKeyNotEnabled:         conflict(codeStateModified),
	kms.CodeKeyNotPendingDeletion: conflict(codeStateModified),
	kms.CodeKeyNotPendingImport:   conflict(codeStateModified),
	kms.CodeKeyProtected:          conflict(codeStateModified),
	kms.CodeInvalidKeyUsage:       unsupportedOperation,
	kms.CodeInvalidAlgorithm:      invalid,
	kms.CodeServiceKey:            unsupportedOperation,
	kms.CodeInvalidOrigin:         badRequest("Unsupported.Origin"),
	kms.CodeRotationEnabled:       conflict(codeStateModified),
	kms.CodeRotationDisabled:      conflict(codeStateModified),
	kms.CodeInvalidCiphertext:     invalid,
	kms.CodeInvalidKeyMaterial:    badRequest("InvalidKeyMaterial"),
	kms.CodeKeyMaterialMismatch:   badRequest("InvalidKeyMaterial"),
	kms.CodeKeyMaterialMissing:    conflict(codeStateModified),
	kms.CodeKeyMaterialPermanent:  unsupportedOperation,
	kms.CodeInvalidImportToken:    badRequest("InvalidImportToken"),
	kms.CodeImportTokenExpired:    badRequest("ExpiredImportToken"),
	kms.CodeInvalidGrant:          invalid,
	kms.CodeDryRun:                badRequest(codeDryRun),
	kms.CodeBusy:                  busy,
	kms.CodeDeadlineExceeded:      unavailable,
	kms.CodeInternal:              internal,
}, Exceptions: []dialect.Exception{
	{Operation: policy.OpScheduleDeletion, Code: kms.CodeKeyPendingDeletion, As: codeStateModified},
	{Operation: policy.OpCreateAlias, Code: kms.CodeKeyPendingDeletion, As: codeStateModified},
	{Operation: policy.OpAssociateAlias, Code: kms.CodeNotFound, Field: "alias", As: "Forbidden.AliasNotFound"},
	{Operation: policy.OpDeleteAlias, Code: kms.CodeNotFound, As: "Forbidden.AliasNotFound"},
	{Code: kms.CodeNotFound, Field: "alias", As: "Forbidden.AliasNotFound"},
	{Code: kms.CodeNotFound, Field: "version", As: "Forbidden.KeyVersionNotFound"},
	{Code: kms.CodeUnsupported, Field: "protection", As: "Unsupported.ProtectionLevel"},
	{Code: kms.CodeUnsupported, Field: "key_spec", As: "InvalidParameter"},
}}

const codeDryRun = "DryRunOperationError"

// refuse makes a refusal of a request's content.
func refuse(a dialect.Answer, code kms.Code, field, text string) error {
	return &dialect.Refusal{Answer: a, Core: &kms.Error{Code: code, Field: field, Message: text}}
}

// appendError appends an error. Of a dry run, what the key or its caller may not do are two codes of their own.
func appendError(x *dialect.Exchange, rt *dialect.Route, a dialect.Answer, e *kms.Error) {
	code := a.Code
	if rt != nil && isDry(rt, x) {
		switch {
		case a.Status == http.StatusForbidden:
			code = "AccessDeniedError"
		case a.Status < http.StatusTooManyRequests && code != codeDryRun:
			code = "ValidationError"
		}
	}
	x.Out = dialect.AppendMember(x.Out, `{"RequestId":`, x.RequestID)
	x.Out = strconv.AppendInt(append(x.Out, `,"HttpStatus":`...), int64(a.Status), 10)
	x.Out = dialect.AppendMember(x.Out, `,"Code":`, code)
	x.Out = append(dialect.AppendMember(x.Out, `,"Message":`, text(rt, e)), '}')
	format(x, "KMS")
}

// isDry reports whether a request is a dry run, as far as its fields were read.
func isDry(rt *dialect.Route, x *dialect.Exchange) bool {
	return len(rt.Fields) > 0 && rt.Fields[0].Name == dryRun.Name && x.FieldsRead() && x.Flag(dryRun, false)
}

// text is what a client reads: the field at fault by the name that the action has for it, and what is wrong. All bad ciphertexts
// are told the same.
func text(rt *dialect.Route, e *kms.Error) string {
	switch {
	case e.Code == kms.CodeInvalidCiphertext:
		return "CiphertextBlob: is not valid"
	case e.Code == kms.CodeNotFound && e.Field == "":
		return "The specified Key is not found."
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
