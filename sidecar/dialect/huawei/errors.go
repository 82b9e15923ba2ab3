package huawei

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"

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
	kms.CodeInvalidRequest:    {http.StatusBadRequest, "KMS.0308"},
	kms.CodeInvalidKeyID:      {http.StatusBadRequest, "KMS.0205"},
	kms.CodeInvalidAlias:      {http.StatusBadRequest, "KMS.1101"},
	kms.CodeInvalidDesc:       {http.StatusBadRequest, "KMS.1103"},
	kms.CodeInvalidSpec:       {http.StatusBadRequest, "KMS.1110"},
	kms.CodeInvalidLimit:      {http.StatusBadRequest, "KMS.1601"},
	kms.CodeInvalidMarker:     {http.StatusBadRequest, "KMS.1602"},
	kms.CodeInvalidLength:     {http.StatusBadRequest, "KMS.1901"},
	kms.CodeUnsupportedSpec:   {http.StatusBadRequest, "KMS.1110"},
	kms.CodeUnsupportedUsage:  {http.StatusBadRequest, "KMS.0308"},
	kms.CodeAliasExists:       {http.StatusBadRequest, "KMS.1104"},
	kms.CodeQuotaExceeded:     {http.StatusBadRequest, "KMS.1105"},
	kms.CodeNotFound:          {http.StatusNotFound, "KMS.0207"},
	kms.CodeDenied:            {http.StatusForbidden, "KMS.0307"},
	kms.CodeKeyDisabled:       {http.StatusBadRequest, "KMS.0209"},
	kms.CodeKeyPendingDelete:  {http.StatusBadRequest, "KMS.0210"},
	kms.CodeKeyPendingImport:  {http.StatusBadRequest, "KMS.1301"},
	kms.CodeKeyUnavailable:    {http.StatusServiceUnavailable, "KMS.0104"},
	kms.CodeKeyExhausted:      {http.StatusBadRequest, "KMS.0320"},
	kms.CodeNotDisabled:       {http.StatusBadRequest, "KMS.1201"},
	kms.CodeNotEnabled:        {http.StatusBadRequest, "KMS.1301"},
	kms.CodeSymmetricKey:      {http.StatusBadRequest, "KMS.0331"},
	kms.CodeAsymmetricKey:     {http.StatusBadRequest, "KMS.0325"},
	kms.CodeMACKey:            {http.StatusBadRequest, "KMS.0341"},
	kms.CodeUsageIsEncrypt:    {http.StatusBadRequest, "KMS.0334"},
	kms.CodeUsageIsSign:       {http.StatusBadRequest, "KMS.0335"},
	kms.CodeAlgorithmMismatch: {http.StatusBadRequest, "KMS.0332"},
	kms.CodeDigestLength:      {http.StatusBadRequest, "KMS.0329"},
	kms.CodeDataTooLong:       {http.StatusBadRequest, "KMS.0308"},
	kms.CodeInvalidCiphertext: {http.StatusBadRequest, "KMS.2201"},
	kms.CodeUnauthenticated:   {http.StatusUnauthorized, "APIGW.0301"},
	kms.CodeTokenExpired:      {http.StatusForbidden, "KMS.0303"},
	kms.CodeBusy:              {http.StatusServiceUnavailable, "KMS.0104"},
	kms.CodeDeadline:          {http.StatusGatewayTimeout, "KMS.0101"},
	kms.CodeInternal:          {http.StatusInternalServerError, "KMS.0103"},
}

// Codes for what the translation itself refuses.
const (
	codeBadJSON        = "KMS.0202"
	codeTooLong        = "KMS.0203"
	codeMissing        = "KMS.0204"
	codeKeyID          = "KMS.0205"
	codeSequence       = "KMS.0206"
	codeContext        = "KMS.0208"
	codeParameter      = "KMS.0308"
	codeAlgorithm      = "KMS.0332"
	codeKeystore       = "KMS.0340"
	codeAlias          = "KMS.1101"
	codeDescription    = "KMS.1103"
	codeSpec           = "KMS.1110"
	codeLimit          = "KMS.1601"
	codeMarker         = "KMS.1602"
	codeRandomLength   = "KMS.1801"
	codeRandomMultiple = "KMS.1802"
	codeKeyLength      = "KMS.1901"
	codeKeyLengthSpec  = "KMS.1902"
	codeKeyMultiple    = "KMS.1903"
	codePlainText      = "KMS.2101"
	codePlainLength    = "KMS.2102"
	codePlainDigest    = "KMS.2103"
	codePlainMismatch  = "KMS.2104"
	codeNotSymmetric   = "KMS.2105"
	codeCipherText     = "KMS.2201"
	codeCipherLength   = "KMS.2202"
	codeCipherMismatch = "KMS.2204"
)

// refusal is an error that the dialect found by itself, with the core's word for it, which the audit record gets.
type refusal struct {
	answer
	core *kms.Error
}

func (r *refusal) Error() string { return r.code + ": " + r.core.Message }

// Unwrap returns the core's word.
func (r *refusal) Unwrap() error { return r.core }

// refuse makes a refusal of a request's content, which is HTTP 400 always.
func refuse(code string, core kms.Code, field, message string) *refusal {
	return &refusal{answer{http.StatusBadRequest, code}, &kms.Error{Code: core, Field: field, Message: message}}
}

// Refusals that do not depend on the request's content.
var (
	errNoRoute = &refusal{answer{http.StatusNotFound, "APIGW.0101"},
		kms.Errorf(kms.CodeInvalidRequest, "no such api")}
	errMethod = &refusal{answer{http.StatusMethodNotAllowed, "KMS.0215"},
		kms.Errorf(kms.CodeInvalidRequest, "method not supported")}
	errProject = &refusal{answer{http.StatusForbidden, "KMS.0321"},
		kms.Errorf(kms.CodeDenied, "project in the path is not the caller's")}
	errUnauthenticated = &refusal{answer{http.StatusUnauthorized, "APIGW.0301"},
		kms.Errorf(kms.CodeDenied, "request is not authenticated")}
	errNobody = &refusal{answers[kms.CodeDenied],
		kms.Errorf(kms.CodeDenied, "caller has no permission")}
)

// decodeError translates what the shared decoding of a body found.
func decodeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dialect.ErrTooLong):
		return refuse(codeTooLong, kms.CodeInvalidRequest, "", "body too long")
	case errors.Is(err, dialect.ErrNotObject):
		return refuse(codeBadJSON, kms.CodeInvalidRequest, "", "body is not a json object")
	default:
		return refuse(codeBadJSON, kms.CodeInvalidRequest, "", "body ended early")
	}
}

// recordRefusal puts a refusal on record. What it returns is the answer: where the record cannot be written, that.
func (d *Dialect) recordRefusal(ctx context.Context, op policy.Operation, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	if got := kms.AsError(d.cfg.Core.Refuse(ctx, op, r.core)); got.Code != r.core.Code {
		return got
	}
	return r
}

// answerTo returns the wire's form of an error. rt is nil where there was no route.
func answerTo(rt *route, err error) (answer, *kms.Error) {
	var r *refusal
	if errors.As(err, &r) {
		return r.answer, r.core
	}
	e := kms.AsError(err)
	a, ok := answers[e.Code]
	if !ok {
		a = answers[kms.CodeInternal]
	}
	switch {
	case rt == nil:
	case rt.operation == policy.OpGenRandom && e.Code == kms.CodeInvalidLength:
		a.code = codeRandomLength
	case rt.operation == policy.OpEncryptData && e.Code == kms.CodeDataTooLong:
		a.code = codePlainText
	case e.Code == kms.CodeInvalidRequest && e.Field == "context":
		a.code = codeContext
	}
	return a, e
}

// names are this cloud's words for the core's fields.
var names = map[string]string{
	"aad": "additional_authenticated_data", "alias": "key_alias", "context": "encryption_context",
	"description": "key_description", "plaintext": "plain_text",
}

// fail writes an error: the gateway's in the gateway's flat form, the service's in its nested one.
func (d *Dialect) fail(w http.ResponseWriter, x *dialect.Exchange, rt *route, err error) {
	x.Restart()
	a, e := answerTo(rt, err)
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	flat := a.code[0] == 'A'
	if !flat {
		x.Out = append(x.Out, `{"error":`...)
	}
	x.Out = append(x.Out, `{"error_code":"`...)
	x.Out = append(x.Out, a.code...)
	x.Out = append(x.Out, `","error_msg":`...)
	x.Out = dialect.AppendString(x.Out, message(e))
	if flat {
		x.Out = append(x.Out, `,"request_id":"`...)
		x.Out = append(append(x.Out, x.RequestID...), '"')
	} else {
		x.Out = append(x.Out, '}')
	}
	x.Out = append(x.Out, '}')
	x.Send(w, a.status)
}

// message is what a client reads: the field at fault, if there is one, and what is wrong. All bad ciphertexts are told
// the same.
func message(e *kms.Error) string {
	if e.Code == kms.CodeInvalidCiphertext {
		return "cipher_text: is not valid"
	}
	switch name, renamed := names[e.Field]; {
	case e.Field == "":
		return e.Message
	case renamed:
		return name + ": " + e.Message
	default:
		return e.Field + ": " + e.Message
	}
}
