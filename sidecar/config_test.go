package sidecar

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/policy"
)

const example = "../deploy/sidecar.example.yaml"

// TestExampleIsValid starts from the file that people copy.
func TestExampleIsValid(t *testing.T) {
	cfg, err := LoadConfig(example)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.HSM.Via == nil || cfg.SocketMode != 0o660 || !cfg.Audit.Sync {
		t.Errorf("read as %+v", cfg)
	}
}

var commentedKey = regexp.MustCompile(`(?m)^( *)# ([a-zA-Z0-9_]+:( .*)?)$`)

// TestExampleIsComplete finds every key of the configuration in the example, given or commented out, and no other.
func TestExampleIsComplete(t *testing.T) {
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	text = commentedKey.ReplaceAll(text, []byte("$1$2"))
	if _, err := decodeConfig(text); err != nil {
		t.Fatalf("with every key: %v\n%s", err, text)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	missing(t, root.Content[0], reflect.TypeFor[Config](), "")
	for _, d := range dialects {
		var sections map[string]yaml.Node
		if err := root.Decode(&sections); err != nil {
			t.Fatal(err)
		}
		section := sections[d.Key]
		missing(t, &section, reflect.TypeOf(d.Section()), "."+d.Key)
	}
}

// missing reports the keys of a struct type that a mapping does not have.
func missing(t *testing.T, n *yaml.Node, typ reflect.Type, path string) {
	t.Helper()
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct {
		all := new(yaml.Node) // the elements show every key between them
		for _, element := range n.Content {
			all.Content = append(all.Content, element.Content...)
		}
		n, typ = all, typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[yaml.Node]() {
		return
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		values[n.Content[i].Value] = n.Content[i+1]
	}
	for i := range typ.NumField() {
		key, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
		switch key {
		case "-": // no file sets it
			continue
		case "":
			t.Errorf("%s.%s has no yaml key", path, typ.Field(i).Name)
			continue
		}
		v, ok := values[key]
		if !ok {
			t.Errorf("the example lacks %s.%s", path, key)
			continue
		}
		missing(t, v, typ.Field(i).Type, path+"."+key)
	}
}

const minimal = `
socket: /run/k.sock
data: /var/k/db
audit: {dir: /var/k/audit}
tenant: t
owner: 7
hsm: {via: {socket: /run/h.sock, uid: 3}}
`

// TestConfigFaults names the key that each fault is at.
func TestConfigFaults(t *testing.T) {
	if _, err := ParseConfig([]byte(minimal)); err != nil {
		t.Fatal(err)
	}
	driver := "hsm: {driver: {name: soft, kind: soft}}"
	for _, c := range []struct{ change, with, want string }{
		{"socket: /run/k.sock", "socket: k.sock", "socket:"},
		{"socket: /run/k.sock", "", "socket:"},
		{"tenant: t", "tenant: T", "tenant:"},
		{"owner: 7", "", "owner:"},
		{"owner: 7", "owner: -1", "owner:"},
		{"owner: 7", "owner: root", "line 6, column 8: this must be a whole number\n    6 | owner: root"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a}]", "principals[0].uid:"},
		{"owner: 7", "owner: 7\nprincipals: [{uid: 8}]", "principals[0].name:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 7}]", "principals[0].uid:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: owner, uid: 8}]", "principals[0].name:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8}, {name: a, uid: 9}]", "principals[1].name:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8}, {name: b, uid: 8}]", "principals[1].uid:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a/b, uid: 8}]", "principals[0].name:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8, service: OBS}]", "principals[0].service:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8, service: obs, administrator: true}]", "principals[0].service:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8, servce: obs}]", "servce"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 4294967295}]", "principals[0].uid:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8, account: a/b}]", "principals[0].account:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, selectors: []}]", "principals[0].uid:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, selectors: [pid:1]}]", "principals[0].selectors: \"pid:1\": a selector is uid:N"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, selectors: [unit:app]}]", "principals[0].selectors:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, selectors: [exe:/bin/a]}]", "principals[0].selectors: \"exe:/bin/a\": exe and sha256 only narrow a uid"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8, selectors: [uid:9]}]", "principals[0].selectors:"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, selectors: [uid:7]}]", "principals[0].selectors: uid 7 is the owner's alone"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 7, selectors: [unit:a.service]}]", "principals[0].selectors: uid 7 is the owner's alone"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 65534}]", "principals[0].uid: uid 65534 stands for all users without a number"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, selectors: [\"uid:65534\"]}]", "principals[0].selectors: uid 65534 stands"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8, selectors: [\"gid:65534\"]}]", "principals[0].selectors: gid 65534 stands"},
		{"owner: 7", "owner: 65534", "owner: uid 65534 stands"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, uid: 8}, {name: b, selectors: [\"uid:8\", \"unit:b.service\"]}]", "principals[1].selectors: every process that this selects is a already, by principals[0]"},
		{"owner: 7", "owner: 7\nprincipals: [{name: a, selectors: [\"gid:5\"]}, {name: c, uid: 9}, {name: b, selectors: [\"unit:b.service\", \"gid:5\"]}]", "principals[2].selectors: every process that this selects is a already, by principals[0]"},
		{"owner: 7", "owner: 7\nsigned_on_socket: 2", "line 7, column 19: this must be true or false\n    7 | signed_on_socket: 2"},
		{"data: /var/k/db", "data: db", "data:"},
		{"dir: /var/k/audit", "sync: false", "audit.dir:"},
		{"uid: 3", "name: x", "hsm.via.uid:"},
		{"uid: 3", "uid: 3, user: x", "user"},
		{"socket: /run/h.sock, ", "", "hsm.via.socket:"},
		{"hsm: {", "hsm: {init: maybe, ", "column 13: this must be true or false"},
		{"hsm: {via: {socket: /run/h.sock, uid: 3}}", "", "hsm:"},
		{"hsm: {via", "hsm: {driver: {name: a, kind: soft}, via", "hsm:"},
		{"hsm: {via: {socket: /run/h.sock, uid: 3}}", strings.Replace(driver, "kind: soft", "kind: magic", 1), "hsm.driver: kind:"},
		{"hsm: {via", "hsm: {canary: 1ms, via", "hsm.canary:"},
		{"owner: 7", "owner: 7\nlisten: 0.0.0.0:80", "listen:"},
		{"owner: 7", "owner: 7\nlisten: localhost:80", "listen:"},
		{"owner: 7", "owner: 7\ntls: {certificate: /c}", "tls.key:"},
		{"owner: 7", "owner: 7\ntls: {key: /k}", "tls.certificate:"},
		{"owner: 7", "owner: 7\ntls: {certificate: c, key: /k}", "tls.certificate:"},
		{"owner: 7", "owner: 7\ntls: {certificate: /c, key: /k, ca: /a}", "ca"},
		{"owner: 7", "owner: 7\nsocket_mode: 660x", "mode"},
		{"owner: 7", "owner: 7\nsocket_mode: \"0066\"", "socket_mode:"},
		{"owner: 7", "owner: 7\nrequest_timeout: 0s", "request_timeout:"},
		{"owner: 7", "owner: 7\nlimits: {data: 7000}", "limits.data:"},
		{"owner: 7", "owner: 7\nlimits: {dta: 5000}", "column 10: unknown key \"dta\"; did you mean data?"},
		{"owner: 7", "owner: 7\nimport: {pool: {RSA_1024: 1}}", "import.pool.RSA_1024:"},
		{"owner: 7", "owner: 7\nimport: {pool: {RSA_2048: 101}}", "import.pool.RSA_2048:"},
		{"owner: 7", "owner: 7\nhuawei: {limits: {tags: 51}}", "huawei.limits.tags:"},
		{"owner: 7", "owner: 7\nhuawei: {project_id: a/b}", "huawei.project_id:"},
		{"owner: 7", "owner: 7\ntelemetry: {trace_ratio: 2}", "telemetry: trace_ratio:"},
		{"owner: 7", "owner: 7\nprocs: -1", "procs:"},
		{"owner: 7", "owner: 7\nmemory_limit: 1", "memory_limit:"},
		{"owner: 7", "owner: 7\nowner: 8", "already"},
		{"owner: 7", "owner: 7\nhuawei:\n  regio: eu", "line 8, column 3: unknown key \"regio\"; did you mean region?\n    8 |   regio: eu"},
		{"owner: 7", "owner: 7\nownr: 8", "unknown key \"ownr\"; did you mean owner?"},
		{"owner: 7", "owner: 7\n---\nowner: 7", "document"},
	} {
		text := strings.Replace(minimal, c.change, c.with, 1)
		if text == minimal {
			t.Fatalf("%q is not in the minimal configuration", c.change)
		}
		_, err := ParseConfig([]byte(text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q for %q: %v, want %q", c.with, c.change, err, c.want)
		}
	}
}

// TestSections reads a dialect's section as part of the file: empty, and with an alias of an anchor elsewhere. It names every
// key that is unknown.
func TestSections(t *testing.T) {
	cfg, err := ParseConfig([]byte(minimal + "\nhuawei:\n"))
	if err != nil || cfg.huawei().Region != "local" {
		t.Errorf("an empty section: %v", err)
	}
	cfg, err = ParseConfig([]byte(strings.Replace(minimal, "tenant: t", "tenant: &t t", 1) + "\nhuawei: {region: *t}\n"))
	if err != nil || cfg.huawei().Region != "t" || cfg.huawei().ProjectID != "keyside" {
		t.Errorf("a section with an alias: %v", err)
	}
	_, err = ParseConfig([]byte(minimal + "\nfoo: 1\nbar: 2\n"))
	for _, want := range []string{"unknown key \"foo\"", "unknown key \"bar\""} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("two unknown keys: %v, want %q", err, want)
		}
	}
}

// TestUsers maps callers to who may do what: the owner first, then who matches first.
func TestUsers(t *testing.T) {
	cfg, err := ParseConfig([]byte(strings.Replace(minimal, "owner: 7", `owner: 7
principals:
- {name: storage, uid: 8, service: obs}
- {name: app, uid: 9, selectors: ["unit:app.service"], account: shop}
- {name: ops, uid: 9, administrator: true}
- {name: guest, uid: 10}
- {name: group, selectors: ["gid:5"], role: auditor}
- {name: pod, selectors: ["pod:7a1f3a02-5d2c-4f0a-9b1e-2f6d5b0c4e11"], role: none}`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		uid, gid uint32
		process  policy.Process
		want     policy.Principal
	}{
		{7, 5, policy.Process{Unit: "app.service"}, policy.Principal{Name: "owner", Role: policy.Administrator}},
		{8, 5, policy.Process{}, policy.Principal{Name: "storage", Service: "obs"}},
		{9, 5, policy.Process{Unit: "app.service"}, policy.Principal{Name: "app", Account: "shop"}},
		{9, 5, policy.Process{Unit: "other.service"}, policy.Principal{Name: "ops", Role: policy.Administrator}},
		{10, 1, policy.Process{}, policy.Principal{Name: "guest"}},
		{11, 5, policy.Process{}, policy.Principal{Name: "group", Role: policy.Auditor}},
		{11, 1, policy.Process{Groups: []uint32{4, 5}}, policy.Principal{Name: "group", Role: policy.Auditor}},
		{11, 1, policy.Process{Pod: "7a1f3a02-5d2c-4f0a-9b1e-2f6d5b0c4e11"}, policy.Principal{Name: "pod"}},
		{11, 1, policy.Process{Unit: "app.service"}, policy.Principal{}},
		{0, 0, policy.Process{}, policy.Principal{}},
	} {
		if got := cfg.users().Principal(policy.Caller{UID: c.uid, GID: c.gid, Known: true, Process: &c.process}); got != c.want {
			t.Errorf("uid %d, gid %d, %+v is %+v, want %+v", c.uid, c.gid, c.process, got, c.want)
		}
		if named, ok := cfg.principalNamed(c.want.Name); ok != (c.want.Name != "") || named != c.want {
			t.Errorf("%q is %+v", c.want.Name, named)
		}
	}
	if accounts := cfg.accounts(); len(accounts) != 1 || accounts[0] != "shop" {
		t.Errorf("accounts %q", accounts)
	}
}

// TestConfigFileOfOthers is refused: it names programs that are run.
func TestConfigFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sidecar.yaml")
	if err := os.WriteFile(path, []byte(minimal), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "writable by others") {
		t.Errorf("a file that others can write: %v", err)
	}
}
