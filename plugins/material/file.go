package material

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyside/keyside/plugins/driver"
)

// PrivateKey is a private key that was read from a file.
type PrivateKey struct {
	Spec  driver.KeySpec
	PKCS8 []byte // canonical DER; the owner clears it
}

// ReadPrivateKey reads the first private key of a file as openssl does: PKCS #8, PKCS #1 or SEC 1, as DER or in PEM between any other
// text and blocks, with a byte order mark and the line ends of Windows. The error is a *Refusal.
func ReadPrivateKey(file []byte) (*PrivateKey, error) {
	key, _, err := readFile(file, 0)
	return key, err
}

// readFile also reports whether the key is the last part of the file. If the file names no curve, it is that of spec.
func readFile(file []byte, spec driver.KeySpec) (key *PrivateKey, last bool, err error) {
	const mark = "\xef\xbb\xbf" // each of several files may have begun with one
	text := bytes.ReplaceAll(file, []byte(mark+"-----"), []byte("-----"))
	defer clear(text)
	var whole cryptobyte.String
	der := cryptobyte.String(text)
	if isDER := der.ReadASN1(&whole, casn1.SEQUENCE) && der.Empty(); !isDER && bytes.Contains(text, []byte("-----BEGIN ")) {
		return readPEM(text, spec)
	}
	key, err = readDER(text, spec)
	return key, true, err
}

func readPEM(text []byte, spec driver.KeySpec) (key *PrivateKey, last bool, err error) {
	var outside *driver.Spec // the curve that a block in front of the key names
	var others []string
	for rest := text; ; {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, false, withoutKey(text, others)
		}
		rest = after
		switch {
		case strings.Contains(block.Type, "PRIVATE KEY"):
			defer clear(block.Bytes)
			key, err = readBlock(block, outside, spec)
			return key, len(bytes.TrimSpace(rest)) == 0, err
		case block.Type == "EC PARAMETERS": // openssl ecparam -genkey writes them in front of the key
			outside, _ = readCurve(block.Bytes) // the key itself need not name it, but usually does
		}
		others = append(others, block.Type)
	}
}

// withoutKey returns the reason why a text with the beginning of a PEM block has no private key. others are its whole blocks.
func withoutKey(text []byte, others []string) error {
	switch {
	case bytes.Contains(text, []byte(`-----\n`)):
		return errEscaped
	case len(others) < bytes.Count(text, []byte("-----BEGIN ")):
		for line := range bytes.Lines(text) {
			if trimmed := bytes.TrimLeft(line, " \t"); len(trimmed) < len(line) && bytes.HasPrefix(trimmed, []byte("-----BEGIN ")) {
				return errIndented
			}
		}
		return errDamaged
	}
	return refuse("holds no private key but %q", listed(others))
}

func readBlock(block *pem.Block, outside *driver.Spec, spec driver.KeySpec) (*PrivateKey, error) {
	switch {
	case block.Type == "OPENSSH PRIVATE KEY":
		return nil, errOpenSSH
	case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") || block.Headers["DEK-Info"] != "":
		return nil, errLocked
	case len(block.Headers) > 0:
		return nil, refuse("has a PEM block with headers, which openssl refuses, too: delete them")
	case block.Type == "PRIVATE KEY":
		return readPKCS8(block.Bytes, spec)
	case block.Type == "RSA PRIVATE KEY":
		return readPKCS1(block.Bytes, nil)
	case block.Type == "EC PRIVATE KEY":
		return readSEC1(block.Bytes, outside, nil, spec)
	}
	return nil, refuse("holds a block %q, a form of private keys that cannot be imported", block.Type)
}

// readDER reads a private key by the first elements of its structure.
func readDER(der []byte, spec driver.KeySpec) (*PrivateKey, error) {
	for _, f := range forms {
		if bytes.HasPrefix(der, []byte(f.begin)) {
			return nil, f.refusal
		}
	}
	var body, skipped cryptobyte.String
	var first, second casn1.Tag
	s := cryptobyte.String(der)
	if !s.ReadASN1(&body, casn1.SEQUENCE) || !body.ReadAnyASN1(&skipped, &first) || !body.ReadAnyASN1(&skipped, &second) {
		return nil, noStructure(der)
	}
	switch [2]casn1.Tag{first, second} {
	case [2]casn1.Tag{casn1.INTEGER, casn1.INTEGER}:
		return readPKCS1(der, nil)
	case [2]casn1.Tag{casn1.INTEGER, casn1.OCTET_STRING}:
		return readSEC1(der, nil, nil, spec)
	case [2]casn1.Tag{casn1.INTEGER, casn1.SEQUENCE}:
		if bytes.HasPrefix(skipped, pkcs7Type) {
			return nil, errPKCS12
		}
		return readPKCS8(der, spec)
	case [2]casn1.Tag{casn1.SEQUENCE, casn1.OCTET_STRING}: // EncryptedPrivateKeyInfo
		return nil, errLocked
	case [2]casn1.Tag{casn1.SEQUENCE, casn1.BIT_STRING}:
		return nil, refuse("holds a public key, not the private one")
	case [2]casn1.Tag{casn1.SEQUENCE, casn1.SEQUENCE}:
		return nil, refuse("holds a certificate or a request for one, not the private key")
	}
	return nil, ErrNoKey
}

// pkcs7Type is the beginning of the types of PKCS #7 (1.2.840.113549.1.7), with which the content of a PKCS #12 store begins.
var pkcs7Type = []byte("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07")

// noStructure returns the reason why a file is neither PEM nor DER.
func noStructure(file []byte) error {
	text := bytes.TrimSpace(file)
	decoded := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	defer clear(decoded)
	n, err := base64.StdEncoding.Decode(decoded, text)
	switch {
	case err == nil && n > 64 && decoded[0] == 0x30:
		return &Refusal{Reason: "is the base64 of DER, without the lines of PEM", Command: "base64 -d FILE > plain.der"}
	case bytes.HasPrefix(text, []byte("{")) && bytes.Contains(text, []byte(`"kty"`)):
		return refuse("is a JSON Web Key: export the key as PKCS #8 from the program that made it")
	case len(file) > 64 && file[0] == 0x30 && bytes.Contains(file[:32], pkcs7Type): // NSS writes BER
		return errPKCS12
	case len(file) > 64 && file[0] == 0x30 && file[1] >= 0x80:
		return errMalformed
	}
	return ErrNoKey
}

// specNames returns the names of the specs of a family, for people.
func specNames(family driver.Family) string {
	var names []string
	for _, s := range driver.Specs() {
		switch {
		case s.Family != family:
		case family == driver.RSA:
			names = append(names, fmt.Sprint(s.Bits))
		default:
			names = append(names, s.Name)
		}
	}
	return strings.Join(names, ", ")
}
