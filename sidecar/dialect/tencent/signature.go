package tencent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

const (
	algorithmTC3 = "TC3-HMAC-SHA256"
	scopeEnd     = "tc3_request"
	unsignedBody = "UNSIGNED-PAYLOAD"

	timeWindow   = 5 * time.Minute // to either side
	maxAccessKey = 64
	maxSigned    = 64 // headers
)

// tc3 is a parsed Authorization header:
//
//	TC3-HMAC-SHA256 Credential=ID/DATE/SERVICE/tc3_request, SignedHeaders=a;b, Signature=HEX
//
// SERVICE is whatever the client makes of its endpoint, such as "127" of 127.0.0.1.
type tc3 struct {
	accessKey, date, service string
	headers                  string // names in lower case, joined by semicolons
	hex                      string
}

// parseTC3 accepts exactly the three parameters, each once.
func parseTC3(header string) (*tc3, error) {
	algorithm, rest, _ := strings.Cut(header, " ")
	if algorithm != algorithmTC3 {
		return nil, errAuthorization
	}
	var s tc3
	var credential string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		var into *string
		switch name {
		case "Credential":
			into = &credential
		case "SignedHeaders":
			into = &s.headers
		case "Signature":
			into = &s.hex
		}
		if into == nil || *into != "" || value == "" {
			return nil, errAuthorization
		}
		*into = value
	}
	scope := strings.Split(credential, "/")
	if len(scope) != 4 || scope[3] != scopeEnd || scope[2] == "" || !isAccessKey(scope[0]) || s.headers == "" || len(s.hex) != 2*sha256.Size {
		return nil, errAuthorization
	}
	s.accessKey, s.date, s.service = scope[0], scope[1], scope[2]
	return &s, nil
}

// isAccessKey reports whether an access key can stand in a record as it is.
func isAccessKey(text string) bool {
	return text != "" && len(text) <= maxAccessKey && dialect.IsName(text)
}

// checkTC3 authenticates the owner of the access key that signed the request with TC3-HMAC-SHA256.
func (d *Dialect) checkTC3(ctx context.Context, c *dialect.Claim) error {
	s, err := parseTC3(c.Value)
	if err != nil {
		return err
	}
	c.Call.AccessKey = s.accessKey
	r := c.Request
	if r.Header[headerAction] == nil || r.Method == http.MethodPost && r.URL.RawQuery != "" { // which would not be signed
		return errAuthorization
	}
	stamp := r.Header.Get(headerTimestamp)
	at, err := inTime(stamp, c.Now())
	if err != nil {
		return err
	}
	if at.UTC().Format(time.DateOnly) != s.date {
		return errAuthorization
	}
	body, err := c.Body()
	if err != nil {
		return err
	}
	if content := r.Header[headerContent]; len(content) > 0 {
		if !d.UnsignedPayload || len(content) > 1 || content[0] != unsignedBody {
			return errPayload
		}
		body = []byte(unsignedBody)
	}
	lines, err := s.signed(r)
	if err != nil {
		return err
	}
	digest := digestOf(body)
	return c.Signed(ctx, s.accessKey, func(secret []byte) bool { return s.verify(r, stamp, lines, digest, secret) })
}

// digestOf returns a SHA-256 in lower-case digits.
func digestOf[Text ~[]byte | ~string](text Text) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// inTime returns the time of a request, if it is near the server's.
func inTime(stamp string, now time.Time) (time.Time, error) {
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || strconv.FormatInt(seconds, 10) != stamp {
		return time.Time{}, errTime
	}
	at := time.Unix(seconds, 0)
	if age := now.Sub(at); age > timeWindow || age < -timeWindow {
		return time.Time{}, errTime
	}
	return at, nil
}

// signed returns the lines of the signed headers, with anyHost as the value of the host.
func (s *tc3) signed(r *http.Request) ([]byte, error) {
	if strings.Count(s.headers, ";") >= maxSigned {
		return nil, errHeaders
	}
	lines, host, content := make([]byte, 0, 256), false, false
	for name := range strings.SplitSeq(s.headers, ";") {
		value, ok := dialect.HeaderValue(r, name)
		if !ok || name != strings.ToLower(name) {
			return nil, errHeaders
		}
		switch value = strings.ToLower(strings.TrimSpace(value)); name {
		case "host":
			host, value = true, anyHost
		case "content-type":
			content = true
		}
		lines = append(append(append(append(lines, name...), ':'), value...), '\n')
	}
	if !host || !content {
		return nil, errHeaders
	}
	return lines, nil
}

// anyHost stands for the host in the lines of signed headers.
const anyHost = "\x00"

// verify reports whether the signature is that of a request under a secret, for one of the hosts that its client may have signed.
// lines is what signed returned, digest that of the body.
func (s *tc3) verify(r *http.Request, stamp string, lines []byte, digest string, secret []byte) bool {
	first := append([]byte("TC3"), secret...)
	defer clear(first)
	key := dialect.HMAC(sha256.New, first, []byte(s.date), []byte(s.service), []byte(scopeEnd))
	defer clear(key)
	for _, host := range hostsOf(r, true) {
		canonical := make([]byte, 0, 512)
		canonical = append(append(append(canonical, r.Method...), "\n/\n"...), r.URL.RawQuery...)
		canonical = append(append(canonical, '\n'), bytes.Replace(lines, []byte(anyHost), []byte(host), 1)...)
		canonical = append(append(append(append(canonical, '\n'), s.headers...), '\n'), digest...)
		text := make([]byte, 0, 256)
		for _, part := range []string{algorithmTC3, "\n", stamp, "\n", s.date, "/", s.service, "/", scopeEnd, "\n", digestOf(canonical)} {
			text = append(text, part...)
		}
		if dialect.SameHex(dialect.HMAC(sha256.New, key, text), s.hex) {
			return true
		}
	}
	return false
}

// hostsOf returns the forms of a request's host that clients sign: as it is, in lower case, without its port (the SDK for
// Node.js), and as it was sent where that is no host (the command line, given a URL).
func hostsOf(r *http.Request, lower bool) []string {
	var hosts []string
	name, _, _ := strings.Cut(r.Host, ":")
	for _, host := range []string{r.Host, name, dialect.SentHost(r.Context())} {
		forms := []string{host}
		if lower {
			forms = []string{strings.ToLower(host), host}
		}
		for _, form := range forms {
			if form != "" && !slices.Contains(hosts, form) {
				hosts = append(hosts, form)
			}
		}
	}
	return hosts
}

// v1Hashes are the hashes of v1 signatures by the parameter SignatureMethod.
var v1Hashes = map[string]func() hash.Hash{"": sha1.New, "HmacSHA1": sha1.New, "HmacSHA256": sha256.New}

// checkV1 authenticates the owner of the access key that signed the request's parameters. What is signed is METHOD HOST/? and
// the parameters sorted by name, as NAME=VALUE joined with &, without any escaping: two requests have the same text if a value
// may have an ampersand. Such values are refused.
func (d *Dialect) checkV1(ctx context.Context, c *dialect.Claim) error {
	pairs, err := c.Parameters()
	if err != nil {
		return err
	}
	accessKey, _ := dialect.Parameter(pairs, paramSecretID)
	if !isAccessKey(accessKey) || c.Request.Header[headerAction] != nil {
		return errAuthorization
	}
	c.Call.AccessKey = accessKey
	method, _ := dialect.Parameter(pairs, paramMethod)
	newHash := v1Hashes[method]
	signature, err := base64.StdEncoding.Strict().DecodeString(c.Value)
	switch {
	case !d.V1:
		return errV1
	case newHash == nil || err != nil:
		return errAuthorization
	}
	stamp, _ := dialect.Parameter(pairs, paramTimestamp)
	if _, err := inTime(stamp, c.Now()); err != nil {
		return err
	}
	query, err := v1Query(pairs)
	if err != nil {
		return err
	}
	return c.Signed(ctx, accessKey, func(secret []byte) bool { return verifyV1(c.Request, query, newHash, secret, signature) })
}

// verifyV1 reports whether a signature is that of a request under a secret.
func verifyV1(r *http.Request, query []byte, newHash func() hash.Hash, secret, signature []byte) bool {
	for _, host := range hostsOf(r, false) {
		if hmac.Equal(dialect.HMAC(newHash, secret, append([]byte(r.Method+host+"/?"), query...)), signature) {
			return true
		}
	}
	return false
}

// v1Query returns the signed form of parameters.
func v1Query(pairs []dialect.Pair) ([]byte, error) {
	sorted := slices.Clone(pairs)
	slices.SortFunc(sorted, func(a, b dialect.Pair) int { return cmp.Compare(a.Name, b.Name) })
	var query []byte
	for _, p := range sorted {
		switch {
		case strings.ContainsRune(p.Value, '&') || strings.ContainsAny(p.Name, "&="):
			return nil, errAmpersand
		case p.Name != paramSignature:
			query = append(append(append(append(query, p.Name...), '='), p.Value...), '&')
		}
	}
	return query[:max(0, len(query)-1)], nil
}

// refuseToken refuses temporary credentials, which Keyside does not issue.
func refuseToken(context.Context, *dialect.Claim) error { return errToken }

// What can be wrong with a signed request before a secret is read.
var (
	errAuthorization = unsigned("AuthFailure.InvalidAuthorization", "authorization is malformed")
	errHeaders       = unsigned("AuthFailure.InvalidAuthorization", "content-type and host must be signed, and no signed header be missing or there twice")
	errTime          = unsigned("AuthFailure.SignatureExpire", "timestamp is malformed, or not within 5 minutes of the server's time")
	errPayload       = unsigned(codeSignature, "signatures that leave out the body are not accepted here")
	errV1            = unsigned(codeSignature, "v1 signatures are not accepted here: use TC3-HMAC-SHA256")
	errAmpersand     = unsigned(codeSignature, "a v1 signature does not protect a value with an ampersand: use TC3-HMAC-SHA256")
	errToken         = unsigned(codeToken, "temporary credentials are not supported: use an access key alone")
)

func unsigned(code, message string) error {
	return &dialect.Refusal{Answer: failure(code), Core: kms.Errorf(kms.CodeUnauthenticated, "%s", message)}
}
