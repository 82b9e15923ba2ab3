package sidecar

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/dialect/keyside"
)

// TestRights asks for every operation of every dialect in the name of every kind of caller, and holds each answer and its
// record to policy/testdata/rights.txt.
func TestRights(t *testing.T) {
	table := readRights(t)
	w := newRightsWorld(t)
	w.coversRoutes()
	defaults := w.defaults()
	asked := 0
	for _, op := range policy.Operations {
		for _, request := range slices.Concat(rightsRequests[op], nativeRequests[op]) {
			w.begin(op)
			for _, c := range rightsCallers {
				want, ok := table[op][c.column]
				if !ok {
					t.Fatalf("policy/testdata/rights.txt has no cell for %s by %s", op, c.column)
				}
				w.try(request, c, defaults, want == "+" || want == "&" && !c.needMore)
				asked++
			}
		}
	}
	if asked < len(policy.Operations)*len(rightsCallers) {
		t.Errorf("only %d requests", asked)
	}
}

// defaults returns what words stand for in the requests of a service: its default key, and what it encrypted.
func (w *rightsWorld) defaults() map[string]string {
	w.Helper()
	obs := rightsCaller{uid: 5}
	defaults := map[string]string{
		"cipher": w.field(obs, "encrypt-data", `{"key_id":"obs/default","plain_text":"x"}`, "cipher_text"),
		"blob":   w.field(obs, "create-datakey", `{"key_id":"obs/default","datakey_length":"512"}`, "cipher_text"),
		"blob64": w.field(obs, client.BasePath+"generate-data-key", `{"key_id":"obs/default","length":64}`, "ciphertext"),
	}
	id := w.field(obs, "create-datakey", `{"key_id":"obs/default"}`, "key_id")
	for word := range specs {
		defaults[word] = id
	}
	return defaults
}

// coversRoutes holds that every route of every dialect has a request, and every operation a route.
func (w *rightsWorld) coversRoutes() {
	w.Helper()
	served := huawei.Served()
	for _, s := range keyside.Served() {
		served = append(served, dialect.Served{Call: strings.Replace(s.Call, " ", " "+client.BasePath, 1), Operation: s.Operation})
	}
	inPath := strings.NewReplacer("$aes/tags/k", "{key_id}/tags/{key}", "$aes", "{key_id}")
	for _, s := range served {
		if !slices.ContainsFunc(slices.Concat(rightsRequests[s.Operation], nativeRequests[s.Operation]), func(r rightsRequest) bool {
			return inPath.Replace(r.route) == s.Call
		}) {
			w.Errorf("%s (%s) has no request here", s.Call, s.Operation)
		}
	}
	for _, op := range policy.Operations {
		inSuite := slices.ContainsFunc(suites, func(s *dialecttest.Suite) bool {
			return slices.ContainsFunc(s.Routes, func(rt dialect.Route) bool { return rt.Operation == op })
		})
		if !inSuite && len(rightsRequests[op])+len(nativeRequests[op]) == 0 {
			w.Errorf("%s has no request here", op)
		}
	}
}

// begin makes what the requests of an operation are about anew: keys with grants, and the policies.
func (w *rightsWorld) begin(op policy.Operation) {
	w.Helper()
	w.op, w.words = op, map[string]string{}
	policies, err := policy.ParsePolicies(policy.Text{Name: "rights.cedar", Body: fmt.Appendf(nil, `
permit (principal == User::"permitted", action == Action::%q, resource);
forbid (principal == User::"barred", action, resource);`, op)})
	if err != nil {
		w.Fatal(err)
	}
	w.process.core.SetPolicies(policies)
}

// try sends one request and looks at the answer.
func (w *rightsWorld) try(request rightsRequest, c rightsCaller, defaults map[string]string, allow bool) {
	w.Helper()
	w.fresh++
	w.words["fresh"] = fmt.Sprintf("fresh-%d", w.fresh)
	delete(w.words, "accesskey")
	method, path, _ := strings.Cut(request.route, " ")
	if request.before != "" && allow {
		before, body, _ := strings.Cut(request.before, " ")
		w.ask(rightsCallers[0], http.MethodPost, w.expand(before), w.expand(body)) // refused where it is so already
	}
	if strings.Contains(request.body, "$grant") {
		w.expand("$aes")
		w.words["grant"] = w.grant(c)
	}
	words := w.word
	if c.service {
		words = func(name string) string {
			if defaults[name] != "" {
				return defaults[name]
			}
			return w.word(name)
		}
	}
	body := os.Expand(request.body, words)
	answer := w.ask(c, method, os.Expand(path, words), body)
	what := fmt.Sprintf("%s by %s (%s %s)", w.op, c.column, request.route, body)
	refused := answer.Code == http.StatusUnauthorized || answer.Code == http.StatusForbidden
	if allow && answer.Code >= 300 || !allow && !refused {
		w.Errorf("%s: %d %s, want allow %v", what, answer.Code, answer.Body, allow)
	}
	w.expected[answer.Header().Get("X-Request-Id")] = expectedRecord{w.op, allow, what}
}

// unsaid are the operations of which a request is told by its body: one that is refused before that is read, for who sent it,
// is on record as another.
var unsaid = map[policy.Operation]policy.Operation{
	policy.OpCanIForOthers: policy.OpCanI, policy.OpUntagKey: policy.OpTagKey, policy.OpEnableRotation: policy.OpDisableRotation,
	policy.OpCreateTokenFor: policy.OpCreateToken,
}

// checkRecords holds that every request is on record once, with its decision.
func (w *rightsWorld) checkRecords(audit string) {
	left := maps.Clone(w.expected)
	for line := range strings.Lines(audit) {
		var r struct {
			RequestID string `json:"request_id"`
			Operation policy.Operation
			Decision  string
			Reason    string `json:"by"`
			Outcome   string
		}
		if json.Unmarshal([]byte(line), &r) != nil {
			continue // what is no record
		}
		want, ok := left[r.RequestID]
		if !ok || r.Outcome == "begun" {
			continue
		}
		delete(left, r.RequestID)
		if r.Operation != want.operation && (want.allow || unsaid[want.operation] != r.Operation) || (r.Decision == "allow") != want.allow || (r.Outcome == "ok") != want.allow || r.Reason == "" {
			w.Errorf("%s is on record as %+v", want.what, r)
		}
	}
	for _, lost := range left {
		w.Errorf("%s is not on record", lost.what)
	}
}

// readRights reads the table: cells by operation and column. Its legend, its columns and the callers here must agree.
func readRights(t *testing.T) map[policy.Operation]map[string]string {
	t.Helper()
	text := string(must(os.ReadFile("../policy/testdata/rights.txt")))
	legend, table, ok := strings.Cut(text, "\n                    ")
	head, lines, _ := strings.Cut(table, "\n")
	columns := strings.Fields(head)
	if !ok || len(columns) != len(rightsCallers) {
		t.Fatalf("the table has %d columns, and %d kinds of callers are tried", len(columns), len(rightsCallers))
	}
	for _, c := range rightsCallers {
		if !slices.Contains(columns, c.column) || !regexp.MustCompile(`(?m)(^|  )`+c.column+" ").MatchString(legend) {
			t.Errorf("the table does not say what %s is", c.column)
		}
	}
	rights := map[policy.Operation]map[string]string{}
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		row := map[string]string{}
		if len(fields) != len(columns)+1 {
			t.Fatalf("a row has %d cells: %s", len(fields)-1, line)
		}
		for i, column := range columns {
			if row[column] = fields[i+1]; !strings.Contains("+-&", row[column]) {
				t.Fatalf("cell %q of %s", row[column], fields[0])
			}
		}
		rights[policy.Operation(fields[0])] = row
	}
	for op := range rights {
		if !slices.Contains(policy.Operations, op) {
			t.Errorf("the table has a row for %s, which is no operation", op)
		}
	}
	return rights
}
