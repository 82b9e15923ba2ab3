package test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// cmdOpens opens a ciphertext with nothing but a key's plain material, and compares: `opens CIPHERTEXT MATERIAL PLAINTEXT`,
// three files, the first in base64. It is written after the description in sidecar/kms/ciphertext.go and shares no code
// with Keyside: whoever has the material has the data.
func cmdOpens(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: opens CIPHERTEXT MATERIAL PLAINTEXT")
	}
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	plain, err := openCiphertext(sealed, []byte(ts.ReadFile(args[1])))
	switch opened := err == nil && bytes.Equal(plain, []byte(ts.ReadFile(args[2]))); {
	case opened && neg:
		ts.Fatalf("%s opens with %s", args[0], args[1])
	case !opened && !neg:
		ts.Fatalf("%s does not open with %s to what %s holds: %q, %v", args[0], args[1], args[2], plain, err)
	}
}

// openCiphertext opens a ciphertext of a symmetric key, without encryption context.
func openCiphertext(sealed, key []byte) ([]byte, error) {
	const header, iv = 112, 12
	if len(sealed) < header+iv || string(sealed[:5]) != "KSCT\x01" {
		return nil, errors.New("not a ciphertext of format 1")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	aad := append([]byte("keyside ciphertext v1\x00"), sealed[:header]...)
	aad = append(aad, make([]byte, 4+4)...) // no pairs of a context, and no bytes of the caller's own
	return gcm.Open(nil, sealed[header:header+iv], sealed[header+iv:], aad)
}
