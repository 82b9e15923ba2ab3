package crypto

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// TestCiphertextForms decodes a ciphertext in hex, base64 and binary.
func TestCiphertextForms(t *testing.T) {
	raw := string([]byte{0, 1, 0xfe, '\n', 0xff})
	for in, want := range map[string]string{"DEADbeef\n": "\xde\xad\xbe\xef", "AAH+Cv8=\n": raw, raw: raw} {
		if got := string(decodeCiphertext([]byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// TestReadFiles reads public keys and MACs, and refuses files with other content.
func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for content, want := range map[string]string{
		"0\x82": "0\x82",
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("der")})): "der",
	} {
		if got, err := readPublicKey(file(content)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	if _, err := readPublicKey(file(string(private))); verb.ExitCode(err) != verb.ExitUsage || strings.Contains(err.Error(), "secret") {
		t.Errorf("a private key: %v", err)
	}
	for arg, want := range map[string]string{"00fF": "\x00\xff", file("00ff\n"): "\x00\xff"} {
		if got, err := readMAC(arg); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", arg, got, err)
		}
	}
	for _, arg := range []string{"", "xyz", file("xyz")} {
		if _, err := readMAC(arg); verb.ExitCode(err) != verb.ExitUsage {
			t.Errorf("%q: %v", arg, err)
		}
	}
}
