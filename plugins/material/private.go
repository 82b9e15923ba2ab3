// Package material opens imported key material in a driver process: RFC 5649, files of `openssl enc`, and private keys as PKCS#8,
// PKCS#1 and SEC 1. It accepts a key only if every byte is accounted for, and never says what is wrong: the sender of bad material
// must not learn how far its decryption went.
package material

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyside/keyside/plugins/driver"
)

// OpenPrivateKey opens the container of a private key: PKCS#8 DER under RFC 5649 with the temporary key, or a file of openssl enc
// (see IsOpenSSL) with the temporary key as password. It returns the key as canonical PKCS#8 DER, which the caller must clear. If that
// is no key of the spec, ok is false and the result is a stand-in, with which the caller goes on until the material would be stored.
//
// It opens two containers, one with success and one without: the caller's, and a stand-in with its own key or with another one. So
// its time does not tell which of them was good.
func OpenPrivateKey(spec driver.KeySpec, temporary, container []byte) (pkcs8 []byte, ok bool) {
	if fips140.Enforced() && IsOpenSSL(container) { // which forbids openssl's salts of 8 bytes
		return StandIn(spec), false
	}
	own := Random(32)
	for i := range own {
		own[i] |= 0x40 // neither a line feed nor a zero, where openssl's password ends
	}
	other := standInContainer(spec, own, container)
	theirs, ok := openContainer(spec, temporary, container)
	if ok {
		own = Random(32)
	}
	standIn, _ := openContainer(spec, own, other)
	if ok {
		return theirs, true
	}
	return standIn, false
}

func openContainer(spec driver.KeySpec, temporary, container []byte) (pkcs8 []byte, ok bool) {
	if IsOpenSSL(container) {
		return openOpenSSL(spec, temporary, container)
	}
	w, err := NewKeyWrap(temporary)
	if err != nil {
		return nil, false
	}
	der, ok := w.Unwrap(container)
	defer clear(der)
	if !ok {
		return nil, false
	}
	return readPKCS8(spec, der)
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} // rsaEncryption, RFC 8017
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}     // id-ecPublicKey, RFC 5480
)

// readPKCS8 reads an unencrypted PrivateKeyInfo (RFC 5208, and RFC 5958 with its public key). It refuses an encrypted one.
func readPKCS8(spec driver.KeySpec, der []byte) ([]byte, bool) {
	var info, algorithm, key cryptobyte.String
	var version int
	var oid asn1.ObjectIdentifier
	s := cryptobyte.String(der)
	if !s.ReadASN1(&info, casn1.SEQUENCE) || !s.Empty() ||
		!info.ReadASN1Integer(&version) || version < 0 || version > 1 ||
		!info.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!info.ReadASN1(&key, casn1.OCTET_STRING) ||
		!info.SkipOptionalASN1(casn1.Tag(0).ContextSpecific().Constructed()) ||
		!info.SkipOptionalASN1(casn1.Tag(1).ContextSpecific()) || !info.Empty() {
		return nil, false
	}
	row := driver.SpecOf(spec)
	if row.Family == driver.RSA {
		return readPKCS1(spec, key, oid.Equal(oidRSA) && bytes.Equal(algorithm, []byte{5, 0})) // the parameters are NULL
	}
	var named asn1.ObjectIdentifier
	right := oid.Equal(oidEC) && algorithm.ReadASN1ObjectIdentifier(&named) && algorithm.Empty() && named.Equal(row.OID)
	return readSEC1(spec, key, right)
}

// readPKCS1 reads an RSAPrivateKey (RFC 8017 section A.1.2) and checks it by FIPS 186-5 section A.1.1: e odd and above 2^16, primes of
// half the modulus' length that are not close, d above half of it. Go's reader checks that the parts belong together; encoding the
// key again checks that the DER has no other bytes. If right is false, the result is false.
func readPKCS1(spec driver.KeySpec, der []byte, right bool) ([]byte, bool) {
	row := driver.SpecOf(spec)
	bits := row.Bits
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil || !right || row.Family != driver.RSA || len(key.Primes) != 2 || key.N.BitLen() != bits || key.E <= 1<<16 || key.E&1 == 0 {
		return nil, false
	}
	p, q := key.Primes[0], key.Primes[1]
	distance := new(big.Int).Sub(p, q)
	again := x509.MarshalPKCS1PrivateKey(key)
	defer clear(again)
	if p.BitLen() != bits/2 || q.BitLen() != bits/2 || distance.BitLen() <= bits/2-100 || key.D.BitLen() <= bits/2 ||
		!p.ProbablyPrime(1) || !q.ProbablyPrime(1) || !bytes.Equal(again, der) {
		return nil, false
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	return pkcs8, err == nil
}

// readSEC1 reads an ECPrivateKey (RFC 5915). The curve and the public point, if present, must be those of the key.
func readSEC1(spec driver.KeySpec, der []byte, right bool) ([]byte, bool) {
	row := driver.SpecOf(spec)
	var key, params, public, scalar cryptobyte.String
	var hasParams, hasPublic bool
	var version int
	s := cryptobyte.String(der)
	if row.Family != driver.EC || !right || !s.ReadASN1(&key, casn1.SEQUENCE) || !s.Empty() ||
		!key.ReadASN1Integer(&version) || version != 1 || !key.ReadASN1(&scalar, casn1.OCTET_STRING) ||
		!key.ReadOptionalASN1(&params, &hasParams, casn1.Tag(0).ContextSpecific().Constructed()) ||
		!key.ReadOptionalASN1(&public, &hasPublic, casn1.Tag(1).ContextSpecific().Constructed()) || !key.Empty() ||
		len(scalar) == 0 || len(scalar) > row.Size() {
		return nil, false
	}
	var named asn1.ObjectIdentifier
	if hasParams && (!params.ReadASN1ObjectIdentifier(&named) || !params.Empty() || !named.Equal(row.OID)) {
		return nil, false
	}
	padded := make([]byte, row.Size()) // some tools omit leading zeros
	defer clear(padded)
	copy(padded[len(padded)-len(scalar):], scalar)
	point, ok := publicPoint(row.Curve, padded)
	if !ok || hasPublic && !isPoint(public, point) {
		return nil, false
	}
	return encodeEC(row.OID, padded, point)
}

// publicPoint returns the uncompressed public point of a scalar, which must be from 1 to below the curve's order. A nil curve
// is secp256k1, which Go does not implement.
func publicPoint(curve elliptic.Curve, scalar []byte) ([]byte, bool) {
	if curve == nil {
		var d secp256k1.ModNScalar
		defer d.Zero()
		if overflow := d.SetByteSlice(scalar); overflow || d.IsZero() {
			return nil, false
		}
		return secp256k1.NewPrivateKey(&d).PubKey().SerializeUncompressed(), true
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		return nil, false
	}
	point, err := key.PublicKey.Bytes()
	return point, err == nil
}

// isPoint reports whether a BIT STRING holds the point, uncompressed or compressed (SEC 1 section 2.3.3).
func isPoint(public cryptobyte.String, point []byte) bool {
	var given []byte
	if !public.ReadASN1BitStringAsBytes(&given) || !public.Empty() {
		return false
	}
	size := (len(point) - 1) / 2
	compressed := append([]byte{2 | point[len(point)-1]&1}, point[1:1+size]...)
	return bytes.Equal(given, point) || bytes.Equal(given, compressed)
}

// encodeEC encodes PKCS#8 as Go and openssl do.
func encodeEC(curve asn1.ObjectIdentifier, scalar, point []byte) ([]byte, bool) {
	var inner, b cryptobyte.Builder
	inner.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1OctetString(scalar)
		b.AddASN1(casn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1BitString(point) })
	})
	sec1, err := inner.Bytes()
	defer clear(sec1)
	if err != nil {
		return nil, false
	}
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidEC)
			b.AddASN1ObjectIdentifier(curve)
		})
		b.AddASN1OctetString(sec1)
	})
	pkcs8, err := b.Bytes()
	return pkcs8, err == nil
}
