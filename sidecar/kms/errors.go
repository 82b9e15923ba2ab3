package kms

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Code is the closed list of reasons for which the core refuses or fails. Each dialect maps each code, and a test proves
// its map total.
type Code string

// The codes.
const (
	CodeInvalidRequest     Code = "InvalidRequest"     // Field says which one; not one of the more exact codes below
	CodeInvalidKeyID       Code = "InvalidKeyID"       // not the form of a key id
	CodeInvalidAlias       Code = "InvalidAlias"       // key name malformed or reserved
	CodeInvalidDesc        Code = "InvalidDesc"        // description too long
	CodeInvalidSpec        Code = "InvalidSpec"        // key spec unknown
	CodeInvalidLimit       Code = "InvalidLimit"       // page size out of range
	CodeInvalidMarker      Code = "InvalidMarker"      // page marker malformed
	CodeInvalidLength      Code = "InvalidLength"      // of random bytes or of a data key: out of range or not whole bytes
	CodeUnsupportedSpec    Code = "UnsupportedSpec"    // known, but this HSM cannot do it; Message names the capability
	CodeUnsupportedUsage   Code = "UnsupportedUsage"   // usage does not go with the spec
	CodeAliasExists        Code = "AliasExists"        // another key of the tenant has this name
	CodeQuotaExceeded      Code = "QuotaExceeded"      // as many keys as the limit allows
	CodeNotFound           Code = "NotFound"           // no such key, or none that this principal may know of
	CodeDenied             Code = "Denied"             // no grant and no policy allows it
	CodeKeyDisabled        Code = "KeyDisabled"        // key is Disabled
	CodeKeyPendingDelete   Code = "KeyPendingDelete"   // key is PendingDeletion
	CodeKeyPendingImport   Code = "KeyPendingImport"   // key is PendingImport
	CodeKeyUnavailable     Code = "KeyUnavailable"     // the HSM does not find or does not accept the key now
	CodeKeyExhausted       Code = "KeyExhausted"       // the key's version has encrypted as many messages as is safe
	CodeNotDisabled        Code = "NotDisabled"        // enable: key is not Disabled
	CodeNotEnabled         Code = "NotEnabled"         // disable: key is not Enabled
	CodeSymmetricKey       Code = "SymmetricKey"       // operation needs an asymmetric key
	CodeAsymmetricKey      Code = "AsymmetricKey"      // operation needs a symmetric key
	CodeMACKey             Code = "MACKey"             // operation is not for HMAC keys
	CodeUsageIsEncrypt     Code = "UsageIsEncrypt"     // key may only encrypt and decrypt
	CodeUsageIsSign        Code = "UsageIsSign"        // key may only sign and verify
	CodeAlgorithmMismatch  Code = "AlgorithmMismatch"  // algorithm is not for this key
	CodeDigestLength       Code = "DigestLength"       // digest is not as long as the algorithm's hash
	CodeDataTooLong        Code = "DataTooLong"        // plaintext or message above the limit
	CodeInvalidCiphertext  Code = "InvalidCiphertext"  // malformed, of another key or purpose, or context differs: one answer for all
	CodeDefaultKey         Code = "DefaultKey"         // not allowed on a default master key
	CodeInvalidWait        Code = "InvalidWait"        // days until a deletion out of range
	CodeAlreadyPending     Code = "AlreadyPending"     // schedule deletion: key is PendingDeletion already
	CodeNotPending         Code = "NotPending"         // cancel deletion: key is not PendingDeletion
	CodeExternalKey        Code = "ExternalKey"        // rotation: material was imported
	CodeInvalidInterval    Code = "InvalidInterval"    // rotation interval out of range
	CodeRotationEnabled    Code = "RotationEnabled"    // rotation is on already
	CodeRotationDisabled   Code = "RotationDisabled"   // rotation is not on
	CodeInvalidTagKey      Code = "InvalidTagKey"      // characters of a tag's key
	CodeInvalidTagValue    Code = "InvalidTagValue"    // characters of a tag's value
	CodeTagKeyLength       Code = "TagKeyLength"       // tag's key too long or empty
	CodeTagValueLength     Code = "TagValueLength"     // tag's value too long
	CodeTooManyTags        Code = "TooManyTags"        // more tags on a key, or in a request, than the limit
	CodeTagNotFound        Code = "TagNotFound"        // key has no such tag
	CodeEllipticKey        Code = "EllipticKey"        // elliptic keys do not encrypt
	CodeUsageIsAgreement   Code = "UsageIsAgreement"   // key may only derive shared secrets
	CodeNotMACKey          Code = "NotMACKey"          // operation needs an HMAC key
	CodeNotAgreementKey    Code = "NotAgreementKey"    // operation needs a key for key agreement
	CodeInvalidPublicKey   Code = "InvalidPublicKey"   // peer's public key: not one, or of another curve
	CodeOnlyCreateGrant    Code = "OnlyCreateGrant"    // grant: the right to make grants may not be its only one
	CodeInvalidGrantee     Code = "InvalidGrantee"     // grant: nobody of that name is known here
	CodeTooManyGrants      Code = "TooManyGrants"      // grant: key has as many as the limit allows
	CodeGrantNotFound      Code = "GrantNotFound"      // key has no such grant
	CodeUnauthenticated    Code = "Unauthenticated"    // no signature or token, or one that does not verify
	CodeTokenExpired       Code = "TokenExpired"       // token's time is over
	CodeNotExternal        Code = "NotExternal"        // import: the key's material was made here
	CodeNotPendingImport   Code = "NotPendingImport"   // import: key is not PendingImport
	CodeBadMaterial        Code = "BadMaterial"        // import: material does not open, or is no key of the spec: one answer for all
	CodeMaterialDiffers    Code = "MaterialDiffers"    // import: not the material that the key is bound to, or not what the check value says
	CodeMaterialExpiry     Code = "MaterialExpiry"     // import: expiry is not in the future
	CodeImportTokenInvalid Code = "ImportTokenInvalid" // import: token malformed or not authentic
	CodeImportTokenExpired Code = "ImportTokenExpired" // import: token's time is over, or a later token ended it
	CodeImportTokenOther   Code = "ImportTokenOther"   // import: token is another key's
	CodeNoPrivateKey       Code = "NoPrivateKey"       // import: asymmetric key without the encrypted private key
	CodeInvalidPrivateKey  Code = "InvalidPrivateKey"  // import: encrypted private key has not the form of one
	CodeNoMaterial         Code = "NoMaterial"         // delete material: key is neither Enabled nor Disabled
	CodePrivateMaterial    Code = "PrivateMaterial"    // delete material: that of asymmetric keys stays
	CodeBusy               Code = "Busy"               // shed; RetryAfter says when to come back
	CodeDeadline           Code = "Deadline"           // the request's time ended
	CodeInternal           Code = "Internal"           // cause in the log only
)

// Codes lists every code, for the tests that prove a map total.
var Codes = []Code{
	CodeInvalidRequest, CodeInvalidKeyID, CodeInvalidAlias, CodeInvalidDesc, CodeInvalidSpec, CodeInvalidLimit,
	CodeInvalidMarker, CodeInvalidLength, CodeUnsupportedSpec, CodeUnsupportedUsage, CodeAliasExists, CodeQuotaExceeded,
	CodeNotFound, CodeDenied, CodeKeyDisabled, CodeKeyPendingDelete, CodeKeyPendingImport, CodeKeyUnavailable,
	CodeKeyExhausted, CodeNotDisabled, CodeNotEnabled, CodeSymmetricKey, CodeAsymmetricKey, CodeMACKey, CodeUsageIsEncrypt, CodeUsageIsSign,
	CodeAlgorithmMismatch, CodeDigestLength, CodeDataTooLong, CodeInvalidCiphertext, CodeDefaultKey, CodeInvalidWait,
	CodeAlreadyPending, CodeNotPending, CodeExternalKey, CodeInvalidInterval, CodeRotationEnabled, CodeRotationDisabled,
	CodeInvalidTagKey, CodeInvalidTagValue, CodeTagKeyLength, CodeTagValueLength, CodeTooManyTags, CodeTagNotFound,
	CodeOnlyCreateGrant, CodeInvalidGrantee, CodeTooManyGrants, CodeGrantNotFound,
	CodeEllipticKey, CodeUsageIsAgreement, CodeNotMACKey, CodeNotAgreementKey, CodeInvalidPublicKey, CodeUnauthenticated, CodeTokenExpired,
	CodeNotExternal, CodeNotPendingImport, CodeBadMaterial, CodeMaterialDiffers, CodeMaterialExpiry, CodeImportTokenInvalid, CodeImportTokenExpired, CodeImportTokenOther, CodeNoPrivateKey, CodeInvalidPrivateKey, CodeNoMaterial, CodePrivateMaterial,
	CodeBusy, CodeDeadline, CodeInternal,
}

// Error is a refusal or failure of the core. Message is fit for a client; the cause is for the log only.
type Error struct {
	Code       Code
	Field      string // canonical name of the field at fault, where one is
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

// AsError returns err as an *Error. A context that ended becomes CodeDeadline, and what else is no *Error becomes
// CodeInternal, both with err as the cause.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return &Error{Code: CodeDeadline, Message: "the request's time ended", cause: err}
	}
	return &Error{Code: CodeInternal, Message: "internal error", cause: err}
}
