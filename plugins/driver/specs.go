package driver

import (
	"crypto"
	"crypto/elliptic"
	"encoding/asn1"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Key specs.
const (
	AES128    = driverv1.KeySpec_AES_128
	AES192    = driverv1.KeySpec_AES_192
	AES256    = driverv1.KeySpec_AES_256
	RSA2048   = driverv1.KeySpec_RSA_2048
	RSA3072   = driverv1.KeySpec_RSA_3072
	RSA4096   = driverv1.KeySpec_RSA_4096
	ECP256    = driverv1.KeySpec_EC_P256
	ECP384    = driverv1.KeySpec_EC_P384
	ECP521    = driverv1.KeySpec_EC_P521
	Secp256k1 = driverv1.KeySpec_EC_SECP256K1
	HMAC256   = driverv1.KeySpec_HMAC_256
	HMAC384   = driverv1.KeySpec_HMAC_384
	HMAC512   = driverv1.KeySpec_HMAC_512
)

// specs is the table of key specs. It is the one place on the driver's side of the contract where the facts of a spec are
// written. The OIDs are those of RFC 5480, and of SEC 2 section A.2 for secp256k1.
var specs = []*Spec{
	{Value: AES128, Name: "AES_128", Family: AES, Bits: 128, Uses: aesUses},
	{Value: AES192, Name: "AES_192", Family: AES, Bits: 192, Uses: aesUses},
	{Value: AES256, Name: "AES_256", Family: AES, Bits: 256, Uses: aesUses},
	{Value: RSA2048, Name: "RSA_2048", Family: RSA, Bits: 2048, Uses: rsaUses},
	{Value: RSA3072, Name: "RSA_3072", Family: RSA, Bits: 3072, Uses: rsaUses},
	{Value: RSA4096, Name: "RSA_4096", Family: RSA, Bits: 4096, Uses: rsaUses},
	{Value: ECP256, Name: "EC_P256", Family: EC, Bits: 256, Uses: ecUses, Curve: elliptic.P256(), OID: asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	{Value: ECP384, Name: "EC_P384", Family: EC, Bits: 384, Uses: ecUses, Curve: elliptic.P384(), OID: asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
	{Value: ECP521, Name: "EC_P521", Family: EC, Bits: 521, Uses: ecUses, Curve: elliptic.P521(), OID: asn1.ObjectIdentifier{1, 3, 132, 0, 35}},
	{Value: Secp256k1, Name: "SECP256K1", Family: EC, Bits: 256, Uses: ecUses, OID: asn1.ObjectIdentifier{1, 3, 132, 0, 10}},
	{Value: HMAC256, Name: "HMAC_256", Family: HMAC, Bits: 256, Uses: hmacUses(HMACSHA256)},
	{Value: HMAC384, Name: "HMAC_384", Family: HMAC, Bits: 384, Uses: hmacUses(HMACSHA384)},
	{Value: HMAC512, Name: "HMAC_512", Family: HMAC, Bits: 512, Uses: hmacUses(HMACSHA512)},
}

// Family is the kind of algorithm that a key spec belongs to.
type Family uint8

// The families.
const (
	AES Family = iota + 1
	HMAC
	RSA
	EC
)

// Spec is the row of one key spec. Rows are shared and must not be changed.
type Spec struct {
	Value  KeySpec
	Name   string                // as the core, the API and PKCS#11 profiles spell it
	Family Family                // 0 in the row of an unknown spec
	Bits   int                   // of a symmetric key, of an RSA modulus, or of a coordinate
	Uses   []Use                 // usages that a key can have, one of which each key has
	Curve  elliptic.Curve        // nil for secp256k1, which Go does not implement, and for other families
	OID    asn1.ObjectIdentifier // of the curve
}

// Use is a usage and the algorithms that a key of this usage can work with. A key for Unwrap has none: an import names its own.
type Use struct {
	Usage      KeyUsage
	Algorithms []Algorithm
}

var (
	aesUses = []Use{{EncryptDecrypt, []Algorithm{AESGCM}}}
	rsaUses = []Use{
		{EncryptDecrypt, []Algorithm{OAEPSHA1, OAEPSHA256}},
		{SignVerify, []Algorithm{PKCS1v15SHA256, PKCS1v15SHA384, PKCS1v15SHA512, PSSSHA256, PSSSHA384, PSSSHA512}},
		{Unwrap, nil},
	}
	ecUses = []Use{
		{SignVerify, []Algorithm{ECDSASHA256, ECDSASHA384, ECDSASHA512}},
		{KeyAgreement, []Algorithm{ECDH}},
	}
)

func hmacUses(a Algorithm) []Use { return []Use{{GenerateVerifyMAC, []Algorithm{a}}} }

// Specs returns the table's rows.
func Specs() []*Spec { return specs[:len(specs):len(specs)] }

// unknownSpec is the row of every spec that is not in the table.
var unknownSpec = &Spec{}

var (
	specsByValue = map[KeySpec]*Spec{}
	specsByName  = map[string]*Spec{}
)

func init() {
	for _, s := range specs {
		specsByValue[s.Value], specsByName[s.Name] = s, s
	}
}

// SpecOf returns the row of a key spec. It never returns nil: the row of an unknown spec has Family 0 and no uses.
func SpecOf(v KeySpec) *Spec {
	if s := specsByValue[v]; s != nil {
		return s
	}
	return unknownSpec
}

// SpecNamed returns the row of a key spec by its name, with Family and Value 0 if there is none.
func SpecNamed(name string) *Spec {
	if s := specsByName[name]; s != nil {
		return s
	}
	return unknownSpec
}

// UsageNamed returns a usage by its name, "ENCRYPT_DECRYPT"; 0 if there is none.
func UsageNamed(name string) KeyUsage { return KeyUsage(driverv1.KeyUsage_value[name]) }

// AlgorithmNamed returns an algorithm by its name, "RSAES_OAEP_SHA_256"; 0 if there is none.
func AlgorithmNamed(name string) Algorithm { return Algorithm(driverv1.Algorithm_value[name]) }

// Size returns the length in bytes of a symmetric key, of an RSA modulus, or of a coordinate.
func (s *Spec) Size() int { return (s.Bits + 7) / 8 }

// Symmetric reports whether keys of the spec are secret keys, without a public half.
func (s *Spec) Symmetric() bool { return s.Family == AES || s.Family == HMAC }

// Algorithms returns what a key of the spec can do if it has the usage; ok is false if it cannot have that usage.
func (s *Spec) Algorithms(usage KeyUsage) (algorithms []Algorithm, ok bool) {
	for _, u := range s.Uses {
		if u.Usage == usage {
			return u.Algorithms, true
		}
	}
	return nil, false
}

// hashes are those of the algorithms that have one.
var hashes = map[Algorithm]crypto.Hash{
	OAEPSHA1: crypto.SHA1, OAEPSHA256: crypto.SHA256,
	RSAAESKeyWrapSHA1: crypto.SHA1, RSAAESKeyWrapSHA256: crypto.SHA256,
	PKCS1v15SHA256: crypto.SHA256, PKCS1v15SHA384: crypto.SHA384, PKCS1v15SHA512: crypto.SHA512,
	PSSSHA256: crypto.SHA256, PSSSHA384: crypto.SHA384, PSSSHA512: crypto.SHA512,
	ECDSASHA256: crypto.SHA256, ECDSASHA384: crypto.SHA384, ECDSASHA512: crypto.SHA512,
	HMACSHA256: crypto.SHA256, HMACSHA384: crypto.SHA384, HMACSHA512: crypto.SHA512,
}

// HashOf returns the hash of a signature, a MAC or OAEP; 0 for an algorithm without one.
func HashOf(a Algorithm) crypto.Hash { return hashes[a] }

// ProtectionName returns a protection as the API and PKCS#11 profiles spell it: hsm, module-unenforced or driver; empty if
// there is none.
func ProtectionName(p Protection) string {
	return protectionNames[p]
}

var protectionNames = map[Protection]string{ProtectionHSM: "hsm", ModuleUnenforced: "module-unenforced", ProtectionProcess: "driver"}
