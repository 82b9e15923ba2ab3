package sidecar

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/alibaba"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/test/toydialect"
)

// suites are the dialects that this drives: one that only tests serve, and those of clouds whose requests have no paths.
var suites = []*dialecttest.Suite{&toydialect.Suite, &tencentSuite, &alibabaSuite}

// TestSuites serves each of the suites' dialects beside the others: each kind of caller gets what policy/testdata/rights.txt
// says, invalid input is refused in the dialect's words, and every request is on record.
func TestSuites(t *testing.T) {
	table := readRights(t)
	for _, s := range suites {
		t.Run(s.Registration.Key, func(t *testing.T) {
			if !slices.Contains(dialectNames(), s.Registration.Key) {
				dialects = append(dialects, s.Registration)
				t.Cleanup(func() { dialects = dialects[:len(dialects)-1] })
			}
			w := newRightsWorld(t)
			defaults := w.defaults()
			for i := range s.Routes {
				rt := &s.Routes[i]
				if rt.Operation == kms.OpUnserved {
					continue // no one may do it
				}
				for _, c := range rightsCallers {
					if c.how != "token" && !(c.service && s.Requests[rt.Path].NoService) { // a token is a header of other dialects
						want := table[rt.Operation][c.column]
						w.begin(rt.Operation)
						w.trySuite(s, rt, c, defaults, want == "+" || want == "&" && !c.needMore)
					}
				}
				w.refusesInvalid(s, rt)
			}
		})
	}
}

// trySuite sends the request of a route as a caller.
func (w *rightsWorld) trySuite(s *dialecttest.Suite, rt *dialect.Route, c rightsCaller, defaults map[string]string, allow bool) {
	w.Helper()
	w.renew()
	for before := range strings.Lines(s.Requests[rt.Path].Before) {
		if path, text, ok := strings.Cut(before, " "); ok && allow {
			i := slices.IndexFunc(s.Routes, func(rt dialect.Route) bool { return rt.Path == path })
			w.askSuite(s, &s.Routes[i], rightsCallers[0], w.suiteText(text, c, defaults)) // refused where it is so already
		}
	}
	body := w.suiteText(s.Requests[rt.Path].Body, c, defaults)
	answer := w.askSuite(s, rt, c, body)
	what := fmt.Sprintf("%s by %s (%s)", rt.Path, c.column, body)
	code := s.Code(answer.Body.Bytes())
	refused := answer.Code == http.StatusUnauthorized || answer.Code == http.StatusForbidden
	if s.Refused != nil {
		refused = s.Refused(code)
	}
	if allow && (answer.Code >= 300 || code != "") || !allow && (!refused || code == "") {
		w.Errorf("%s: %d %s, want allow %v", what, answer.Code, answer.Body, allow)
	}
	w.expected[answer.Header().Get("X-Request-Id")] = expectedRecord{rt.Operation, allow, what}
}

// renew gives a request words of its own.
func (w *rightsWorld) renew() {
	w.fresh++
	w.words["fresh"] = fmt.Sprintf("fresh-%d", w.fresh)
	delete(w.words, "own")
}

// suiteText expands the words of a request. A key's name with _v1 is the id of its first version.
func (w *rightsWorld) suiteText(text string, c rightsCaller, defaults map[string]string) string {
	word := func(name string) string {
		if c.service && defaults[name] != "" {
			return defaults[name]
		}
		return w.word(name)
	}
	return os.Expand(text, func(name string) string {
		if key, ok := strings.CutSuffix(name, "_v1"); ok {
			return alibaba.VersionID(must(kms.ParseKeyID(word(key))), 1)
		}
		return word(name)
	})
}

func (w *rightsWorld) askSuite(s *dialecttest.Suite, rt *dialect.Route, c rightsCaller, body string) *httptest.ResponseRecorder {
	return w.send(c, s.New(rt, body), body, s.Sign)
}

// refusesInvalid sends a route's request with each of its fields absent and with wrong values, and bodies that are no objects.
func (w *rightsWorld) refusesInvalid(s *dialecttest.Suite, rt *dialect.Route) {
	w.Helper()
	owner := rightsCallers[0]
	w.renew()
	expect := func(what, body string, codes ...string) {
		w.Helper()
		answer := w.askSuite(s, rt, owner, body)
		failed := answer.Code >= 400 && answer.Code < 500 || answer.Code == s.ErrorStatus
		if got := s.Code(answer.Body.Bytes()); !failed || got == "" || !slices.Contains(codes, got) {
			w.Errorf("%s with %s (%s): %d %s, want %s", rt.Path, what, body, answer.Code, answer.Body, codes)
		}
		w.expected[answer.Header().Get("X-Request-Id")] = expectedRecord{rt.Operation, false, rt.Path + " with " + what}
	}
	for i := range rt.Fields {
		f := &rt.Fields[i]
		var right map[string]json.RawMessage
		if err := json.Unmarshal([]byte(w.suiteText(s.Requests[rt.Path].Body, owner, nil)), &right); err != nil {
			w.Fatal(rt.Path, err)
		}
		values, code := dialecttest.Wrong(f), cmp.Or(f.Code, s.Malformed)
		if s.Wrong != nil {
			values, code = s.Wrong(f)
		}
		for _, wrong := range values {
			right[f.Name] = json.RawMessage(wrong)
			expect("a wrong "+f.Name, string(must(json.Marshal(right))), code, f.BoundCode)
		}
		if delete(right, f.Name); f.Required {
			expect("no "+f.Name, string(must(json.Marshal(right))), s.Missing)
		}
	}
	for _, body := range []string{`{`, `[]`, `{"a":1,"a":2}`, `{} {}`, "{\"a\":\"\xff\"}"} {
		if !s.Flat {
			expect("a malformed body", body, s.Malformed)
		}
	}
}

// TestToyDialect encrypts in one dialect and decrypts in another, and finds the key in a list.
func TestToyDialect(t *testing.T) {
	dialects = append(dialects, toydialect.Registration)
	t.Cleanup(func() { dialects = dialects[:len(dialects)-1] })
	w, s, owner := newRightsWorld(t), &toydialect.Suite, rightsCallers[0]
	w.words = map[string]string{"fresh": "toy"}
	ask := func(op policy.Operation, body string) string {
		for i := range s.Routes {
			if s.Routes[i].Operation == op {
				answer := w.askSuite(s, &s.Routes[i], owner, body)
				var envelope struct {
					Response  json.RawMessage
					RequestID string `json:"RequestId"`
				}
				if err := json.Unmarshal(answer.Body.Bytes(), &envelope); err != nil || envelope.RequestID != answer.Header().Get("X-Request-Id") {
					t.Errorf("%s: %s, %v", op, answer.Body, err)
				}
				return string(envelope.Response)
			}
		}
		return ""
	}
	var key struct{ KeyID string }
	if err := json.Unmarshal([]byte(ask(policy.OpCreateKey, `{"Alias":"toy"}`)), &key); err != nil || key.KeyID == "" {
		t.Fatal(key, err)
	}
	var sealed struct{ Ciphertext string }
	if err := json.Unmarshal([]byte(ask(policy.OpEncryptData, `{"KeyId":"`+key.KeyID+`","Plaintext":"eA=="}`)), &sealed); err != nil {
		t.Fatal(err)
	}
	if got := w.field(owner, "decrypt-data", `{"cipher_text":"`+sealed.Ciphertext+`"}`, "plain_text"); got != "x" {
		t.Errorf("the other dialect decrypts %q", got)
	}
	if got := ask(policy.OpDecryptData, `{"Ciphertext":"`+sealed.Ciphertext+`"}`); got != `{"Plaintext":"eA=="}` {
		t.Errorf("decrypted %s", got)
	}
	if got := ask(policy.OpListKeys, "{}"); got != `[{"KeyID":"`+key.KeyID+`","State":"Enabled"}]` {
		t.Errorf("listed %s", got)
	}
}
