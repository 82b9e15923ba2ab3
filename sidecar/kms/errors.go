package kms

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Code is what kind of refusal or failure an error of the core is. The list is closed: each dialect maps each code, and a
// test proves its map total.
type Code string

// The codes.
const (
	CodeInvalidRequest        Code = "InvalidRequest"        // Field is malformed, missing or out of range
	CodeUnsupported           Code = "Unsupported"           // known, but this HSM or this build cannot do it
	CodeAlreadyExists         Code = "AlreadyExists"         // another key or alias has the name
	CodeQuotaExceeded         Code = "QuotaExceeded"         // as many as the limit allows; Field: tags or grants of a key, if not keys
	CodeNotFound              Code = "NotFound"              // the key, or what Field names, does not exist
	CodeDenied                Code = "Denied"                // no role, grant or policy allows it, or a policy forbids it
	CodeUnauthenticated       Code = "Unauthenticated"       // no signature or token, or an invalid one
	CodeTokenExpired          Code = "TokenExpired"          // token has expired
	CodeKeyDisabled           Code = "KeyDisabled"           // key is Disabled
	CodeKeyArchived           Code = "KeyArchived"           // key is Archived
	CodeKeyPendingDeletion    Code = "KeyPendingDeletion"    // key is PendingDeletion
	CodeKeyPendingImport      Code = "KeyPendingImport"      // key is PendingImport
	CodeKeyUnavailable        Code = "KeyUnavailable"        // the HSM does not find or does not accept the key now
	CodeKeyExhausted          Code = "KeyExhausted"          // the key version has encrypted as many messages as is safe
	CodeKeyNotDisabled        Code = "KeyNotDisabled"        // enable: key is not Disabled
	CodeKeyNotEnabled         Code = "KeyNotEnabled"         // disable: key is not Enabled
	CodeKeyNotPendingDeletion Code = "KeyNotPendingDeletion" // cancel deletion: key is not PendingDeletion
	CodeKeyNotPendingImport   Code = "KeyNotPendingImport"   // import: key is not PendingImport
	CodeInvalidKeyUsage       Code = "InvalidKeyUsage"       // operation does not take such a key; Reason says what the key is
	CodeInvalidAlgorithm      Code = "InvalidAlgorithm"      // algorithm does not match the key spec
	CodeKeyProtected          Code = "KeyProtected"          // schedule deletion: key is protected against deletion
	CodeDryRun                Code = "DryRun"                // the request is a dry run, and passed every check
	CodeServiceKey            Code = "ServiceKey"            // a service's default key cannot be changed
	CodeInvalidOrigin         Code = "InvalidOrigin"         // operation does not take keys of this origin; Reason says which
	CodeRotationEnabled       Code = "RotationEnabled"       // rotation is already enabled
	CodeRotationDisabled      Code = "RotationDisabled"      // rotation is not enabled
	CodeInvalidCiphertext     Code = "InvalidCiphertext"     // malformed, of another key or purpose, or another context: one answer for all
	CodeInvalidKeyMaterial    Code = "InvalidKeyMaterial"    // import: material does not open, or is no key of the spec: one answer for all
	CodeKeyMaterialMismatch   Code = "KeyMaterialMismatch"   // import: not the material of the first import, or not that of the check value
	CodeKeyMaterialMissing    Code = "KeyMaterialMissing"    // delete material: key is neither Enabled nor Disabled
	CodeKeyMaterialPermanent  Code = "KeyMaterialPermanent"  // delete material: that of asymmetric keys stays
	CodeInvalidImportToken    Code = "InvalidImportToken"    // import: token malformed, not authentic, or another key's
	CodeImportTokenExpired    Code = "ImportTokenExpired"    // import: token has expired, or a later token replaced it
	CodeInvalidGrant          Code = "InvalidGrant"          // grant: grantee unknown, or nothing but the right to make grants
	CodeBusy                  Code = "Busy"                  // shed; RetryAfter says when to come back
	CodeDeadlineExceeded      Code = "DeadlineExceeded"      // the request's time ended
	CodeInternal              Code = "Internal"              // cause in the log only
)

// Codes lists every code, for the tests that prove a map total.
var Codes = []Code{
	CodeInvalidRequest, CodeUnsupported, CodeAlreadyExists, CodeQuotaExceeded, CodeNotFound, CodeDenied, CodeUnauthenticated,
	CodeTokenExpired, CodeKeyDisabled, CodeKeyArchived, CodeKeyPendingDeletion, CodeKeyPendingImport, CodeKeyUnavailable, CodeKeyExhausted,
	CodeKeyNotDisabled, CodeKeyNotEnabled, CodeKeyNotPendingDeletion, CodeKeyNotPendingImport, CodeInvalidKeyUsage,
	CodeInvalidAlgorithm, CodeKeyProtected, CodeDryRun, CodeServiceKey, CodeInvalidOrigin, CodeRotationEnabled, CodeRotationDisabled, CodeInvalidCiphertext,
	CodeInvalidKeyMaterial, CodeKeyMaterialMismatch, CodeKeyMaterialMissing, CodeKeyMaterialPermanent, CodeInvalidImportToken,
	CodeImportTokenExpired, CodeInvalidGrant, CodeBusy, CodeDeadlineExceeded, CodeInternal,
}

// Reason says more exactly than a Code what is wrong, in one word. The list is closed.
type Reason string

// The reasons.
const (
	ReasonMissing    Reason = "missing"      // not given, or empty
	ReasonMalformed  Reason = "malformed"    // not of the form of such a value
	ReasonUnknown    Reason = "unknown"      // of the right form, but no such thing exists
	ReasonReserved   Reason = "reserved"     // a name that only the service itself gives
	ReasonLength     Reason = "length"       // too long, or too short
	ReasonDigest     Reason = "digest"       // not as long as a digest of the algorithm
	ReasonOutOfRange Reason = "out_of_range" // a number below or above its limits
	ReasonTooMany    Reason = "too_many"     // more elements than the limit
	ReasonPast       Reason = "past"         // a time that must be in the future
	ReasonConflict   Reason = "conflict"     // contradicts another field, or what exists

	// What a key is, with CodeInvalidKeyUsage.
	ReasonSymmetric      Reason = "symmetric"
	ReasonAsymmetric     Reason = "asymmetric"
	ReasonElliptic       Reason = "elliptic"
	ReasonMAC            Reason = "mac"
	ReasonEncryptDecrypt Reason = "encrypt_decrypt"
	ReasonSignVerify     Reason = "sign_verify"
	ReasonKeyAgreement   Reason = "key_agreement"

	// Where a key's material comes from, with CodeInvalidOrigin.
	ReasonExternal  Reason = "external"
	ReasonGenerated Reason = "generated"

	ReasonOtherKey        Reason = "other_key"         // an import token is another key's
	ReasonCreateGrantOnly Reason = "create_grant_only" // a grant's only operation would be create-grant
)

// Error is a refusal or failure of the core. Message is fit for a client; the cause is for the log only.
type Error struct {
	Code       Code
	Field      string // name of the field at fault in the native API, where one is
	Reason     Reason // what is wrong, where Code alone does not say it
	Message    string
	RetryAfter time.Duration // with CodeBusy
	cause      error
}

// Errorf makes an Error whose message a client may see. Because adds a cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Because returns e with a cause, which goes to the log and never to a client.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// Invalid makes an Error with CodeInvalidRequest for a field of a request.
func Invalid(field string, reason Reason, format string, args ...any) *Error {
	return &Error{Code: CodeInvalidRequest, Field: field, Reason: reason, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) with(reason Reason) *Error {
	c := *e
	c.Reason = reason
	return &c
}

// In returns e with the name of the field at fault.
func (e *Error) In(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

func (e *Error) Error() string {
	if e.Field != "" {
		return fmt.Sprintf("%s: %s: %s", e.Code, e.Field, e.Message)
	}
	return fmt.Sprintf("%s: %s", e.Code, e.Message)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// instead returns another error because of err, if err has the code. All other errors it returns as they are.
func instead(err error, code Code, other *Error) error {
	if AsError(err).Code == code {
		return other.Because(err)
	}
	return err
}

// AsError returns err as an *Error. A context that ended becomes CodeDeadlineExceeded, and what else is no *Error becomes
// CodeInternal, both with err as the cause.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{Code: CodeDeadlineExceeded, Message: "the request's time ended", cause: err}
	}
	return &Error{Code: CodeInternal, Message: "internal error", cause: err}
}
