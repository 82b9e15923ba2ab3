package sdk

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// plain is an older client of the cloud's: it signs in a form of its own and takes only the statuses that it knows.
type plain struct {
	*testing.T
	credential
	agent string
	sign  func(p *plain, r *http.Request, body string)
	wire  *wire
}

func newPlain(t *testing.T, agent string, sign func(*plain, *http.Request, string)) *plain {
	return &plain{T: t, credential: newCredential(t, "sdk"), agent: agent, sign: sign, wire: &wire{next: &http.Transport{}}}
}

// do sends a request below .../kms/ and returns the answer's JSON, or nil for 204. Any status but the expected ones is a
// failure, as it is to these clients.
func (p *plain) do(method, path, body string, statuses ...int) map[string]any {
	p.Helper()
	r, err := http.NewRequest(method, target.url+"/v1.0/"+p.ProjectID+"/kms/"+path, strings.NewReader(body))
	if err != nil {
		p.Fatal(err)
	}
	r.Header.Set("User-Agent", p.agent)
	r.Header.Set("Accept", "application/json")
	r.Header.Set("Content-Type", "application/json")
	p.sign(p, r, body)
	r.Header.Set("X-Project-Id", p.ProjectID) // after the signature, which does not cover it
	if _, err := p.wire.RoundTrip(r); err != nil {
		p.Fatal(err)
	}
	if !slices.Contains(statuses, p.wire.status) {
		p.Fatalf("%s %s %s: answered %d, want %v\n%s", method, path, body, p.wire.status, statuses, p.wire.body)
	}
	if p.wire.status == http.StatusNoContent {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(p.wire.body))
	d.UseNumber()
	var answer map[string]any
	if err := d.Decode(&answer); err != nil { // also of an empty body
		p.Fatalf("%s %s: %v\n%s", method, path, err, p.wire.body)
	}
	return answer
}

// post is do with POST that must be answered with 200.
func (p *plain) post(path, body string) map[string]any {
	p.Helper()
	return p.do(http.MethodPost, path, body, http.StatusOK)
}

const dateFormat = "20060102T150405Z"

// signAccess signs in the form of the present clients, all headers and the host.
func signAccess(p *plain, r *http.Request, body string) {
	r.Header.Set("X-Sdk-Date", time.Now().UTC().Format(dateFormat))
	signed, request := canonical(r, body, false)
	text := "SDK-HMAC-SHA256\n" + r.Header.Get("X-Sdk-Date") + "\n" + hash(request)
	r.Header.Set("Authorization", "SDK-HMAC-SHA256 Access="+p.AccessKey+", SignedHeaders="+signed+", Signature="+
		hex.EncodeToString(mac([]byte(p.SecretKey), text)))
}

// signCredential signs in the form of the oldest clients: the key is derived, from an empty region and service too.
func signCredential(p *plain, r *http.Request, body string) {
	now := time.Now().UTC()
	r.Header.Set("X-Sdk-Date", now.Format(dateFormat))
	day := now.Format("20060102")
	scope := day + "///sdk_request"
	signed, request := canonical(r, body, true)
	text := "SDK-HMAC-SHA256\n" + r.Header.Get("X-Sdk-Date") + "\n" + scope + "\n" + hash(request)
	key := mac([]byte("SDK"+p.SecretKey), day)
	for _, part := range []string{"", "", "sdk_request"} {
		key = mac(key, part)
	}
	r.Header.Set("Authorization", "SDK-HMAC-SHA256 Credential="+p.AccessKey+"/"+scope+", SignedHeaders="+signed+", Signature="+
		hex.EncodeToString(mac(key, text)))
}

// canonical returns the names of the signed headers and the canonical request.
func canonical(r *http.Request, body string, squeeze bool) (signed, request string) {
	headers := map[string]string{"host": r.URL.Host}
	for name, values := range r.Header {
		value := strings.TrimSpace(values[0])
		if squeeze {
			value = strings.Join(strings.Fields(value), " ")
		}
		headers[strings.ToLower(name)] = value
	}
	var names []string
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	var lines strings.Builder
	for _, name := range names {
		lines.WriteString(name + ":" + headers[name] + "\n")
	}
	signed = strings.Join(names, ";")
	path := cmp.Or(r.URL.EscapedPath(), "/")
	if !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return signed, strings.Join([]string{r.Method, path, query(r.URL.Query()), lines.String(), signed, hash(body)}, "\n")
}

// query is the canonical form of a query: %20 for a space, sorted.
func query(values url.Values) string { return strings.ReplaceAll(values.Encode(), "+", "%20") }

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
