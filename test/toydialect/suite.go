package toydialect

import (
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
)

// Suite is the dialect for the tests that run over every dialect.
var Suite = dialecttest.Suite{
	Registration: Registration, Routes: new(toy).routes(), Malformed: "Malformed", Missing: "MissingParameter",
	Requests: map[string]dialecttest.Request{
		"CreateKey": {Body: `{"Alias":"$fresh"}`}, "ListKeys": {Body: `{"Offset":0}`},
		"Encrypt": {Body: `{"KeyId":"$aes","Plaintext":"eA=="}`}, "Decrypt": {Body: `{"Ciphertext":"$cipher"}`},
	},
	New: func(rt *dialect.Route, body string) *http.Request {
		r := httptest.NewRequest(rt.Method, "http://127.0.0.1/", strings.NewReader(body))
		r.Header.Set(headerAction, actionPrefix+rt.Path)
		return r
	},
	Sign: func(r *http.Request, body, accessKey, secret string, at time.Time) {
		r.Header.Set(headerDate, at.UTC().Format(time.RFC3339))
		r.Header.Set("Authorization", "Toy "+accessKey+":"+hex.EncodeToString(mac("toyland", []byte(secret), signed(r, []byte(body)))))
	},
	Code: func(body []byte) string {
		_, rest, _ := strings.Cut(string(body), `{"Response":{"Error":{"Code":"`)
		code, _, _ := strings.Cut(rest, `"`)
		return code
	},
}
