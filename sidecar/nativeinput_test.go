package sidecar

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/dialect/keyside"
)

// TestNativeInvalidInput sends every operation of the native API with each of its fields absent, of a wrong type and out of
// bounds. All of it is refused and on record.
func TestNativeInvalidInput(t *testing.T) {
	w := newRightsWorld(t)
	s := &dialecttest.Suite{
		Routes: keyside.Routes(), Requests: map[string]dialecttest.Request{}, Sign: sign,
		New: func(rt *dialect.Route, body string) *http.Request {
			return httptest.NewRequestWithContext(t.Context(), rt.Method, "http://127.0.0.1"+client.BasePath+rt.Path, strings.NewReader(body))
		},
		Code: func(body []byte) string {
			var answer client.ErrorBody
			if json.Unmarshal(body, &answer) != nil || answer.Error.Reason == "" && answer.Error.Field != "" {
				return "" // the reason must say what is wrong with the field
			}
			return answer.Error.Code
		},
		Malformed: "InvalidRequest", Missing: "InvalidRequest",
	}
	for i := range s.Routes {
		rt := &s.Routes[i]
		w.begin(rt.Operation)
		w.words["grant"] = strings.Repeat("0", 64)
		body := cmp.Or(nativeRequests[rt.Operation][0].body, "{}")
		if rt.Path == "verify-audit-log" || rt.Path == "export-audit-log" {
			body = "{}"
		}
		s.Requests[rt.Path] = dialecttest.Request{Body: body}
		w.refusesInvalid(s, rt)
	}
	if len(w.expected) < 1000 {
		t.Errorf("only %d requests", len(w.expected))
	}
}
