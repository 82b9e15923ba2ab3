package pkcs11

import (
	"encoding/asn1"
	"encoding/binary"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// secretKey and privateKey are object classes plus one, so that the zero value is not a class.
const (
	secretKey  = p11.CKO_SECRET_KEY + 1
	privateKey = p11.CKO_PRIVATE_KEY + 1
)

// family has PKCS#11's class, key type and generation mechanism of a family.
type family struct {
	class    uint // secretKey or privateKey
	keyType  uint
	generate uint // mechanism
}

var families = map[driver.Family]family{
	driver.AES:  {secretKey, p11.CKK_AES, p11.CKM_AES_KEY_GEN},
	driver.HMAC: {secretKey, p11.CKK_GENERIC_SECRET, p11.CKM_GENERIC_SECRET_KEY_GEN},
	driver.RSA:  {privateKey, p11.CKK_RSA, p11.CKM_RSA_PKCS_KEY_PAIR_GEN},
	driver.EC:   {privateKey, p11.CKK_EC, p11.CKM_EC_KEY_PAIR_GEN},
}

// keySpec is a key spec with PKCS#11's names for it.
type keySpec struct {
	*driver.Spec
	family
}

// specOf returns the row of a spec. An unknown spec has class 0.
func specOf(spec driver.KeySpec) keySpec {
	row := driver.SpecOf(spec)
	return keySpec{row, families[row.Family]}
}

func (s keySpec) rsa() bool      { return s.Family == driver.RSA }
func (s keySpec) elliptic() bool { return s.Family == driver.EC }

// signature says how an algorithm signs or makes a MAC.
type signature struct {
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
	driver.PKCS1v15SHA256: {mechanism{id: p11.CKM_RSA_PKCS}, prefixSHA256},
	driver.PKCS1v15SHA384: {mechanism{id: p11.CKM_RSA_PKCS}, prefixSHA384},
	driver.PKCS1v15SHA512: {mechanism{id: p11.CKM_RSA_PKCS}, prefixSHA512},
	driver.PSSSHA256:      {mech: pss(p11.CKM_SHA256, p11.CKG_MGF1_SHA256, 32)},
	driver.PSSSHA384:      {mech: pss(p11.CKM_SHA384, p11.CKG_MGF1_SHA384, 48)},
	driver.PSSSHA512:      {mech: pss(p11.CKM_SHA512, p11.CKG_MGF1_SHA512, 64)},
	driver.ECDSASHA256:    {mech: mechanism{id: p11.CKM_ECDSA}},
	driver.ECDSASHA384:    {mech: mechanism{id: p11.CKM_ECDSA}},
	driver.ECDSASHA512:    {mech: mechanism{id: p11.CKM_ECDSA}},
	driver.HMACSHA256:     {mech: mechanism{id: p11.CKM_SHA256_HMAC}},
	driver.HMACSHA384:     {mech: mechanism{id: p11.CKM_SHA384_HMAC}},
	driver.HMACSHA512:     {mech: mechanism{id: p11.CKM_SHA512_HMAC}},
}

var hmacSHA256 = mechanism{id: p11.CKM_SHA256_HMAC}

func pss(hash, mgf, salt uint64) mechanism {
	return mechanism{p11.CKM_RSA_PKCS_PSS, words(hash, mgf, salt)}
}

// words encodes CK_ULONGs: 8 bytes each, in the byte order of the processor.
func words(values ...uint64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.NativeEndian.AppendUint64(b, v)
	}
	return b
}

// rsaBlocks holds the mechanisms that open a block under an RSA key in one call inside the HSM, where the profile says so.
// Otherwise OAEP is decoded in this process after a raw RSA decryption.
var rsaBlocks = map[driver.Algorithm]mechanism{
	driver.PKCS1v15:            {id: p11.CKM_RSA_PKCS},
	driver.OAEPSHA1:            oaep(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1),
	driver.OAEPSHA256:          oaep(p11.CKM_SHA256, p11.CKG_MGF1_SHA256),
	driver.RSAAESKeyWrapSHA1:   oaep(p11.CKM_SHA_1, p11.CKG_MGF1_SHA1),
	driver.RSAAESKeyWrapSHA256: oaep(p11.CKM_SHA256, p11.CKG_MGF1_SHA256),
}

// oaep returns OAEP with an empty label: CKZ_DATA_SPECIFIED and no data.
func oaep(hash, mgf uint64) mechanism {
	return mechanism{p11.CKM_RSA_PKCS_OAEP, words(hash, mgf, p11.CKZ_DATA_SPECIFIED, 0, 0)}
}

// uses is the set of operations that a key permits.
type uses struct{ encrypt, decrypt, sign, verify, wrap, unwrap, derive bool }

// workUses returns the uses of a working key.
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

// template returns the attributes of a key object with exactly these uses, followed by extra. Attributes that lock the object must
// be last, because some modules apply a template in its order.
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

// All keys are session objects but those of tenants.
func inSession() *p11.Attribute { return p11.NewAttribute(p11.CKA_TOKEN, false) }
func onToken() *p11.Attribute   { return p11.NewAttribute(p11.CKA_TOKEN, true) }

// publicTemplate returns the attributes of the public key of a pair to be generated. It is always a session object, which the
// driver reads once and destroys.
func (s keySpec) publicTemplate() []*p11.Attribute {
	t := []*p11.Attribute{inSession(), p11.NewAttribute(p11.CKA_VERIFY, true)}
	if s.rsa() {
		return append(t, p11.NewAttribute(p11.CKA_MODULUS_BITS, s.Bits), p11.NewAttribute(p11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1}))
	}
	return append(t, p11.NewAttribute(p11.CKA_EC_PARAMS, s.ecParams()))
}

func (s keySpec) ecParams() []byte {
	der, _ := asn1.Marshal(s.OID) // an OID of constants always encodes
	return der
}
