package pkcs11

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// TestWrongPINIsTriedOnce runs in a process of its own, since a wrong PIN is remembered by the process.
func TestWrongPINIsTriedOnce(t *testing.T) {
	if out, err := child(t, "wrong-pin").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func init() {
	children["wrong-pin"] = func() int { return report(wrongPIN()) }
}

func wrongPIN() error {
	open := func(pin string) error {
		_, err := openDriver(settings(tokenPIN, ""), []byte(pin), slog.New(slog.DiscardHandler), os.Exit)
		return err
	}
	if err := open("4321"); driver.CodeOf(err) != driver.PINIncorrect {
		return fmt.Errorf("wrong pin: %w", err)
	}
	lib := loaded.libraries[softHSM]
	tok, err := lib.findToken(&Settings{Token: tokenPIN})
	if err != nil {
		return err
	}
	if tok.info.Flags&p11.CKF_USER_PIN_COUNT_LOW == 0 {
		return fmt.Errorf("the token saw no wrong pin: flags 0x%x", tok.info.Flags)
	}
	// A login by hand clears the token's flag. If the driver tried its PIN once more, it would be set again.
	s, err := lib.ctx.OpenSession(tok.slot, p11.CKF_SERIAL_SESSION)
	if err != nil {
		return err
	}
	if err := lib.ctx.Login(s, p11.CKU_USER, testPIN); err != nil {
		return err
	}
	if err := lib.ctx.CloseAllSessions(tok.slot); err != nil {
		return err
	}
	for _, pin := range []string{"4321", testPIN} {
		if err := open(pin); driver.CodeOf(err) != driver.PINIncorrect {
			return fmt.Errorf("after a wrong pin: %w", err)
		}
	}
	if tok, err = lib.findToken(&Settings{Token: tokenPIN}); err != nil || tok.info.Flags&p11.CKF_USER_PIN_COUNT_LOW != 0 {
		return fmt.Errorf("a pin was tried again (%w)", err)
	}
	return nil
}

func TestSettings(t *testing.T) {
	good := "profile: softhsm\nmodule: /m.so\ntoken: t\n"
	if s, p, err := ParseSettings([]byte(good)); err != nil || s.FastWorkers != p.Workers.Fast || s.LiveKeys == 0 {
		t.Errorf("%+v, %v", s, err)
	}
	for name, text := range map[string]string{
		"unknown key":      good + "tokne: x\n",
		"unknown profile":  "profile: acme\nmodule: /m.so\ntoken: t\n",
		"relative module":  "profile: softhsm\nmodule: m.so\ntoken: t\n",
		"no token":         "profile: softhsm\nmodule: /m.so\n",
		"short pin of sum": good + "module_sha256: abcd\n",
		"negative number":  good + "live_keys: -1\n",
		"blind watchdog":   good + "watchdog: {floor: 1ns}\n",
		"empty":            "",
	} {
		_, _, err := ParseSettings([]byte(text))
		if wantCode(t, err, driver.InvalidArgument); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestImplicitRejection: where a module makes keys of bad padding, PKCS #1 v1.5 is offered only to who asked for it.
func TestImplicitRejection(t *testing.T) {
	for text, offered := range map[string]bool{
		"profile: nss\n": false, "profile: nss\nunchecked_pkcs1: true\n": true, "profile: softhsm\n": true,
	} {
		_, p, err := ParseSettings([]byte(text + "module: /m.so\ntoken: t\n"))
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(p.Import.all(), driver.PKCS1v15) != offered || !slices.Contains(p.Import.all(), driver.OAEPSHA256) {
			t.Errorf("%q: offers %v", text, p.Import.all())
		}
	}
}

func TestModuleFileIsChecked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "module.so")
	if err := os.WriteFile(path, []byte("not a module"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("not a module")))
	check := func(pin string) error {
		file, err := checkModule(path, pin)
		if file != nil {
			_ = file.Close()
		}
		return err
	}
	if err := check(sum); err != nil {
		t.Error(err)
	}
	wantCode(t, check(strings.Repeat("00", 32)), driver.InvalidArgument)
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	wantCode(t, check(sum), driver.InvalidArgument)
	path = filepath.Dir(path)
	wantCode(t, check(""), driver.InvalidArgument)
}

func TestConfigureSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		settings []byte
		pin      string
		code     driver.Code
		says     string
	}{
		"no token":  {settings("unknown", ""), testPIN, driver.Device, `"unknown"`},
		"no module": {[]byte("profile: softhsm\nmodule: /nonexistent.so\ntoken: t\n"), testPIN, driver.InvalidArgument, "/nonexistent.so"},
		"no pin":    {settings(tokenMain, ""), "", driver.InvalidArgument, "pin"},
		"no sum":    {[]byte("profile: softhsm\nmodule: /usr/bin/true\ntoken: t\nmodule_sha256: " + strings.Repeat("0", 64)), testPIN, driver.InvalidArgument, "checksum"},
		"no such":   {[]byte("profile: softhsm\nmodule: /usr/bin/true\ntoken: t\n"), testPIN, driver.Device, "/usr/bin/true"},
	} {
		_, err := Configure(context.Background(), c.settings, []byte(c.pin))
		if wantCode(t, err, c.code); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
