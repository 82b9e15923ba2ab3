package keyside

import (
	"net/http"
	"strconv"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// statuses maps the codes of the core to HTTP statuses.
var statuses = map[kms.Code]int{
	kms.CodeNotFound: http.StatusNotFound, kms.CodeDenied: http.StatusForbidden, kms.CodeUnauthenticated: http.StatusUnauthorized,
	kms.CodeBusy: http.StatusServiceUnavailable, kms.CodeDeadlineExceeded: http.StatusGatewayTimeout, kms.CodeInternal: http.StatusInternalServerError,
}

func missing(field, message string) error {
	return kms.Invalid(field, kms.ReasonMissing, "%s", message)
}

func unknown(field, message string) error {
	return kms.Invalid(field, kms.ReasonUnknown, "%s", message)
}

// answerTo returns the status of an error; its code is the core's. A request without a route has the wrong method.
func answerTo(rt *dialect.Route, _ *dialect.Exchange, e *kms.Error) dialect.Answer {
	status, known := statuses[e.Code]
	switch {
	case known:
	case rt == nil:
		status = http.StatusMethodNotAllowed
	default:
		status = http.StatusBadRequest
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
