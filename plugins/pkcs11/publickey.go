package pkcs11

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// readPublicKey returns a public key object as DER SubjectPublicKeyInfo.
func readPublicKey(s *session, h handle, spec keySpec) ([]byte, error) {
	if spec.rsa() {
		return rsaPublicKey(s, h, spec)
	}
	point, err := s.attribute(h, p11.CKA_EC_POINT)
	if err != nil {
		return nil, err
	}
	var inner []byte // the standard wraps the point into an OCTET STRING, but some modules do not
	if rest, err := asn1.Unmarshal(point, &inner); err == nil && len(rest) == 0 {
		point = inner
	}
	if spec.Curve == nil {
		return secp256k1Public(point)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(spec.Curve, point)
	if err != nil {
		return nil, driver.Errorf(driver.Device, "the module's public point is not on the curve: %w", err)
	}
	return marshalPublic(pub)
}

// privateKeysPublic returns the public key of a private key object, nil for secret keys. Elliptic keys must have the attribute
// CKA_SIGN.
func privateKeysPublic(s *session, h handle, spec keySpec) ([]byte, error) {
	switch {
	case spec.rsa():
		return rsaPublicKey(s, h, spec)
	case spec.Curve != nil:
		return ecPublicKey(s, h, spec)
	case spec.elliptic():
		return secp256k1FromSignatures(s, h, spec)
	}
	return nil, nil
}

// rsaPublicKey reads the public key from either object of a pair.
func rsaPublicKey(s *session, h handle, spec keySpec) ([]byte, error) {
	modulus, err := s.attribute(h, p11.CKA_MODULUS)
	if err != nil {
		return nil, err
	}
	exponent, err := s.attribute(h, p11.CKA_PUBLIC_EXPONENT)
	if err != nil {
		return nil, err
	}
	n, e := new(big.Int).SetBytes(modulus), new(big.Int).SetBytes(exponent)
	// FIPS 186-5 section A.1.1 requires an odd exponent above 2^16; Go accepts up to 31 bits.
	if n.BitLen() != spec.Bits || e.BitLen() > 31 || e.BitLen() < 17 || e.Bit(0) == 0 {
		return nil, errBadMaterial
	}
	return marshalPublic(&rsa.PublicKey{N: n, E: int(e.Int64())})
}

// peerPoint reads a peer's SubjectPublicKeyInfo and returns its point, which is on the key's curve and not at infinity, in
// the uncompressed form.
func peerPoint(spec keySpec, spki []byte) ([]byte, error) {
	if spec.Curve == nil {
		if point, ok := secp256k1Point(spki); ok {
			return point, nil
		}
	} else if parsed, err := x509.ParsePKIXPublicKey(spki); err == nil {
		if pub, ok := parsed.(*ecdsa.PublicKey); ok && pub.Curve == spec.Curve {
			return pub.Bytes()
		}
	}
	return nil, driver.Errorf(driver.InvalidArgument, "the peer's public key is not on this key's curve")
}

func marshalPublic(pub any) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, driver.Errorf(driver.Device, "the module's public key: %w", err)
	}
	return der, nil
}

// ecPublicKey computes the public key of a private key object from signatures, because modules do not store the public point with
// the private key. A signature (r, s) of the digest 0 by the nonce's point R has Q = (s/r)·R; r is R's X coordinate, and
// Diffie-Hellman with s/r gives Q's. A second signature tells which of the two points with this X it is.
func ecPublicKey(s *session, h handle, spec keySpec) ([]byte, error) {
	size := spec.Size()
	zero := make([]byte, min(size, 64))
	raw, err := rawSignEC(s, h, spec, zero)
	if err != nil {
		return nil, err
	}
	x, err := zeroDigestX(spec.Curve, raw)
	if err != nil {
		return nil, driver.Errorf(driver.Device, "public key from a signature: %w", err)
	}
	digest := make([]byte, 32)
	_, _ = rand.Read(digest)
	signature, err := signEC(s, h, spec, digest)
	if err != nil {
		return nil, err
	}
	for _, parity := range []byte{2, 3} {
		pub, err := ecdsa.ParseUncompressedPublicKey(spec.Curve, pointAt(spec.Curve, parity, x))
		if err == nil && ecdsa.VerifyASN1(pub, digest, signature) {
			return marshalPublic(pub)
		}
	}
	return nil, driver.Errorf(driver.Device, "the key's signatures do not belong to any public key")
}

// zeroDigestX returns the X coordinate of the public key that signed the digest 0 as raw = r | s.
func zeroDigestX(curve elliptic.Curve, raw []byte) ([]byte, error) {
	half := len(raw) / 2
	n := curve.Params().N
	r, s := new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])
	inverse := new(big.Int).ModInverse(r, n)
	if inverse == nil {
		return nil, errBadSignature
	}
	k := inverse.Mul(inverse, s).Mod(inverse, n)
	point, err := dhCurves[curve].NewPublicKey(pointAt(curve, 2, raw[:half])) // either parity gives the same X
	if err != nil {
		return nil, err
	}
	scalar, err := dhCurves[curve].NewPrivateKey(k.FillBytes(make([]byte, half)))
	if err != nil {
		return nil, err
	}
	return scalar.ECDH(point)
}

// pointAt returns the uncompressed form of the point with this X coordinate and this first byte of its compressed form, nil if
// there is no such point.
func pointAt(curve elliptic.Curve, parity byte, x []byte) []byte {
	px, py := elliptic.UnmarshalCompressed(curve, append([]byte{parity}, x...))
	if px == nil {
		return nil
	}
	p := make([]byte, 1+2*len(x))
	p[0] = 4
	px.FillBytes(p[1 : 1+len(x)])
	py.FillBytes(p[1+len(x):])
	return p
}

var errBadSignature = driver.Errorf(driver.Device, "the module's signature is malformed")

var dhCurves = map[elliptic.Curve]ecdh.Curve{
	elliptic.P256(): ecdh.P256(), elliptic.P384(): ecdh.P384(), elliptic.P521(): ecdh.P521(),
}
