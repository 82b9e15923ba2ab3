package huawei

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestPaths sends requests to paths beside those of the table. A path is never cleaned, redirected or guessed.
func TestPaths(t *testing.T) {
	s := newServer(t, os.Getuid())
	id := s.create("a", "AES_256")
	if a := s.post(id+"/tags/action", `{"action":"create","tags":[{"key":"action","value":"v"},{"key":"a/b"},{"key":"a b"},{"key":"é%"}]}`); a.status != http.StatusNoContent {
		t.Fatal(a.status, string(a.body))
	}
	for _, c := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"POST", "list-keys", 200, ""}, {"POST", "list%2Dkeys", 404, "APIGW.0101"}, {"POST", "list-keys/", 404, "APIGW.0101"},
		{"POST", "/list-keys", 404, "APIGW.0101"}, {"POST", "LIST-KEYS", 404, "APIGW.0101"}, {"POST", "x/../list-keys", 404, "APIGW.0101"},
		{"POST", "", 404, "APIGW.0101"}, {"POST", "create-pin", 404, "APIGW.0101"}, {"POST", "import", 404, "APIGW.0101"},
		{"POST", "create-grants", 404, "APIGW.0101"}, {"POST", "../keystores", 404, "APIGW.0101"},
		{"GET", "list-keys", 405, "KMS.0215"}, {"PUT", "aliases", 405, "KMS.0215"}, {"PATCH", id + "/tags", 405, "KMS.0215"},
		{"GET", id + "/tags", 200, ""}, {"GET", id + "/tags/", 404, "APIGW.0101"}, {"GET", id + "/tag", 404, "APIGW.0101"},
		{"GET", "x/tags", 400, "KMS.0205"}, {"GET", "%7Bkey_id%7D/tags", 400, "KMS.0205"}, {"GET", id[:8] + "%2D" + id[9:] + "/tags", 200, ""},
		{"GET", strings.ToUpper(id) + "/tags", 400, "KMS.0205"}, {"GET", "/tags", 404, "APIGW.0101"}, {"GET", id + "%2Ftags", 404, "APIGW.0101"},
		{"GET", id + "/tags/action", 405, "KMS.0215"}, {"POST", id + "/tags/other", 405, "KMS.0215"},
		{"DELETE", id + "/tags/action", 204, ""}, {"DELETE", id + "/tags/action", 404, "KMS.0416"},
		{"DELETE", id + "/tags/a/b", 404, "APIGW.0101"}, {"DELETE", id + "/tags/a%2Fb", 204, ""}, {"DELETE", id + "/tags/a%20b", 204, ""},
		{"DELETE", id + "/tags/%C3%A9%25", 204, ""}, {"DELETE", id + "/tags/%FF", 404, "KMS.0416"}, {"DELETE", id + "/tags/", 404, "APIGW.0101"},
		{"GET", "aliases?limit=1&marker=", 200, ""}, {"GET", "aliases?limit=1&limit=2", 400, "KMS.0201"}, {"GET", "aliases?limit=%zz", 400, "KMS.0201"},
		{"GET", "tags?anything", 200, ""},
	} {
		body := ""
		if c.method == "POST" && c.status == 200 {
			body = "{}"
		}
		if a := s.send(c.method, address(c.path), body); a.status != c.status || a.code() != c.code {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, a.status, a.body, c.status, c.code)
		}
	}
	for _, path := range []string{"/v1.0", "/v1.0/", "/v1.0/" + testProject, "/v1.0/kms/list-keys", "/v2/" + testProject + "/kms/regions", "//v1.0/" + testProject + "/kms/list-keys", "/v1.0/a/b/kms/list-keys"} {
		if a := s.send(http.MethodPost, path, "{}"); a.status != http.StatusNotFound || a.code() != "APIGW.0101" {
			t.Errorf("POST %s: %d %s", path, a.status, a.body)
		}
	}
}

// TestVersions checks that two paths list the versions of the API to any caller, and that no other request does.
func TestVersions(t *testing.T) {
	s := newServer(t, os.Getuid()+1)
	const one = `{"id":"v1.0","links":[{"href":"http://localhost/v1.0","rel":"self"}],"version":"","status":"CURRENT","updated":"2018-09-05T08:18:05Z","min_version":""}`
	for path, want := range map[string]string{"/": `{"versions":[` + one + `]}`, "/v1.0": `{"version":` + one + `}`} {
		if a := s.send(http.MethodGet, path, ""); a.status != http.StatusOK || string(a.body) != want {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if _, n := s.audit.last(); n != 0 {
		t.Errorf("%d records of it", n)
	}
}

// TestNames names a key in every way, to operations that take names and to those that take ids alone.
func TestNames(t *testing.T) {
	s := newServer(t, os.Getuid())
	id := s.create("own-name", "AES_256")
	for _, alias := range []string{"plain", "alias/prefixed"} {
		if a := s.post("aliases", `{"key_id":"`+id+`","alias":"`+alias+`"}`); a.status != http.StatusCreated {
			t.Fatal(string(a.body))
		}
	}
	names := []string{
		id, "own-name", "alias/own-name", "plain", "alias/plain", "prefixed", "alias/prefixed", "kms:local:dom:alias:plain", "kms:local:dom:alias:alias/prefixed", "kms:local:dom:alias:prefixed",
	}
	for _, name := range names {
		if a := s.post("describe-key", `{"key_id":"`+name+`"}`); a.status != http.StatusOK || a.field(t, "key_id") != id {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if a := s.post("get-key-rotation-status", `{"key_id":"`+name+`"}`); (a.status == http.StatusOK) != (name == id) || name != id && a.code() != "KMS.0205" {
			t.Errorf("%s, where ids are wanted: %d %s", name, a.status, a.body)
		}
	}
	for _, name := range []string{"no-name", "alias/no-name", "kms:elsewhere:dom:alias:plain", "kms:local:other:alias:plain", "kms:local:dom:alias:"} {
		if a := s.post("describe-key", `{"key_id":"`+name+`"}`); a.status != http.StatusNotFound || a.code() != "KMS.0207" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		if rec, _ := s.audit.last(); rec.Operation != policy.OpDescribeKey || rec.Outcome != string(kms.CodeNotFound) {
			t.Errorf("%s is on record as %+v", name, rec)
		}
	}
	cipher := s.post("encrypt-data", `{"key_id":"alias/plain","plain_text":"x"}`)
	if cipher.field(t, "key_id") != id {
		t.Errorf("encrypted with %s", cipher.body)
	}
	if a := s.post("decrypt-data", `{"key_id":"plain","cipher_text":"`+cipher.field(t, "cipher_text")+`"}`); a.field(t, "plain_text") != "x" {
		t.Errorf("decrypted by name: %d %s", a.status, a.body)
	}
	if a := s.post("create-datakey", `{"key_id":"prefixed"}`); a.field(t, "key_id") != id {
		t.Errorf("data key by name: %d %s", a.status, a.body)
	}
}

// TestDefaultKey checks a cloud service's first use of its key, and that every change of the key is refused.
func TestDefaultKey(t *testing.T) {
	s := newServer(t, os.Getuid())
	if a := s.post("describe-key", `{"key_id":"obs/default"}`); a.status != http.StatusNotFound {
		t.Errorf("before its first use: %d %s", a.status, a.body)
	}
	owner := s.owner
	s.owner = policy.Principal{Name: "obs", Service: "obs"}
	if a := s.post("create-datakey", `{"key_id":"ims/default"}`); a.status != http.StatusForbidden {
		t.Errorf("another service's: %d %s", a.status, a.body)
	}
	key := s.post("create-datakey", `{"key_id":"alias/obs/default"}`).field(t, "key_id")
	s.owner = owner
	a := s.post("describe-key", `{"key_id":"kms:local:dom:alias:obs/default"}`)
	for field, want := range map[string]string{"key_id": key, "key_alias": "obs/default", "default_key_flag": "1", "key_state": "2", "key_spec": "AES_256"} {
		if got := a.field(t, field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	for path, more := range map[string]string{
		"disable-key": "", "enable-key": "", "schedule-key-deletion": `,"pending_days":7`, "cancel-key-deletion": "", "update-key-alias": `,"key_alias":"x"`,
		"update-key-description": `,"key_description":"x"`, "enable-key-rotation": "", "update-key-rotation-interval": `,"rotation_interval":30`,
		"disable-key-rotation": "", "aliases": `,"alias":"x"`, key + "/tags": `,"tag":{"key":"k"}`, key + "/tags/action": `,"action":"delete","tags":[{"key":"k"}]`,
	} {
		if a := s.post(path, `{"key_id":"`+key+`"`+more+`}`); a.status != http.StatusBadRequest || a.code() != "KMS.0211" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := s.send(http.MethodGet, address("user-instances"), ""); string(a.body) != `{"instance_num":0}` {
		t.Errorf("instances: %s", a.body)
	}
}

// TestAliasListShapes answers SDKs of the third generation with an array of pages, and everyone else with one page.
func TestAliasListShapes(t *testing.T) {
	s := newServer(t, os.Getuid())
	key := s.create("a", "AES_256")
	for i := range 3 {
		s.post("aliases", fmt.Sprintf(`{"key_id":%q,"alias":"alias/%d"}`, key, i))
	}
	for agent, array := range map[string]bool{
		"huaweicloud-usdk-go/3.0": true, "huaweicloud-usdk-python/3.0": true, "huaweicloud-usdk-java/3.0": true,
		"": false, "curl/8.0": false, "golangsdk/2.0.0": false, "Terraform huaweicloud-usdk-go/3.0": false, "HUAWEICLOUD-USDK-go": false,
	} {
		ctx := kms.WithCaller(context.Background(), policy.Caller{UID: uint32(os.Getuid()), Known: true})
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+address("aliases?limit=2"), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", agent)
		w := newWriter()
		s.router.ServeHTTP(w, r)
		body := string(w.body)
		if strings.HasPrefix(body, `[{"aliases":[{`) != array || strings.HasPrefix(body, `{"aliases":[{`) == array ||
			strings.HasSuffix(body, "]") != array || !strings.Contains(body, `"page_info":{"next_marker":"alias/1","current_count":2}`) {
			t.Errorf("%q: %d %s", agent, w.status, body)
		}
	}
	a := s.send(http.MethodGet, address("aliases?limit=2&marker=alias%2F1&key_id="+key), "")
	if !strings.Contains(string(a.body), `"alias":"alias/2"`) || !strings.Contains(string(a.body), `"page_info":{"next_marker":"","current_count":1}`) {
		t.Errorf("the last page: %d %s", a.status, a.body)
	}
}

// panicking panics in the middle of an operation.
type panicking struct {
	Core
	value   any
	refused []string
}

func (p *panicking) Random(context.Context, int) ([]byte, error) {
	if p.value == nil {
		var nobody []byte
		return nobody[:len(os.Args)+7], nil
	}
	panic(p.value)
}

func (p *panicking) Refuse(_ context.Context, op policy.Operation, err error) error {
	p.refused = append(p.refused, fmt.Sprintf("%s %v", op, kms.AsError(err).Unwrap()))
	return err
}

// TestPanic answers an operation that panics like one that fails, with a request id, on record, and without telling the
// client or the log what the request held.
func TestPanic(t *testing.T) {
	for _, value := range []any{nil, "secret", fmt.Errorf("secret")} {
		core := &panicking{value: value}
		d := New(Config{Core: core, ProjectID: testProject, Host: dialect.Host{Timeout: time.Second, Principal: func(policy.Caller) policy.Principal {
			return policy.Principal{Name: "owner", Role: policy.Administrator}
		}}})
		ctx := kms.WithCaller(context.Background(), policy.Caller{Known: true})
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+address("gen-random"), strings.NewReader(`{"random_data_length":8}`))
		if err != nil {
			t.Fatal(err)
		}
		w := newWriter()
		d.ServeHTTP(w, r)
		if w.status != http.StatusInternalServerError || string(w.body) != `{"error":{"error_code":"KMS.0103","error_msg":"internal error"}}` || len(w.header.Get("X-Request-Id")) != 32 {
			t.Errorf("%v: %d %v %s", value, w.status, w.header, w.body)
		}
		if r := strings.Join(core.refused, "\n"); len(core.refused) != 1 || !strings.HasPrefix(r, "gen-random panic: ") ||
			!strings.Contains(r, "Random:") || strings.Contains(r, "secret") {
			t.Errorf("%v: on record is %q", value, r)
		}
	}
}

// TestTimeouts: what makes an RSA key may take dialect.SlowTimeout, the rest what the configuration says.
func TestTimeouts(t *testing.T) {
	for _, configured := range []time.Duration{time.Second, 2 * dialect.SlowTimeout} {
		for _, rt := range routes {
			want, left := configured, time.Duration(0)
			if slices.Contains([]string{"create-key", "create-rsa-datakey-pair", "get-parameters-for-import"}, rt.Path) {
				want = max(configured, dialect.SlowTimeout)
			}
			timed := dialect.Route{Path: "timed", Operation: rt.Operation, Handle: func(ctx context.Context, _ policy.Operation, _ *dialect.Exchange) error {
				end, _ := ctx.Deadline()
				left = time.Until(end)
				return nil
			}}
			d := New(Config{ProjectID: testProject, Host: dialect.Host{Timeout: configured, Principal: func(policy.Caller) policy.Principal {
				return policy.Principal{Name: "owner", Role: policy.Administrator}
			}}})
			d.config.Table = dialect.NewPathTable(pathBase, dialect.Routes(timed))
			ctx := kms.WithCaller(t.Context(), policy.Caller{Known: true})
			r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+address("timed"), nil)
			if dialect.NewServer(d.config).ServeHTTP(httptest.NewRecorder(), r); left > want || left < want*9/10 {
				t.Errorf("%s of %s has %s", rt.Path, configured, left)
			}
		}
	}
}
