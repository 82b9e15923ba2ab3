package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

const (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	testPIN = "1234"
)

// The tokens of the tests. SoftHSM reads its configuration once per process, so all exist before the first driver.
const (
	tokenMain   = "main"
	tokenPIN    = "pin"
	tokenSick   = "sick"
	tokenKilled = "killed"
	tokenNewPIN = "new-pin"
)

// tokenDir is the folder of SoftHSM's tokens.
var tokenDir string

func TestMain(m *testing.M) {
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if os.Getenv("SOFTHSM2_CONF") == "" || os.Getenv(childEnv) == "" {
		dir, err := os.MkdirTemp("", "keyside-pkcs11-")
		if err == nil {
			defer func() { _ = os.RemoveAll(dir) }()
			err = makeTokens(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "make tokens:", err)
			return 1
		}
	}
	tokenDir = filepath.Join(filepath.Dir(os.Getenv("SOFTHSM2_CONF")), "tokens")
	if name := os.Getenv(childEnv); name != "" {
		return children[name]()
	}
	return m.Run()
}

func makeTokens(dir string) error {
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s/tokens\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", dir)
	if err := os.Mkdir(filepath.Join(dir, "tokens"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	if err := os.Setenv("SOFTHSM2_CONF", conf); err != nil {
		return err
	}
	for _, label := range []string{tokenMain, tokenPIN, tokenSick, tokenKilled, tokenNewPIN} {
		out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", testPIN).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// childEnv names the entry of children that this process is to run instead of the tests.
const childEnv = "KEYSIDE_PKCS11_TEST_CHILD"

var children = map[string]func() int{}

// child returns a command that runs this binary as the named child.
func child(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	return cmd
}

func settings(token, extra string) []byte {
	return fmt.Appendf(nil, "profile: softhsm\nmodule: %s\ntoken: %s\n%s", softHSM, token, extra)
}

// opened opens a driver that reports an exit of its process instead of ending it.
func opened(t testing.TB, token, extra string) (*Driver, *atomic.Int32) {
	t.Helper()
	exit := new(atomic.Int32)
	d, err := openDriver(settings(token, extra), []byte(testPIN), slog.New(slog.NewTextHandler(io.Discard, nil)), func(code int) { exit.Store(int32(code)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d, exit
}

// tenanted opens a driver with a tenant.
func tenanted(t testing.TB, tenant, extra string) *Driver {
	t.Helper()
	d, exit := opened(t, tokenMain, extra)
	if _, err := d.InitTenant(context.Background(), &driver.InitTenantRequest{Tenant: tenant}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if exit.Load() != 0 {
			t.Error("the driver gave its process up")
		}
	})
	return d
}

var nextKey atomic.Uint32

// newKey makes a key and returns its identity and its sealed form.
func newKey(t testing.TB, d *Driver, tenant string, spec driver.KeySpec) (*driver.KeyIdentity, *driver.SealedKey) {
	t.Helper()
	usage := driver.SignVerify
	switch specOf(spec).keyType {
	case p11.CKK_AES:
		usage = driver.EncryptDecrypt
	case p11.CKK_GENERIC_SECRET:
		usage = driver.GenerateVerifyMAC
	}
	return newKeyFor(t, d, tenant, spec, usage)
}

func newKeyFor(t testing.TB, d *Driver, tenant string, spec driver.KeySpec, usage driver.KeyUsage) (*driver.KeyIdentity, *driver.SealedKey) {
	t.Helper()
	id := identity(spec, usage)
	key, err := d.MakeKey(context.Background(), &driver.MakeKeyRequest{Tenant: tenant, Key: id})
	if err != nil {
		t.Fatal(err)
	}
	return id, key
}

func identity(spec driver.KeySpec, usage driver.KeyUsage) *driver.KeyIdentity {
	return &driver.KeyIdentity{KeyId: fmt.Appendf(nil, "key %12d", nextKey.Add(1)), Version: 1, Spec: spec, Usage: usage}
}

// wantCode fails unless err has this code.
func wantCode(t testing.TB, err error, code driver.Code) {
	t.Helper()
	if got := driver.CodeOf(err); got != code {
		t.Errorf("got %s (%v), want %s", got, err, code)
	}
}

// sealKnown puts a key of known value, which the attributes give, into the HSM and seals it like a generated one.
func sealKnown(t *testing.T, d *Driver, tenant string, id *driver.KeyIdentity, public []byte, value ...*p11.Attribute) []byte {
	t.Helper()
	sealed, err := control(context.Background(), d, tenant, nil, func(s *session, k *tenantKeys) (*driver.SealedKey, error) {
		h, err := s.create(specOf(id.GetSpec()).template(uses{}, true, append(value, inSession())...))
		if err != nil {
			return nil, err
		}
		sealed, err := d.seal(s, k, h, tenant, id, public)
		return sealed, errors.Join(err, s.destroy(h))
	})
	if err != nil {
		t.Fatal(err)
	}
	return sealed.GetSealed()
}
