package imports

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"testing"

	container "github.com/keyside/keyside/plugins/material"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

// write writes a new file and returns its path.
func write(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestWrap unwraps the results of wrap, for every algorithm.
func TestWrap(t *testing.T) {
	under := must(rsa.GenerateKey(rand.Reader, 2048))
	hashes := map[string]func() hash.Hash{"1": sha1.New, "256": sha256.New}
	for _, algorithm := range wrappingAlgorithms {
		for _, m := range []*material{{bytes.Repeat([]byte{7}, 24), "AES_192"}, {bytes.Repeat([]byte{9}, 1217), "RSA_2048"}} {
			w, err := wrap(&under.PublicKey, algorithm, m)
			if err != nil {
				t.Fatal(err)
			}
			block, inner := w.material[:256], w.material[256:]
			if !keyWrap(algorithm) {
				if len(inner) > 0 {
					t.Errorf("%s: the block has %d bytes more", algorithm, len(inner))
				}
				inner = w.privateKey
			} else if w.privateKey != nil {
				t.Errorf("%s: two files", algorithm)
			}
			var opened []byte
			if h := hashes[algorithm[strings.LastIndex(algorithm, "_")+1:]]; h != nil && algorithm != "RSAES_PKCS1_V1_5" {
				opened, err = rsa.DecryptOAEP(h(), nil, under, block, nil)
			} else {
				opened, err = under.Decrypt(nil, block, nil)
			}
			if err != nil {
				t.Fatalf("%s: %v", algorithm, err)
			}
			if keyed := m.private() || keyWrap(algorithm); keyed != (len(inner) > 0) {
				t.Errorf("%s: %s with %d bytes behind its block", algorithm, m.spec, len(inner))
			} else if keyed {
				ok := false
				if opened, ok = must(container.NewKeyWrap(opened)).Unwrap(inner); !ok {
					t.Errorf("%s: the %s is not under RFC 5649", algorithm, m.spec)
				}
			}
			if !bytes.Equal(opened, m.plain) {
				t.Errorf("%s: %s opens to %x", algorithm, m.spec, opened)
			}
		}
	}
}

func TestReadMaterial(t *testing.T) {
	aes := make([]byte, 32)
	_, _ = rand.Read(aes)
	rsaKey, ecKey := must(rsa.GenerateKey(rand.Reader, 2048)), must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	rsa8, ec8 := must(x509.MarshalPKCS8PrivateKey(rsaKey)), must(x509.MarshalPKCS8PrivateKey(ecKey))
	ec1, rsa1 := must(x509.MarshalECPrivateKey(ecKey)), x509.MarshalPKCS1PrivateKey(rsaKey)
	text := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, c := range map[string]struct {
		file []byte
		spec string
		key  crypto.PrivateKey // nil: aes
	}{
		"raw":           {aes, "AES_256", nil},
		"base64":        {[]byte(base64.StdEncoding.EncodeToString(aes)), "AES_256", nil},
		"base64 line":   {verb.Base64Line(aes), "AES_256", nil},
		"hex":           {[]byte(hex.EncodeToString(aes) + "\n"), "AES_256", nil},
		"PKCS#8 DER":    {rsa8, "RSA_2048", rsaKey},
		"PKCS#8 PEM":    {text("PRIVATE KEY", rsa8), "RSA_2048", rsaKey},
		"PKCS#1 DER":    {rsa1, "RSA_2048", rsaKey},
		"PKCS#1 PEM":    {text("RSA PRIVATE KEY", rsa1), "RSA_2048", rsaKey},
		"EC PKCS#8 DER": {ec8, "EC_P384", ecKey},
		"EC PKCS#8 PEM": {text("PRIVATE KEY", ec8), "EC_P384", ecKey},
		"SEC 1 DER":     {ec1, "EC_P384", ecKey},
		"SEC 1 PEM":     {append(text("EC PARAMETERS", []byte{5, 0}), text("EC PRIVATE KEY", ec1)...), "EC_P384", ecKey},
	} {
		m, err := readMaterial(write(t, c.file), "")
		switch {
		case err != nil || m.spec != c.spec:
			t.Errorf("%s: %v, %v", name, m, err)
		case c.key == nil:
			if !bytes.Equal(m.plain, aes) {
				t.Errorf("%s: %x", name, m.plain)
			}
		default:
			got, err := x509.ParsePKCS8PrivateKey(m.plain)
			if err != nil || !got.(interface{ Equal(crypto.PrivateKey) bool }).Equal(c.key) {
				t.Errorf("%s: another key, %v", name, err)
			}
		}
	}
	for name, c := range map[string]struct {
		file []byte
		exit int
	}{
		"empty":          {nil, verb.ExitBadData},
		"31 bytes":       {aes[:31], verb.ExitBadData},
		"hex of 31":      {[]byte(hex.EncodeToString(aes[:31])), verb.ExitBadData},
		"truncated":      {rsa8[:len(rsa8)-1], verb.ExitBadData},
		"trailing bytes": {append(bytes.Clone(ec8), 0), verb.ExitBadData},
		"public":         {must(x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)), verb.ExitBadData},
		"encrypted":      {text("ENCRYPTED PRIVATE KEY", rsa8), verb.ExitUsage},
		"encrypted old":  {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "x"}, Bytes: rsa1}), verb.ExitUsage},
		"too long":       {make([]byte, maxKeyFile+1), verb.ExitUsage},
		"two readings":   {[]byte("0123456789abcdef0123456789abcdef"), verb.ExitUsage},
	} {
		if m, err := readMaterial(write(t, c.file), ""); verb.ExitCode(err) != c.exit {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

// TestTwoReadings reads files that are an AES key by themselves and the hex or base64 of another one, as the spec says.
func TestTwoReadings(t *testing.T) {
	for _, c := range []struct{ text, spec, want string }{
		{"f831ef572e4bd566e079a4ea43335ebb", "AES_256", "f831ef572e4bd566e079a4ea43335ebb"},
		{"f831ef572e4bd566e079a4ea43335ebb", "AES_128", "\xf8\x31\xef\x57\x2e\x4b\xd5\x66\xe0\x79\xa4\xea\x43\x33\x5e\xbb"},
		{"abcdefghijklmnopqrstuvwxyz012345", "AES_256", "abcdefghijklmnopqrstuvwxyz012345"},
		{"////////////////////////////////", "AES_192", strings.Repeat("\xff", 24)},
		{"AAAAAAAAAAAAAAAAAAAAAA==", "AES_192", "AAAAAAAAAAAAAAAAAAAAAA=="},
		{"AAAAAAAAAAAAAAAAAAAAAA==", "AES_128", strings.Repeat("\x00", 16)},
	} {
		path := write(t, []byte(c.text))
		if m, err := readMaterial(path, c.spec); err != nil || m.spec != c.spec || string(m.plain) != c.want {
			t.Errorf("%s as %s: %+v, %v", c.text, c.spec, m, err)
		}
		if m, err := readMaterial(path, ""); verb.ExitCode(err) != verb.ExitUsage || !strings.Contains(err.Error(), "choose with --spec") {
			t.Errorf("%s without a spec: %+v, %v", c.text, m, err)
		}
		// A line end makes it text.
		if m, err := readMaterial(write(t, []byte(c.text+"\n")), ""); err != nil || len(m.plain) >= len(c.text) {
			t.Errorf("%s in a line: %+v, %v", c.text, m, err)
		}
	}
}

func TestReadWrappingKey(t *testing.T) {
	key := must(rsa.GenerateKey(rand.Reader, 2048))
	der := must(x509.MarshalPKIXPublicKey(&key.PublicKey))
	for _, file := range [][]byte{der, verb.Base64Line(der), verb.PublicPEM(der)} {
		if got, err := readWrappingKey(write(t, file)); err != nil || !got.Equal(&key.PublicKey) {
			t.Errorf("%.20q: %v", file, err)
		}
	}
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for _, file := range [][]byte{der[:100], must(x509.MarshalPKIXPublicKey(&ec.PublicKey))} {
		if _, err := readWrappingKey(write(t, file)); verb.ExitCode(err) != verb.ExitBadData {
			t.Errorf("%x: %v", file, err)
		}
	}
}

// TestNewMaterial generates material of every supported spec and reads it back.
func TestNewMaterial(t *testing.T) {
	for _, spec := range []string{"AES_128", "AES_192", "AES_256", "RSA_2048", "RSA_3072", "EC_P256", "EC_P384", "EC_P521"} {
		m, err := newMaterial(spec)
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		path := filepath.Join(t.TempDir(), "kept")
		if err := m.keep(path, false); err != nil {
			t.Fatal(err)
		}
		if again, err := readMaterial(path, ""); err != nil || again.spec != spec || !bytes.Equal(again.plain, m.plain) {
			t.Errorf("%s: %+v, %v", spec, again, err)
		}
	}
	for _, spec := range []string{"SECP256K1", "HMAC_256", ""} {
		if _, err := newMaterial(spec); verb.ExitCode(err) != verb.ExitUsage {
			t.Errorf("%s: %v", spec, err)
		}
	}
}

// TestWrappingFlags accepts the guides' spellings of algorithms.
func TestWrappingFlags(t *testing.T) {
	for _, word := range []string{"RSAES-OAEP-SHA-256", "RSA_AES_KEY_WRAP_SHA_1", "RSA-AES-KEY-WRAP-SHA-256", "RSA-AES-KEY-WRAP-SHA-1", "rsaes_oaep_sha_256"} {
		w := wrappingFlags{algorithm: word}
		if err := w.check(); err != nil {
			t.Error(err)
		}
	}
	for _, w := range []wrappingFlags{{algorithm: "SM2_ENCRYPT"}, {algorithm: defaultWrapping, spec: "RSA_1024"}} {
		if err := w.check(); verb.ExitCode(err) != verb.ExitUsage {
			t.Errorf("%+v: %v", w, err)
		}
	}
}
