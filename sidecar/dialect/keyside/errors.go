package keyside

import (
	"net/http"
	"strconv"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// statuses maps every code of the core to an HTTP status: 400 if another request would succeed, 409 if the same request
// would succeed in another state of the key or the tenant.
var statuses = map[kms.Code]int{
	kms.CodeInvalidRequest:       http.StatusBadRequest,
	kms.CodeUnsupported:          http.StatusBadRequest,
	kms.CodeInvalidKeyUsage:      http.StatusBadRequest,
	kms.CodeInvalidAlgorithm:     http.StatusBadRequest,
	kms.CodeInvalidOrigin:        http.StatusBadRequest,
	kms.CodeServiceKey:           http.StatusBadRequest,
	kms.CodeInvalidCiphertext:    http.StatusBadRequest,
	kms.CodeInvalidKeyMaterial:   http.StatusBadRequest,
	kms.CodeKeyMaterialMismatch:  http.StatusBadRequest,
	kms.CodeKeyMaterialPermanent: http.StatusBadRequest,
	kms.CodeInvalidImportToken:   http.StatusBadRequest,
	kms.CodeImportTokenExpired:   http.StatusBadRequest,
	kms.CodeInvalidGrant:         http.StatusBadRequest,
	kms.CodeDryRun:               http.StatusBadRequest,

	kms.CodeUnauthenticated: http.StatusUnauthorized,
	kms.CodeTokenExpired:    http.StatusUnauthorized,
	kms.CodeDenied:          http.StatusForbidden,
	kms.CodeNotFound:        http.StatusNotFound,

	kms.CodeAlreadyExists:         http.StatusConflict,
	kms.CodeKeyProtected:          http.StatusConflict,
	kms.CodeQuotaExceeded:         http.StatusConflict,
	kms.CodeKeyDisabled:           http.StatusConflict,
	kms.CodeKeyArchived:           http.StatusConflict,
	kms.CodeKeyPendingDeletion:    http.StatusConflict,
	kms.CodeKeyPendingImport:      http.StatusConflict,
	kms.CodeKeyExhausted:          http.StatusConflict,
	kms.CodeKeyNotDisabled:        http.StatusConflict,
	kms.CodeKeyNotEnabled:         http.StatusConflict,
	kms.CodeKeyNotPendingDeletion: http.StatusConflict,
	kms.CodeKeyNotPendingImport:   http.StatusConflict,
	kms.CodeRotationEnabled:       http.StatusConflict,
	kms.CodeRotationDisabled:      http.StatusConflict,
	kms.CodeKeyMaterialMissing:    http.StatusConflict,

	kms.CodeInternal:         http.StatusInternalServerError,
	kms.CodeKeyUnavailable:   http.StatusServiceUnavailable,
	kms.CodeBusy:             http.StatusServiceUnavailable,
	kms.CodeDeadlineExceeded: http.StatusGatewayTimeout,
}

// answerTo returns the status of an error; its code is the core's. A request without a route is 404: every operation is a
// POST, so nothing is there for other methods.
func answerTo(rt *dialect.Route, _ *dialect.Exchange, e *kms.Error) dialect.Answer {
	status := statuses[e.Code]
	if rt == nil && e.Code == kms.CodeInvalidRequest {
		status = http.StatusNotFound
	}
	return dialect.Answer{Status: status, Code: string(e.Code)}
}

// appendError appends an error.
func appendError(x *dialect.Exchange, _ *dialect.Route, a dialect.Answer, e *kms.Error) {
	x.Out = append(append(x.Out, `{"error":{"code":"`...), a.Code...)
	x.Out = dialect.AppendString(append(x.Out, `","message":`...), e.Message)
	if e.Field != "" {
		x.Out = dialect.AppendString(append(x.Out, `,"field":`...), e.Field)
	}
	if e.Reason != "" {
		x.Out = dialect.AppendString(append(x.Out, `,"reason":`...), string(e.Reason))
	}
	if e.RetryAfter > 0 {
		x.Out = strconv.AppendInt(append(x.Out, `,"retry_after":`...), dialect.Seconds(e.RetryAfter), 10)
	}
	x.Out = append(x.Out, "}}"...)
}
