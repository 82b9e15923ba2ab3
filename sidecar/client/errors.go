package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// Error is an operation that the sidecar refused or failed to do.
type Error struct {
	Status     int           // of HTTP
	Code       string        // one of the codes of the errors below; "HTTP 502" and the like if the response is not the API's
	Field      string        // of the request, where one is at fault; those of elements have dots: tags.value
	Reason     string        // a word that says more than Code, such as missing, length, expired; empty: none
	Message    string        // for people
	RequestID  string        // of the audit record
	RetryAfter time.Duration // zero: not known
}

func (e *Error) Error() string {
	message := e.Message
	if e.Field != "" {
		message = e.Field + ": " + message
	}
	return fmt.Sprintf("%s (%s, request %s)", message, e.Code, e.RequestID)
}

// Is reports whether target is an Error with the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// The codes of the API, for errors.Is.
var (
	ErrInvalidRequest        = &Error{Code: "InvalidRequest"}     // Field and Reason say what is wrong
	ErrUnsupported           = &Error{Code: "Unsupported"}        // valid, but not with this HSM
	ErrAlreadyExists         = &Error{Code: "AlreadyExists"}      // the alias is taken
	ErrQuotaExceeded         = &Error{Code: "QuotaExceeded"}      // as many as the limit allows exist
	ErrNotFound              = &Error{Code: "NotFound"}           // the key, alias, tag, grant or access key does not exist
	ErrDenied                = &Error{Code: "Denied"}             // no role, grant or policy allows it
	ErrUnauthenticated       = &Error{Code: "Unauthenticated"}    // no valid signature or token
	ErrTokenExpired          = &Error{Code: "TokenExpired"}       // get a new token
	ErrKeyDisabled           = &Error{Code: "KeyDisabled"}        // enable the key
	ErrKeyArchived           = &Error{Code: "KeyArchived"}        // the key only decrypts: enable it
	ErrKeyPendingDeletion    = &Error{Code: "KeyPendingDeletion"} // cancel the deletion
	ErrKeyPendingImport      = &Error{Code: "KeyPendingImport"}   // import the material
	ErrKeyUnavailable        = &Error{Code: "KeyUnavailable"}     // the HSM does not have the key now
	ErrKeyExhausted          = &Error{Code: "KeyExhausted"}       // the version encrypted as many messages as is safe: rotate
	ErrKeyNotDisabled        = &Error{Code: "KeyNotDisabled"}     // enable-key needs a disabled key
	ErrKeyNotEnabled         = &Error{Code: "KeyNotEnabled"}      // disable-key needs an enabled key
	ErrKeyNotPendingDeletion = &Error{Code: "KeyNotPendingDeletion"}
	ErrKeyNotPendingImport   = &Error{Code: "KeyNotPendingImport"}
	ErrInvalidKeyUsage       = &Error{Code: "InvalidKeyUsage"}      // the key is not for this; Reason says what it is
	ErrInvalidAlgorithm      = &Error{Code: "InvalidAlgorithm"}     // the algorithm is not for this key
	ErrKeyProtected          = &Error{Code: "KeyProtected"}         // the key is protected against deletion
	ErrDryRun                = &Error{Code: "DryRun"}               // of a cloud's dry run; the native API has none
	ErrServiceKey            = &Error{Code: "ServiceKey"}           // not allowed on a service's default key
	ErrInvalidOrigin         = &Error{Code: "InvalidOrigin"}        // imported where made here is needed, or the reverse
	ErrRotationEnabled       = &Error{Code: "RotationEnabled"}      // already
	ErrRotationDisabled      = &Error{Code: "RotationDisabled"}     // enable rotation first
	ErrInvalidCiphertext     = &Error{Code: "InvalidCiphertext"}    // corrupt, of another key, or another context
	ErrInvalidKeyMaterial    = &Error{Code: "InvalidKeyMaterial"}   // does not unwrap, or is no key of the spec
	ErrKeyMaterialMismatch   = &Error{Code: "KeyMaterialMismatch"}  // not the material of the first import, or of the check value
	ErrKeyMaterialMissing    = &Error{Code: "KeyMaterialMissing"}   // nothing to delete
	ErrKeyMaterialPermanent  = &Error{Code: "KeyMaterialPermanent"} // material of asymmetric keys cannot be deleted alone
	ErrInvalidImportToken    = &Error{Code: "InvalidImportToken"}   // malformed, or of another key
	ErrImportTokenExpired    = &Error{Code: "ImportTokenExpired"}   // get new import parameters
	ErrInvalidGrant          = &Error{Code: "InvalidGrant"}         // Field and Reason say what is wrong
	ErrBusy                  = &Error{Code: "Busy"}                 // try again after RetryAfter
	ErrDeadlineExceeded      = &Error{Code: "DeadlineExceeded"}     // the operation took too long
	ErrInternal              = &Error{Code: "Internal"}             // the sidecar's log has the cause under RequestID
)

// ErrCutOff is a response that ended early: the sidecar stopped, or the caller lost the right to read it.
var ErrCutOff = errors.New("the sidecar cut its response off")

// ConnectError is a request without a response: no sidecar serves the socket, or it stopped.
type ConnectError struct {
	Socket string
	err    error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("no answer from the sidecar at %s: %v", e.Socket, e.err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

// connectError returns the context's error if it ended, else a ConnectError.
func (c *Client) connectError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &ConnectError{Socket: c.socket, err: err}
}

// ErrorBody is the body of the response to an operation that is refused or fails.
type ErrorBody struct {
	Error ErrorDetail `json:"error"`
}

// ErrorDetail says what is wrong.
type ErrorDetail struct {
	Code       string `json:"code"`
	Message    string `json:"message"`
	Field      string `json:"field,omitzero"`
	Reason     string `json:"reason,omitzero"`
	RetryAfter int    `json:"retry_after,omitzero"` // seconds
}

// errorOf returns the error of a response.
func errorOf(res *http.Response, answer []byte) error {
	var body ErrorBody
	if err := json.Unmarshal(answer, &body); err != nil || body.Error.Code == "" {
		body.Error = ErrorDetail{
			Code: fmt.Sprintf("HTTP %d", res.StatusCode), Message: strings.ToLower(http.StatusText(res.StatusCode)),
		}
	}
	e := body.Error
	return &Error{
		Status: res.StatusCode, Code: e.Code, Field: e.Field, Reason: e.Reason, Message: e.Message,
		RequestID: res.Header.Get("X-Request-Id"), RetryAfter: time.Duration(e.RetryAfter) * time.Second,
	}
}
