package hsmd

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
)

const fullConfig = `
socket: /run/keyside/hsmd.sock
socket_mode: 0660
socket_group: keyside
tenants:
  - name: billing
    uids: [1001]
  - name: web
    uids: [1002]
    gids: [2000]
drivers:
  - name: softhsm
    kind: pkcs11
    settings:
      module: /usr/lib/softhsm/libsofthsm2.so
      workers: 4
    credential:
      file: /etc/keyside/pin
    env:
      SOFTHSM2_CONF: /etc/keyside/softhsm2.conf
    drain_timeout: 5s
    queue: {depth: 100}
queue: {depth: 2048, bytes: 1000000, in_flight: 8}
imports: {failures: 20, every: 1m}
canary: 1m
telemetry: {prometheus_listen: "127.0.0.1:9464", trace_ratio: 0.1}
procs: 2
`

func TestConfigIsReadStrictly(t *testing.T) {
	cfg, err := ParseConfig([]byte(fullConfig))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.SocketMode != 0o660 || cfg.Drivers[0].DrainTimeout != 5*time.Second || cfg.Drivers[0].Queue.Depth != 100 || cfg.Canary != time.Minute ||
		cfg.Imports != (ImportsConfig{Failures: 20, Every: time.Minute}) {
		t.Errorf("%+v", cfg)
	}
	for _, tc := range []struct{ old, new, want string }{
		{"socket: /run", "sockett: /run", "sockett"},
		{"socket: /run/keyside/hsmd.sock", "socket: hsmd.sock", "socket: an absolute path"},
		{"socket_mode: 0660", "socket_mode: rw", "no file mode"},
		{"every: 1m", "every: -1m", "imports: every is negative"},
		{"uids: [1002]", "uids: [1001]", "uid 1001 belongs to both"},
		{"uids: [1002]", "uids: [65534]", "uid 65534 stands for all users without a number"},
		{"gids: [2000]", "gids: [65534]", "gid 65534 stands"},
		{"gids: [2000]", "gids: [4294967295]", "gid 4294967295 stands"},
		{"name: web", "name: Web", "tenants: [1].name"},
		{"name: web", "name: billing", "is given twice"},
		{"kind: pkcs11", "kind: pkcs12", `drivers[0]: kind: "pkcs12"`},
		{"kind: pkcs11", "kind: external", "drivers[0]: command"},
		{"kind: pkcs11", "kind: external", "sha256: required"},
		{"      file: /etc/keyside/pin", "      file: pin", "credential.file"},
		{"      file: /etc/keyside/pin", "      pin: 1234", "pin"},
		{"      SOFTHSM2_CONF", "      PLUGIN_MIN_PORT", "is reserved for the handshake"},
		{"depth: 2048", "depth: -1", "queue: depth"},
		{"127.0.0.1:9464", "0.0.0.0:9464", "not on the loopback"},
		{"trace_ratio: 0.1", "trace_ratio: 2", "trace_ratio"},
		{"procs: 2", "procs: -2", "procs"},
		{"procs: 2", "procs: 2\n---\nx: 1", "more than one document"},
	} {
		bad := strings.Replace(fullConfig, tc.old, tc.new, 1)
		if bad == fullConfig {
			t.Fatalf("%q is not in the example", tc.old)
		}
		if _, err := ParseConfig([]byte(bad)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.new, err, tc.want)
		}
	}
	if _, err := ParseConfig(nil); err == nil {
		t.Error("an empty file passes")
	}
}

// TestConfigFileOfOthers is refused: it names programs that are run and says which peer is which tenant.
func TestConfigFileOfOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hsmd.yaml")
	if err := os.WriteFile(path, []byte(fullConfig), 0o600); err != nil {
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

func TestTenantMap(t *testing.T) {
	m, err := newTenantMap([]TenantConfig{{Name: "a", UIDs: []uint32{1}, GIDs: []uint32{9}}, {Name: "b", UIDs: []uint32{0}, GIDs: []uint32{1}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		caller policy.Caller
		want   string
	}{
		{policy.Caller{UID: 1, GID: 1, Known: true}, "a"}, // a uid goes before a gid
		{policy.Caller{UID: 5, GID: 9, Known: true}, "a"},
		{policy.Caller{UID: 0, GID: 5, Known: true}, "b"},
		{policy.Caller{UID: 5, GID: 5, Known: true}, ""},
		{policy.Caller{UID: 0, GID: 0}, ""}, // not identified by the kernel
	} {
		if got, ok := m.of(tc.caller); got != tc.want || ok != (tc.want != "") {
			t.Errorf("%+v is %q", tc.caller, got)
		}
	}
}
