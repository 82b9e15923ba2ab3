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
	var all Config
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&all); err != nil {
		t.Fatalf("with every key: %v\n%s", err, text)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	missing(t, root.Content[0], reflect.TypeFor[Config](), "")
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
		{"owner: 7", "owner: root", "int64"},
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
		{"data: /var/k/db", "data: db", "data:"},
		{"dir: /var/k/audit", "sync: false", "audit.dir:"},
		{"uid: 3", "name: x", "hsm.via.uid:"},
		{"uid: 3", "uid: 3, user: x", "user"},
		{"socket: /run/h.sock, ", "", "hsm.via.socket:"},
		{"hsm: {", "hsm: {init: maybe, ", "bool"},
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
		{"owner: 7", "owner: 7\nlimits: {data: 5000}", "limits.data:"},
		{"owner: 7", "owner: 7\nlimits: {dta: 5000}", "dta"},
		{"owner: 7", "owner: 7\nimport: {pool: {RSA_1024: 1}}", "import.pool.RSA_1024:"},
		{"owner: 7", "owner: 7\nimport: {pool: {RSA_2048: 101}}", "import.pool.RSA_2048:"},
		{"owner: 7", "owner: 7\nhuawei: {limits: {tags: 51}}", "huawei.limits.tags:"},
		{"owner: 7", "owner: 7\nhuawei: {project_id: a/b}", "huawei.project_id:"},
		{"owner: 7", "owner: 7\ntelemetry: {trace_ratio: 2}", "telemetry: trace_ratio:"},
		{"owner: 7", "owner: 7\nprocs: -1", "procs:"},
		{"owner: 7", "owner: 7\nmemory_limit: 1", "memory_limit:"},
		{"owner: 7", "owner: 7\nowner: 8", "already"},
		{"owner: 7", "owner: 7\nownr: 8", "ownr"},
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

// TestUsers maps the uids of the configuration to who may do what.
func TestUsers(t *testing.T) {
	cfg, err := ParseConfig([]byte(strings.Replace(minimal, "owner: 7",
		"owner: 7\nprincipals: [{name: storage, uid: 8, service: obs}, {name: ops, uid: 9, administrator: true}, {name: guest, uid: 10}]", 1)))
	if err != nil {
		t.Fatal(err)
	}
	for uid, want := range map[uint32]policy.Principal{
		7: {Name: "owner", Role: policy.Administrator}, 8: {Name: "storage", Service: "obs"}, 9: {Name: "ops", Role: policy.Administrator},
		10: {Name: "guest"}, 0: {}, 11: {},
	} {
		if got := cfg.users().Principal(policy.Caller{UID: uid, Known: true}); got != want {
			t.Errorf("uid %d is %+v, want %+v", uid, got, want)
		}
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
