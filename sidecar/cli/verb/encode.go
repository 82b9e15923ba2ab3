package verb

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
)

func PublicPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func PrivatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func Base64Line(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b) + "\n") }

// DecodeBase64 returns what base64 text stands for, or the input itself where it is none: what is binary is given either way.
func DecodeBase64(b []byte) []byte {
	text := bytes.TrimSpace(b)
	decoded := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	if n, err := base64.StdEncoding.Decode(decoded, text); err == nil {
		return decoded[:n]
	}
	return b
}
