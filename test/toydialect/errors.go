package toydialect

import (
	"net/http"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func invalid(code string) dialect.Answer {
	return dialect.Answer{Status: http.StatusBadRequest, Code: code}
}

// The answers that several errors have.
var (
	unauthenticated = dialect.Answer{Status: http.StatusUnauthorized, Code: "NotSigned"}
	denied          = dialect.Answer{Status: http.StatusForbidden, Code: "Denied"}
	unavailable     = dialect.Answer{Status: http.StatusServiceUnavailable, Code: "Busy"}
	internal        = dialect.Answer{Status: http.StatusInternalServerError, Code: "Internal"}
)

var conditions = map[dialect.Condition]dialect.Answer{
	dialect.NoRoute: {Status: http.StatusNotFound, Code: "NoSuchAction"}, dialect.NotOffered: {Status: http.StatusNotFound, Code: "NoSuchAction"}, dialect.NoMethod: {Status: http.StatusMethodNotAllowed, Code: "UsePost"},
	dialect.SeveralMarks: invalid("Malformed"), dialect.WebPage: denied, dialect.CallerEnded: denied, dialect.ProofOnSocket: unauthenticated, dialect.OnlyOnSocket: denied,
	dialect.SeveralProofs: unauthenticated, dialect.NoProof: unauthenticated, dialect.WrongSignature: unauthenticated,
	dialect.WrongToken: unauthenticated, dialect.NoPrincipal: denied, dialect.BodyTooLong: invalid("TooLong"),
	dialect.BodyNotObject: invalid("Malformed"), dialect.BodyCut: invalid("Malformed"), dialect.BadQuery: invalid("Malformed"),
	dialect.FieldMissing: invalid("MissingParameter"), dialect.TooManyConnections: unavailable, dialect.ProgramFault: internal,
}

// answers gives every code of the core that is about a key the answer InvalidKey.
var answers = func() dialect.Answers {
	codes := map[kms.Code]dialect.Answer{}
	for _, code := range kms.Codes {
		codes[code] = invalid("InvalidKey")
	}
	codes[kms.CodeInvalidRequest], codes[kms.CodeInvalidCiphertext] = invalid("InvalidParameter"), invalid("InvalidCiphertext")
	codes[kms.CodeUnauthenticated], codes[kms.CodeTokenExpired], codes[kms.CodeDenied] = unauthenticated, unauthenticated, denied
	codes[kms.CodeBusy], codes[kms.CodeKeyUnavailable], codes[kms.CodeDeadlineExceeded] = unavailable, unavailable, unavailable
	codes[kms.CodeInternal] = internal
	return dialect.Answers{Codes: codes, Exceptions: []dialect.Exception{
		{Operation: policy.OpEncryptData, Code: kms.CodeInvalidRequest, Field: "plaintext", As: "InvalidPlaintext"},
	}}
}()

func appendError(x *dialect.Exchange, _ *dialect.Route, a dialect.Answer, e *kms.Error) {
	x.Out = dialect.AppendMember(append(append(x.Out, `{"Response":{"Error":{"Code":"`...), a.Code...), `","Message":`, e.Message)
	x.Out = append(dialect.AppendMember(x.Out, `},"RequestId":`, x.RequestID), "}}"...)
}
