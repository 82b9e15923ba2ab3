package imports

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"os"

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

// symmetric reports whether spec is one of AES keys.
func symmetric(spec string) bool { return driver.SpecNamed(spec).Family == driver.AES }

// readMaterial reads a key from a file: an AES key as bytes, base64 or hex, a private key as PKCS #8, PKCS #1 or SEC 1 in PEM
// or DER.
func readMaterial(path string) (*material, error) {
	content, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	if m := aesKey(content); m != nil {
		return m, nil
	}
	der, locked := privateDER(content)
	if locked {
		return nil, verb.Failf(verb.ExitUsage, "%s is encrypted with a passphrase: openssl pkey -in %s -out plain.pem decrypts it", path, verb.ShellQuote(path))
	}
	defer clear(der)
	for _, s := range driver.Specs() {
		if s.Symmetric() {
			continue
		}
		if plain, ok := container.ReadPrivateKey(s.Value, der); ok {
			return &material{plain, s.Name}, nil
		}
	}
	return nil, verb.Failf(verb.ExitBadData, `%s holds no key, or an unsafe one: an AES key has 16, 24 or 32 bytes (raw, base64 or hex); a private key is RSA with
2048, 3072 or 4096 bits and an exponent above 65536, or EC on P-256, P-384, P-521 or secp256k1 (PKCS #8, PKCS #1 or SEC 1; PEM or DER)`, path)
}

// privateDER returns the DER of the private key in a PEM file, or a copy of the file if it is not PEM. locked reports a passphrase.
func privateDER(content []byte) (der []byte, locked bool) {
	for rest := content; ; {
		block, after := pem.Decode(rest)
		switch {
		case block == nil:
			return bytes.Clone(content), false
		case block.Type == "EC PARAMETERS": // openssl ecparam -genkey writes them in front of the key
			rest = after
			continue
		}
		return block.Bytes, block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != ""
	}
}

// aesKey returns an AES key from any of its forms, nil if content is none. Random bytes practically never look like base64 or
// hex of the right length.
func aesKey(content []byte) *material {
	text := bytes.TrimSpace(content)
	forms := [][]byte{content}
	if b, err := base64.StdEncoding.DecodeString(string(text)); err == nil {
		forms = [][]byte{b, content}
	}
	if b, err := hex.DecodeString(string(text)); err == nil {
		forms = [][]byte{b}
	}
	for _, key := range forms {
		for _, s := range driver.Specs() {
			if s.Family == driver.AES && s.Size() == len(key) {
				return &material{bytes.Clone(key), s.Name}
			}
		}
	}
	return nil
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
