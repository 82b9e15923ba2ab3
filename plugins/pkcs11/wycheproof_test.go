package pkcs11

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"testing"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/internal/wycheproof"
)

// Project Wycheproof's vectors go through SoftHSM here, through Go's cryptography in plugins/soft and plugins/material.

// TestImportWycheproof imports the RSA blocks as symmetric keys. A block that opens to no key of its spec's length is as bad
// as one that does not open; messages of other lengths are decrypted with the same mechanism below the contract.
func TestImportWycheproof(t *testing.T) {
	d := tenanted(t, "wycheproof-import", "")
	for name, algorithm := range map[string]driver.Algorithm{
		"rsa_oaep_2048_sha1_mgf1sha1": driver.OAEPSHA1, "rsa_oaep_2048_sha256_mgf1sha256": driver.OAEPSHA256, "rsa_pkcs1_2048": driver.PKCS1v15,
	} {
		t.Run(name, func(t *testing.T) {
			imported := 0
			for _, group := range wycheproof.Load(t, name) {
				wrapping, sealed := sealRSA(t, d, "wycheproof-import", driver.Unwrap, group.PrivateKeyPKCS8)
				for _, v := range group.Tests {
					valid := v.Result == "valid" && len(v.Label) == 0 // the contract has no labels
					if got, ok := rawBlock(t, d, wrapping, sealed, algorithm, v.Ct); ok != valid || ok && !bytes.Equal(got, v.Msg) {
						t.Errorf("%d (%s): opened %t, want %t", v.TcID, v.Comment, ok, valid)
					}
					for _, spec := range []driver.KeySpec{driver.AES128, driver.AES256} {
						req := &driver.ImportKeyRequest{Tenant: "wycheproof-import", Key: identity(spec, driver.EncryptDecrypt),
							WrappingKey: wrapping, SealedWrappingKey: sealed, Algorithm: algorithm, EncryptedMaterial: v.Ct}
						key, err := d.ImportKey(t.Context(), req)
						if !valid || len(v.Msg) != specOf(spec).Size() {
							if driver.CodeOf(err) != driver.BadMaterial || err.Error() != errBadMaterial.Message {
								t.Errorf("%d (%s) as %s: %v, want the one refusal", v.TcID, v.Comment, spec, err)
							}
							continue
						}
						if err != nil {
							t.Fatalf("%d (%s) as %s: %v", v.TcID, v.Comment, spec, err)
						}
						imported++
						encrypted, err := d.Execute(t.Context(), "wycheproof-import", &driver.Op{
							Kind: driver.Encrypt, Key: req.GetKey(), Sealed: key.GetSealed(), Data: []byte("text")})
						if err != nil || !opensGCM(t, v.Msg, encrypted, "text") {
							t.Errorf("%d (%s): another key was imported, %v", v.TcID, v.Comment, err)
						}
					}
				}
			}
			if imported == 0 {
				t.Error("no vector was imported")
			}
		})
	}
}

// rawBlock opens a block as an import does, whatever its message's length is.
func rawBlock(t *testing.T, d *Driver, wrapping *driver.KeyIdentity, sealed []byte, a driver.Algorithm, block []byte) (message []byte, ok bool) {
	t.Helper()
	if len(block) != 256 {
		return nil, false // imports refuse it before the module sees it
	}
	_, err := control(t.Context(), d, "wycheproof-import", nil, func(s *session, k *tenantKeys) (struct{}, error) {
		h, _, err := d.unsealWorking(s, k, "wycheproof-import", wrapping, sealed)
		if err != nil {
			return struct{}{}, err
		}
		if a == driver.OAEPSHA256 {
			message, ok, err = s.openOAEP(driver.HashOf(a), h, block)
		} else {
			message, err = s.decryptRSA(rsaBlocks[a], h, block)
			ok = err == nil
		}
		var ce *callError
		if errors.As(err, &ce) && d.profile.causedByData(ce) {
			err = nil
		}
		return struct{}{}, errors.Join(err, s.destroy(h))
	})
	if err != nil {
		t.Fatal(err)
	}
	return message, ok
}

// TestKeyWrapWycheproof unwraps RFC 5649 inside the HSM, with the mechanism that seals keys and opens imports. SoftHSM 2.6.1
// takes every valid vector, so there is no list of exceptions.
func TestKeyWrapWycheproof(t *testing.T) {
	d := tenanted(t, "wycheproof-kwp", "")
	s, err := d.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.pool.put(s)
	aes := specOf(driver.AES256).template(uses{unwrap: true}, false, inSession())
	readable := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), p11.NewAttribute(p11.CKA_KEY_TYPE, uint(p11.CKK_GENERIC_SECRET)),
		inSession(), p11.NewAttribute(p11.CKA_SENSITIVE, false), p11.NewAttribute(p11.CKA_EXTRACTABLE, true),
	}
	for _, group := range wycheproof.Load(t, "aes_kwp") {
		for _, v := range group.Tests {
			key, err := s.create(append(aes[:len(aes):len(aes)], p11.NewAttribute(p11.CKA_VALUE, []byte(v.Key))))
			if err != nil {
				t.Fatal(err)
			}
			h, err := s.unwrap(mechanism{id: d.profile.Wrap.Mechanism}, key, v.Ct, readable)
			switch {
			case v.Result == "valid" && err != nil:
				t.Errorf("%d (%s): %v", v.TcID, v.Comment, err)
			case v.Result != "valid" && err == nil:
				t.Errorf("%d (%s): unwrapped", v.TcID, v.Comment)
			case err == nil:
				if got, err := s.attribute(h, p11.CKA_VALUE); err != nil || !bytes.Equal(got, v.Msg) {
					t.Errorf("%d (%s): %x, %v", v.TcID, v.Comment, got, err)
				}
			}
			if err == nil {
				err = s.destroy(h)
			} else {
				err = nil
			}
			if err := errors.Join(err, s.destroy(key)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDecryptWycheproof decrypts AES-GCM with keys that are sealed and loaded like any other. The contract knows one length of
// IV and of tag, and refuses what is valid elsewhere.
func TestDecryptWycheproof(t *testing.T) {
	d := tenanted(t, "wycheproof-gcm", "")
	sizes := map[int]driver.KeySpec{16: driver.AES128, 24: driver.AES192, 32: driver.AES256}
	decrypted := 0
	for _, group := range wycheproof.Load(t, "aes_gcm") {
		for _, v := range group.Tests {
			id := identity(sizes[len(v.Key)], driver.EncryptDecrypt)
			sealed := sealKnown(t, d, "wycheproof-gcm", id, nil, p11.NewAttribute(p11.CKA_VALUE, []byte(v.Key)))
			res, err := d.Execute(t.Context(), "wycheproof-gcm", &driver.Op{
				Kind: driver.Decrypt, Key: id, Sealed: sealed, Iv: v.IV, Aad: v.AAD, Data: append(bytes.Clone(v.Ct), v.Tag...)})
			valid := v.Result == "valid" && group.IVSize == 8*driver.GCMIVSize && group.TagSize == 8*driver.GCMTagSize
			if valid && (err != nil || !bytes.Equal(res.GetData(), v.Msg)) {
				t.Errorf("%d (%s): %x, %v", v.TcID, v.Comment, res.GetData(), err)
			}
			if !valid && driver.CodeOf(err) != driver.BadCiphertext {
				t.Errorf("%d (%s): %v, want the refusal", v.TcID, v.Comment, err)
			}
			if err == nil {
				decrypted++
			}
		}
	}
	if decrypted == 0 {
		t.Error("no vector was decrypted")
	}
}

// opensGCM reports whether a key decrypts what the driver encrypted to text.
func opensGCM(t *testing.T, key []byte, encrypted *driver.Result, text string) bool {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	got, err := gcm.Open(nil, encrypted.GetIv(), encrypted.GetData(), nil)
	return err == nil && string(got) == text
}
