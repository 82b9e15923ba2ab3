package pkcs11

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"math/big"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/internal/wycheproof"
)

// sealRSA seals a known private key of 2048 bits for a usage.
func sealRSA(t *testing.T, d *Driver, tenant string, usage driver.KeyUsage, pkcs8 []byte) (*driver.KeyIdentity, []byte) {
	t.Helper()
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	key := parsed.(*rsa.PrivateKey)
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	number := func(typ uint, n *big.Int) *p11.Attribute { return p11.NewAttribute(typ, n.Bytes()) }
	id := identity(driver.RSA2048, usage)
	return id, sealKnown(t, d, tenant, id, public,
		number(p11.CKA_MODULUS, key.N), number(p11.CKA_PUBLIC_EXPONENT, big.NewInt(int64(key.E))), number(p11.CKA_PRIVATE_EXPONENT, key.D),
		number(p11.CKA_PRIME_1, key.Primes[0]), number(p11.CKA_PRIME_2, key.Primes[1]), number(p11.CKA_EXPONENT_1, key.Precomputed.Dp),
		number(p11.CKA_EXPONENT_2, key.Precomputed.Dq), number(p11.CKA_COEFFICIENT, key.Precomputed.Qinv))
}

// TestDecryptRSAWycheproof sends Project Wycheproof's blocks through the HSM: OAEP with SHA-1 is decoded there, with SHA-256
// in this process.
func TestDecryptRSAWycheproof(t *testing.T) {
	d := tenanted(t, "wycheproof", "")
	for name, algorithm := range map[string]driver.Algorithm{
		"rsa_oaep_2048_sha1_mgf1sha1": driver.OAEPSHA1, "rsa_oaep_2048_sha256_mgf1sha256": driver.OAEPSHA256,
	} {
		for _, group := range wycheproof.Load(t, name) {
			id, sealed := sealRSA(t, d, "wycheproof", driver.EncryptDecrypt, group.PrivateKeyPKCS8)
			for _, v := range group.Tests {
				res, err := d.Execute(t.Context(), "wycheproof", &driver.Op{
					Kind: driver.DecryptRSA, Key: id, Sealed: sealed, Algorithm: algorithm, Data: v.Ct,
				})
				valid := v.Result == "valid" && len(v.Label) == 0 // the contract has no labels
				if valid && (err != nil || !bytes.Equal(res.GetData(), v.Msg)) {
					t.Errorf("%s %d (%s): %x, %v", name, v.TcID, v.Comment, res.GetData(), err)
				}
				if !valid && (driver.CodeOf(err) != driver.BadCiphertext || err.Error() != driver.BadCiphertextError().Message) {
					t.Errorf("%s %d (%s): %v, want the one refusal", name, v.TcID, v.Comment, err)
				}
			}
		}
	}
}

// TestSharedSecretsLeaveNothing holds that what ECDH derives is not left in the module, and that leading zeros stay.
func TestSharedSecretsLeaveNothing(t *testing.T) {
	d := tenanted(t, "agreeing", "")
	id, key := newKeyFor(t, d, "agreeing", driver.ECP256, driver.KeyAgreement)
	zeros := 0
	for n := 0; zeros == 0 && n < 10000; n++ { // a leading zero comes once in 256 times
		res, err := d.Execute(t.Context(), "agreeing", &driver.Op{
			Kind: driver.Derive, Key: id, Sealed: key.GetSealed(), Algorithm: driver.ECDH, Data: peer(t),
		})
		if err != nil || len(res.GetData()) != 32 {
			t.Fatalf("%x, %v", res.GetData(), err)
		}
		if res.GetData()[0] == 0 {
			zeros++
		}
	}
	if zeros == 0 {
		t.Error("no secret of 10,000 begins with a zero byte")
	}
	s, err := d.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.pool.put(s)
	left, err := s.find(p11.NewAttribute(p11.CKA_KEY_TYPE, uint(p11.CKK_GENERIC_SECRET)), p11.NewAttribute(p11.CKA_SENSITIVE, false))
	if err != nil || len(left) > 0 {
		t.Errorf("%d secrets are left, %v", len(left), err)
	}
}

// peer returns the public key of a new key on P-256.
func peer(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return spki
}
