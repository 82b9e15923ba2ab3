package imports

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/keyside/keyside/plugins/driver"
	container "github.com/keyside/keyside/plugins/material"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

// maxKeyFile is the length limit of files with keys, in bytes.
const maxKeyFile = 64 << 10

// readKeyFile reads a file with a key.
func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	content, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxKeyFile {
		return nil, verb.Failf(verb.ExitUsage, "%s is longer than %d bytes: it does not hold a key", path, maxKeyFile)
	}
	return content, nil
}

// readWrapped reads a file with binary data, or with its base64.
func readWrapped(path, flag string) ([]byte, error) {
	if path == "" {
		return nil, verb.Failf(verb.ExitUsage, "--%s is missing: give its file", flag)
	}
	content, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	if len(content) == 0 {
		return nil, verb.Failf(verb.ExitUsage, "%s is empty", path)
	}
	return verb.DecodeBase64(content), nil
}

// material is key material of the user's own.
type material struct {
	plain []byte // the bytes of an AES key, or PKCS#8 DER of a private key; the owner clears it
	spec  string // AES_256, RSA_2048, EC_P256, …
}

func (m *material) private() bool { return !symmetric(m.spec) }

// what says what the material is.
func (m *material) what() string {
	if m.private() {
		return "a private key, " + m.spec
	}
	return fmt.Sprintf("%d bytes, %s", len(m.plain), m.spec)
}

// symmetric reports whether spec is one of AES keys.
func symmetric(spec string) bool { return driver.SpecNamed(spec).Family == driver.AES }

// readMaterial reads a key from a file: an AES key as bytes, base64 or hex, a private key in any form that openssl reads. spec decides
// where a file can be read in two ways; empty: it is not known.
func readMaterial(path, spec string) (*material, error) {
	content, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	if found := aesKeys(content); len(found) > 0 {
		m, err := choose(found, path, spec)
		for _, other := range found {
			if other != m {
				clear(other.plain)
			}
		}
		return m, err
	}
	key, err := container.ReadPrivateKey(content)
	if err != nil {
		return nil, refusal(path, err)
	}
	return &material{key.PKCS8, driver.SpecOf(key.Spec).Name}, nil
}

// refusal returns the error for a file whose reader returned err.
func refusal(path string, err error) error {
	var r *container.Refusal
	switch {
	case !errors.As(err, &r):
		return err
	case r == container.ErrNoKey:
		return verb.Failf(verb.ExitBadData, `%s holds no key: an AES key has 16, 24 or 32 bytes (raw, base64 or hex); a private key is RSA with
2048, 3072 or 4096 bits and an exponent above 65536, or EC on P-256, P-384, P-521 or secp256k1 (PKCS #8, PKCS #1 or SEC 1; PEM or DER)`, path)
	}
	code := verb.ExitBadData
	if r.Passphrase {
		code = verb.ExitUsage
	}
	if r.Command == "" {
		return verb.Failf(code, "%s %s", path, r.Reason)
	}
	return verb.Failf(code, "%s %s: this command converts it: %s", path, r.Reason, strings.ReplaceAll(r.Command, "FILE", verb.ShellQuote(path)))
}

// aesKeys returns the AES keys that a file can hold: its bytes, or what its text decodes to. Text that is hex is not taken for base64.
func aesKeys(content []byte) (found []*material) {
	text := string(bytes.TrimSpace(content))
	decoded, err := hex.DecodeString(text)
	if err != nil {
		decoded, err = base64.StdEncoding.DecodeString(text)
	}
	forms := [][]byte{content}
	if err == nil {
		forms = append(forms, decoded)
	}
	for _, key := range forms {
		for _, s := range driver.Specs() {
			if s.Family == driver.AES && s.Size() == len(key) {
				found = append(found, &material{bytes.Clone(key), s.Name})
			}
		}
	}
	clear(decoded)
	return found
}

// choose returns the one of the keys that is of the spec, or the only key.
func choose(found []*material, path, spec string) (*material, error) {
	for _, m := range found {
		if m.spec == spec {
			return m, nil
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	raw, decoded := found[0], found[1]
	return nil, verb.Failf(verb.ExitUsage, "%s can be read in two ways: as %d bytes, %s, or as the text of %d bytes, %s; choose with --spec",
		path, len(raw.plain), raw.spec, len(decoded.plain), decoded.spec)
}

// readWrappingKey reads a wrapping key in DER, base64 or PEM.
func readWrappingKey(path string) (*rsa.PublicKey, error) {
	content, err := readWrapped(path, "wrapping-key")
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(content); block != nil {
		content = block.Bytes
	}
	return parseWrappingKey(content, path)
}

func parseWrappingKey(der []byte, name string) (*rsa.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if key, ok := public.(*rsa.PublicKey); ok && err == nil {
		return key, nil
	}
	return nil, verb.Failf(verb.ExitBadData, "%s is not an RSA public key: give the wrapping key of keyside import parameters", name)
}
