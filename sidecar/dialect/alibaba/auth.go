package alibaba

import (
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
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The signatures of the cloud's clients. Those of version 1 are parameters, the others a header.
const (
	acs3    = "ACS3-HMAC-SHA256"
	acs4    = "ACS4-HMAC-SHA256"
	v1SHA1  = "HMAC-SHA1"
	v1SHA   = "HMAC-SHA256"
	v1      = "1.0" // SignatureVersion
	acs4End = "aliyun_v4_request"
)

// signatureNames are the names of all signatures, in the configuration as well.
func signatureNames() []string { return []string{acs3, acs4, v1SHA, v1SHA1} }

const (
	headerAuthorization = "Authorization"
	headerAction        = "X-Acs-Action"
	headerVersion       = "X-Acs-Version"
	headerPrefix        = "X-Acs-"
	headerToken         = "X-Acs-Security-Token"

	paramAction    = "Action"
	paramVersion   = "Version"
	paramFormat    = "Format"
	paramSignature = "Signature"
	paramToken     = "SecurityToken"

	dateForm   = "2006-01-02T15:04:05Z"
	dateWindow = 15 * time.Minute // to either side
	maxKey     = 64               // characters of an access key
	maxSigned  = 64               // headers
)

// common are the parameters that belong to every request and to no action.
var common = []string{
	paramAction, paramVersion, paramFormat, paramSignature, "AccessKeyId", "RegionId", paramToken, "SignatureMethod", "SignatureNonce",
	"SignatureType", "SignatureVersion", "Timestamp",
}

// mustSign are the headers that a signature in a header covers. Every other one that begins with x-acs- and the content type must
// be signed where the request has it.
var mustSign = []string{"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}

// authorization is a parsed Authorization header.
type authorization struct {
	algorithm string
	accessKey string
	scope     []string // of ACS4: date, region, product and acs4End
	headers   []string // names in lower case
	digits    string   // 64 of them
}

// parseAuthorization reads an Authorization header. It accepts exactly the parameters of a scheme, each once.
func parseAuthorization(header string) (*authorization, error) {
	var a authorization
	var rest, credential, signed string
	a.algorithm, rest, _ = strings.Cut(header, " ")
	if a.algorithm != acs3 && a.algorithm != acs4 {
		return nil, errAlgorithm
	}
	into := map[string]*string{"Credential": &credential, "SignedHeaders": &signed, "Signature": &a.digits}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		if p := into[name]; p == nil || *p != "" || value == "" {
			return nil, errMalformed
		} else {
			*p = value
		}
	}
	a.accessKey, a.headers = credential, strings.Split(signed, ";")
	if a.algorithm == acs4 {
		parts := strings.Split(credential, "/")
		if len(parts) != 5 || parts[4] != acs4End {
			return nil, errMalformed
		}
		a.accessKey, a.scope = parts[0], parts[1:]
	}
	if !isAccessKey(a.accessKey) || len(a.digits) != 2*sha256.Size || len(a.headers) > maxSigned {
		return nil, errMalformed
	}
	return &a, nil
}

// isAccessKey reports whether an access key can stand in a record as it is.
func isAccessKey(text string) bool {
	return text != "" && len(text) <= maxKey && strings.IndexFunc(text, func(c rune) bool {
		return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
	}) < 0
}

// checkHeader authenticates the owner of the access key that signed a request with ACS3 or ACS4.
func (d *Dialect) checkHeader(ctx context.Context, c *dialect.Claim) error {
	a, err := parseAuthorization(c.Value)
	if err != nil {
		return err
	}
	c.Call.AccessKey = a.accessKey
	if !slices.Contains(d.signatures, a.algorithm) {
		return errSwitchedOff
	}
	canonical, err := a.canonical(c)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(canonical)
	text := hex.AppendEncode(append([]byte(a.algorithm), '\n'), sum[:])
	return c.Signed(ctx, a.accessKey, func(secret []byte) bool { return dialect.SameHex(a.mac(secret, text), a.digits) })
}

// mac returns the signature of a text under a secret.
func (a *authorization) mac(secret, text []byte) []byte {
	if a.algorithm == acs3 {
		return dialect.HMAC(sha256.New, secret, text)
	}
	first := append([]byte("aliyun_v4"), secret...)
	defer clear(first)
	key := dialect.HMAC(sha256.New, first, []byte(a.scope[0]), []byte(a.scope[1]), []byte(a.scope[2]), []byte(a.scope[3]))
	defer clear(key)
	return dialect.HMAC(sha256.New, key, text)
}

// canonical returns the canonical request: method, path, query, signed headers, their names, and the hash of the body. The query
// is built from the decoded parameters, because the vendor's SDK sends a space otherwise than it signs it.
func (a *authorization) canonical(c *dialect.Claim) ([]byte, error) {
	body, err := c.Body()
	if err != nil {
		return nil, err
	}
	query, ok := dialect.ParseQuery(c.Request.URL.RawQuery)
	if !ok {
		return nil, errMalformed
	}
	slices.SortFunc(query, func(a, b dialect.Pair) int { return cmp.Compare(a.Name, b.Name) })
	b := append(append(make([]byte, 0, 1024), c.Request.Method...), "\n/\n"...)
	for i, p := range query {
		if i > 0 {
			b = append(b, '&')
		}
		b = dialect.AppendQuery(b, query[i:i+1])
		if a.algorithm == acs4 && p.Value == "" {
			b = b[:len(b)-1]
		}
	}
	sum := sha256.Sum256(body)
	digest := hex.EncodeToString(sum[:])
	if b, err = a.appendHeaders(append(b, '\n'), c, digest); err != nil {
		return nil, err
	}
	return append(append(append(b, strings.Join(a.headers, ";")...), '\n'), digest...), nil
}

// appendHeaders appends the signed headers, each once and on a line of its own, and the empty line after them.
func (a *authorization) appendHeaders(b []byte, c *dialect.Claim, digest string) ([]byte, error) {
	for _, name := range mustSign {
		if !slices.Contains(a.headers, name) {
			return nil, errHeaders
		}
	}
	for name := range c.Request.Header {
		if (strings.HasPrefix(name, headerPrefix) || name == "Content-Type") && !slices.Contains(a.headers, strings.ToLower(name)) {
			return nil, errHeaders
		}
	}
	for _, name := range a.headers {
		value, ok := dialect.HeaderValue(c.Request, name)
		switch {
		case !ok || name != strings.ToLower(name):
			return nil, errHeaders
		case name == "x-acs-content-sha256" && value != digest:
			return nil, errContent
		case name == "x-acs-date" && !fresh(value, c.Now()):
			return nil, errExpired
		case name == "x-acs-date" && a.scope != nil && strings.ReplaceAll(value[:10], "-", "") != a.scope[0]:
			return nil, errMalformed
		}
		b = append(append(append(append(b, name...), ':'), strings.TrimSpace(value)...), '\n')
	}
	return append(b, '\n'), nil
}

// fresh reports whether a date is near enough to the server's time.
func fresh(text string, now time.Time) bool {
	at, err := time.Parse(dateForm, text)
	age := now.Sub(at)
	return err == nil && age <= dateWindow && age >= -dateWindow
}

// v1Hashes are the hashes of the methods of version 1.
var v1Hashes = map[string]func() hash.Hash{v1SHA1: sha1.New, v1SHA: sha256.New}

// checkParameters authenticates the owner of the access key that signed a request with version 1: an HMAC over the method and all
// parameters but the signature.
func (d *Dialect) checkParameters(ctx context.Context, c *dialect.Claim) error {
	pairs, err := c.Parameters()
	if err != nil {
		return err
	}
	value := func(name string) string { v, _ := dialect.Parameter(pairs, name); return v }
	accessKey, newHash := value("AccessKeyId"), v1Hashes[value("SignatureMethod")]
	signature, err := base64.StdEncoding.Strict().DecodeString(c.Value)
	switch {
	case newHash == nil || value("SignatureVersion") != v1:
		return errAlgorithm
	case err != nil || !isAccessKey(accessKey) || value("SignatureNonce") == "":
		return errMalformed
	}
	c.Call.AccessKey = accessKey
	switch {
	case !slices.Contains(d.signatures, value("SignatureMethod")):
		return errSwitchedOff
	case !fresh(value("Timestamp"), c.Now()):
		return errTimestamp
	}
	text := parametersText(c.Request.Method, pairs)
	return c.Signed(ctx, accessKey, func(secret []byte) bool {
		key := append(append(make([]byte, 0, len(secret)+1), secret...), '&')
		defer clear(key)
		return hmac.Equal(dialect.HMAC(newHash, key, text), signature)
	})
}

// parametersText returns what version 1 signs.
func parametersText(method string, pairs []dialect.Pair) []byte {
	pairs = slices.DeleteFunc(slices.Clone(pairs), func(p dialect.Pair) bool { return p.Name == paramSignature })
	slices.SortFunc(pairs, func(a, b dialect.Pair) int { return cmp.Compare(a.Name, b.Name) })
	canonical := dialect.AppendQuery(make([]byte, 0, 1024), pairs)
	defer clear(canonical)
	text := append(append(make([]byte, 0, 2*len(canonical)), method...), "&%2F&"...)
	return dialect.AppendEscaped(text, canonical)
}

// inVersion refuses requests for another version of the API.
func inVersion(r *http.Request, x *dialect.Exchange) error {
	pairs, err := x.Parameters(r, dialect.DataBody)
	if err != nil {
		return errMalformed
	}
	versions := r.Header[headerVersion]
	if inParameters, ok := dialect.Parameter(pairs, paramVersion); ok {
		versions = append(slices.Clone(versions), inParameters)
	}
	if len(versions) == 0 || slices.ContainsFunc(versions, func(v string) bool { return v != Version }) {
		return refuse(badRequest("InvalidVersion"), kms.CodeInvalidRequest, paramVersion, "must be "+Version)
	}
	return nil
}

// refuseToken refuses temporary credentials, which Keyside does not issue.
func refuseToken(context.Context, *dialect.Claim) error { return errToken }

// What can be wrong with a signed request before a secret is read.
var (
	errAlgorithm   = unauthenticated("IncompleteSignature", "signature method is not supported")
	errMalformed   = unauthenticated("IncompleteSignature", "signature or request is malformed")
	errHeaders     = unauthenticated("IncompleteSignature", "a header is missing, not signed, or there more than once")
	errContent     = unauthenticated("IncompleteSignature", "x-acs-content-sha256 is not the hash of the body")
	errSwitchedOff = unauthenticated("IncompleteSignature", "signature method is switched off here")
	errToken       = unauthenticated("IncompleteSignature", "temporary credentials are not supported: use an access key alone")
	errExpired     = unauthenticated("InvalidTimeStamp.Expired", "x-acs-date is not within 15 minutes of the server's time")
	errTimestamp   = unauthenticated("IllegalTimestamp", "Timestamp is not within 15 minutes of the server's time")
)

func unauthenticated(code, message string) error {
	return &dialect.Refusal{Answer: badRequest(code), Core: kms.Errorf(kms.CodeUnauthenticated, "%s", message)}
}
