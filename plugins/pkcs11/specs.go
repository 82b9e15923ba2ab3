package pkcs11

import (
	"crypto"
	"crypto/elliptic"
	"encoding/asn1"
	"encoding/binary"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// secretKey and privateKey are object classes off by one, so that the zero value is no class.
const (
	secretKey  = p11.CKO_SECRET_KEY + 1
	privateKey = p11.CKO_PRIVATE_KEY + 1
)

// keySpec is what PKCS#11 wants to know about a KeySpec.
type keySpec struct {
	class    uint // secretKey or privateKey
	keyType  uint
	generate uint           // mechanism
	bytes    int            // of a secret key
	bits     int            // of an RSA modulus
	field    int            // bytes of a coordinate, and of half a signature, of an elliptic key
	curve    elliptic.Curve // nil for secp256k1, which Go has not
	oid      asn1.ObjectIdentifier
	usages   map[driver.KeyUsage][]driver.Algorithm // what its keys can be for, and how they can do it
}

func (s keySpec) rsa() bool      { return s.bits > 0 }
func (s keySpec) elliptic() bool { return s.field > 0 }

var (
	rsaUsages = map[driver.KeyUsage][]driver.Algorithm{
		driver.SignVerify: {driver.PKCS1v15SHA256, driver.PKCS1v15SHA384, driver.PKCS1v15SHA512,
			driver.PSSSHA256, driver.PSSSHA384, driver.PSSSHA512},
		driver.EncryptDecrypt: {driver.OAEPSHA1, driver.OAEPSHA256},
		driver.Unwrap:         nil, // the algorithms of an import are not the wrapping key's
	}
	ecUsages = map[driver.KeyUsage][]driver.Algorithm{
		driver.SignVerify:   {driver.ECDSASHA256, driver.ECDSASHA384, driver.ECDSASHA512},
		driver.KeyAgreement: {driver.ECDH},
	}
)

func aesSpec(bytes int) keySpec {
	return keySpec{class: secretKey, keyType: p11.CKK_AES, generate: p11.CKM_AES_KEY_GEN, bytes: bytes,
		usages: map[driver.KeyUsage][]driver.Algorithm{driver.EncryptDecrypt: {driver.AESGCM}}}
}

func hmacSpec(bytes int, alg driver.Algorithm) keySpec {
	return keySpec{class: secretKey, keyType: p11.CKK_GENERIC_SECRET, generate: p11.CKM_GENERIC_SECRET_KEY_GEN, bytes: bytes,
		usages: map[driver.KeyUsage][]driver.Algorithm{driver.GenerateVerifyMAC: {alg}}}
}

func rsaSpec(bits int) keySpec {
	return keySpec{class: privateKey, keyType: p11.CKK_RSA, generate: p11.CKM_RSA_PKCS_KEY_PAIR_GEN, bits: bits, usages: rsaUsages}
}

func ecSpec(field int, curve elliptic.Curve, oid ...int) keySpec {
	return keySpec{class: privateKey, keyType: p11.CKK_EC, generate: p11.CKM_EC_KEY_PAIR_GEN, field: field, curve: curve, oid: oid, usages: ecUsages}
}

// specs holds every key spec that the driver knows; a profile takes its own from here.
var specs = map[driver.KeySpec]keySpec{
	driver.AES128:  aesSpec(16),
	driver.AES192:  aesSpec(24),
	driver.AES256:  aesSpec(32),
	driver.HMAC256: hmacSpec(32, driver.HMACSHA256),
	driver.HMAC384: hmacSpec(48, driver.HMACSHA384),
	driver.HMAC512: hmacSpec(64, driver.HMACSHA512),
	driver.RSA2048: rsaSpec(2048),
	driver.RSA3072: rsaSpec(3072),
	driver.RSA4096: rsaSpec(4096),
	driver.ECP256:  ecSpec(32, elliptic.P256(), 1, 2, 840, 10045, 3, 1, 7),
	driver.ECP384:  ecSpec(48, elliptic.P384(), 1, 3, 132, 0, 34),
	driver.ECP521:  ecSpec(66, elliptic.P521(), 1, 3, 132, 0, 35),

	driver.Secp256k1: ecSpec(32, nil, 1, 3, 132, 0, 10),
}

// signature describes a signing or MAC algorithm.
type signature struct {
	hash   crypto.Hash
	mech   mechanism
	prefix []byte // DigestInfo without the digest, RFC 8017 section 9.2 note 1
}

// The DigestInfo prefixes of RFC 8017.
var (
	prefixSHA256 = []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	prefixSHA384 = []byte{0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30}
	prefixSHA512 = []byte{0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40}
)

var signatures = map[driver.Algorithm]signature{
	driver.PKCS1v15SHA256: {crypto.SHA256, mechanism{id: p11.CKM_RSA_PKCS}, prefixSHA256},
	driver.PKCS1v15SHA384: {crypto.SHA384, mechanism{id: p11.CKM_RSA_PKCS}, prefixSHA384},
	driver.PKCS1v15SHA512: {crypto.SHA512, mechanism{id: p11.CKM_RSA_PKCS}, prefixSHA512},
	driver.PSSSHA256:      {crypto.SHA256, pss(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 32), nil},
	driver.PSSSHA384:      {crypto.SHA384, pss(p11.CKM_SHA384, p11.CKG_MGF1_SHA384, 48), nil},
	driver.PSSSHA512:      {crypto.SHA512, pss(p11.CKM_SHA512, p11.CKG_MGF1_SHA512, 64), nil},
	driver.ECDSASHA256:    {crypto.SHA256, mechanism{id: p11.CKM_ECDSA}, nil},
	driver.ECDSASHA384:    {crypto.SHA384, mechanism{id: p11.CKM_ECDSA}, nil},
	driver.ECDSASHA512:    {crypto.SHA512, mechanism{id: p11.CKM_ECDSA}, nil},
	driver.HMACSHA256:     {crypto.SHA256, mechanism{id: p11.CKM_SHA256_HMAC}, nil},
	driver.HMACSHA384:     {crypto.SHA384, mechanism{id: p11.CKM_SHA384_HMAC}, nil},
	driver.HMACSHA512:     {crypto.SHA512, mechanism{id: p11.CKM_SHA512_HMAC}, nil},
}

var hmacSHA256 = mechanism{id: p11.CKM_SHA256_HMAC}

func pss(hash, mgf, salt uint64) mechanism {
	return mechanism{p11.CKM_RSA_PKCS_PSS, words(hash, mgf, salt)}
}

// words encodes CK_ULONGs, which are 8 bytes in the byte order of the processor.
func words(values ...uint64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

// rsaBlocks says how a block under an RSA key is opened: in one call inside the HSM where the profile says so, else by a
// raw RSA decryption and OAEP decoding with hash.
var rsaBlocks = map[driver.Algorithm]struct {
	mech mechanism
	hash crypto.Hash
}{
	driver.PKCS1v15:            {mech: mechanism{id: p11.CKM_RSA_PKCS}},
	driver.OAEPSHA1:            {oaep(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1), crypto.SHA1},
	driver.OAEPSHA256:          {oaep(p11.CKM_SHA256, p11.CKG_MGF1_SHA256), crypto.SHA256},
	driver.RSAAESKeyWrapSHA1:   {oaep(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1), crypto.SHA1},
	driver.RSAAESKeyWrapSHA256: {oaep(p11.CKM_SHA256, p11.CKG_MGF1_SHA256), crypto.SHA256},
}

// oaep is OAEP with an empty label: CKZ_DATA_SPECIFIED and no data.
func oaep(hash, mgf uint64) mechanism {
	return mechanism{p11.CKM_RSA_PKCS_OAEP, words(hash, mgf, p11.CKZ_DATA_SPECIFIED, 0, 0)}
}

// uses is a set of what a key may do.
type uses struct{ encrypt, decrypt, sign, verify, wrap, unwrap, derive bool }

// workUses returns what a working key of a usage may do, and nothing else.
func workUses(usage driver.KeyUsage, class uint) uses {
	switch usage {
	case driver.EncryptDecrypt:
		return uses{encrypt: class == secretKey, decrypt: true}
	case driver.SignVerify:
		return uses{sign: true}
	case driver.GenerateVerifyMAC:
		return uses{sign: true, verify: class == secretKey}
	case driver.KeyAgreement:
		return uses{derive: true}
	case driver.Unwrap:
		return uses{decrypt: true, unwrap: true}
	}
	return uses{}
}

// template returns the attributes of a key object with exactly these uses. What locks an object comes in extra, at the end:
// some modules apply a template in its order.
func (s keySpec) template(u uses, extractable bool, extra ...*p11.Attribute) []*p11.Attribute {
	t := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, s.class-1),
		p11.NewAttribute(p11.CKA_KEY_TYPE, s.keyType),
		p11.NewAttribute(p11.CKA_PRIVATE, true),
		p11.NewAttribute(p11.CKA_SENSITIVE, true),
		p11.NewAttribute(p11.CKA_EXTRACTABLE, extractable),
		p11.NewAttribute(p11.CKA_DECRYPT, u.decrypt),
		p11.NewAttribute(p11.CKA_SIGN, u.sign),
		p11.NewAttribute(p11.CKA_UNWRAP, u.unwrap),
		p11.NewAttribute(p11.CKA_DERIVE, u.derive),
	}
	if s.class == secretKey {
		t = append(t,
			p11.NewAttribute(p11.CKA_ENCRYPT, u.encrypt),
			p11.NewAttribute(p11.CKA_VERIFY, u.verify),
			p11.NewAttribute(p11.CKA_WRAP, u.wrap))
	}
	return append(t, extra...)
}

// session objects are the rule; token is for the tenant's keys.
func inSession() *p11.Attribute { return p11.NewAttribute(p11.CKA_TOKEN, false) }
func onToken() *p11.Attribute   { return p11.NewAttribute(p11.CKA_TOKEN, true) }

// publicTemplate returns the attributes of the public half of a pair to be generated. It is a session object always:
// the driver reads it once and destroys it.
func (s keySpec) publicTemplate() []*p11.Attribute {
	t := []*p11.Attribute{inSession(), p11.NewAttribute(p11.CKA_VERIFY, true)}
	if s.rsa() {
		return append(t, p11.NewAttribute(p11.CKA_MODULUS_BITS, s.bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	}
	return append(t, p11.NewAttribute(p11.CKA_EC_PARAMS, s.ecParams()))
}

func (s keySpec) ecParams() []byte {
	der, _ := asn1.Marshal(s.oid) // an OID of constants always encodes
	return der
}
