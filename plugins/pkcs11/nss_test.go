//go:build nss

package pkcs11

import (
	"fmt"
	"log/slog"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/drivertest"
)

// nssModule is where Debian's libnss3 has it. The build tag keeps the test from machines without it.
const nssModule = "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"

func TestConformanceOfNSS(t *testing.T) {
	text := fmt.Appendf(nil, "profile: nss\nmodule: %s\ntoken: NSS Certificate DB\n"+
		"reserved: \"configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=\"\n", nssModule, t.TempDir())
	if err := setNSSPIN(text); err != nil {
		t.Fatal(err)
	}
	d, err := openDriver(text, []byte(testPIN), slog.New(slog.DiscardHandler), func(code int) { t.Errorf("exit %d", code) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Drain(t.Context()); err != nil && driver.CodeOf(err) != driver.Deadline {
			t.Error(err)
		}
	})
	drivertest.Run(t, drivertest.Config{Driver: d, Tenant: "conform", OtherTenant: "conform-other"})
}

// setNSSPIN sets the user PIN of a new database, whose security officer has none.
func setNSSPIN(text []byte) error {
	s, p, err := ParseSettings(text)
	if err != nil {
		return err
	}
	lib, err := loadLibrary(s, p.LoadByPath)
	if err != nil {
		return err
	}
	tok, err := lib.findToken(s)
	if err != nil {
		return err
	}
	session, err := lib.ctx.OpenSession(tok.slot, p11.CKF_SERIAL_SESSION|p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	if err := lib.ctx.Login(session, p11.CKU_SO, ""); err != nil {
		return err
	}
	if err := lib.ctx.InitPIN(session, testPIN); err != nil {
		return err
	}
	return lib.ctx.CloseAllSessions(tok.slot)
}
