// Package material opens imported key material in a driver process (RFC 5649, files of `openssl enc`), and reads private keys as PKCS#8,
// PKCS#1 and SEC 1, also for the command line. A driver never says what is wrong: the sender of bad material must not learn how far its
// decryption went.
package material

import (
	"bytes"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

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
	key, err := readPKCS8(der, spec)
	return key.ofSpec(spec, err)
}

// ofSpec returns the DER of a key that was read without error and is of the spec.
func (k *PrivateKey) ofSpec(spec driver.KeySpec, err error) (pkcs8 []byte, ok bool) {
	switch {
	case err != nil:
		return nil, false
	case k.Spec != spec:
		clear(k.PKCS8)
		return nil, false
	}
	return k.PKCS8, true
}

var (
	oidRSA = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}  // rsaEncryption, RFC 8017
	oidPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10} // RSASSA-PSS, RFC 4055
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}      // id-ecPublicKey, RFC 5480
)

// readPKCS8 reads an unencrypted PrivateKeyInfo (RFC 5208), or a OneAsymmetricKey (RFC 5958), whose public key must be that of the
// private key. It ignores attributes.
func readPKCS8(der []byte, spec driver.KeySpec) (*PrivateKey, error) {
	var info, algorithm, key, public cryptobyte.String
	var version int
	var hasPublic bool
	var oid asn1.ObjectIdentifier
	s := cryptobyte.String(der)
	if !s.ReadASN1(&info, casn1.SEQUENCE) || !s.Empty() ||
		!info.ReadASN1Integer(&version) || version < 0 || version > 1 ||
		!info.ReadASN1(&algorithm, casn1.SEQUENCE) || !algorithm.ReadASN1ObjectIdentifier(&oid) ||
		!info.ReadASN1(&key, casn1.OCTET_STRING) ||
		!info.SkipOptionalASN1(casn1.Tag(0).ContextSpecific().Constructed()) ||
		!info.ReadOptionalASN1(&public, &hasPublic, casn1.Tag(1).ContextSpecific()) || !info.Empty() {
		return nil, errMalformed
	}
	if hasPublic && (len(public) < 2 || public[0] != 0) { // a BIT STRING begins with the number of its unused bits
		return nil, errMalformed
	}
	var bits []byte
	if hasPublic {
		bits = public[1:]
	}
	switch {
	case oid.Equal(oidRSA):
		if len(algorithm) > 0 && !bytes.Equal(algorithm, []byte{5, 0}) { // the parameters are NULL; some tools omit it
			return nil, errMalformed
		}
		return readPKCS1(key, bits)
	case oid.Equal(oidEC):
		curve, err := readCurve(algorithm)
		if err != nil {
			return nil, err
		}
		return readSEC1(key, curve, bits, spec)
	case oid.Equal(oidPSS):
		return nil, errPSS
	}
	return nil, refuse("is a key for %s, and private keys are imported only for RSA and ECDSA or ECDH", named(algorithms, oid))
}

// readPKCS1 reads an RSAPrivateKey (RFC 8017 section A.1.2). public is the RSAPublicKey that must be that of the key, unless it is nil.
// Go's reader checks that the parts belong together; encoding the key again checks that the DER has no other bytes.
func readPKCS1(der, public []byte) (*PrivateKey, error) {
	row, err := rsaSpec(der)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, refuse("is an RSA key whose parts do not belong together")
	}
	again := x509.MarshalPKCS1PrivateKey(key)
	defer clear(again)
	switch {
	case !bytes.Equal(again, der):
		return nil, errMalformed
	case !strong(key):
		return nil, refuse("is an RSA key whose primes or private exponent FIPS 186-5 section A.1.1 refuses")
	case public != nil && !bytes.Equal(public, x509.MarshalPKCS1PublicKey(&key.PublicKey)):
		return nil, refuse("holds the public key of another private key")
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	return &PrivateKey{row.Value, pkcs8}, err
}

// maxExponent is the length limit of public exponents in bits, that of Go's reader of public keys.
const maxExponent = 31

// rsaSpec returns the spec of an RSAPrivateKey, or what is wrong with its numbers by themselves.
func rsaSpec(der []byte) (*driver.Spec, error) {
	var key cryptobyte.String
	var version int
	var n, e, d, p, q, dp, dq, qInv big.Int
	s := cryptobyte.String(der)
	if !s.ReadASN1(&key, casn1.SEQUENCE) || !s.Empty() || !key.ReadASN1Integer(&version) {
		return nil, errMalformed
	}
	for _, part := range []*big.Int{&n, &e, &d, &p, &q, &dp, &dq, &qInv} {
		if !key.ReadASN1Integer(part) {
			return nil, refuse("is not an RSA key: its numbers are not those of PKCS #1")
		}
	}
	switch {
	case version == 1 || !key.Empty():
		return nil, refuse("is an RSA key of three or more primes, and only keys of two primes are imported")
	case version != 0:
		return nil, errMalformed
	case p.Sign() <= 0 || q.Sign() <= 0 || d.Sign() <= 0:
		return nil, refuse("is an RSA key without its primes or private exponent")
	case e.BitLen() > maxExponent:
		return nil, refuse("is an RSA key with a public exponent of %d bits, and the drivers support at most %d bits", e.BitLen(), maxExponent)
	case e.Bit(0) == 0 || e.Cmp(big.NewInt(1<<16)) <= 0:
		return nil, refuse("is an RSA key with the public exponent %s, and FIPS 186-5 demands an odd exponent above 65536", &e)
	}
	for _, row := range driver.Specs() {
		if row.Family == driver.RSA && row.Bits == n.BitLen() {
			return row, nil
		}
	}
	return nil, refuse("is an RSA key of %d bits, and RSA keys are imported only with %s bits", n.BitLen(), specNames(driver.RSA))
}

// strong checks a key by FIPS 186-5 section A.1.1: primes of half the modulus' length that are not close, d above half of it.
func strong(key *rsa.PrivateKey) bool {
	half := key.N.BitLen() / 2
	p, q := key.Primes[0], key.Primes[1]
	distance := new(big.Int).Sub(p, q)
	return p.BitLen() == half && q.BitLen() == half && distance.BitLen() > half-100 && key.D.BitLen() > half &&
		p.ProbablyPrime(1) && q.ProbablyPrime(1)
}
