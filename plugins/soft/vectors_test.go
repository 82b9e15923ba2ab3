package soft

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"path/filepath"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/internal/wycheproof"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// NIST SP 800-38B, appendix D.1, AES-128.
func TestCMAC(t *testing.T) {
	key := unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	message := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for n, want := range map[int]string{
		16: "070a16b46b4d4144f79bdd9dd04a287c", 40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		if got, err := cmac(key, message[:n]); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%d bytes: %x, %v, want %s", n, got, err, want)
		}
	}
}

func TestDecryptWycheproof(t *testing.T) {
	specs := map[int]driver.KeySpec{16: driver.AES128, 24: driver.AES192, 32: driver.AES256}
	for _, group := range wycheproof.Load(t, "aes_gcm") {
		for _, v := range group.Tests {
			key, err := open(&driver.KeyIdentity{Spec: specs[len(v.Key)]}, v.Key)
			if err != nil {
				t.Fatal(err)
			}
			res, err := decrypt(nil, key, &driver.Op{Iv: v.IV, Data: append(v.Ct, v.Tag...), Aad: v.AAD})
			// The contract knows one length of IV and tag; of the rest it refuses what is valid elsewhere.
			valid := v.Result == "valid" && group.IVSize == 8*driver.GCMIVSize && group.TagSize == 8*driver.GCMTagSize
			if valid && (err != nil || !bytes.Equal(res.GetData(), v.Msg)) {
				t.Errorf("%d (%s): %v", v.TcID, v.Comment, err)
			}
			if !valid && driver.CodeOf(err) != driver.BadCiphertext {
				t.Errorf("%d (%s): %v, want refusal", v.TcID, v.Comment, err)
			}
		}
	}
}

// TestImportWycheproof imports Project Wycheproof's RSA blocks as symmetric keys. A block that opens to no key of its spec's
// length is as bad as one that does not open, so messages of other lengths are opened below the contract too.
func TestImportWycheproof(t *testing.T) {
	d, err := Configure(t.Context(), []byte("file: "+filepath.Join(t.TempDir(), "soft.keys")), []byte("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: "one"}); err != nil {
		t.Fatal(err)
	}
	tenant, err := d.(*Driver).tenants.get("one")
	if err != nil {
		t.Fatal(err)
	}
	for name, algorithm := range map[string]driver.Algorithm{
		"rsa_oaep_2048_sha1_mgf1sha1": driver.OAEPSHA1, "rsa_oaep_2048_sha256_mgf1sha256": driver.OAEPSHA256, "rsa_pkcs1_2048": driver.PKCS1v15,
	} {
		t.Run(name, func(t *testing.T) {
			imported := 0
			for _, group := range wycheproof.Load(t, name) {
				parsed, err := x509.ParsePKCS8PrivateKey(group.PrivateKeyPKCS8)
				if err != nil {
					t.Fatal(err)
				}
				wrapping := &driver.KeyIdentity{KeyId: make([]byte, 16), Version: 1, Spec: driver.RSA2048, Usage: driver.Unwrap}
				pair, err := tenant.seal(wrapping, group.PrivateKeyPKCS8)
				if err != nil {
					t.Fatal(err)
				}
				for _, v := range group.Tests {
					valid := v.Result == "valid" && len(v.Label) == 0 // the contract has no labels
					for spec, size := range map[driver.KeySpec]int{driver.AES128: 16, driver.AES256: 32} {
						key, err := d.ImportKey(t.Context(), &driver.ImportKeyRequest{
							Tenant: "one", Key: &driver.KeyIdentity{KeyId: make([]byte, 16), Version: 1, Spec: spec, Usage: driver.EncryptDecrypt},
							WrappingKey: wrapping, SealedWrappingKey: pair.GetSealed(), Algorithm: algorithm, EncryptedMaterial: v.Ct,
						})
						if !valid || len(v.Msg) != size {
							if driver.CodeOf(err) != driver.BadMaterial {
								t.Errorf("%d (%s) as %s: %v", v.TcID, v.Comment, spec, err)
							}
							continue
						}
						if err != nil {
							t.Fatalf("%d (%s) as %s: %v", v.TcID, v.Comment, spec, err)
						}
						imported++
						record, err := driver.ParseSealRecord(key.GetSealed())
						if err != nil {
							t.Fatal(err)
						}
						if got, ok := tenant.roots[record.Root].Unwrap(record.Wrapped); !ok || !bytes.Equal(got, v.Msg) {
							t.Errorf("%d (%s): another key was imported", v.TcID, v.Comment)
						}
					}
					opened, ok := openBlock(parsed.(*rsa.PrivateKey), algorithm, v.Ct, []int{len(v.Msg)})
					if len(v.Msg) > 0 && (ok != valid || ok && !bytes.Equal(opened, v.Msg)) {
						t.Errorf("%d (%s): opened %v, want %v", v.TcID, v.Comment, ok, valid)
					}
				}
			}
			if imported == 0 {
				t.Error("no vector was imported")
			}
		})
	}
}
