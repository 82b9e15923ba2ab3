package hsm

import (
	"context"
	"log/slog"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar/kms"
)

// failure is a driver's code as the core sees it.
type failure struct {
	code    kms.Code
	message string
	level   slog.Level // at which it is logged
}

// failures maps every code of the contract; a test proves it total. What the data or the load cause is logged for
// debugging only; what an operator must see, as an error.
var failures = map[driver.Code]failure{
	driver.InvalidArgument: {kms.CodeInternal, "internal error", slog.LevelError},
	driver.Unsupported:     {kms.CodeUnsupported, "the HSM cannot do this", slog.LevelWarn},
	driver.BadCiphertext:   {kms.CodeInvalidCiphertext, "ciphertext is not valid", slog.LevelDebug},
	driver.BadMaterial:     {kms.CodeInvalidKeyMaterial, "material does not open, or is no key of this spec", slog.LevelDebug},
	driver.SealInvalid:     {kms.CodeKeyUnavailable, "key is unavailable in the HSM", slog.LevelError},
	driver.KeyUnavailable:  {kms.CodeKeyUnavailable, "key is unavailable in the HSM", slog.LevelError},
	driver.TenantUnknown:   {kms.CodeKeyUnavailable, "key is unavailable in the HSM", slog.LevelError},
	driver.PINIncorrect:    {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelError},
	driver.PINLocked:       {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelError},
	driver.Busy:            {kms.CodeBusy, "too many requests are waiting for the HSM", slog.LevelDebug},
	driver.Deadline:        {kms.CodeDeadlineExceeded, "the request's time ended", slog.LevelDebug},
	driver.Device:          {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelWarn},
	driver.Lost:            {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelWarn},
	driver.Poison:          {kms.CodeInternal, "internal error", slog.LevelError},
	driver.Internal:        {kms.CodeInternal, "internal error", slog.LevelError},
}

// translate logs a driver's error and returns the core's. A SealInvalid means that the database and the HSM disagree: a
// blob was changed, swapped or sealed under another root.
func (h *HSM) translate(ctx context.Context, operation string, err error) error {
	e := driver.AsError(err)
	f, known := failures[e.Code]
	if !known {
		f = failures[driver.Internal]
	}
	if h.log.Enabled(ctx, f.level) {
		attrs := []slog.Attr{slog.String("operation", operation), slog.String("code", e.Code.String()), slog.String("error", e.Error())}
		if call := kms.CallFrom(ctx); call != nil {
			attrs = append(attrs, slog.String("request_id", call.RequestID))
		}
		h.log.LogAttrs(ctx, f.level, "driver refused an operation", attrs...)
	}
	out := &kms.Error{Code: f.code, Message: f.message}
	if f.code == kms.CodeBusy {
		out.RetryAfter = e.RetryAfter
	}
	return out.Because(e)
}
