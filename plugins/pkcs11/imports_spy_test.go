package pkcs11

import (
	"context"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/material"
)

// spy is OpenSC's module that passes calls on to another module and writes them down.
const spy = "/usr/lib/x86_64-linux-gnu/pkcs11-spy.so"

// spyOutput names the file that the spy writes.
const spyOutput = "PKCS11SPY_OUTPUT"

// TestImportsMakeTheSameCalls imports good and bad material in every layout of every algorithm, and compares the C calls that an
// independent witness wrote down: functions, mechanisms and return values. It runs in a process of its own, since the spy is the module.
func TestImportsMakeTheSameCalls(t *testing.T) {
	if os.Getenv(spyOutput) != "" {
		compareCalls(t)
		return
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := exec.CommandContext(t.Context(), executable, "-test.run=^TestImportsMakeTheSameCalls$")
	self.Env = append(os.Environ(), "PKCS11SPY="+softHSM, spyOutput+"="+t.TempDir()+"/calls")
	if out, err := self.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func compareCalls(t *testing.T) {
	text := fmt.Appendf(nil, "profile: softhsm\nmodule: %s\ntoken: %s\n", spy, tokenMain)
	d, err := openDriver(text, []byte(testPIN), slog.New(slog.DiscardHandler), func(code int) { t.Errorf("exit %d", code) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.InitTenant(context.Background(), &driver.InitTenantRequest{Tenant: "spied"}); err != nil {
		t.Fatal(err)
	}
	i := newImporter(t, d, "spied", driver.RSA2048)
	temporary, secret := material.Random(32), material.Random(32)
	temporary[0] = 1 // openssl's password is not empty
	rsaDER, ecDER, _ := testPrivateKeys(t)
	compare := func(layout string, a driver.Algorithm, spec driver.KeySpec, usage driver.KeyUsage, content, container []byte) {
		t.Helper()
		var want []string
		blocks := []struct {
			what  string
			block []byte
		}{{"good", i.block(a, content)}, {"bad padding", i.badBlock()}, {"another key", i.block(a, material.Random(32))}, {"a long key", i.block(a, material.Random(57))}}
		if len(container) == 0 {
			blocks = slices.Delete(blocks, 2, 3) // it would be imported
		}
		for _, b := range blocks {
			req := i.request(spec, usage, a, b.block, container)
			if material.Keyed(a) {
				req.EncryptedMaterial, req.EncryptedPrivateKey = slices.Concat(b.block, container), nil
			}
			got := callsOf(t, func() { _, err = i.do(req) })
			if (err == nil) != (b.what == "good") || err != nil && driver.CodeOf(err) != driver.BadMaterial {
				t.Errorf("%s %s %s with %s: %v", a, spec, layout, b.what, err)
			}
			if want == nil {
				want = got
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s %s %s: the calls of a good import are\n%s\nwith %s\n%s", a, spec, layout, strings.Join(want, "\n"), b.what, strings.Join(got, "\n"))
			}
		}
	}
	for _, a := range d.profile.Import.all() {
		compare("in the block", a, driver.AES256, driver.EncryptDecrypt, secret, nil)
		if material.Keyed(a) {
			compare("under RFC 5649", a, driver.AES256, driver.EncryptDecrypt, temporary, i.keyWrapped(temporary, secret))
		}
		for spec, der := range map[driver.KeySpec][]byte{driver.RSA2048: rsaDER, driver.ECP256: ecDER} {
			text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
			compare("under RFC 5649", a, spec, driver.SignVerify, temporary, i.keyWrapped(temporary, der))
			compare("in a file of openssl", a, spec, driver.SignVerify, temporary, vngFile(t, temporary, text))
		}
	}
}

// badBlock returns a block whose padding no algorithm accepts.
func (i *importer) badBlock() []byte {
	em := material.Random(i.public.Size())
	em[0], em[1] = 0, 1
	return rawEncrypt(i.public, em)
}

// A call as the spy writes it down has the function, its input and output, and the return value.
var (
	spied          = regexp.MustCompile(`(?s)\d+: (C_\w+)\n(.*?)Returned:  (\d+ \w+)`)
	spiedMechanism = regexp.MustCompile(`pMechanism->type ?=.*`)
)

// callsOf returns the C calls that a driver makes meanwhile, sorted: an import of good material has the same calls as one of bad
// material, in another order.
func callsOf(t *testing.T, meanwhile func()) (calls []string) {
	t.Helper()
	before, err := os.ReadFile(os.Getenv(spyOutput))
	if err != nil {
		t.Fatal(err)
	}
	meanwhile()
	after, err := os.ReadFile(os.Getenv(spyOutput))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range spied.FindAllSubmatch(after[len(before):], -1) {
		calls = append(calls, fmt.Sprintf("%s %s %s", c[1], spiedMechanism.Find(c[2]), c[3]))
	}
	if len(calls) == 0 {
		t.Fatal("the spy saw no call")
	}
	slices.Sort(calls)
	return calls
}
