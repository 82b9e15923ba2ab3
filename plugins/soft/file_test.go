package soft

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

var aes256 = &driver.KeyIdentity{KeyId: make([]byte, driver.KeyIDSize), Version: 1, Spec: driver.AES256, Usage: driver.EncryptDecrypt}

func mustInit(t testing.TB, d driver.Driver, tenant string) *driver.Tenant {
	t.Helper()
	got, err := d.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: tenant})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func mustMake(t testing.TB, d driver.Driver, tenant string, id *driver.KeyIdentity) []byte {
	t.Helper()
	key, err := d.MakeKey(t.Context(), &driver.MakeKeyRequest{Tenant: tenant, Key: id})
	if err != nil {
		t.Fatal(err)
	}
	return key.GetSealed()
}

func encryptWith(t testing.TB, d driver.Driver, tenant string, sealed []byte) error {
	t.Helper()
	_, err := d.Execute(t.Context(), tenant, &driver.Op{Kind: driver.Encrypt, Key: aes256, Sealed: sealed, Data: []byte("data")})
	return err
}

// A key sealed by one process works in the next, the file shows nothing to others, and the passphrase is in none of it.
func TestKeysOutliveTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "soft.keys")
	first, err := configure(t, path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	tenant := mustInit(t, first, "acme")
	sealed := mustMake(t, first, "acme", aes256)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil || bytes.Contains(data, []byte("acme")) || bytes.Contains(data, []byte(passphrase)) || !bytes.HasPrefix(data, []byte(fileMagic)) {
		t.Errorf("file shows what it holds, or is none: %v", err)
	}
	second, err := configure(t, path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustInit(t, second, "acme"); !proto.Equal(again, tenant) {
		t.Errorf("tenant became another: %v", again)
	}
	if err := encryptWith(t, second, "acme", sealed); err != nil {
		t.Errorf("key of the first process: %v", err)
	}
}

func TestWrongPassphrase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "soft.keys")
	if _, err := configure(t, path, passphrase); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []string{"other", passphrase + " ", passphrase[1:]} {
		if _, err := configure(t, path, wrong); driver.CodeOf(err) != driver.PINIncorrect || strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	if _, err := configure(t, path, ""); driver.CodeOf(err) != driver.InvalidArgument {
		t.Errorf("no passphrase: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("a wrong passphrase changed the file: %v", err)
	}
}

// Damage anywhere is refused, and never mistaken for a new file.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "soft.keys")
	d, err := configure(t, path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	mustInit(t, d, "acme")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for what, c := range map[string]struct {
		data []byte
		want driver.Code
	}{
		"nothing":      {nil, driver.InvalidArgument},
		"half header":  {good[:headerSize/2], driver.InvalidArgument},
		"header only":  {good[:headerSize], driver.InvalidArgument},
		"magic":        {flip(0), driver.InvalidArgument},
		"version":      {flip(6), driver.InvalidArgument},
		"derivation":   {flip(8), driver.InvalidArgument},
		"iterations":   {flip(9), driver.InvalidArgument}, // far too many: refused before it is tried
		"salt":         {flip(20), driver.PINIncorrect},
		"verifier":     {flip(headerSize - 1), driver.PINIncorrect},
		"iv":           {flip(headerSize), driver.InvalidArgument},
		"body":         {flip(len(good) - 40), driver.InvalidArgument},
		"tag":          {flip(len(good) - 1), driver.InvalidArgument},
		"last byte":    {good[:len(good)-1], driver.InvalidArgument},
		"one too many": {append(bytes.Clone(good), 0), driver.InvalidArgument},
	} {
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := configure(t, path, passphrase); driver.CodeOf(err) != c.want {
			t.Errorf("%s: %v (%s), want %s", what, err, driver.CodeOf(err), c.want)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.data) {
			t.Errorf("%s: the file was written over: %v", what, err)
		}
	}
}

func TestFileOfOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "soft.keys")
	if _, err := configure(t, path, passphrase); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := configure(t, path, passphrase); driver.CodeOf(err) != driver.InvalidArgument || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("readable by the group: %v", err)
	}
	for what, path := range map[string]string{"a folder": dir, "in no folder": filepath.Join(dir, "none", "soft.keys")} {
		if _, err := configure(t, path, passphrase); driver.CodeOf(err) != driver.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Two processes on one file make tenants at once, and neither loses the other's.
func TestProcessesShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "soft.keys")
	var drivers []driver.Driver
	for range 3 {
		d, err := configure(t, path, passphrase)
		if err != nil {
			t.Fatal(err)
		}
		drivers = append(drivers, d)
	}
	names := []string{"a", "b", "c", "d", "e", "f"}
	var wg sync.WaitGroup
	for _, d := range drivers {
		for _, name := range names {
			wg.Go(func() {
				if _, err := d.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: name}); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	fresh, err := configure(t, path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		want, err := fresh.DescribeTenant(t.Context(), &driver.DescribeTenantRequest{Tenant: name})
		if err != nil {
			t.Fatal(err)
		}
		for i, d := range drivers {
			if got, err := d.DescribeTenant(t.Context(), &driver.DescribeTenantRequest{Tenant: name}); err != nil || !proto.Equal(got, want) {
				t.Errorf("driver %d has another tenant %s: %v", i, name, err)
			}
		}
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a half-written file is left: %v", err)
	}
}

// Files that a killed process left behind do not prevent a start.
func TestLeftoverOfAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "soft.keys")
	if err := os.WriteFile(path+".new", []byte("half"), 0o400); err != nil {
		t.Fatal(err)
	}
	d, err := configure(t, path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	mustInit(t, d, "acme")
}

// A file put in the place of the one that the driver opened is not adopted, whoever put it there.
func TestReplacedFile(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "soft.keys"), filepath.Join(dir, "other.keys")
	d, err := configure(t, path, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := configure(t, other, passphrase); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other, path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: "acme"}); driver.CodeOf(err) != driver.KeyUnavailable {
		t.Errorf("init: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := d.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: "acme"}); driver.CodeOf(err) != driver.KeyUnavailable {
		t.Errorf("init without the file: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a lost key file was silently made anew: %v", err)
	}
}

func TestSettings(t *testing.T) {
	for what, raw := range map[string]string{
		"nothing":            "",
		"an unknown key":     "file: /tmp/x\nfiel: /tmp/y\n",
		"a relative path":    "file: soft.keys\n",
		"too few iterations": "file: /tmp/x\npbkdf2_iterations: 1000\n",
		"no live keys":       "file: /tmp/x\nlive_keys: 0\n",
		"no workers":         "file: /tmp/x\nworkers: -1\n",
		"no YAML":            "file: [",
	} {
		if _, err := Configure(t.Context(), []byte(raw), []byte(passphrase)); driver.CodeOf(err) != driver.InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
}
