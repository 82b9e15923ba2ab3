package huawei

import (
	"cmp"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The signatures of requests. All three have the Authorization header
//
//	ALGORITHM (Access=AK | Credential=AK/SCOPE), SignedHeaders=a;b;c, Signature=HEX
//
// and sign the text ALGORITHM LF X-Sdk-Date LF [SCOPE LF] HEX(SHA-256(canonical request)). They differ in the key and in
// some corners of the canonical request.
type scheme struct {
	algorithm string
	parameter string // the access key's
	scope     string // how it ends, after DATE/REGION/SERVICE; only with Credential
	// key derives the HMAC's key, nil if it cannot. No function: it is the secret itself.
	key func(s *signature, secret []byte) []byte
	// older is for the canonical request of the golangsdk family: spaces within header values collapse, names are sorted
	// without regard to case, only the first value of a name counts, and a POST without a body signs its query as one.
	older bool
}

const (
	algorithmSDK = "SDK-HMAC-SHA256"
	algorithmV11 = "V11-HMAC-SHA256"

	paramAccess     = "Access"
	paramCredential = "Credential"
)

var schemes = []scheme{
	{algorithm: algorithmSDK, parameter: paramAccess},
	{algorithm: algorithmSDK, parameter: paramCredential, scope: "/sdk_request", key: scopedKey, older: true},
	{algorithm: algorithmV11, parameter: paramCredential, key: derivedKey},
}

// scopedKey is the chain of HMACs over the parts of the scope, as Signature Version 4 of AWS has it.
func scopedKey(s *signature, secret []byte) []byte {
	first := append([]byte("SDK"), secret...)
	defer clear(first)
	parts := strings.Split(s.scope, "/")
	return dialect.HMAC(sha256.New, first, []byte(parts[0]), []byte(parts[1]), []byte(parts[2]), []byte(parts[3]))
}

// derivedKey is HKDF-SHA256 with the access key as its salt, in hexadecimal digits.
func derivedKey(s *signature, secret []byte) []byte {
	key, err := hkdf.Key(sha256.New, secret, []byte(s.accessKey), s.scope, sha256.Size)
	if err != nil {
		return nil
	}
	defer clear(key)
	return hex.AppendEncode(nil, key)
}

// signature is a parsed Authorization header.
type signature struct {
	*scheme
	accessKey string
	scope     string // with the end that its scheme has
	headers   string // names in lower case, joined by semicolons
	hex       string // 64 digits
}

// Bounds of what a header can hold, far above what clients send.
const (
	maxAccessKey = 64
	maxSigned    = 64 // headers
)

// parseSignature reads an Authorization header. It accepts exactly the parameters of one scheme, each once.
func parseSignature(header string) (*signature, error) {
	algorithm, rest, _ := strings.Cut(header, " ")
	if algorithm != algorithmSDK && algorithm != algorithmV11 {
		return nil, errAlgorithm
	}
	var s signature
	var name string // the parameter that holds the access key
	for part := range strings.SplitSeq(rest, ",") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var into *string
		switch key {
		case paramAccess, paramCredential:
			into, name = &s.accessKey, key
		case "SignedHeaders":
			into = &s.headers
		case "Signature":
			into = &s.hex
		default:
			return nil, errMalformed
		}
		if *into != "" || value == "" {
			return nil, errMalformed
		}
		*into = value
	}
	for i := range schemes {
		if schemes[i].algorithm == algorithm && schemes[i].parameter == name {
			s.scheme = &schemes[i]
		}
	}
	if s.scheme == nil || s.headers == "" || len(s.hex) != 2*sha256.Size || !s.splitScope() {
		return nil, errMalformed
	}
	return &s, nil
}

// splitScope takes the scope off the access key.
func (s *signature) splitScope() bool {
	if s.parameter == paramCredential {
		s.accessKey, s.scope, _ = strings.Cut(s.accessKey, "/")
		scope, ends := strings.CutSuffix(s.scope, s.scheme.scope)
		if !ends || strings.Count(scope, "/") != 2 {
			return false
		}
	}
	return isAccessKey(s.accessKey)
}

// isAccessKey reports whether an access key can stand in a record as it is.
func isAccessKey(text string) bool {
	return text != "" && len(text) <= maxAccessKey && strings.Trim(text, upperLetters+lowerAndDigits) == ""
}

const (
	upperLetters   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lowerAndDigits = "abcdefghijklmnopqrstuvwxyz0123456789"
)

const (
	headerDate    = "x-sdk-date"
	headerContent = "x-sdk-content-sha256"

	dateForm   = "20060102T150405Z"
	dateWindow = 15 * time.Minute // that the cloud's gateway accepts, to either side
)

// text returns what a request signs under the signature's scheme, if the request has it and is not too old.
func (s *signature) text(r *http.Request, body []byte, now time.Time) ([]byte, error) {
	date, _ := dialect.HeaderValue(r, headerDate)
	at, err := time.Parse(dateForm, date)
	if err != nil || len(date) != len(dateForm) {
		return nil, errDate
	}
	if d := now.Sub(at); d > dateWindow || d < -dateWindow {
		return nil, errTime
	}
	if s.scope != "" && !strings.HasPrefix(s.scope, date[:8]+"/") {
		return nil, errMalformed
	}
	var space [1024]byte // most canonical requests fit
	canonical, err := s.canonical(space[:0], r, body)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(canonical)
	text := make([]byte, 0, 256)
	text = append(append(text, s.algorithm...), '\n')
	text = append(append(text, date...), '\n')
	if s.scope != "" {
		text = append(append(text, s.scope...), '\n')
	}
	return hex.AppendEncode(text, hash[:]), nil
}

// canonical appends the canonical request: method, path, query, headers, their names, and the hash of the body.
func (s *signature) canonical(b []byte, r *http.Request, body []byte) ([]byte, error) {
	b = append(append(b, r.Method...), '\n')
	b, ok := dialect.AppendPath(b, r.URL.EscapedPath())
	if !ok {
		return nil, errMalformed
	}
	if b[len(b)-1] != '/' {
		b = append(b, '/')
	}
	b = append(b, '\n')
	query, err := s.query(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	if s.older && r.Method == http.MethodPost && len(body) == 0 {
		body = dialect.AppendQuery(nil, query)
	} else {
		b = dialect.AppendQuery(b, query)
	}
	b = append(b, '\n')
	hash := sha256.Sum256(body)
	var digest [2 * sha256.Size]byte
	hex.Encode(digest[:], hash[:])
	if b, err = s.appendHeaders(b, r, string(digest[:])); err != nil {
		return nil, err
	}
	b = append(append(b, s.headers...), '\n')
	return append(b, digest[:]...), nil
}

// query returns the parameters of a query in canonical order. A name that the older scheme would sign only once must not be
// given twice: the second value would be unsigned.
func (s *signature) query(sent string) ([]dialect.Pair, error) {
	pairs, ok := dialect.ParseQuery(sent)
	if !ok {
		return nil, errMalformed
	}
	slices.SortFunc(pairs, func(a, b dialect.Pair) int {
		if s.older {
			return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name))
		}
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Value, b.Value))
	})
	for i := 1; s.older && i < len(pairs); i++ {
		if strings.EqualFold(pairs[i].Name, pairs[i-1].Name) {
			return nil, errMalformed
		}
	}
	return pairs, nil
}

// appendHeaders appends the signed headers, each once and on a line of its own, and the empty line after them. The date must
// be among them, and so must the body's hash where the request has it as a header: it must be the right one.
func (s *signature) appendHeaders(b []byte, r *http.Request, digest string) ([]byte, error) {
	dated, hashed, n := false, false, 0
	for name := range strings.SplitSeq(s.headers, ";") {
		value, ok := dialect.HeaderValue(r, name)
		if n++; !ok || !isHeaderName(name) || n > maxSigned {
			return nil, errHeaders
		}
		switch name {
		case headerDate:
			dated = true
		case headerContent:
			hashed = value == digest
		}
		b = append(append(b, name...), ':')
		if s.older {
			b = appendCollapsed(b, value)
		} else {
			b = append(b, strings.TrimSpace(value)...)
		}
		b = append(b, '\n')
	}
	_, hasHash := r.Header["X-Sdk-Content-Sha256"]
	switch {
	case !dated:
		return nil, errDate
	case hasHash && !hashed:
		return nil, errContent
	}
	return append(b, '\n'), nil
}

// isHeaderName reports whether a name is in lower case, so that no header has two of them.
func isHeaderName(name string) bool {
	return name != "" && strings.Trim(name, lowerAndDigits+"-_") == ""
}

// appendCollapsed appends a header's value with every run of white space as one space.
func appendCollapsed(b []byte, value string) []byte {
	space := false
	for _, c := range []byte(value) {
		if strings.IndexByte(" \t\n\f\r", c) < 0 {
			b, space = append(b, c), false
		} else if !space {
			b, space = append(b, ' '), true
		}
	}
	return b
}

// verify reports whether the signature is that of a text under a secret.
func (s *signature) verify(text, secret []byte) bool {
	key := secret
	if s.key != nil {
		if key = s.key(s, secret); key == nil {
			return false
		}
		defer clear(key)
	}
	return dialect.SameHex(dialect.HMAC(sha256.New, key, text), s.hex)
}

// What can be wrong with a signed request before a secret is read. The cloud's gateway tells them apart in the
// message only.
var (
	errAlgorithm = unsigned("signing algorithm is not supported")
	errMalformed = unsigned("authorization or request is malformed")
	errHeaders   = unsigned("a signed header is missing, or there more than once")
	errDate      = unsigned("X-Sdk-Date is missing, malformed or not signed")
	errTime      = unsigned("X-Sdk-Date is not within 15 minutes of the server's time")
	errContent   = unsigned("X-Sdk-Content-Sha256 must be signed and be the hash of the body")
)

func unsigned(message string) error {
	return &dialect.Refusal{Answer: unauthenticated, Core: kms.Errorf(kms.CodeUnauthenticated, "%s", message)}
}
