package pkcs11

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"
)

// encoded returns EME-OAEP of a message as Go's own encryption makes it, undone by raw RSA.
func encoded(t *testing.T, key *rsa.PrivateKey, hash crypto.Hash, message []byte) []byte {
	t.Helper()
	c, err := rsa.EncryptOAEP(hash.New(), rand.Reader, &key.PublicKey, message, nil)
	if err != nil {
		t.Fatal(err)
	}
	return new(big.Int).Exp(new(big.Int).SetBytes(c), key.D, key.N).FillBytes(make([]byte, key.Size()))
}

func TestOAEPDecode(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		most := key.Size() - 2*hash.Size() - 2
		for _, n := range []int{0, 1, 16, 32, most - 1, most} {
			message := make([]byte, n)
			_, _ = rand.Read(message)
			em := encoded(t, key, hash, message)
			if got, ok := oaepDecode(hash, bytes.Clone(em)); !ok || !bytes.Equal(got, message) {
				t.Errorf("%s, %d bytes: got %x, %t", hash, n, got, ok)
			}
			for i := range em {
				bad := bytes.Clone(em)
				bad[i] ^= 0x80
				if _, ok := oaepDecode(hash, bad); ok {
					t.Errorf("%s, %d bytes: byte %d changed and accepted", hash, n, i)
				}
			}
		}
		for _, n := range []int{0, 1, 2*hash.Size() + 1} {
			if _, ok := oaepDecode(hash, make([]byte, n)); ok {
				t.Errorf("%s: %d zero bytes accepted", hash, n)
			}
		}
	}
}

// TestOAEPDecodeWantsTheOne covers a block whose hash is right and which holds nothing but zeros.
func TestOAEPDecodeWantsTheOne(t *testing.T) {
	hash := crypto.SHA256
	em := make([]byte, 256)
	seed, db := em[1:33], em[33:]
	copy(db, hash.New().Sum(nil))
	mgf1XOR(db, hash, seed)
	mgf1XOR(seed, hash, db)
	if _, ok := oaepDecode(hash, em); ok {
		t.Error("accepted")
	}
}
