package drivertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"maps"
	"math/big"

	"github.com/keyside/keyside/plugins/driver"
)

// wrongMaterials returns material that decrypts but is not a key of its spec, or an unsafe key.
func wrongMaterials(p *probe, m *material) map[string]*material {
	longer := append(bytes.Clone(m.raw), 1)
	if m.spki == nil {
		return m.with(map[string][]byte{"a key one byte short": m.raw[1:], "a key one byte long": longer, "a key of one byte": m.raw[:1]})
	}
	wrong := m.with(map[string][]byte{
		"no PKCS#8": []byte("this is no private key at all"), "half a PKCS#8": m.raw[:len(m.raw)/2],
		"an encrypted PKCS#8": encryptedPKCS8(p), "a byte behind PKCS#8": longer,
	})
	wrong["a byte behind PKCS#8"].longer = true
	ofFamily := wrongElliptic
	if isRSA(m.kind.spec) {
		ofFamily = wrongRSA
	}
	maps.Copy(wrong, m.with(ofFamily(p, m)))
	return wrong
}

// with returns m with other bytes in the place of its own.
func (m *material) with(raws map[string][]byte) map[string]*material {
	list := map[string]*material{}
	for what, raw := range raws {
		list[what] = &material{kind: m.kind, raw: raw, spki: m.spki}
	}
	return list
}

func wrongRSA(p *probe, m *material) map[string][]byte {
	key := m.private.(*rsa.PrivateKey)
	other := rsaParts{N: new(big.Int).Add(key.N, big.NewInt(2)), E: key.E, D: key.D, P: key.Primes[0], Q: key.Primes[1],
		Dp: key.Precomputed.Dp, Dq: key.Precomputed.Dq, QInv: key.Precomputed.Qinv}
	return map[string][]byte{
		"a modulus of 1024 bits": rsaPKCS8(p, smallRSA(p)), "a weak exponent": rsaPKCS8(p, withWeakExponent(p, key)),
		"another key's modulus": rsaPKCS8(p, other), "an elliptic key": mustMaterial(p, kind{driver.ECP256, driver.SignVerify}).raw,
	}
}

func wrongElliptic(p *probe, m *material) map[string][]byte {
	spec := driver.ECP384
	if m.kind.spec == driver.ECP384 {
		spec = driver.ECP256
	}
	key := m.private.(*ecdsa.PrivateKey)
	scalar, err := key.Bytes()
	p.must(err, "scalar of a key that go made")
	point, err := key.PublicKey.Bytes()
	p.must(err, "point of a key that go made")
	point[len(point)-1] ^= 1
	order := key.Params().N.FillBytes(make([]byte, len(scalar)))
	return map[string][]byte{
		"a key of another curve":         mustMaterial(p, kind{spec, m.kind.usage}).raw,
		"a point off the curve":          ellipticPKCS8(p, m.kind.spec, scalar, point),
		"scalar 0":                       ellipticPKCS8(p, m.kind.spec, make([]byte, len(scalar)), nil),
		"a scalar as large as the order": ellipticPKCS8(p, m.kind.spec, order, nil),
	}
}

// rsaParts is RSAPrivateKey of RFC 8017 section A.1.2.
type rsaParts struct {
	Version               int
	N                     *big.Int
	E                     int
	D, P, Q, Dp, Dq, QInv *big.Int
}

// smallRSA generates a key of 1024 bits, which Go's generator refuses in FIPS 140-only mode.
func smallRSA(p *probe) rsaParts {
	one := big.NewInt(1)
	for {
		first, second := smallPrime(p), smallPrime(p)
		p1, q1 := new(big.Int).Sub(first, one), new(big.Int).Sub(second, one)
		d := new(big.Int).ModInverse(big.NewInt(65537), new(big.Int).Mul(p1, q1))
		if d == nil || first.Cmp(second) == 0 {
			continue
		}
		return rsaParts{N: new(big.Int).Mul(first, second), E: 65537, D: d, P: first, Q: second,
			Dp: new(big.Int).Mod(d, p1), Dq: new(big.Int).Mod(d, q1), QInv: new(big.Int).ModInverse(second, first)}
	}
}

// smallPrime returns a prime of 512 bits whose two highest bits are set, so that the product of two has 1024 bits.
func smallPrime(p *probe) *big.Int {
	var b [64]byte
	for {
		_, err := rand.Read(b[:])
		p.must(err, "random bytes")
		b[0] |= 0xc0
		b[len(b)-1] |= 1
		if n := new(big.Int).SetBytes(b[:]); n.ProbablyPrime(20) {
			return n
		}
	}
}

// withWeakExponent returns a key with the smallest public exponent that its primes allow.
func withWeakExponent(p *probe, key *rsa.PrivateKey) rsaParts {
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(key.Primes[0], one), new(big.Int).Sub(key.Primes[1], one)
	for e := int64(3); e < 1<<16; e += 2 {
		if d := new(big.Int).ModInverse(big.NewInt(e), new(big.Int).Mul(p1, q1)); d != nil {
			return rsaParts{N: key.N, E: int(e), D: d, P: key.Primes[0], Q: key.Primes[1],
				Dp: new(big.Int).Mod(d, p1), Dq: new(big.Int).Mod(d, q1), QInv: key.Precomputed.Qinv}
		}
	}
	p.Fatalf("no exponent below 2^16 fits the primes of the key")
	return rsaParts{}
}

// The OIDs of PKCS#8: rsaEncryption, id-ecPublicKey, and PBES2 of RFC 8018.
var (
	oidRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidEC    = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidPBES2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
)

type algorithmID struct {
	OID        asn1.ObjectIdentifier
	Parameters any
}

type privateKeyInfo struct {
	Version   int
	Algorithm asn1.RawValue
	Key       []byte
}

func rsaPKCS8(p *probe, key rsaParts) []byte {
	return inPKCS8(p, oidRSA, asn1.NullRawValue, marshalDER(p, key))
}

func ellipticPKCS8(p *probe, spec driver.KeySpec, scalar, point []byte) []byte {
	return inPKCS8(p, oidEC, driver.SpecOf(spec).OID, marshalDER(p, struct {
		Version int
		Scalar  []byte
		Point   asn1.BitString `asn1:"optional,explicit,tag:1"`
	}{1, scalar, asn1.BitString{Bytes: point, BitLength: 8 * len(point)}}))
}

func inPKCS8(p *probe, oid asn1.ObjectIdentifier, parameters any, key []byte) []byte {
	return marshalDER(p, privateKeyInfo{Algorithm: asn1.RawValue{FullBytes: marshalDER(p, algorithmID{oid, parameters})}, Key: key})
}

// encryptedPKCS8 returns an EncryptedPrivateKeyInfo with meaningless content.
func encryptedPKCS8(p *probe) []byte {
	return marshalDER(p, struct{ Algorithm, Data any }{algorithmID{oidPBES2, asn1.NullRawValue}, make([]byte, 128)})
}

func marshalDER(p *probe, v any) []byte {
	der, err := asn1.Marshal(v)
	p.must(err, "encode a key")
	return der
}
