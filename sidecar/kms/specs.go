package kms

import (
	"crypto/elliptic"
	"maps"
	"slices"
)

// KeySpec is the name of a key spec: an algorithm with a size or a curve. Drivers know the same names.
type KeySpec string

// The key specs. SM2 and SM4 are known by name so that a dialect can refuse them as the cloud would.
const (
	AES128    KeySpec = "AES_128"
	AES192    KeySpec = "AES_192"
	AES256    KeySpec = "AES_256"
	RSA2048   KeySpec = "RSA_2048"
	RSA3072   KeySpec = "RSA_3072"
	RSA4096   KeySpec = "RSA_4096"
	ECP256    KeySpec = "EC_P256"
	ECP384    KeySpec = "EC_P384"
	ECP521    KeySpec = "EC_P521"
	Secp256k1 KeySpec = "SECP256K1"
	HMAC256   KeySpec = "HMAC_256"
	HMAC384   KeySpec = "HMAC_384"
	HMAC512   KeySpec = "HMAC_512"
	SM2       KeySpec = "SM2"
	SM4       KeySpec = "SM4"
)

// Family is the kind of algorithm that a key spec belongs to.
type Family uint8

// The families.
const (
	AES Family = iota + 1
	RSA
	EC
	HMAC
	SM // no key of it can be made
)

// spec is the row of a key spec.
type spec struct {
	name       KeySpec
	family     Family
	bits       int // of a symmetric key, of an RSA modulus or of a curve's field
	uses       []use
	encryption []EncryptionAlgorithm
	signing    []SigningAlgorithm
	mac        MACAlgorithm
	curve      elliptic.Curve // nil where Go does not implement it
}

// use is a usage that a key can have, and the kind of key that it makes. The first of a spec is the default.
type use struct {
	usage KeyUsage
	kind  kind
}

// specs has a row for every key spec.
var specs = []spec{
	{name: AES128, family: AES, bits: 128, uses: aesUses, encryption: aesEncryption},
	{name: AES192, family: AES, bits: 192, uses: aesUses, encryption: aesEncryption},
	{name: AES256, family: AES, bits: 256, uses: aesUses, encryption: aesEncryption},
	{name: RSA2048, family: RSA, bits: 2048, uses: rsaUses, encryption: rsaEncryption, signing: rsaSigning},
	{name: RSA3072, family: RSA, bits: 3072, uses: rsaUses, encryption: rsaEncryption, signing: rsaSigning},
	{name: RSA4096, family: RSA, bits: 4096, uses: rsaUses, encryption: rsaEncryption, signing: rsaSigning},
	{name: ECP256, family: EC, bits: 256, uses: ecUses, signing: ecSigning, curve: elliptic.P256()},
	{name: ECP384, family: EC, bits: 384, uses: ecUses, signing: ecSigning, curve: elliptic.P384()},
	{name: ECP521, family: EC, bits: 521, uses: ecUses, signing: ecSigning, curve: elliptic.P521()},
	{name: Secp256k1, family: EC, bits: 256, uses: ecUses, signing: ecSigning},
	{name: HMAC256, family: HMAC, bits: 256, uses: hmacUses, mac: HMACSHA256},
	{name: HMAC384, family: HMAC, bits: 384, uses: hmacUses, mac: HMACSHA384},
	{name: HMAC512, family: HMAC, bits: 512, uses: hmacUses, mac: HMACSHA512},
	{name: SM2, family: SM},
	{name: SM4, family: SM},
}

var (
	aesUses  = []use{{EncryptDecrypt, symmetricKey}}
	rsaUses  = []use{{SignVerify, signingKey}, {EncryptDecrypt, decryptingKey}}
	ecUses   = []use{{SignVerify, ellipticKey}, {KeyAgreement, agreementKey}}
	hmacUses = []use{{GenerateVerifyMAC, macKey}}

	aesEncryption = []EncryptionAlgorithm{SymmetricDefault}
	rsaEncryption = []EncryptionAlgorithm{RSAOAEPSHA1, RSAOAEPSHA256}
	rsaSigning    = []SigningAlgorithm{
		RSAPSSSHA256, RSAPSSSHA384, RSAPSSSHA512, RSAPKCS1SHA256, RSAPKCS1SHA384, RSAPKCS1SHA512,
	}
	// ECDSA takes any of the hashes on any curve: a digest longer than the curve's order is truncated (FIPS 186-5, 6.4.1).
	ecSigning = []SigningAlgorithm{ECDSASHA256, ECDSASHA384, ECDSASHA512}
)

var specsByName = func() map[KeySpec]*spec {
	m := make(map[KeySpec]*spec, len(specs))
	for i := range specs {
		m[specs[i].name] = &specs[i]
	}
	return m
}()

// row returns the row of a spec, an empty one if it is unknown.
func (s KeySpec) row() *spec {
	if r := specsByName[s]; r != nil {
		return r
	}
	return &spec{}
}

// size returns the length of a symmetric key, a modulus or a coordinate in bytes.
func (s *spec) size() int { return (s.bits + 7) / 8 }

func (s *spec) asymmetric() bool { return s.family == RSA || s.family == EC }

// pairs reports whether data key pairs of the spec can be made, which is done with Go's own cryptography.
func (s *spec) pairs() bool { return s.family == RSA || s.curve != nil }

// kind returns the kind of key that the spec and a usage make, 0 if the spec does not have the usage.
func (s *spec) kind(usage KeyUsage) kind {
	for _, u := range s.uses {
		if u.usage == usage {
			return u.kind
		}
	}
	return 0
}

// SpecNames returns the names of the key specs of some families, in the order of the families and then of size.
func SpecNames(families ...Family) []string {
	var names []string
	for _, f := range families {
		for i := range specs {
			if specs[i].family == f {
				names = append(names, string(specs[i].name))
			}
		}
	}
	return names
}

// UsageNames returns the names of all usages of customers' keys.
func UsageNames() []string {
	return namesOf(func(s *spec) (usages []KeyUsage) {
		for _, u := range s.uses {
			usages = append(usages, u.usage)
		}
		return usages
	})
}

// EncryptionNames returns the names of all encryption algorithms.
func EncryptionNames() []string {
	return namesOf(func(s *spec) []EncryptionAlgorithm { return s.encryption })
}

// SigningNames returns the names of all signing algorithms.
func SigningNames() []string { return namesOf(func(s *spec) []SigningAlgorithm { return s.signing }) }

// MACNames returns the names of all MAC algorithms.
func MACNames() []string {
	return namesOf(func(s *spec) []MACAlgorithm {
		return slices.DeleteFunc([]MACAlgorithm{s.mac}, func(a MACAlgorithm) bool { return a == "" })
	})
}

// WrappingNames returns the names of all wrapping algorithms.
func WrappingNames() []string {
	var names []string
	for _, alg := range slices.Sorted(maps.Keys(wraps)) {
		names = append(names, string(alg))
	}
	return names
}

// namesOf returns what the rows of the table have, each name once, in their order.
func namesOf[T ~string](of func(*spec) []T) (names []string) {
	for i := range specs {
		for _, name := range of(&specs[i]) {
			if !slices.Contains(names, string(name)) {
				names = append(names, string(name))
			}
		}
	}
	return names
}
