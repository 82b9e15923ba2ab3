package keyside

import (
	"math"
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

// fail writes an error.
func fail(w http.ResponseWriter, x *dialect.Exchange, err error) {
	x.Restart()
	e := kms.AsError(err)
	x.Out = append(append(x.Out, `{"error":{"code":"`...), e.Code...)
	x.Out = dialect.AppendString(append(x.Out, `","message":`...), e.Message)
	if e.Field != "" {
		x.Out = dialect.AppendString(append(x.Out, `,"field":`...), e.Field)
	}
	if e.Reason != "" {
		x.Out = dialect.AppendString(append(x.Out, `,"reason":`...), string(e.Reason))
	}
	if e.RetryAfter > 0 {
		seconds := strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds())))
		w.Header().Set("Retry-After", seconds)
		x.Out = append(append(x.Out, `,"retry_after":`...), seconds...)
	}
	x.Out = append(x.Out, "}}"...)
	status, known := statuses[e.Code]
	if !known {
		status = http.StatusBadRequest
	}
	x.Send(w, status)
}
