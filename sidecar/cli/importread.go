package cli

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"os"
	"slices"
)

// maxKeyFile is more than any key, wrapped or plain, has in any form, bytes.
const maxKeyFile = 64 << 10

// readKeyFile reads a file of keys.
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
		return nil, failf(ExitUsage, "%s has more than %d bytes: it is not what belongs here", path, maxKeyFile)
	}
	return content, nil
}

// readWrapped reads a file that is binary, or the base64 of that.
func readWrapped(path, flag string) ([]byte, error) {
	if path == "" {
		return nil, failf(ExitUsage, "--%s is missing: name its file", flag)
	}
	content, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	if len(content) == 0 {
		return nil, failf(ExitUsage, "%s is empty", path)
	}
	return decodeBase64(content), nil
}

// material is a key of the user's own.
type material struct {
	plain []byte // the bytes of an AES key, or PKCS#8 DER of a private key; the owner clears it
	kind  string // kindAES, kindRSA or kindEC
}

const (
	kindAES = "AES key"
	kindRSA = "RSA private key"
	kindEC  = "EC private key"
)

func (m *material) private() bool { return m.kind != kindAES }

// readMaterial reads a key from a file: an AES key as bytes, base64 or hex, a private key as PKCS#8, PKCS#1 or SEC 1 in PEM or
// DER.
func readMaterial(path string) (*material, error) {
	content, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(content)
	if aes := aesKey(content); aes != nil {
		return &material{aes, kindAES}, nil
	}
	der := content
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
			return nil, failf(ExitUsage, "%s is encrypted with a passphrase: openssl pkey -in %s -out plain.pem opens it", path, shellQuote(path))
		}
		if block.Type != "EC PARAMETERS" { // openssl ecparam -genkey writes them in front of the key
			der = block.Bytes
			defer clear(der)
			break
		}
	}
	if m := privateKey(der); m != nil {
		return m, nil
	}
	return nil, failf(ExitBadData, "%s is no key: it takes an AES key of 16, 24 or 32 bytes (raw, base64 or hex), or a private RSA or EC key (PKCS#8, PKCS#1 or SEC 1, PEM or DER)", path)
}

// aesKey returns an AES key from one of its forms, nil where it is none. That random bytes look like text of the right length
// does not happen.
func aesKey(content []byte) []byte {
	text := bytes.TrimSpace(content)
	forms := [][]byte{content}
	if b, err := base64.StdEncoding.DecodeString(string(text)); err == nil {
		forms = [][]byte{b, content}
	}
	if b, err := hex.DecodeString(string(text)); err == nil {
		forms = [][]byte{b}
	}
	for _, key := range forms {
		if slices.Contains([]int{16, 24, 32}, len(key)) {
			return bytes.Clone(key)
		}
	}
	return nil
}

// pkcs8 is PrivateKeyInfo (RFC 5208 section 5), with what RFC 5958 adds.
type pkcs8 struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
	PublicKey  asn1.RawValue `asn1:"optional,tag:1"`
}

// sec1 is ECPrivateKey (RFC 5915 section 3).
type sec1 struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // rsaEncryption (RFC 8017 appendix C)
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}     // id-ecPublicKey (RFC 5480 section 2.1.1)
)

// privateKey brings a private key into PKCS#8. Whether it is a good key is looked at where it is imported; what it is called
// here is for people.
func privateKey(der []byte) *material {
	var info pkcs8
	if rest, err := asn1.Unmarshal(der, &info); err == nil && len(rest) == 0 {
		switch {
		case info.Algorithm.Algorithm.Equal(oidRSA):
			return &material{bytes.Clone(der), kindRSA}
		case info.Algorithm.Algorithm.Equal(oidEC):
			return &material{bytes.Clone(der), kindEC}
		}
		return nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return rsaMaterial(key)
	}
	var key sec1
	if rest, err := asn1.Unmarshal(der, &key); err != nil || len(rest) > 0 || key.Version != 1 || len(key.Curve) == 0 {
		return nil
	}
	curve, err := asn1.Marshal(key.Curve)
	if err != nil {
		return nil
	}
	plain, err := asn1.Marshal(pkcs8{
		Algorithm:  pkix.AlgorithmIdentifier{Algorithm: oidEC, Parameters: asn1.RawValue{FullBytes: curve}},
		PrivateKey: der,
	})
	if err != nil {
		return nil
	}
	return &material{plain, kindEC}
}

func rsaMaterial(key *rsa.PrivateKey) *material {
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil
	}
	return &material{plain, kindRSA}
}

// readWrappingKey reads a wrapping key: DER, the base64 of that, or PEM.
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

func parseWrappingKey(der []byte, whose string) (*rsa.PublicKey, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if key, ok := public.(*rsa.PublicKey); ok && err == nil {
		return key, nil
	}
	return nil, failf(ExitBadData, "%s is no RSA public key: give the wrapping key that keyside import parameters wrote", whose)
}
