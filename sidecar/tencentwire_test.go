package sidecar

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/tencent"
	"github.com/keyside/keyside/sidecar/kms"
)

// from sends a request from the port, or as the owner from the socket.
func (w *rightsWorld) from(r *http.Request, socket bool) *httptest.ResponseRecorder {
	caller := policy.Caller{}
	if socket {
		caller = policy.Caller{UID: 1, GID: 1, PID: 1, Known: true, Socket: true, Process: &policy.Process{}}
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r.WithContext(kms.WithCaller(r.Context(), caller)))
	return answer
}

// v1 returns the signature of parameters.
func v1(method, host string, params map[string]string, secret string) string {
	hashes := map[string]func() hash.Hash{"": sha1.New, "HmacSHA1": sha1.New, "HmacSHA256": sha256.New}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		parts = append(parts, name+"="+params[name])
	}
	mac := hmac.New(hashes[params["SignatureMethod"]], []byte(secret))
	mac.Write([]byte(method + host + "/?" + strings.Join(parts, "&")))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestTencentSignatures sends requests in every form, right and wrong, to the port and to the socket. What is wrong there never
// becomes a request of the kernel's caller.
func TestTencentSignatures(t *testing.T) {
	w := newRightsWorld(t)
	key := w.credentials["key-administrator"]
	const body = `{"NumberOfBytes":8}`
	host := "127.0.0.1:8011"
	type request struct {
		method, query, body string
		header              http.Header
		host                string
		params              map[string]string // of v1; their signature is added
		signed              func(r *http.Request)
	}
	v3 := func(change func(q *request)) request {
		q := request{method: "POST", body: body, host: host, header: http.Header{
			"X-Tc-Action": {"GenerateRandom"}, "X-Tc-Version": {"2019-01-18"}, "Content-Type": {"application/json"},
		}}
		if change != nil {
			change(&q)
		}
		return q
	}
	old := func(method string, change func(p map[string]string)) request {
		p := map[string]string{
			"Action": "GenerateRandom", "Version": "2019-01-18", "NumberOfBytes": "8", "Nonce": "7", "SecretId": key.AccessKey,
			"Timestamp": strconv.FormatInt(w.clock.now.Unix(), 10), "Region": "ap-anywhere", "SignatureMethod": "HmacSHA256",
		}
		if change != nil {
			change(p)
		}
		return request{method: method, host: host, params: p}
	}
	after := func(change func(r *http.Request)) func(q *request) { return func(q *request) { q.signed = change } }
	for what, c := range map[string]struct {
		request
		want string // code
	}{
		"v3":               {v3(nil), ""},
		"v3 get":           {v3(func(q *request) { q.method, q.query, q.body = "GET", "NumberOfBytes=8", "" }), ""},
		"charset":          {v3(func(q *request) { q.header.Set("Content-Type", "application/json; charset=utf-8") }), ""},
		"upper case":       {v3(func(q *request) { q.host = "LOCALHOST:80" }), ""},
		"node":             {v3(func(q *request) { q.signed = func(r *http.Request) { r.Host += ":8011" }; q.host = "127.0.0.1" }), ""},
		"query beside":     {v3(func(q *request) { q.query = "NumberOfBytes=9" }), "AuthFailure.InvalidAuthorization"},
		"other body":       {v3(after(func(r *http.Request) { *r = *r.Clone(r.Context()); r.Body = http.NoBody })), "AuthFailure.SignatureFailure"},
		"other host":       {v3(after(func(r *http.Request) { r.Host = "127.0.0.2" })), "AuthFailure.SignatureFailure"},
		"skip":             {v3(after(func(r *http.Request) { r.Header.Set("Authorization", "SKIP") })), "AuthFailure.InvalidAuthorization"},
		"empty":            {v3(after(func(r *http.Request) { r.Header.Set("Authorization", "") })), "AuthFailure.InvalidAuthorization"},
		"twice":            {v3(after(func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) })), "AuthFailure.InvalidAuthorization"},
		"temporary":        {v3(after(func(r *http.Request) { r.Header.Set("X-TC-Token", "t") })), "AuthFailure.InvalidAuthorization"},
		"token alone":      {v3(after(func(r *http.Request) { r.Header.Del("Authorization"); r.Header.Set("X-TC-Token", "t") })), "AuthFailure.TokenFailure"},
		"late":             {v3(after(func(r *http.Request) { r.Header.Set("X-TC-Timestamp", strconv.FormatInt(w.clock.now.Unix()-301, 10)) })), "AuthFailure.SignatureExpire"},
		"no time":          {v3(after(func(r *http.Request) { r.Header.Del("X-TC-Timestamp") })), "AuthFailure.SignatureExpire"},
		"other time":       {v3(after(func(r *http.Request) { r.Header.Set("X-TC-Timestamp", strconv.FormatInt(w.clock.now.Unix()-1, 10)) })), "AuthFailure.SignatureFailure"},
		"unsigned body":    {v3(after(func(r *http.Request) { r.Header.Set("X-TC-Content-SHA256", "UNSIGNED-PAYLOAD") })), "AuthFailure.SignatureFailure"},
		"no version":       {v3(func(q *request) { q.header.Del("X-TC-Version") }), "MissingParameter"},
		"other version":    {v3(func(q *request) { q.header.Set("X-TC-Version", "2018-01-01") }), "NoSuchVersion"},
		"unknown":          {v3(func(q *request) { q.header.Set("X-TC-Action", "Nothing") }), "InvalidAction"},
		"put":              {v3(func(q *request) { q.method = "PUT" }), "UnsupportedProtocol"},
		"other cloud":      {v3(after(func(r *http.Request) { r.Header.Set("X-Auth-Token", "t") })), "AuthFailure.InvalidAuthorization"},
		"v1 get":           {old("GET", nil), ""},
		"v1 form":          {old("POST", nil), ""},
		"v1 default":       {old("GET", func(p map[string]string) { delete(p, "SignatureMethod") }), ""},
		"v1 ampersand":     {old("GET", func(p map[string]string) { p["Extra"] = "a&b" }), "AuthFailure.SignatureFailure"},
		"v1 late":          {old("GET", func(p map[string]string) { p["Timestamp"] = strconv.FormatInt(w.clock.now.Unix()+301, 10) }), "AuthFailure.SignatureExpire"},
		"v1 method":        {old("GET", func(p map[string]string) { p["SignatureMethod"] = "HmacMD5" }), "AuthFailure.InvalidAuthorization"},
		"v1 no key":        {old("GET", func(p map[string]string) { delete(p, "SecretId") }), "AuthFailure.InvalidAuthorization"},
		"v1 temporary":     {old("GET", func(p map[string]string) { p["Token"] = "t" }), "AuthFailure.InvalidAuthorization"},
		"v1 other version": {old("GET", func(p map[string]string) { p["Version"] = "2018-01-01" }), "NoSuchVersion"},
		"v1 beside v3":     {v3(func(q *request) { q.method, q.query = "GET", "NumberOfBytes=8&Signature=QUJD" }), "AuthFailure.InvalidAuthorization"},
	} {
		for _, socket := range []bool{false, true} {
			q := c.request
			if q.params != nil {
				p := maps.Clone(q.params)
				if _, ok := p["SignatureMethod"]; ok && p["SignatureMethod"] == "HmacMD5" {
					p["Signature"] = "QUJD"
				} else {
					p["Signature"] = v1(q.method, q.host, p, key.SecretKey)
				}
				values := url.Values{}
				for name, value := range p {
					values.Set(name, value)
				}
				if q.header = (http.Header{}); q.method == "GET" {
					q.query = values.Encode()
				} else {
					q.body = values.Encode()
					q.header.Set("Content-Type", "application/x-www-form-urlencoded")
				}
			}
			r := httptest.NewRequest(q.method, "http://127.0.0.1/?"+q.query, strings.NewReader(q.body))
			r.Host, r.Header = q.host, q.header.Clone()
			if q.params == nil {
				signTC3(r, q.body, key.AccessKey, key.SecretKey, w.clock.now)
			}
			if q.signed != nil {
				q.signed(r)
			}
			answer := w.from(r, socket)
			got := tencentCode(answer.Body.Bytes())
			if got != c.want || answer.Code != http.StatusOK || answer.Header().Get("Content-Type") != "application/json" {
				t.Errorf("%s, socket %v: %d %s, want %s", what, socket, answer.Code, answer.Body, c.want)
			}
		}
	}
}

// TestTencentCLI sends what the command line sends when it is given http://HOST:PORT as its endpoint: the Host is a URL, which the
// listener corrects, and the client has signed it as it was.
func TestTencentCLI(t *testing.T) {
	w := newRightsWorld(t)
	key := w.credentials["key-user"]
	for _, sent := range []string{"http://127.0.0.1:8011", ""} {
		r := tencentRequest(&dialect.Route{Path: "GenerateRandom"}, `{"NumberOfBytes":8}`)
		r.Header.Set("Content-Type", "application/json")
		r.Host = "http://127.0.0.1:8011"
		signTC3(r, `{"NumberOfBytes":8}`, key.AccessKey, key.SecretKey, w.clock.now)
		r.Host = "127.0.0.1:8011"
		answer := w.from(r.WithContext(dialect.WithSentHost(r.Context(), func() string { return sent })), false)
		if code := tencentCode(answer.Body.Bytes()); (code == "") != (sent != "") {
			t.Errorf("sent as %q: %s", sent, answer.Body)
		}
	}
}

// TestTencentQuery refuses a query beside a body with fields, also without a signature: it would be ignored.
func TestTencentQuery(t *testing.T) {
	w := newRightsWorld(t)
	for query, want := range map[string]string{"": "", "NumberOfBytes=9": "InvalidParameter", "EncryptionContext=x": "InvalidParameter"} {
		r := tencentRequest(&dialect.Route{Path: "GenerateRandom"}, `{"NumberOfBytes":8}`)
		r.URL.RawQuery = query
		if answer := w.from(r, true); tencentCode(answer.Body.Bytes()) != want {
			t.Errorf("%q: %s, want %q", query, answer.Body, want)
		}
	}
}

// TestTencentSettings switches v1 signatures off, and unsigned bodies on.
func TestTencentSettings(t *testing.T) {
	w := newRightsWorld(t)
	section := tencent.Registration.Section().(*tencent.Settings)
	section.V1, section.UnsignedPayload = false, true
	w.process.cfg.sections[tencent.Name] = section
	w.handler = must(w.process.handler())
	key := w.credentials["key-user"]
	params := map[string]string{
		"Action": "GenerateRandom", "Version": "2019-01-18", "NumberOfBytes": "8", "SecretId": key.AccessKey,
		"Timestamp": strconv.FormatInt(w.clock.now.Unix(), 10),
	}
	params["Signature"] = v1("GET", "127.0.0.1", params, key.SecretKey)
	values := url.Values{}
	for name, value := range params {
		values.Set(name, value)
	}
	answer := w.from(httptest.NewRequest("GET", "http://127.0.0.1/?"+values.Encode(), http.NoBody), false)
	if code := tencentCode(answer.Body.Bytes()); code != "AuthFailure.SignatureFailure" {
		t.Errorf("v1, switched off: %s", answer.Body)
	}
	for body, want := range map[string]string{"UNSIGNED-PAYLOAD": "", "other": "AuthFailure.SignatureFailure"} {
		r := tencentRequest(&dialect.Route{Path: "GenerateRandom"}, `{"NumberOfBytes":8}`)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-TC-Content-SHA256", "UNSIGNED-PAYLOAD")
		signTC3(r, body, key.AccessKey, key.SecretKey, w.clock.now)
		if answer := w.from(r, false); tencentCode(answer.Body.Bytes()) != want {
			t.Errorf("signed %s: %s", body, answer.Body)
		}
	}
}

// TestQueriesStaySecret sends what must not be seen in queries and forms, right and wrong, and looks for it in the log and in the
// records.
func TestQueriesStaySecret(t *testing.T) {
	w := newRightsWorld(t)
	const secret = "TopSecretValue"
	for _, target := range []string{
		"/?Action=Encrypt&Version=2019-01-18&Plaintext=" + secret, "/?Action=Encrypt&Version=2016-01-20&KeyId=x&Plaintext=" + secret,
		"/?Action=Encrypt&Version=2019-01-18&SecretId=A&Signature=" + secret, "/?Action=Encrypt&Version=2019-01-18&Plaintext=" + secret + "%zz",
		"/?Action=Encrypt&Action=" + secret, "/v1.0/keyside/kms/aliases?marker=" + secret + "&limit=x", "/nowhere?x=" + secret, "/?a.b.c.d.e.f=" + secret,
	} {
		for _, socket := range []bool{true, false} {
			for _, r := range []*http.Request{
				httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+target, http.NoBody),
				httptest.NewRequest(http.MethodPost, "http://127.0.0.1/", strings.NewReader(target[strings.Index(target, "?")+1:])),
			} {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				if answer := w.from(r, socket); strings.Contains(answer.Body.String(), secret) {
					t.Errorf("%s: %s", target, answer.Body)
				}
			}
		}
	}
	if strings.Contains(w.node.audit(), secret) {
		t.Error("the audit log has it")
	}
	if strings.Contains(w.node.log.String(), secret) {
		t.Error("the log has it")
	}
}
