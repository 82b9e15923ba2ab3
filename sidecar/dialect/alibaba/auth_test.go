package alibaba

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/kms"
)

// gate is a core that knows one access key and refuses what comes after.
type gate struct {
	Core
	accessKey, secret string
	refused           []kms.Code
}

func (g *gate) Refuse(_ context.Context, _ policy.Operation, err error) error {
	g.refused = append(g.refused, kms.AsError(err).Code)
	return err
}

func (g *gate) Authenticate(_ context.Context, accessKey string, verify func([]byte) bool) (policy.Principal, error) {
	if accessKey == g.accessKey && verify([]byte(g.secret)) {
		return policy.Principal{Name: "signer"}, nil
	}
	return policy.Principal{}, kms.Errorf(kms.CodeUnauthenticated, "no")
}

func (g *gate) Admit(context.Context, policy.Operation) error { return nil }

type clock struct{ time.Time }

func (c clock) Now() time.Time { return c.Time }

// ask sends a request through the dialect at a time, and returns the code of the answer, empty for a success.
func (g *gate) ask(t *testing.T, r *http.Request, at time.Time, change ...func(*Settings)) string {
	t.Helper()
	s := Section().(*Settings)
	for _, c := range change {
		c(s)
	}
	d := newDialect(s, dialect.Host{Timeout: time.Minute, Clock: clock{at}}, g)
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return codeOf(w.Body.Bytes())
}

// codeOf returns the code of an error in JSON or XML.
func codeOf(body []byte) string {
	for _, mark := range []string{`"Code":"`, "<Code>"} {
		if _, rest, ok := strings.Cut(string(body), mark); ok {
			return rest[:strings.IndexAny(rest, `"<`)]
		}
	}
	return ""
}

func post(query, form string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/?"+query, strings.NewReader(form))
	if form != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

// signParameters adds a signature of version 1 to parameters.
func signParameters(method string, parameters url.Values, method1, accessKey, secret string, at time.Time) {
	for name, value := range map[string]string{
		"AccessKeyId": accessKey, "SignatureMethod": method1, "SignatureVersion": "1.0", "SignatureNonce": "nonce", "SignatureType": "",
		"Timestamp": at.UTC().Format(dateForm), "Version": Version, "RegionId": "cn-hangzhou",
	} {
		if !parameters.Has(name) {
			parameters.Set(name, value)
		}
	}
	pairs, _ := dialect.ParseQuery(parameters.Encode())
	mac := dialect.HMAC(v1Hashes[method1], []byte(secret+"&"), parametersText(method, pairs))
	parameters.Set("Signature", base64Of(mac))
}

// signHeader signs a request with ACS3 or ACS4, as the vendor's SDK does.
func signHeader(r *http.Request, body, algorithm, accessKey, secret string, at time.Time) {
	sum := sha256.Sum256([]byte(body))
	for name, value := range map[string]string{
		"x-acs-version": Version, "x-acs-date": at.UTC().Format(dateForm), "x-acs-signature-nonce": "nonce",
		"x-acs-content-sha256": hex.EncodeToString(sum[:]), "x-acs-credentials-provider": "static_ak",
	} {
		if r.Header.Get(name) == "" {
			r.Header.Set(name, value)
		}
	}
	a := authorization{algorithm: algorithm, accessKey: accessKey, headers: []string{"host"}}
	credential := accessKey
	if algorithm == acs4 {
		a.scope = []string{at.UTC().Format("20060102"), "center", "Kms", acs4End}
		credential += "/" + strings.Join(a.scope, "/")
	}
	if r.Header.Get("Content-Type") != "" {
		a.headers = append([]string{"content-type"}, a.headers...)
	}
	a.headers = append(a.headers,
		"x-acs-action", "x-acs-content-sha256", "x-acs-credentials-provider", "x-acs-date", "x-acs-signature-nonce", "x-acs-version")
	text := []byte(canonicalOf(r, body, &a))
	digest := sha256.Sum256(text)
	mac := a.mac([]byte(secret), []byte(algorithm+"\n"+hex.EncodeToString(digest[:])))
	r.Header.Set("Authorization", algorithm+" Credential="+credential+",SignedHeaders="+strings.Join(a.headers, ";")+",Signature="+hex.EncodeToString(mac))
}

// canonicalOf is the canonical request of a signature in a header, written after the reference and not after the dialect.
func canonicalOf(r *http.Request, body string, a *authorization) string {
	query := strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(r.URL.Query().Encode())
	if a.algorithm == acs4 {
		parts := strings.Split(query, "&")
		for i := range parts {
			parts[i] = strings.TrimSuffix(parts[i], "=")
		}
		query = strings.Join(parts, "&")
	}
	lines := []string{r.Method, "/", query}
	for _, name := range a.headers {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		lines = append(lines, name+":"+strings.TrimSpace(value))
	}
	sum := sha256.Sum256([]byte(body))
	return strings.Join(append(lines, "", strings.Join(a.headers, ";"), hex.EncodeToString(sum[:])), "\n")
}

// TestVectors verifies signatures that the vendor's SDKs and documents made (reference, 1.3 and 1.5).
func TestVectors(t *testing.T) {
	at := time.Date(2026, 11, 22, 14, 35, 59, 0, time.UTC)
	acs := func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:35149/?EncryptionContext=%7B%22a%22%3A%22b%22%7D&KeyId=alias%2Fa+b%2A~&Plaintext=aGVsbG8%3D", http.NoBody)
		for name, value := range map[string]string{
			"x-acs-action": "Encrypt", "x-acs-version": Version, "x-acs-date": "2026-11-22T14:35:59Z",
			"x-acs-signature-nonce": "47f6b4615807e251ac2fd4a86853e9c8", "x-acs-credentials-provider": "static_ak",
			"x-acs-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			"Authorization": "ACS3-HMAC-SHA256 Credential=AK,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-credentials-provider;" +
				"x-acs-date;x-acs-signature-nonce;x-acs-version,Signature=29a697bbe4494743ffe025ecbc1f9c7992e28af4a99ef3103a265bac0eb6a480",
		} {
			r.Header.Set(name, value)
		}
		return r
	}
	v1 := post(url.Values{
		"AccessKeyId": {"AK"}, "Action": {"Encrypt"}, "EncryptionContext": {`{"a":"b"}`}, "Format": {"json"}, "KeyId": {"alias/a b*~"},
		"Plaintext": {"aGVsbG8="}, "SignatureMethod": {"HMAC-SHA1"}, "SignatureNonce": {"7b9ba5b2fd8206d99c463ffcbc273e80"},
		"SignatureVersion": {"1.0"}, "Timestamp": {"2026-11-22T14:35:59Z"}, "Version": {Version}, "Signature": {"wHH3CSekRwTXh02SkuZo2ukl8Uw="},
	}.Encode(), "")
	for name, r := range map[string]*http.Request{"ACS3": acs(), "version 1": v1} {
		g := &gate{accessKey: "AK", secret: "SK"}
		if code := g.ask(t, r, at); code != "InternalFailure" { // the core has no Encrypt: the handler was reached
			t.Errorf("%s: %s", name, code)
		}
	}
	g := &gate{accessKey: "AK", secret: "Sk"}
	if code := g.ask(t, acs(), at); code != "SignatureDoesNotMatch" {
		t.Errorf("another secret: %s", code)
	}
	pairs, _ := dialect.ParseQuery("Action=CreateKey&Format=json&AccessKeyId=testid&SignatureMethod=HMAC-SHA1&SignatureVersion=1.0&Timestamp=2016-03-28T03:13:08Z&Version=2016-01-20")
	if got := base64Of(dialect.HMAC(v1Hashes[v1SHA1], []byte("testsecret&"), parametersText(http.MethodGet, pairs))); got != "41wk2SSX1GJh7fwnc5eqOfiJPFg=" {
		t.Errorf("document's vector: %s", got)
	}
}

// TestSignatures sends requests under every signature: whole, changed in every part, too old, and switched off.
func TestSignatures(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	const key, secret = "AK", "SK"
	header := func(algorithm string, change func(*http.Request)) func() *http.Request {
		return func() *http.Request {
			r := post("KeyId=a+b%2A~&Description=", "")
			r.Header.Set(headerAction, "DescribeRegions")
			r.URL.RawQuery = ""
			signHeader(r, "", algorithm, key, secret, at)
			change(r)
			return r
		}
	}
	parameters := func(method string, change func(url.Values)) func() *http.Request {
		return func() *http.Request {
			v := url.Values{"Action": {"DescribeRegions"}}
			signParameters(http.MethodPost, v, method, key, secret, at)
			change(v)
			return post(v.Encode(), "")
		}
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	put := func(name, value string) func(url.Values) { return func(v url.Values) { v.Set(name, value) } }
	replace := func(from, to string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), from, to, 1))
		}
	}
	nothing := func(*http.Request) {}
	off := func(names ...string) func(*Settings) { return func(s *Settings) { s.Signatures = names } }
	for name, c := range map[string]struct {
		request func() *http.Request
		code    string
		change  func(*Settings)
	}{
		"acs3":                {header(acs3, nothing), "", off(acs3)},
		"acs4":                {header(acs4, nothing), "", off(acs4)},
		"acs3 off":            {header(acs3, nothing), "IncompleteSignature", off(acs4, v1SHA, v1SHA1)},
		"acs4 off":            {header(acs4, nothing), "IncompleteSignature", off(acs3)},
		"action":              {header(acs3, set(headerAction, "DescribeAccountKmsStatus")), "SignatureDoesNotMatch", nil},
		"nonce":               {header(acs3, set("x-acs-signature-nonce", "other")), "SignatureDoesNotMatch", nil},
		"query":               {header(acs3, func(r *http.Request) { r.URL.RawQuery = "KeyId=x" }), "SignatureDoesNotMatch", nil},
		"host":                {header(acs3, func(r *http.Request) { r.Host = "localhost" }), "SignatureDoesNotMatch", nil},
		"method":              {header(acs3, func(r *http.Request) { r.Method = http.MethodGet }), "SignatureDoesNotMatch", nil},
		"unsigned header":     {header(acs3, set("x-acs-security-token", "t")), "IncompleteSignature", nil},
		"unsigned type":       {header(acs3, set("Content-Type", "application/x-www-form-urlencoded")), "IncompleteSignature", nil},
		"hash":                {header(acs3, set("x-acs-content-sha256", strings.Repeat("0", 64))), "IncompleteSignature", nil},
		"repeated header":     {header(acs3, func(r *http.Request) { r.Header.Add("x-acs-date", "x") }), "IncompleteSignature", nil},
		"no nonce":            {header(acs3, func(r *http.Request) { r.Header.Del("x-acs-signature-nonce") }), "IncompleteSignature", nil},
		"short list":          {header(acs3, replace(";x-acs-date", "")), "IncompleteSignature", nil},
		"upper case":          {header(acs3, replace(";x-acs-date", ";X-Acs-Date")), "IncompleteSignature", nil},
		"digits":              {header(acs3, replace("Signature=", "Signature=0")), "IncompleteSignature", nil},
		"twice":               {header(acs3, replace("Signature=", "Credential=AK,Signature=")), "IncompleteSignature", nil},
		"unknown part":        {header(acs3, replace("Signature=", "Token=x,Signature=")), "IncompleteSignature", nil},
		"scheme":              {header(acs3, replace(acs3, "ACS3-HMAC-SM3")), "IncompleteSignature", nil},
		"scope":               {header(acs4, replace("/Kms/", "/Ecs/")), "SignatureDoesNotMatch", nil},
		"scope's date":        {header(acs4, replace("/20261130/", "/")), "IncompleteSignature", nil},
		"scope's end":         {header(acs4, replace(acs4End, "aws4_request")), "IncompleteSignature", nil},
		"access key":          {header(acs3, replace("Credential=AK", "Credential=AL")), "SignatureDoesNotMatch", nil},
		"odd access key":      {header(acs3, replace("Credential=AK", "Credential=A K")), "IncompleteSignature", nil},
		"date":                {header(acs3, set("x-acs-date", "2026-11-30T11:44:59Z")), "InvalidTimeStamp.Expired", nil},
		"sha1":                {parameters(v1SHA1, func(url.Values) {}), "", off(v1SHA1)},
		"sha256":              {parameters(v1SHA, func(url.Values) {}), "", off(v1SHA)},
		"sha1 off":            {parameters(v1SHA1, func(url.Values) {}), "IncompleteSignature", off(acs3, acs4, v1SHA)},
		"sha256 off":          {parameters(v1SHA, func(url.Values) {}), "IncompleteSignature", off(acs3, acs4, v1SHA1)},
		"parameter":           {parameters(v1SHA1, put("Action", "DescribeAccountKmsStatus")), "SignatureDoesNotMatch", nil},
		"more":                {parameters(v1SHA1, put("Other", "x")), "SignatureDoesNotMatch", nil},
		"method changed":      {parameters(v1SHA1, put("SignatureMethod", v1SHA)), "SignatureDoesNotMatch", nil},
		"unknown method":      {parameters(v1SHA1, put("SignatureMethod", "HMAC-MD5")), "IncompleteSignature", nil},
		"version":             {parameters(v1SHA1, put("SignatureVersion", "2.0")), "IncompleteSignature", nil},
		"nonce gone":          {parameters(v1SHA1, put("SignatureNonce", "")), "IncompleteSignature", nil},
		"timestamp":           {parameters(v1SHA1, put("Timestamp", "2026-11-30T12:15:01Z")), "IllegalTimestamp", nil},
		"signature no base64": {parameters(v1SHA1, put("Signature", "x")), "IncompleteSignature", nil},
		"token":               {parameters(v1SHA1, put("SecurityToken", "t")), "IncompleteSignature", nil},
		"token alone":         {func() *http.Request { return post("Action=DescribeRegions&SecurityToken=t&Version="+Version, "") }, "IncompleteSignature", nil},
		"token header alone": {func() *http.Request {
			r := post("Action=DescribeRegions&Version="+Version, "")
			r.Header.Set("X-Acs-Security-Token", "t")
			return r
		}, "IncompleteSignature", nil},
		"another path": {func() *http.Request {
			r := header(acs3, nothing)()
			r.URL.Path = "/other"
			return r
		}, "InvalidAction.NotFound", nil},
		"no proof": {func() *http.Request { return post("Action=DescribeRegions&Version="+Version, "") }, "IncompleteSignature", nil},
		"two proofs": {func() *http.Request {
			r := header(acs3, nothing)()
			r.URL.RawQuery = "Signature=x"
			return r
		}, "IncompleteSignature", nil},
		"api version": {func() *http.Request {
			v := url.Values{"Action": {"DescribeRegions"}, "Version": {"2014-05-26"}}
			signParameters(http.MethodPost, v, v1SHA1, key, secret, at)
			return post(v.Encode(), "")
		}, "InvalidVersion", nil},
		"version twice": {func() *http.Request {
			r := header(acs3, nothing)()
			r.URL.RawQuery = "Version=2014-05-26"
			signHeader(r, "", acs3, key, secret, at)
			return r
		}, "InvalidVersion", nil},
		"form": {func() *http.Request {
			v := url.Values{"Action": {"DescribeRegions"}}
			signParameters(http.MethodPost, v, v1SHA1, key, secret, at)
			return post("", v.Encode())
		}, "", nil},
		"name in query and form": {func() *http.Request {
			v := url.Values{"Action": {"DescribeRegions"}}
			signParameters(http.MethodPost, v, v1SHA1, key, secret, at)
			return post("Action=DescribeRegions", v.Encode())
		}, "ParseRequestParameterException", nil},
	} {
		g := &gate{accessKey: key, secret: secret}
		change := c.change
		if change == nil {
			change = func(*Settings) {}
		}
		if code := g.ask(t, c.request(), at, change); code != c.code {
			t.Errorf("%s: %q, want %q", name, code, c.code)
		} else if (code == "") != (len(g.refused) == 0) {
			t.Errorf("%s: %v on record", name, g.refused)
		}
	}
}

// TestTables checks the tables of errors and of fields.
func TestTables(t *testing.T) {
	dialecttest.CheckErrors(t, conditions, answers)
	if n := dialecttest.CheckFields(t); n != len(new(Dialect).routes()) {
		t.Errorf("found %d of %d routes", n, len(new(Dialect).routes()))
	}
}

// FuzzRequest sends any query and form to any action. It is answered, and a success is one of an action that needs no core.
func FuzzRequest(f *testing.F) {
	f.Add("Encrypt", "KeyId=x&Plaintext=eA%3D%3D&EncryptionContext.a=b", "")
	f.Add("CreateKey", `Tags=[{"TagKey":"k"}]&Format=XML`, "Description=x")
	f.Add("TagResources", "ResourceType=key&ResourceId.1=a&ResourceId.2=b&Tag.1.Key=k&DryRun=true", "")
	f.Add("DescribeRegions", "Format=xml", "")
	d := newDialect(Section().(*Settings), dialect.Host{
		Timeout: time.Minute, Principal: func(policy.Caller) policy.Principal { return policy.Principal{Name: "p"} },
	}, &gate{})
	f.Fuzz(func(t *testing.T, action, query, form string) {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/", strings.NewReader(form))
		r.URL.RawQuery = query
		r.Header = http.Header{headerAction: {action}, headerVersion: {Version}, "Content-Type": {"application/x-www-form-urlencoded"}}
		w := httptest.NewRecorder()
		d.ServeHTTP(w, r.WithContext(kms.WithCaller(r.Context(), policy.Caller{Known: true, Socket: true})))
		if code := codeOf(w.Body.Bytes()); (code == "") != (w.Code == http.StatusOK) || w.Code == http.StatusOK && action != "DescribeRegions" && action != "DescribeAccountKmsStatus" {
			t.Errorf("%s: %d %s", action, w.Code, w.Body)
		}
	})
}

// BenchmarkSignature does a request that needs nothing but the signature, which is as long as that of Encrypt.
func BenchmarkSignature(b *testing.B) {
	at := time.Now()
	g := &gate{accessKey: "AK", secret: strings.Repeat("s", 30)}
	d := newDialect(Section().(*Settings), dialect.Host{Timeout: time.Minute, Clock: clock{at}}, g)
	header := func(algorithm string) *http.Request {
		r := post("", "")
		r.Header.Set(headerAction, "DescribeRegions")
		signHeader(r, "", algorithm, g.accessKey, g.secret, at)
		return r
	}
	parameters := url.Values{"Action": {"DescribeRegions"}, "RegionId": {strings.Repeat("A", 120)}}
	signParameters(http.MethodPost, parameters, v1SHA1, g.accessKey, g.secret, at)
	for name, r := range map[string]*http.Request{acs3: header(acs3), acs4: header(acs4), v1SHA1: post(parameters.Encode(), "")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				if d.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

func base64Of(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
