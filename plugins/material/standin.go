package material

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/plugins/driver"
)

// Stand-ins take the place of material that is bad, so that an import does the same work for bad material as for good. They protect
// nothing: what an import makes of them is thrown away.

// Random returns n random bytes.
func Random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// standIns has the private key of each spec, generated at its first use, which takes seconds for RSA_4096.
var standIns sync.Map // driver.KeySpec → func() []byte

// StandIn returns a stand-in of the spec: a random symmetric key, or the canonical PKCS#8 DER of a private key, which is the same at
// each call of a process.
func StandIn(spec driver.KeySpec) []byte {
	row := driver.SpecOf(spec)
	if row.Symmetric() {
		return Random(row.Size())
	}
	made, _ := standIns.LoadOrStore(spec, sync.OnceValue(func() []byte { return newPrivateKey(row) }))
	return append([]byte(nil), made.(func() []byte)()...)
}

// newPrivateKey panics if Go cannot generate a key. Its generator of random numbers never fails.
func newPrivateKey(row *driver.Spec) []byte {
	var pkcs8 []byte
	var err error
	switch {
	case row.Family == driver.RSA:
		var key *rsa.PrivateKey
		if key, err = rsa.GenerateKey(rand.Reader, row.Bits); err == nil {
			pkcs8, err = x509.MarshalPKCS8PrivateKey(key)
		}
	case row.Curve == nil:
		var key *secp256k1.PrivateKey
		if key, err = secp256k1.GeneratePrivateKey(); err == nil {
			pkcs8, _ = encodeEC(row.OID, key.Serialize(), key.PubKey().SerializeUncompressed())
		}
	default:
		var key *ecdsa.PrivateKey
		if key, err = ecdsa.GenerateKey(row.Curve, rand.Reader); err == nil {
			pkcs8, err = x509.MarshalPKCS8PrivateKey(key)
		}
	}
	if err != nil {
		panic("stand-in for imports: " + err.Error())
	}
	return pkcs8
}

// standInContainer returns the stand-in of a private key's spec under a temporary key of 32 bytes, in the form of a client's container.
func standInContainer(spec driver.KeySpec, temporary, like []byte) []byte {
	pkcs8 := StandIn(spec)
	if IsOpenSSL(like) {
		return encryptOpenSSL(temporary, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	}
	return WrapStandIn(temporary, pkcs8)
}

// WrapStandIn returns a stand-in under RFC 5649 with a temporary key of 32 bytes.
func WrapStandIn(temporary, standIn []byte) []byte {
	w, err := NewKeyWrap(temporary)
	if err == nil {
		var wrapped []byte
		if wrapped, err = w.Wrap(standIn); err == nil {
			return wrapped
		}
	}
	panic("stand-in for imports: " + err.Error()) // the lengths are constants
}

// encryptOpenSSL encrypts a stand-in as openssl enc does with the whole temporary key as password.
func encryptOpenSSL(temporary, text []byte) []byte {
	file := append([]byte(opensslMagic), Random(8)...)
	block, iv, err := opensslCipher(temporary, file)
	if err != nil {
		panic("stand-in for imports: " + err.Error())
	}
	n := aes.BlockSize - len(text)%aes.BlockSize
	for range n {
		text = append(text, byte(n))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(text, text)
	return append(file, text...)
}

// opensslCipher derives AES and IV of a file of openssl enc from its password and salt.
func opensslCipher(password, file []byte) (block cipher.Block, iv []byte, err error) {
	derived, err := pbkdf2.Key(sha256.New, string(password), file[len(opensslMagic):opensslHead], opensslIterations, 32+aes.BlockSize)
	if err != nil {
		return nil, nil, err
	}
	block, err = aes.NewCipher(derived[:32])
	clear(derived[:32])
	return block, derived[32:], err
}
