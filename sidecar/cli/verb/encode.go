package verb

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
)

// PublicPEM returns a SubjectPublicKeyInfo as PEM.
func PublicPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// PrivatePEM returns a PKCS #8 private key as PEM.
func PrivatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Base64Line returns b in base64 with a line end.
func Base64Line(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b) + "\n") }

// DecodeBase64 decodes base64. It returns b itself if it is not base64: binary input is accepted in both forms.
func DecodeBase64(b []byte) []byte {
	text := bytes.TrimSpace(b)
	decoded := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	if n, err := base64.StdEncoding.Decode(decoded, text); err == nil {
		return decoded[:n]
	}
	return b
}
