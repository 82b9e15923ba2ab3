package sidecar

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/test/toydialect"
)

// signer is one kind of signature of one dialect.
type signer struct {
	name string
	// request returns a request whose fields hold a text.
	request func(text string) *http.Request
	sign    func(r *http.Request, accessKey, secret string, at time.Time)
	hex     bool // the signature is in hexadecimal digits of the Authorization header; else in base64 of the parameter Signature
}

// bodyOf returns what a request's body says; every request here is made of a string.
func bodyOf(r *http.Request) string {
	if r.Header.Get("X-Body") == "" {
		return ""
	}
	body := must(base64.StdEncoding.DecodeString(r.Header.Get("X-Body")))
	return string(body)
}

// posted returns a request that remembers its body for signers, which cannot read it twice.
func posted(target, media, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1"+target, strings.NewReader(body))
	r.Header.Set("Content-Type", media)
	r.Header.Set("X-Body", base64.StdEncoding.EncodeToString([]byte(body)))
	return r
}

const jsonMedia = "application/json"

// signers are all signatures that requests can have.
var signers = []signer{
	{"huawei", func(text string) *http.Request {
		return posted("/v1.0/keyside/kms/gen-random", jsonMedia, fmt.Sprintf(`{"random_data_length":"8","x":%q}`, text))
	}, signBody(sign), true},
	{"keyside", func(text string) *http.Request {
		return posted(client.BasePath+"generate-random", jsonMedia, `{"length":8}`)
	}, signBody(sign), true},
	{"tencent", func(text string) *http.Request {
		r := posted("/", jsonMedia, fmt.Sprintf(`{"NumberOfBytes":8,"X":%q}`, text))
		r.Header.Set("X-TC-Action", "GenerateRandom")
		r.Header.Set("X-TC-Version", "2019-01-18")
		return r
	}, signBody(signTC3), true},
	{"tencent-v1", func(text string) *http.Request {
		return httptest.NewRequest(http.MethodGet, "http://127.0.0.1/?"+url.Values{
			"Action": {"GenerateRandom"}, "Version": {"2019-01-18"}, "NumberOfBytes": {"8"}, "X": {text},
		}.Encode(), http.NoBody)
	}, func(r *http.Request, accessKey, secret string, at time.Time) {
		params := map[string]string{"SecretId": accessKey, "Timestamp": strconv.FormatInt(at.Unix(), 10)}
		for name, values := range r.URL.Query() {
			params[name] = values[0]
		}
		params["Signature"] = v1(r.Method, r.Host, params, secret)
		setQuery(r, params)
	}, false},
	{"alibaba", func(text string) *http.Request {
		r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/?"+url.Values{"RegionId": {text}}.Encode(), http.NoBody)
		r.Header.Set("Content-Type", jsonMedia)
		r.Header.Set("X-Acs-Action", "DescribeRegions")
		r.Header.Set("X-Acs-Version", "2016-01-20")
		return r
	}, signBody(signACS3), true},
	{"alibaba-v1", func(text string) *http.Request {
		return httptest.NewRequest(http.MethodGet, "http://127.0.0.1/?"+url.Values{
			"Action": {"DescribeRegions"}, "Version": {"2016-01-20"}, "Format": {"JSON"}, "RegionId": {text},
		}.Encode(), http.NoBody)
	}, func(r *http.Request, accessKey, secret string, at time.Time) {
		params := map[string]string{
			"AccessKeyId": accessKey, "Timestamp": at.UTC().Format("2006-01-02T15:04:05Z"), "SignatureMethod": "HMAC-SHA1", "SignatureVersion": "1.0",
			"SignatureNonce": strconv.FormatInt(at.UnixNano(), 36) + r.URL.Query().Get("RegionId"),
		}
		values := url.Values{}
		for name, value := range r.URL.Query() {
			params[name] = value[0]
		}
		for name, value := range params {
			values.Set(name, value)
		}
		escape := strings.NewReplacer("+", "%20", "*", "%2A")
		text := r.Method + "&%2F&" + escape.Replace(url.QueryEscape(escape.Replace(values.Encode())))
		mac := hmac.New(sha1.New, []byte(secret+"&"))
		mac.Write([]byte(text))
		params["Signature"] = base64.StdEncoding.EncodeToString(mac.Sum(nil))
		setQuery(r, params)
	}, false},
	{"toy", func(text string) *http.Request {
		r := posted("/", jsonMedia, fmt.Sprintf(`{"Offset":0,"X":%q}`, text))
		r.Header.Set("X-Toy-Action", "Toy.ListKeys")
		return r
	}, signBody(toydialect.Suite.Sign), true},
}

func signBody(sign func(r *http.Request, body, accessKey, secret string, at time.Time)) func(*http.Request, string, string, time.Time) {
	return func(r *http.Request, accessKey, secret string, at time.Time) {
		sign(r, bodyOf(r), accessKey, secret, at)
	}
}

func setQuery(r *http.Request, params map[string]string) {
	values := url.Values{}
	for name, value := range params {
		values.Set(name, value)
	}
	r.URL.RawQuery = values.Encode()
}

// dialect is whose signature it is. The native API has those of Huawei Cloud.
func (s *signer) dialect() string {
	name, _, _ := strings.Cut(s.name, "-")
	return strings.Replace(name, "keyside", "huawei", 1)
}

var digits = regexp.MustCompile(`[0-9a-f]{40,64}$`)

// take returns the signature of a request, and put replaces it.
func (s *signer) take(r *http.Request) []byte {
	if s.hex {
		return must(hex.DecodeString(digits.FindString(r.Header.Get("Authorization"))))
	}
	return must(base64.StdEncoding.DecodeString(r.URL.Query().Get("Signature")))
}

func (s *signer) put(r *http.Request, signature []byte) {
	if s.hex {
		r.Header.Set("Authorization", digits.ReplaceAllString(r.Header.Get("Authorization"), hex.EncodeToString(signature)))
		return
	}
	query := r.URL.Query()
	query.Set("Signature", base64.StdEncoding.EncodeToString(signature))
	r.URL.RawQuery = query.Encode()
}

// TestSignaturesStayInTheirDialect signs requests of each dialect with one access key, in its own way and in the ways of all
// others: what one dialect signed verifies in no other, neither as it is nor as the bytes of a signature of the other's form. Only
// the native API has the signatures of another.
func TestSignaturesStayInTheirDialect(t *testing.T) {
	dialects = append(dialects, toydialect.Registration)
	t.Cleanup(func() { dialects = dialects[:len(dialects)-1] })
	w := newRightsWorld(t)
	key := w.credentials["key-administrator"]
	accepted := func(r *http.Request) (bool, string) {
		answer := w.from(r, false)
		return answer.Code == http.StatusOK && !strings.Contains(answer.Body.String(), `"Error"`), answer.Body.String()
	}
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.StringMatching(`[a-zA-Z0-9 +/=*~._-]{0,20}`).Draw(rt, "text")
		for i := range signers {
			own := &signers[i]
			r := own.request(text)
			own.sign(r, key.AccessKey, key.SecretKey, w.clock.now)
			if ok, answer := accepted(r); !ok {
				rt.Fatalf("%s does not accept its own signature: %s", own.name, answer)
			}
			for j := range signers {
				other := &signers[j]
				if own.dialect() == other.dialect() {
					continue
				}
				r := own.request(text) // signed by the other way alone
				other.sign(r, key.AccessKey, key.SecretKey, w.clock.now)
				if ok, answer := accepted(r); ok {
					rt.Errorf("%s accepts a signature of %s: %s", own.name, other.name, answer)
				}
				signed := other.request(text) // the other's signature of its own request, in the form of this dialect
				other.sign(signed, key.AccessKey, key.SecretKey, w.clock.now)
				r = own.request(text)
				own.sign(r, key.AccessKey, key.SecretKey, w.clock.now)
				own.put(r, other.take(signed))
				if ok, answer := accepted(r); ok {
					rt.Errorf("%s accepts the bytes of a signature of %s: %s", own.name, other.name, answer)
				}
			}
		}
	})
}

// TestLimitedAccessKeys has access keys of some dialects sign for all: only theirs accept them. Such an access key makes no other.
func TestLimitedAccessKeys(t *testing.T) {
	dialects = append(dialects, toydialect.Registration)
	t.Cleanup(func() { dialects = dialects[:len(dialects)-1] })
	w := newRightsWorld(t)
	for _, names := range [][]string{{"tencent"}, {"alibaba", "toy"}, {"keyside"}, {"huawei"}} {
		made := new(client.NewCredential)
		w.owner(http.MethodPost, client.BasePath+"create-credential", string(must(json.Marshal(client.CreateCredentialRequest{User: "limited", Role: "administrator", Dialects: names}))), made)
		if !slices.Equal(made.Dialects, names) {
			t.Errorf("created for %v, want %v", made.Dialects, names)
		}
		for i := range signers {
			s := &signers[i]
			r := s.request("x")
			s.sign(r, made.AccessKey, made.SecretKey, w.clock.now)
			answer := w.from(r, false)
			ok := answer.Code == http.StatusOK && !strings.Contains(answer.Body.String(), `"Error"`)
			if name, _, _ := strings.Cut(s.name, "-"); ok != slices.Contains(names, name) {
				t.Errorf("access key of %v signs for %s: %d %s", names, s.name, answer.Code, answer.Body)
			}
		}
		if names[0] == "keyside" {
			for path, body := range map[string]string{"create-credential": `{"user":"other","role":"none"}`, "create-token": `{}`} {
				r := posted(client.BasePath+path, jsonMedia, body)
				sign(r, body, made.AccessKey, made.SecretKey, w.clock.now)
				if answer := w.from(r, true); answer.Code != http.StatusForbidden {
					t.Errorf("%s by such an access key: %d %s", path, answer.Code, answer.Body)
				}
			}
		}
	}
	for _, names := range []string{`["vng"]`, `["tencent","tencent"]`, `[]`} {
		if answer := w.ask(rightsCallers[0], http.MethodPost, client.BasePath+"create-credential", `{"user":"limited","role":"none","dialects":`+names+`}`); answer.Code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", names, answer.Code, answer.Body)
		}
	}
}
