package pkcs11

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/drivertest"
)

func TestEveryProfileResolves(t *testing.T) {
	for _, name := range Profiles() {
		p, err := loadProfile(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Name != name || len(p.keys) == 0 || p.Limits.Data == 0 || p.Workers.Fast == 0 || p.Workers.Slow == 0 {
			t.Errorf("%s is incomplete", name)
		}
	}
}

// vendorProfile writes an operator's profile: the shipped one for SoftHSM under another name, after a change of its text.
func vendorProfile(t *testing.T, change func(string) string) string {
	t.Helper()
	text, err := profileFiles.ReadFile("profiles/softhsm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "acme.yaml")
	if err := os.WriteFile(path, []byte(change(strings.Replace(string(text), "name: softhsm", "name: acme-2", 1))), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func unchanged(text string) string { return text }

// TestProfileOfTheOperator starts SoftHSM by a file that is not part of the program, and runs the conformance kit.
func TestProfileOfTheOperator(t *testing.T) {
	text := fmt.Appendf(nil, "profile: %s\nmodule: %s\ntoken: %s\n", vendorProfile(t, unchanged), softHSM, tokenMain)
	d, err := openDriver(text, []byte(testPIN), slog.New(slog.NewTextHandler(io.Discard, nil)), func(code int) { t.Errorf("exit %d", code) })
	if err != nil {
		t.Fatal(err)
	}
	if desc, err := d.Describe(t.Context()); err != nil || desc.GetName() != "acme-2" {
		t.Errorf("described as %q, %v", desc.GetName(), err)
	}
	drivertest.Run(t, drivertest.Config{Driver: d, Tenant: "operators", Drain: true})
}

// TestProfileFaults checks that a profile file is refused with the name of the key that is wrong.
func TestProfileFaults(t *testing.T) {
	replaced := func(old, new string) func(string) string {
		return func(text string) string {
			if !strings.Contains(text, old) {
				t.Errorf("the shipped profile does not contain %q", old)
			}
			return strings.Replace(text, old, new, 1)
		}
	}
	added := func(more string) func(string) string { return func(text string) string { return text + more } }
	for _, c := range []struct {
		change func(string) string
		says   string
	}{
		{added("lock_atributes: true\n"), `unknown key "lock_atributes"`},
		{replaced("limits: {", "limits: {session: 5, "), `unknown key "session"`},
		{added("limits: {}\n"), `"limits" already defined`},
		{added("---\nname: other\n"), "more than one YAML document"},
		{func(string) string { return "" }, "empty"},
		{func(string) string { return "name: acme-2\n" }, "protection:"},
		{replaced("name: acme-2", "name: Acme 2"), "name:"},
		{replaced("protection: hsm", "protection: strong"), "protection:"},
		{replaced("0x210A", "0"), "wrap.mechanism:"},
		{replaced("0x210A", "-1"), "uint"},
		{replaced("format: rfc5649", "format: cbc-pad"), "wrap.format:"},
		{replaced("SIGN_VERIFY: [", "SIGN: ["), "keys.SIGN:"},
		{replaced("SIGN_VERIFY: [", "SIGN_VERIFY: [AES_512, "), "keys.SIGN_VERIFY:"},
		{replaced("SIGN_VERIFY: [", "SIGN_VERIFY: [RSA_2048, "), "keys.SIGN_VERIFY:"},
		{replaced("decrypt:\n  in_hsm: [RSAES_OAEP_SHA_1]\n  in_process: [RSAES_OAEP_SHA_256]", "decrypt: {}"), "keys.ENCRYPT_DECRYPT:"},
		{replaced("in_hsm: [RSAES_PKCS1_V1_5, ", "in_hsm: [AES_GCM, "), "import.in_hsm:"},
		{replaced("in_process: [RSAES_OAEP_SHA_256]", "in_process: [RSAES_OAEP_SHA_1]"), "decrypt.in_process:"},
		{replaced("in_process: [RSAES_OAEP_SHA_256, ", "in_process: [RSAES_PKCS1_V1_5, "), "import.in_process:"},
		{replaced("config_key: directories.tokendir", ""), "store:"},
		{replaced("  C_Sign:", "  C_Seal:"), "bad_data:"},
		{replaced("[CKR_GENERAL_ERROR]", "[CKR_GENRAL_ERROR]"), "bad_data."},
		{replaced("data: 65536", "data: 0"), "limits.data:"},
		{replaced("random: 65536", "random: 1000000"), "limits.random:"},
		{replaced("workers: {fast: 2", "workers: {fast: -2"), "workers.fast:"},
	} {
		path := vendorProfile(t, c.change)
		_, _, err := ParseSettings(fmt.Appendf(nil, "profile: %s\nmodule: /m.so\ntoken: t\n", path))
		if wantCode(t, err, driver.InvalidArgument); err == nil || !strings.Contains(err.Error(), path+": ") || !strings.Contains(err.Error(), c.says) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("want %q: %v", c.says, err)
		}
	}
}

// TestProfileFileIsChecked checks that a profile file is refused where another user could have written it.
func TestProfileFileIsChecked(t *testing.T) {
	path := vendorProfile(t, unchanged)
	if _, err := loadProfile(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	if _, err := loadProfile(path); err == nil || !strings.Contains(err.Error(), path+": writable by others") {
		t.Errorf("a file that its group can write: %v", err)
	}
	if err := errors.Join(os.Chmod(path, 0o640), os.Chown(path, 4711, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := loadProfile(path); err == nil || !strings.Contains(err.Error(), "belongs to uid 4711") {
		t.Errorf("another user's file: %v", err)
	}
	for _, path := range []string{filepath.Dir(path), filepath.Join(filepath.Dir(path), "none.yaml"), "profiles/softhsm.yaml", "../softhsm", ""} {
		if _, err := loadProfile(path); err == nil {
			t.Errorf("%q was read as a profile", path)
		}
	}
}

// TestVendorsReturnValue checks that a profile can name codes that the standard does not have.
func TestVendorsReturnValue(t *testing.T) {
	path := vendorProfile(t, func(text string) string { return strings.Replace(text, "[CKR_GENERAL_ERROR]", "[CKR_0x8000002A]", 1) })
	p, err := loadProfile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !p.causedByData(&callError{rv: 0x8000002A, function: "C_Sign"}) || p.causedByData(&callError{rv: 0x8000002B, function: "C_Sign"}) {
		t.Error("a vendor's code is not the one that the profile names")
	}
	for _, name := range []string{"CKR_0x8000002a", "CKR_0x2A", "CKR_0x00000005", "CKR_0x8000002A "} {
		if isReturnValue(name) {
			t.Errorf("%q is taken for a name of a return value", name)
		}
	}
}

// TestReadmeNamesEveryKey checks that profiles/README.md describes each key of a profile, and no other.
func TestReadmeNamesEveryKey(t *testing.T) {
	readme, err := os.ReadFile("profiles/README.md")
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_.]+)` \\|").FindAllSubmatch(readme, -1) {
		described = append(described, string(row[1]))
	}
	if keys := yamlKeys(reflect.TypeFor[Profile](), ""); !slices.Equal(described, keys) {
		t.Errorf("described are %q\nkeys are %q", described, keys)
	}
	if !bytes.Contains(readme, []byte("profile: /")) {
		t.Error("the settings that name a file are not shown")
	}
}

// yamlKeys returns the keys of a struct that are not sections, in the order of its fields.
func yamlKeys(typ reflect.Type, section string) (keys []string) {
	for i := range typ.NumField() {
		name := typ.Field(i).Tag.Get("yaml")
		switch {
		case name == "":
		case typ.Field(i).Type.Kind() == reflect.Struct:
			keys = append(keys, yamlKeys(typ.Field(i).Type, section+name+".")...)
		default:
			keys = append(keys, section+name)
		}
	}
	return keys
}
