package verb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// advice is what an answer of the sidecar means for somebody at a command line.
type advice struct {
	exit int    // 0: the HTTP status decides
	next string // what to do
}

const (
	specsDiffer   = "keyside key describe KEY shows the key's spec and usage, which never change: name another key, or make one with keyside key create"
	newParameters = "keyside import parameters KEY --out DIR gets a new wrapping key and token"
	showState     = "keyside key describe KEY shows its state"
)

// advices are by the code of the answer. A test holds that every code that the dialect can answer is here or in plain.
var advices = map[string]advice{
	"KMS.0101": {0, "ask keyside hsm status what it waits for, and try again"},
	"KMS.0103": {0, "the sidecar's log has the cause under the request's number"},
	"KMS.0104": {0, "try again; keyside hsm status may say why"},
	"KMS.0205": {0, "give a key's id or alias: keyside key list shows them"},
	"KMS.0207": {0, "keyside key list shows the keys that there are"},
	"KMS.0209": {ExitRefused, "keyside key enable KEY lets it be used again"},
	"KMS.0210": {ExitRefused, "keyside key cancel-deletion KEY takes it back"},
	"KMS.0211": {ExitRefused, "it belongs to its service: make a key of your own with keyside key create"},
	"KMS.0307": {0, "keyside can-i OPERATION KEY says what is missing; keyside grant create KEY --to USER --operations OPERATION allows it"},
	"KMS.0309": {ExitRefused, "make a key for imports with keyside key create ALIAS --origin external"},
	"KMS.0310": {ExitRefused, "--repeat imports over what is there, if it is the same; another material needs another key"},
	"KMS.0311": {ExitBadData, "wrap it with the newest wrapping key, the algorithm of the token and a key of this spec: keyside import wrap does it right"},
	"KMS.0312": {ExitRefused, "make a new key with the new material, and use that one from now on"},
	"KMS.0313": {ExitRefused, "keyside key rotation on KEY switches it on"},
	"KMS.0320": {ExitRefused, "use another key from now on; keyside key rotation on KEY gives a key new material before it is used up"},
	"KMS.0325": {0, specsDiffer},
	"KMS.0329": {0, "give the digest that the algorithm's hash makes, raw; or give the message without --digest"},
	"KMS.0331": {0, specsDiffer},
	"KMS.0332": {0, "leave --algorithm out, or give one that goes with the key's spec"},
	"KMS.0334": {0, specsDiffer},
	"KMS.0335": {0, specsDiffer},
	"KMS.0341": {0, specsDiffer},
	"KMS.0409": {ExitExists, "keyside key tag remove KEY NAME makes room"},
	"KMS.0416": {0, "keyside key tag list KEY shows its tags"},
	"KMS.1101": {0, "an alias is made of letters, digits and any of : / _ - and does not end in /default"},
	"KMS.1104": {ExitExists, "choose another: keyside key list and keyside key alias list show those that are taken"},
	"KMS.1105": {ExitExists, "keyside quota shows the limits, which limits in the sidecar's configuration can raise"},
	"KMS.1110": {0, "keyside key create --help lists the specs"},
	"KMS.1114": {0, specsDiffer},
	"KMS.1201": {ExitRefused, showState},
	"KMS.1301": {ExitRefused, showState + "; one that is PendingImport gets its material by keyside import"},
	"KMS.1401": {0, "give --days 7 to 1096"},
	"KMS.1402": {ExitRefused, "keyside key describe KEY shows when; keyside key cancel-deletion KEY takes it back"},
	"KMS.1501": {ExitRefused, showState},
	"KMS.2105": {0, "leave --algorithm out for AES keys"},
	"KMS.2106": {0, "give --algorithm RSAES_OAEP_SHA_256 for RSA keys"},
	"KMS.2108": {0, "an RSA key encrypts its own length less 66 bytes at most: use an AES key, or keyside file encrypt"},
	"KMS.2201": {ExitBadData, "give the whole ciphertext and the --context and --aad that it was made with; for an RSA key also --key and --algorithm"},
	"KMS.2204": {0, "leave --bytes out, or give the plain data key's own length"},
	"KMS.2401": {0, "grant another operation beside create-grant"},
	"KMS.2402": {0, "give a user that the sidecar's configuration has as a principal, or that has an access key (keyside credential list)"},
	"KMS.2404": {ExitExists, "keyside grant revoke KEY GRANT_ID makes room"},
	"KMS.2501": {0, "keyside grant list KEY shows the ids of grants"},
	"KMS.2502": {ExitNotFound, "keyside grant list KEY shows the grants that there are"},
	"KMS.2601": {ExitRefused, newParameters},
	"KMS.2602": {0, "give a later --expires"},
	"KMS.2603": {ExitBadData, "give the token of this key, or get one: " + newParameters},
	"KMS.2604": {ExitBadData, specsDiffer},
	"KMS.2605": {ExitBadData, "give the token's whole file: " + newParameters},
	"KMS.2606": {ExitBadData, "import the material of the key's first import, from where you keep it; other material needs another key"},
	"KMS.2608": {0, "give the wrapped private key with --private-key, beside the wrapped temporary key"},
	"KMS.2609": {ExitBadData, "it is PKCS#8 DER under RFC 5649 (openssl enc -id-aes256-wrap-pad): keyside import wrap makes it right"},
	"KMS.2610": {ExitBadData, "the temporary key is an AES key of 16 or 32 bytes: keyside import wrap makes it right"},
	"KMS.2701": {ExitRefused, showState},
	"KMS.2702": {ExitRefused, "keyside key delete KEY --days 7 destroys it with its material"},
	"KMS.2901": {ExitRefused, "keyside key rotation interval KEY DAYS changes how often"},
	"KMS.3001": {0, "give 30 to 365 days"},

	"APIGW.0101": {0, "this sidecar may be older than the command"},
}

// plain are the codes whose message says it all: it names the field at fault and what is wrong with it.
var plain = strings.Fields(`KMS.0201 KMS.0202 KMS.0203 KMS.0204 KMS.0206 KMS.0208 KMS.0215 KMS.0301 KMS.0302 KMS.0303 KMS.0308 KMS.0321 KMS.0340 KMS.0401
	KMS.0402 KMS.0403 KMS.0404 KMS.0405 KMS.0406 KMS.0407 KMS.0410 KMS.0411 KMS.0413 KMS.0414 KMS.0415 KMS.0417 KMS.0418 KMS.1103 KMS.1601
	KMS.1602 KMS.1801 KMS.1802 KMS.1901 KMS.1902 KMS.1903 KMS.2101 KMS.2102 KMS.2103 KMS.2104 KMS.2202 APIGW.0301`)

var statuses = map[int]int{
	http.StatusUnauthorized: ExitRefused, http.StatusForbidden: ExitRefused, http.StatusNotFound: ExitNotFound,
	http.StatusServiceUnavailable: ExitUnavailable, http.StatusGatewayTimeout: ExitUnavailable, http.StatusTooManyRequests: ExitUnavailable,
	http.StatusBadRequest: ExitUsage,
}

// Explain gives an error of a verb its exit code, and says what to do next.
func Explain(err error) error {
	var own *Error
	var answered *client.Error
	var silent *client.ConnectError
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.As(err, &answered):
		return answeredError(err, answered)
	case errors.As(err, &silent):
		return Failf(ExitUnavailable, "%w; start it with keyside up, name its socket with --socket, or ask keyside doctor", err)
	case errors.Is(err, client.ErrCutOff):
		return Failf(ExitUnavailable, "%w: it has ended, or you may read no more, or it got no further; its log has the cause under the request's number", err)
	case errors.Is(err, context.DeadlineExceeded):
		return Failf(ExitUnavailable, "no answer in time: %w; keyside hsm status may say why, --timeout gives it longer", err)
	case errors.Is(err, context.Canceled):
		return Failf(ExitFailure, "interrupted: %w", err)
	case errors.Is(err, os.ErrNotExist):
		return &Error{ExitNotFound, err}
	}
	return err
}

func answeredError(err error, answered *client.Error) error {
	a := advices[answered.Code]
	exit := a.exit
	if exit == 0 {
		exit = statuses[answered.Status]
	}
	if exit == 0 {
		exit = ExitFailure
	}
	if a.next != "" {
		err = fmt.Errorf("%w; %s", err, a.next)
	}
	return &Error{exit, err}
}
