package kms

import (
	"bytes"
	"errors"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// secp256k1Header is what precedes the uncompressed point in the SubjectPublicKeyInfo of a key on secp256k1 (RFC 5480; the
// curve's OID is 1.3.132.0.10 of SEC 2). Go's x509 does not know the curve. The point follows, 65 bytes.
var secp256k1Header = []byte{
	0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a,
	0x03, 0x42, 0x00,
}

// parseSecp256k1 reads the SubjectPublicKeyInfo of a key on secp256k1, whose point must be on the curve, as a
// *secp256k1.PublicKey. The curve's arithmetic is Decred's. It is used for public keys alone, which need no constant time.
func parseSecp256k1(der []byte) (any, error) {
	point, ok := bytes.CutPrefix(der, secp256k1Header)
	if !ok || len(point) != secp256k1.PubKeyBytesLenUncompressed || point[0] != secp256k1.PubKeyFormatUncompressed {
		return nil, errors.New("no SubjectPublicKeyInfo of a key on secp256k1")
	}
	return secp256k1.ParsePubKey(point)
}

// verifySecp256k1 checks an ASN.1 DER signature.
func verifySecp256k1(public *secp256k1.PublicKey, digest, signature []byte) bool {
	parsed, err := ecdsa.ParseDERSignature(signature)
	return err == nil && parsed.Verify(digest, public)
}
