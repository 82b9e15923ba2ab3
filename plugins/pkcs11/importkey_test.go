package pkcs11

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/material"
)

// importer imports keys of one tenant under one wrapping key.
type importer struct {
	t        testing.TB
	d        *Driver
	tenant   string
	wrapping *driver.KeyIdentity
	sealed   []byte
	public   *rsa.PublicKey
}

func newImporter(t testing.TB, d *Driver, tenant string, spec driver.KeySpec) *importer {
	t.Helper()
	i := &importer{t: t, d: d, tenant: tenant, wrapping: identity(spec, driver.Unwrap)}
	pair, err := d.MakeWrappingKey(context.Background(), &driver.MakeWrappingKeyRequest{Tenant: tenant, Key: i.wrapping})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(pair.GetPublicKey())
	if err != nil {
		t.Fatal(err)
	}
	i.sealed, i.public = pair.GetSealed(), public.(*rsa.PublicKey)
	return i
}

func (i *importer) request(spec driver.KeySpec, usage driver.KeyUsage, a driver.Algorithm, encrypted, private []byte) *driver.ImportKeyRequest {
	return &driver.ImportKeyRequest{Tenant: i.tenant, Key: identity(spec, usage), WrappingKey: i.wrapping, SealedWrappingKey: i.sealed,
		Algorithm: a, EncryptedMaterial: encrypted, EncryptedPrivateKey: private}
}

func (i *importer) do(req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	return i.d.ImportKey(context.Background(), req)
}

// block encrypts a secret as an algorithm wants it.
func (i *importer) block(a driver.Algorithm, secret []byte) []byte {
	i.t.Helper()
	var block []byte
	var err error
	switch a {
	case driver.PKCS1v15:
		//lint:ignore SA1019 clouds offer it for import
		block, err = rsa.EncryptPKCS1v15(rand.Reader, i.public, secret)
	case driver.OAEPSHA1, driver.RSAAESKeyWrapSHA1:
		block, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, i.public, secret, nil)
	default:
		block, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, i.public, secret, nil)
	}
	if err != nil {
		i.t.Fatal(err)
	}
	return block
}

func (i *importer) keyWrapped(key, data []byte) []byte {
	i.t.Helper()
	w, err := material.NewKeyWrap(key)
	if err != nil {
		i.t.Fatal(err)
	}
	wrapped, err := w.Wrap(data)
	if err != nil {
		i.t.Fatal(err)
	}
	return wrapped
}

// vngFile is the file of VNG Cloud's guide: openssl enc with the first line of aes_key.bin as its password.
func vngFile(t testing.TB, aesKey, text []byte) []byte {
	t.Helper()
	line, _, _ := bytes.Cut(aesKey, []byte("\n"))
	line, _, _ = bytes.Cut(line, []byte{0})
	salt := make([]byte, 8)
	_, _ = rand.Read(salt)
	derived, err := pbkdf2.Key(sha256.New, string(line), salt, 10, 48)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		t.Fatal(err)
	}
	n := 16 - len(text)%16
	padded := append(bytes.Clone(text), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, derived[32:]).CryptBlocks(padded, padded)
	return slices.Concat([]byte("Salted__"), salt, padded)
}

// objects counts what the module holds: session objects and token objects.
func objects(t testing.TB, d *Driver) (session, token int) {
	t.Helper()
	s, err := d.pool.get(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer d.pool.put(s)
	inSession, err := s.find(inSession())
	if err != nil {
		t.Fatal(err)
	}
	onToken, err := s.find(onToken())
	if err != nil {
		t.Fatal(err)
	}
	return len(inSession), len(onToken)
}

func testPrivateKeys(t testing.TB) (rsaDER, ecDER, secpDER []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if rsaDER, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		t.Fatal(err)
	}
	if ecDER, err = x509.MarshalPKCS8PrivateKey(ec); err != nil {
		t.Fatal(err)
	}
	secp, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	inner, err := asn1.Marshal(struct {
		Version int
		Key     []byte
	}{1, secp.Serialize()})
	if err != nil {
		t.Fatal(err)
	}
	secpDER, err = asn1.Marshal(struct {
		Version int
		Alg     struct{ Key, Curve asn1.ObjectIdentifier }
		Key     []byte
	}{0, struct{ Key, Curve asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, specOf(driver.Secp256k1).OID}, inner})
	if err != nil {
		t.Fatal(err)
	}
	return rsaDER, ecDER, secpDER
}

// TestImportsLeaveNothing counts the module's objects around imports in every layout of every algorithm, and around failures
// at every step of each.
func TestImportsLeaveNothing(t *testing.T) {
	d := tenanted(t, "leaving", "")
	i := newImporter(t, d, "leaving", driver.RSA2048)
	rsaDER, ecDER, secpDER := testPrivateKeys(t)
	secret, temporary := make([]byte, 32), make([]byte, 32)
	_, _ = rand.Read(secret)
	_, _ = rand.Read(temporary)
	session, token := objects(t, d)
	try := func(req *driver.ImportKeyRequest, want driver.Code, what string) {
		t.Helper()
		key, err := i.do(req)
		if got := driver.CodeOf(err); err != nil && got != want || err == nil && want != 0 {
			t.Errorf("%s with %s, %s: %v, want %s", req.GetKey().GetSpec(), req.GetAlgorithm(), what, err, want)
		}
		if err == nil && len(key.GetSealed()) == 0 {
			t.Errorf("%s with %s, %s: neither key nor error", req.GetKey().GetSpec(), req.GetAlgorithm(), what)
		}
		if s, k := objects(t, d); s != session || k != token {
			t.Errorf("%s with %s, %s: %d session and %d token objects more", req.GetKey().GetSpec(), req.GetAlgorithm(), what, s-session, k-token)
			session, token = s, k
		}
	}
	for _, a := range d.profile.Import.all() {
		// Symmetric keys: good, of a wrong length, of a damaged block, with another check value.
		for what, c := range map[string]struct {
			block []byte
			code  driver.Code
		}{
			"a key": {i.block(a, secret), 0}, "a key too short": {i.block(a, secret[:31]), driver.BadMaterial},
			"a key of another spec": {i.block(a, secret[:16]), driver.BadMaterial}, "a bad block": {make([]byte, 256), driver.BadMaterial},
		} {
			for _, spec := range []driver.KeySpec{driver.AES256, driver.HMAC256} {
				usage := driver.EncryptDecrypt
				if spec == driver.HMAC256 {
					usage = driver.GenerateVerifyMAC
				}
				req := i.request(spec, usage, a, c.block, nil)
				try(req, c.code, what)
				req.ExpectedCheckValue = make([]byte, 32)
				try(req, driver.BadMaterial, what+", another check value")
			}
		}
		if material.Keyed(a) {
			try(i.request(driver.AES256, driver.EncryptDecrypt, a, append(i.block(a, temporary), i.keyWrapped(temporary, secret)...), nil), 0, "rfc 5649")
			try(i.request(driver.AES256, driver.EncryptDecrypt, a, append(i.block(a, temporary), i.keyWrapped(secret, secret)...), nil), driver.BadMaterial, "another key")
		}
		// Private keys in both containers, of another spec, and under another temporary key.
		for spec, der := range map[driver.KeySpec][]byte{driver.RSA2048: rsaDER, driver.ECP256: ecDER, driver.Secp256k1: secpDER} {
			text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
			for what, c := range map[string]struct {
				spec      driver.KeySpec
				container []byte
				code      driver.Code
			}{
				"rfc 5649":                             {spec, i.keyWrapped(temporary, der), 0},
				"openssl":                              {spec, vngFile(t, temporary, text), 0},
				"rfc 5649 under another key":           {spec, i.keyWrapped(secret, der), driver.BadMaterial},
				"openssl under another key":            {spec, vngFile(t, secret, text), driver.BadMaterial},
				"rfc 5649 with a key of another spec":  {driver.ECP384, i.keyWrapped(temporary, der), driver.BadMaterial},
				"rfc 5649 with a key of another kind":  {driver.RSA3072, i.keyWrapped(temporary, der), driver.BadMaterial},
				"openssl with a key of another spec":   {driver.ECP384, vngFile(t, temporary, text), driver.BadMaterial},
				"rfc 5649 with what is no private key": {spec, i.keyWrapped(temporary, make([]byte, 128)), driver.BadMaterial},
				"openssl with what is no private key":  {spec, vngFile(t, temporary, make([]byte, 128)), driver.BadMaterial},
			} {
				block := i.block(a, temporary)
				for _, bad := range []bool{false, true} {
					if bad {
						block, c.code, what = make([]byte, 256), driver.BadMaterial, what+", bad block"
					}
					req := i.request(c.spec, driver.SignVerify, a, block, c.container)
					if material.Keyed(a) {
						req.EncryptedMaterial, req.EncryptedPrivateKey = slices.Concat(block, c.container), nil
					}
					try(req, c.code, what)
				}
			}
		}
	}
}

// TestVNGUploads imports as VNG Cloud's users do, with one RSA key and a random aes_key.bin each time: one in five holds a
// line feed or a zero, where openssl's password ends. make soak runs 2,000.
func TestVNGUploads(t *testing.T) {
	vngUploads(t, 60)
}

func vngUploads(t *testing.T, uploads int) {
	d := tenanted(t, "vng", "")
	i := newImporter(t, d, "vng", driver.RSA2048)
	der, _, _ := testPrivateKeys(t)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	session, token := objects(t, d)
	var first *driver.SealedKey
	for n := range uploads {
		aesKey := make([]byte, 32)
		for aesKey[0] == 0 { // openssl refuses a password that begins with a zero
			_, _ = rand.Read(aesKey)
		}
		if n < 3 { // what must not be left to chance
			aesKey[n] = "\n\n\x00"[n]
		}
		a := []driver.Algorithm{driver.RSAAESKeyWrapSHA256, driver.RSAAESKeyWrapSHA1}[n%2]
		key, err := i.do(i.request(driver.RSA2048, driver.SignVerify, a, append(i.block(a, aesKey), vngFile(t, aesKey, text)...), nil))
		if err != nil {
			t.Fatalf("upload %d with aes_key.bin %x: %v", n, aesKey, err)
		}
		if key.GetOpenedIn() != driver.ProtectionProcess {
			t.Errorf("opened in %s", key.GetOpenedIn())
		}
		if first == nil {
			first = key
		}
		if !bytes.Equal(key.GetPublicKey(), first.GetPublicKey()) || !bytes.Equal(key.GetCheckValue(), first.GetCheckValue()) {
			t.Fatalf("upload %d is another key", n)
		}
	}
	if s, k := objects(t, d); s != session || k != token {
		t.Errorf("%d session and %d token objects more", s-session, k-token)
	}
}
