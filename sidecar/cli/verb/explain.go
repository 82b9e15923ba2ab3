package verb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/keyside/keyside/sidecar/client"
)

// advice is the exit code of an error of the sidecar, and what the user can do.
type advice struct {
	of            *client.Error // its code
	field, reason string        // of the error; empty: any
	exit          int
	next          string // empty: the message says enough
}

const (
	otherKey      = "keyside key describe KEY shows the key's spec and usage, which never change: name another key, or create one with keyside key create"
	newParameters = "keyside import parameters KEY --out DIR gets a new wrapping key and token"
	showState     = "keyside key describe KEY shows its state"
	wrapAgain     = "wrap it with the newest wrapping key, the algorithm of the token and a key of this spec: keyside import wrap does that"
	tryAgain      = "try again; keyside hsm status may show the cause"
)

// advices holds the advice for every code: first for the fields and reasons that have their own, then for all others. The first
// that matches counts.
var advices = []advice{
	{client.ErrInvalidRequest, "key_id", "malformed", ExitUsage, "give a key's id or alias: keyside key list shows them"},
	{client.ErrInvalidRequest, "alias", "", ExitUsage, "an alias has letters, digits and any of : / _ - and does not end in /default"},
	{client.ErrInvalidRequest, "key_spec", "", ExitUsage, "keyside key create --help lists the specs"},
	{client.ErrInvalidRequest, "plaintext", "length", ExitUsage,
		"an RSA key encrypts at most its own length less 66 bytes: use an AES key, or keyside file encrypt"},
	{client.ErrInvalidRequest, "message", "digest", ExitUsage,
		"give the raw digest of the algorithm's hash function, or the message without --digest"},
	{client.ErrInvalidRequest, "", "past", ExitUsage, "give a later --expires"},
	{client.ErrInvalidRequest, "", "", ExitUsage, ""},
	{client.ErrUnsupported, "key_spec", "", ExitUsage, "keyside key create --help lists the specs"},
	{client.ErrUnsupported, "", "", ExitUsage, ""},
	{client.ErrAlreadyExists, "", "", ExitExists, "choose another: keyside key list and keyside key alias list show the aliases in use"},
	{client.ErrQuotaExceeded, "tags", "", ExitExists, "keyside key tag remove KEY NAME makes room"},
	{client.ErrQuotaExceeded, "grants", "", ExitExists, "keyside grant revoke KEY GRANT_ID makes room"},
	{client.ErrQuotaExceeded, "", "", ExitExists, "keyside quota shows the limits; limits in the sidecar's configuration raises them"},
	{client.ErrNotFound, "tags", "", ExitNotFound, "keyside key tag list KEY shows the key's tags"},
	{client.ErrNotFound, "grant_id", "", ExitNotFound, "keyside grant list KEY shows the key's grants"},
	{client.ErrNotFound, "access_key", "", ExitNotFound, "keyside credential list shows the access keys"},
	{client.ErrNotFound, "", "", ExitNotFound, "keyside key list shows all keys"},
	{client.ErrDenied, "", "", ExitRefused,
		"keyside can-i OPERATION KEY explains what is missing; keyside grant create KEY --to USER --operations OPERATION allows it"},
	{client.ErrDryRun, "", "", ExitRefused, ""},
	{client.ErrUnauthenticated, "", "", ExitRefused, ""},
	{client.ErrTokenExpired, "", "", ExitRefused, ""},
	{client.ErrKeyDisabled, "", "", ExitRefused, "keyside key enable KEY enables it"},
	{client.ErrKeyArchived, "", "", ExitRefused, "the key only decrypts: keyside key enable KEY enables it"},
	{client.ErrKeyPendingDeletion, "", "", ExitRefused,
		"keyside key describe KEY shows when it will be destroyed; keyside key cancel-deletion KEY restores it"},
	{client.ErrKeyPendingImport, "", "", ExitRefused, showState + "; keyside import material KEY imports its material"},
	{client.ErrKeyUnavailable, "", "", ExitUnavailable, tryAgain},
	{client.ErrKeyExhausted, "", "", ExitRefused,
		"encrypt with another key; keyside key rotation on KEY gives a key new material before it is exhausted"},
	{client.ErrKeyNotDisabled, "", "", ExitRefused, showState},
	{client.ErrKeyNotEnabled, "", "", ExitRefused, showState},
	{client.ErrKeyNotPendingDeletion, "", "", ExitRefused, showState},
	{client.ErrKeyNotPendingImport, "", "", ExitRefused, "--repeat imports the same material again; other material needs another key"},
	{client.ErrInvalidKeyUsage, "", "", ExitUsage, otherKey},
	{client.ErrInvalidAlgorithm, "encryption_algorithm", "", ExitUsage,
		"leave --algorithm out for AES keys; give --algorithm RSAES_OAEP_SHA_256 for RSA keys"},
	{client.ErrInvalidAlgorithm, "", "", ExitUsage, "leave --algorithm out, or give one of the key's spec"},
	{client.ErrKeyProtected, "", "", ExitRefused, "end its protection first with keyside key unprotect"},
	{client.ErrServiceKey, "", "", ExitRefused, "it belongs to its service: create a key of your own with keyside key create"},
	{client.ErrInvalidOrigin, "", "external", ExitRefused, "create a key for the new material, and use that key from now on"},
	{client.ErrInvalidOrigin, "", "", ExitRefused, "create a key for imports with keyside key create ALIAS --origin external"},
	{client.ErrRotationEnabled, "", "", ExitRefused, "keyside key rotation interval KEY DAYS changes the interval"},
	{client.ErrRotationDisabled, "", "", ExitRefused, "keyside key rotation on KEY enables it"},
	{client.ErrInvalidCiphertext, "", "", ExitBadData,
		"give the whole ciphertext and the --context and --aad of its encryption; for an RSA key also --key and --algorithm"},
	{client.ErrInvalidKeyMaterial, "private_key", "missing", ExitUsage,
		"give the wrapped private key with --private-key, beside the wrapped temporary key"},
	{client.ErrInvalidKeyMaterial, "private_key", "", ExitBadData,
		"it must be PKCS #8 DER under RFC 5649 (openssl enc -id-aes256-wrap-pad): keyside import wrap makes it"},
	{client.ErrInvalidKeyMaterial, "", "", ExitBadData, wrapAgain},
	{client.ErrKeyMaterialMismatch, "", "", ExitBadData, "import the material of the key's first import; other material needs another key"},
	{client.ErrKeyMaterialMissing, "", "", ExitRefused, showState},
	{client.ErrKeyMaterialPermanent, "", "", ExitRefused, "keyside key delete KEY --days 7 destroys the key with its material"},
	{client.ErrInvalidImportToken, "", "other_key", ExitBadData, "give the token of this key: " + newParameters},
	{client.ErrInvalidImportToken, "", "", ExitBadData, "give the whole file of the token: " + newParameters},
	{client.ErrImportTokenExpired, "", "", ExitRefused, newParameters},
	{client.ErrInvalidGrant, "", "create_grant_only", ExitUsage, "grant another operation beside create-grant"},
	{client.ErrInvalidGrant, "", "", ExitUsage,
		"give a user that is a principal of the sidecar's configuration or has an access key (keyside credential list)"},
	{client.ErrBusy, "", "", ExitUnavailable, tryAgain},
	{client.ErrDeadlineExceeded, "", "", ExitUnavailable, "keyside hsm status shows what is slow; try again"},
	{client.ErrInternal, "", "", ExitFailure, "the sidecar's log has the cause under the request id"},
}

func (a *advice) matches(e *client.Error) bool {
	return a.of.Code == e.Code && (a.field == "" || a.field == e.Field) && (a.reason == "" || a.reason == e.Reason)
}

// Explain returns an error of a verb with its exit code and advice.
func Explain(err error) error {
	var own *Error
	var answered *client.Error
	var silent *client.ConnectError
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.As(err, &answered):
		return advise(err, answered)
	case errors.As(err, &silent) && errors.Is(err, fs.ErrPermission):
		return Failf(ExitRefused, "you may not connect to the sidecar at %s: permission denied; socket_mode and socket_group in its configuration, and the socket's directory, decide who can", silent.Socket)
	case errors.As(err, &silent):
		return Failf(ExitUnavailable, "%w; start it with keyside up, name its socket with --socket, or run keyside doctor", err)
	case errors.Is(err, client.ErrCutOff):
		return Failf(ExitUnavailable, "%w: it stopped, your access ended, or reading failed; search its log for the request id", err)
	case errors.Is(err, context.DeadlineExceeded):
		return Failf(ExitUnavailable, "no answer in time: %w; keyside hsm status may show the cause, --timeout waits longer", err)
	case errors.Is(err, context.Canceled):
		return Failf(ExitFailure, "interrupted: %w", err)
	case errors.Is(err, os.ErrNotExist):
		return Failf(ExitNotFound, "%w", err)
	}
	return err
}

// advise returns an error of the sidecar with its exit code and advice.
func advise(err error, answered *client.Error) error {
	for _, a := range advices {
		if a.matches(answered) {
			if a.next != "" {
				err = fmt.Errorf("%w; %s", err, a.next)
			}
			return &Error{a.exit, err}
		}
	}
	return Failf(ExitFailure, "%w; the sidecar may be of another version than this command", err)
}
