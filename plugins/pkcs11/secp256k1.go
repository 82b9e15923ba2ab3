package pkcs11

import (
	"bytes"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/keyside/keyside/plugins/driver"
)

// Go's x509 and ecdh do not support secp256k1. This file has what the driver needs for public keys, on Decred's implementation of
// the curve. Private keys never leave the HSM.

// secp256k1Header is what precedes the uncompressed point in the SubjectPublicKeyInfo of a key on secp256k1 (RFC 5480; the
// curve's OID is 1.3.132.0.10 of SEC 2).
var secp256k1Header = []byte{
	0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a,
	0x03, 0x42, 0x00,
}

// secp256k1Public returns the SubjectPublicKeyInfo of an uncompressed point, which must be on the curve.
func secp256k1Public(point []byte) ([]byte, error) {
	if len(point) != secp256k1.PubKeyBytesLenUncompressed || point[0] != secp256k1.PubKeyFormatUncompressed {
		return nil, driver.Errorf(driver.Device, "the module's public point is not in the uncompressed form")
	}
	if _, err := secp256k1.ParsePubKey(point); err != nil {
		return nil, driver.Errorf(driver.Device, "the module's public point is not on the curve: %w", err)
	}
	return bytes.Join([][]byte{secp256k1Header, point}, nil), nil
}

// secp256k1Point returns the point of a SubjectPublicKeyInfo if it is on the curve.
func secp256k1Point(spki []byte) (point []byte, ok bool) {
	point, ok = bytes.CutPrefix(spki, secp256k1Header)
	if !ok {
		return nil, false
	}
	_, err := secp256k1Public(point)
	return point, err == nil
}

// secp256k1FromSignatures computes the public key of a private key object, as ecPublicKey does on other curves: a signature
// belongs to up to four public keys, and a second one tells which.
func secp256k1FromSignatures(s *session, h handle, spec keySpec) ([]byte, error) {
	digests := [2][32]byte{{31: 1}, {31: 2}}
	first, err := rawSignEC(s, h, spec, digests[0][:])
	if err != nil {
		return nil, err
	}
	second, err := signEC(s, h, spec, digests[1][:])
	if err != nil {
		return nil, err
	}
	check, err := ecdsa.ParseDERSignature(second)
	if err != nil {
		return nil, errBadSignature
	}
	for code := range byte(4) {
		key, _, err := ecdsa.RecoverCompact(append([]byte{27 + code}, first...), digests[0][:])
		if err == nil && check.Verify(digests[1][:], key) {
			return secp256k1Public(key.SerializeUncompressed())
		}
	}
	return nil, driver.Errorf(driver.Device, "the key's signatures do not belong to any public key")
}
