package pkcs11

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// TestMACsAgreeWithOpenSSL puts known keys into the HSM, since no other MACs can be checked outside, and seals them like
// generated ones.
func TestMACsAgreeWithOpenSSL(t *testing.T) {
	d := tenanted(t, "macs", "")
	message := []byte("what is authenticated")
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, message, 0o600); err != nil {
		t.Fatal(err)
	}
	for spec, hash := range map[driver.KeySpec]string{driver.HMAC256: "sha256", driver.HMAC384: "sha384", driver.HMAC512: "sha512"} {
		value := make([]byte, specOf(spec).Size())
		_, _ = rand.Read(value)
		id := identity(spec, driver.GenerateVerifyMAC)
		sealed := sealKnown(t, d, "macs", id, nil, p11.NewAttribute(p11.CKA_VALUE, value))
		res, err := d.Execute(t.Context(), "macs", &driver.Op{
			Kind: driver.MAC, Key: id, Sealed: sealed, Algorithm: driver.SpecOf(spec).Uses[0].Algorithms[0], Data: message,
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "openssl", "dgst", "-"+hash, "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(value), "-r", file).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl: %v: %s", err, out)
		}
		if want, _, _ := strings.Cut(string(out), " "); hex.EncodeToString(res.GetData()) != want {
			t.Errorf("%s: mac is %x, openssl's %s", spec, res.GetData(), want)
		}
	}
}
