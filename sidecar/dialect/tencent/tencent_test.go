package tencent

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestTables checks the tables of errors and of fields, and that every action of the API has a route.
func TestTables(t *testing.T) {
	dialecttest.CheckErrors(t, conditions, answers)
	with, served := 0, 0
	for _, rt := range Routes() {
		if len(rt.Fields) > 0 {
			with++
		}
		if rt.Operation != kms.OpUnserved {
			served++
		}
	}
	if n := dialecttest.CheckFields(t); n != with {
		t.Errorf("found %d of %d routes with fields", n, with)
	}
	if n := len(Routes()); n != 69 || served != len(Served()) {
		t.Errorf("%d actions of 69, %d of %d served", n, len(Served()), served)
	}
}

const (
	vectorHost = "127.0.0.1:36323"
	vectorTime = "1795358203"
	vectorDate = "2026-11-22"
)

// TestTC3Vectors verifies what the cloud's SDK for Go 1.3.210 signed.
func TestTC3Vectors(t *testing.T) {
	for _, c := range []struct{ method, query, media, body, signature string }{
		{http.MethodPost, "", "application/json", `{"Alias":"a b/*~","Type":2,"Tags":[{"TagKey":"k","TagValue":"v"}]}`, "6650fd60b4947d2112212f7c2c3f0645119e031d3987080188aada3b2a3c7fef"},
		{http.MethodGet, "Alias=a+b%2F%2A~&Tags.0.TagKey=k&Tags.0.TagValue=v&Type=2", "application/x-www-form-urlencoded", "", "8ddf01a4cac262eb44906ad6daba638c25a0f951353ec4005c6dea958b7be696"},
	} {
		r := httptest.NewRequest(c.method, "http://"+vectorHost+"/?"+c.query, strings.NewReader(c.body))
		r.Header.Set("Content-Type", c.media)
		s, err := parseTC3("TC3-HMAC-SHA256 Credential=AKID/" + vectorDate + "/kms/tc3_request, SignedHeaders=content-type;host, Signature=" + c.signature)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := s.signed(r)
		if err != nil || !s.verify(r, vectorTime, lines, digestOf(c.body), []byte("SK")) || s.verify(r, vectorTime, lines, digestOf(c.body), []byte("SL")) {
			t.Errorf("%s: %v, %q", c.method, err, lines)
		}
	}
}

func mustBase64(text string) []byte {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}

// vectorV1 are the parameters of the reference's v1 request.
var vectorV1 = []dialect.Pair{
	{Name: "Type", Value: "2"}, {Name: "Action", Value: "CreateKey"}, {Name: "Alias", Value: "a b/*~"}, {Name: "Language", Value: "zh-CN"},
	{Name: "Nonce", Value: "1319234082099214161"}, {Name: "Region", Value: "ap-guangzhou"}, {Name: "RequestClient", Value: "SDK_GO_1.3.210"},
	{Name: "SecretId", Value: "AKID"}, {Name: "SignatureMethod", Value: "HmacSHA1"}, {Name: "Tags.0.TagKey", Value: "k"},
	{Name: "Tags.0.TagValue", Value: "v"}, {Name: "Timestamp", Value: vectorTime}, {Name: "Version", Value: "2019-01-18"},
	{Name: "Signature", Value: "ZnUxgoxPGTLpOZffLarbMiLK41k="},
}

// TestV1Vector verifies what the cloud's SDK for Go signed, and refuses texts that two requests could have.
func TestV1Vector(t *testing.T) {
	query, err := v1Query(vectorV1)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://"+vectorHost+"/", http.NoBody)
	if !verifyV1(r, query, v1Hashes["HmacSHA1"], []byte("SK"), mustBase64("ZnUxgoxPGTLpOZffLarbMiLK41k=")) {
		t.Errorf("%s is not what was signed", query)
	}
	for _, bad := range []dialect.Pair{{Name: "A", Value: "1&B=2"}, {Name: "A=1", Value: "2"}, {Name: "A&B", Value: ""}} {
		if _, err := v1Query([]dialect.Pair{bad}); err != errAmpersand {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if query, err := v1Query(nil); len(query) != 0 || err != nil {
		t.Errorf("%q, %v", query, err)
	}
}

// TestHosts holds which forms of a host a client may have signed.
func TestHosts(t *testing.T) {
	for host, want := range map[string][2]string{ // with lower-case forms, and without
		"kms.example":    {"kms.example", "kms.example"},
		"127.0.0.1:8080": {"127.0.0.1:8080 127.0.0.1", "127.0.0.1:8080 127.0.0.1"},
		"LocalHost:80":   {"localhost:80 LocalHost:80 localhost LocalHost", "LocalHost:80 LocalHost"},
	} {
		r := httptest.NewRequest(http.MethodPost, "http://x/", http.NoBody)
		r.Host = host
		if lower, as := hostsOf(r, true), hostsOf(r, false); strings.Join(lower, " ") != want[0] || strings.Join(as, " ") != want[1] {
			t.Errorf("%s: %q, %q", host, lower, as)
		}
		sent := "http://" + host
		r = r.WithContext(dialect.WithSentHost(r.Context(), func() string { return sent }))
		if !slices.Contains(hostsOf(r, true), strings.ToLower(sent)) || !slices.Contains(hostsOf(r, false), sent) {
			t.Errorf("%s is not tried", sent)
		}
	}
}

// FuzzTC3 parses headers. What it accepts can stand in a record and has all parts.
func FuzzTC3(f *testing.F) {
	for _, header := range []string{
		"TC3-HMAC-SHA256 Credential=AKID/2026-11-22/kms/tc3_request, SignedHeaders=content-type;host, Signature=" + strings.Repeat("0", 64),
		"TC3-HMAC-SHA256 Credential=AKID/2026-11-22/localhost:8080/tc3_request,SignedHeaders=host,Signature=" + strings.Repeat("f", 64),
		"SKIP", "TC3-HMAC-SHA256 Credential=a/b/c/tc3_request, Credential=a/b/c/tc3_request", "TC3-HMAC-SHA256 ", "",
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		s, err := parseTC3(header)
		if err == nil && (!dialect.IsName(s.accessKey) || s.service == "" || len(s.hex) != 64 || s.headers == "") {
			t.Errorf("%q: %+v", header, s)
		}
	})
}

// FuzzV1 holds that what is signed tells which parameters it was made of.
func FuzzV1(f *testing.F) {
	f.Add("A", "1", "B", "2")
	f.Add("A", "1&B=2", "C", "")
	f.Add("A=1", "", "", "=")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		pairs := []dialect.Pair{{Name: n1, Value: v1}, {Name: n2, Value: v2}}
		query, err := v1Query(pairs)
		if err != nil || n1 == n2 || n1 == paramSignature || n2 == paramSignature {
			return
		}
		var read []dialect.Pair
		for part := range strings.SplitSeq(string(query), "&") {
			name, value, _ := strings.Cut(part, "=")
			read = append(read, dialect.Pair{Name: name, Value: value})
		}
		if n2 < n1 {
			slices.Reverse(read)
		}
		if !slices.Equal(read, pairs) {
			t.Errorf("%q reads as %q", pairs, read)
		}
	})
}

// BenchmarkTC3 verifies a signature, from the header to the last comparison.
func BenchmarkTC3(b *testing.B) {
	body := `{"Alias":"a b/*~","Type":2,"Tags":[{"TagKey":"k","TagValue":"v"}]}`
	r := httptest.NewRequest(http.MethodPost, "http://"+vectorHost+"/", http.NoBody)
	r.Header.Set("Content-Type", "application/json")
	header := "TC3-HMAC-SHA256 Credential=AKID/" + vectorDate + "/kms/tc3_request, SignedHeaders=content-type;host, " +
		"Signature=6650fd60b4947d2112212f7c2c3f0645119e031d3987080188aada3b2a3c7fef"
	for b.Loop() {
		s, err := parseTC3(header)
		if err != nil {
			b.Fatal(err)
		}
		if lines, err := s.signed(r); err != nil || !s.verify(r, vectorTime, lines, digestOf(body), []byte("SK")) {
			b.Fatal(err)
		}
	}
}

// BenchmarkV1 verifies a v1 signature.
func BenchmarkV1(b *testing.B) {
	r := httptest.NewRequest(http.MethodPost, "http://"+vectorHost+"/", http.NoBody)
	for b.Loop() {
		query, err := v1Query(vectorV1)
		if err != nil || !verifyV1(r, query, v1Hashes["HmacSHA1"], []byte("SK"), mustBase64("ZnUxgoxPGTLpOZffLarbMiLK41k=")) {
			b.Fatal(err)
		}
	}
}
