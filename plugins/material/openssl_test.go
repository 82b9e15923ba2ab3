package material

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
)

// encrypted makes the file of `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 10` with a password.
func encrypted(t *testing.T, password, salt, text []byte) []byte {
	t.Helper()
	derived, err := pbkdf2.Key(sha256.New, string(password), salt, 10, 48)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		t.Fatal(err)
	}
	n := 16 - len(text)%16
	padded := append(bytes.Clone(text), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, derived[32:]).CryptBlocks(padded, padded)
	return append(append([]byte("Salted__"), salt...), padded...)
}

// firstLine is what openssl reads of a password file: its first line as a C string.
func firstLine(file []byte) []byte {
	line, _, _ := bytes.Cut(file, []byte("\n"))
	line, _, _ = bytes.Cut(line, []byte{0})
	return line
}

func testKeyPEM(t *testing.T) (pkcs8, text []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(driver.SpecOf(driver.ECP256).Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if pkcs8, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	return pkcs8, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// TestTwoThousandUploads: 22 % of random temporary keys have a line feed or a zero byte, at which openssl's password ends.
func TestTwoThousandUploads(t *testing.T) {
	want, text := testKeyPEM(t)
	cut := 0
	for range 2000 {
		temporary := random(32)
		for temporary[0] == 0 { // openssl refuses these
			temporary = random(32)
		}
		password := firstLine(temporary)
		if len(password) < len(temporary) {
			cut++
		}
		got, ok := OpenPrivateKey(driver.ECP256, temporary, encrypted(t, password, random(8), text))
		if !ok || !bytes.Equal(got, want) {
			t.Fatalf("temporary key %x: opened %t", temporary, ok)
		}
	}
	if cut < 300 || cut > 600 {
		t.Errorf("%d of 2,000 passwords ended early, about 440 should", cut)
	}
}

// TestOpenSSLItself holds the container that the tests make, and what is read, against the binary.
func TestOpenSSLItself(t *testing.T) {
	want, text := testKeyPEM(t)
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("my_private_key.pem", text)
	for what, temporary := range map[string][]byte{
		"no line feed":      bytes.Repeat([]byte{'a'}, 32),
		"an early one":      append([]byte("ab\n"), bytes.Repeat([]byte{'c'}, 29)...),
		"one at the start":  append([]byte("\n"), bytes.Repeat([]byte{'c'}, 31)...),
		"a carriage return": append([]byte("ab\r\n"), bytes.Repeat([]byte{'c'}, 28)...),
		"an early zero":     append([]byte("ab\x00"), bytes.Repeat([]byte{'c'}, 29)...),
		"a zero, then lf":   append([]byte("ab\x00cd\n"), bytes.Repeat([]byte{'c'}, 26)...),
		"one at the end":    append(bytes.Repeat([]byte{'c'}, 31), '\n'),
		"bytes above 0x7f":  bytes.Repeat([]byte{0xe2, 0x98, 0xff, 0x80}, 8),
	} {
		out := filepath.Join(dir, "my_private_key_wrapped.bin")
		cmd := exec.Command("openssl", strings.Fields("enc -aes-256-cbc -salt -in "+key+" -out "+out+
			" -pass file:"+write("aes_key.bin", temporary)+" -pbkdf2 -iter 10")...)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", what, err, text)
		}
		file, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if ours := encrypted(t, firstLine(temporary), file[8:16], text); !bytes.Equal(ours, file) {
			t.Errorf("%s: openssl made another file than the test", what)
		}
		if got, ok := OpenPrivateKey(driver.ECP256, temporary, file); !ok || !bytes.Equal(got, want) {
			t.Errorf("%s: opened %t", what, ok)
		}
	}
	refused := exec.Command("openssl", strings.Fields("enc -aes-256-cbc -salt -in "+key+" -out "+filepath.Join(dir, "none")+
		" -pass file:"+write("aes_key.bin", append([]byte{0}, "zero first"...))+" -pbkdf2 -iter 10")...)
	if err := refused.Run(); err == nil {
		t.Error("openssl takes a password that begins with a zero byte")
	}
}

// TestOpenSSLWholePassword opens what a tool makes that takes all bytes of the temporary key.
func TestOpenSSLWholePassword(t *testing.T) {
	want, text := testKeyPEM(t)
	temporary := append([]byte("ab\n\x00"), random(28)...)
	if got, ok := OpenPrivateKey(driver.ECP256, temporary, encrypted(t, temporary, random(8), text)); !ok || !bytes.Equal(got, want) {
		t.Errorf("opened %t", ok)
	}
}

// TestOpenSSLPaddingOracle appends a block of the file behind one that is tried: if an import ignored what follows the key, its answer
// would tell whether the padding is valid, for each of 256 last bytes.
func TestOpenSSLPaddingOracle(t *testing.T) {
	_, text := testKeyPEM(t)
	temporary := random(32)
	file := encrypted(t, firstLine(temporary), random(8), text)
	block := file[len(file)-48 : len(file)-32]
	for last := range 256 {
		tried := random(16)
		tried[15] = byte(last)
		if _, ok := OpenPrivateKey(driver.ECP256, temporary, slices.Concat(file, tried, block)); ok {
			t.Fatalf("opened with two more blocks, the last byte of one is %d", last)
		}
	}
	for what, more := range map[string][]byte{"text": []byte("more"), "a certificate": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE"})} {
		behind := encrypted(t, firstLine(temporary), random(8), append(bytes.Clone(text), more...))
		if _, ok := OpenPrivateKey(driver.ECP256, temporary, behind); ok {
			t.Errorf("opened with %s behind the key", what)
		}
		before := encrypted(t, firstLine(temporary), random(8), slices.Concat(more, []byte("\n"), text, []byte("\r\n")))
		if _, ok := OpenPrivateKey(driver.ECP256, temporary, before); !ok {
			t.Errorf("not opened with %s before the key", what)
		}
	}
}

func TestOpenSSLDamage(t *testing.T) {
	_, text := testKeyPEM(t)
	temporary := random(32)
	file := encrypted(t, firstLine(temporary), random(8), text)
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, ok := OpenPrivateKey(driver.ECP256, temporary, bad); ok {
			t.Errorf("opened with byte %d changed", i)
		}
	}
	for n := range file {
		if _, ok := OpenPrivateKey(driver.ECP256, temporary, file[:n]); ok {
			t.Errorf("opened %d bytes of %d", n, len(file))
		}
	}
	if _, ok := OpenPrivateKey(driver.ECP256, random(32), file); ok {
		t.Error("opened with another key")
	}
	if _, ok := OpenPrivateKey(driver.ECP384, temporary, file); ok {
		t.Error("opened as another curve")
	}
}

// TestPadding tries every last byte, and every fault within the padding.
func TestPadding(t *testing.T) {
	for last := range 256 {
		text := append(bytes.Repeat([]byte{'x'}, 16), bytes.Repeat([]byte{byte(last)}, 16)...)
		n, good := padding(text)
		if want := last >= 1 && last <= 16; (good == 1) != want || want && n != last {
			t.Errorf("last byte %d: %d, %d", last, n, good)
		}
		for i := 1; i < last && last <= 16; i++ {
			bad := bytes.Clone(text)
			bad[len(bad)-1-i] ^= 1
			if n, good := padding(bad); n != 0 || good != 0 {
				t.Errorf("padding of %d with byte %d from the end changed: %d, %d", last, i, n, good)
			}
		}
	}
}
