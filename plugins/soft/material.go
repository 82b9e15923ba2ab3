package soft

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // for driver.HashOf
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"hash"

	"github.com/keyside/keyside/plugins/driver"
)

// workingKey is an unsealed key. Exactly one of the fields after id is set.
type workingKey struct {
	id  *driver.KeyIdentity
	gcm cipher.AEAD
	mac func() hash.Hash
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
}

var errMaterial = errors.New("material is not a key of its spec")

// generate generates the material of a spec: a symmetric key, or PKCS#8 DER of a private key.
func generate(spec *driver.Spec) ([]byte, error) {
	if spec.Symmetric() {
		b := make([]byte, spec.Size())
		rand.Read(b)
		return b, nil
	}
	var private any
	var err error
	if spec.Family == driver.RSA {
		private, err = rsa.GenerateKey(rand.Reader, spec.Bits)
	} else {
		private, err = ecdsa.GenerateKey(spec.Curve, rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(private)
}

// open returns the working key of material. It returns an error unless the material is a key of the identity's spec.
func open(id *driver.KeyIdentity, material []byte) (*workingKey, error) {
	key := &workingKey{id: id}
	spec := driver.SpecOf(id.GetSpec())
	if spec.Symmetric() {
		if len(material) != spec.Size() {
			return nil, errMaterial
		}
		if spec.Family == driver.HMAC {
			newHash, secret := driver.HashOf(spec.Uses[0].Algorithms[0]).New, append([]byte(nil), material...)
			key.mac = func() hash.Hash { return hmac.New(newHash, secret) }
			return key, nil
		}
		var err error
		key.gcm, err = newGCM(material)
		return key, err
	}
	private, err := x509.ParsePKCS8PrivateKey(material)
	if err != nil {
		return nil, errMaterial
	}
	switch private := private.(type) {
	case *rsa.PrivateKey:
		if spec.Family != driver.RSA || private.N.BitLen() != spec.Bits || len(private.Primes) != 2 {
			return nil, errMaterial
		}
		key.rsa = private
	case *ecdsa.PrivateKey:
		if private.Curve != spec.Curve {
			return nil, errMaterial
		}
		key.ec = private
	default:
		return nil, errMaterial
	}
	return key, nil
}

// public returns the DER SubjectPublicKeyInfo, or nil for a symmetric key.
func (k *workingKey) public() ([]byte, error) {
	var pub crypto.PublicKey
	switch {
	case k.rsa != nil:
		pub = k.rsa.Public()
	case k.ec != nil:
		pub = k.ec.Public()
	default:
		return nil, nil
	}
	return x509.MarshalPKIXPublicKey(pub)
}

// checkValue returns the input of the tenant's MAC for the check value: AES-CMAC or HMAC-SHA-256 over the check value label, or
// SHA-256 over label and public key. It is never E_K(0), which is GCM's hash key.
func (k *workingKey) checkValue(material []byte) ([]byte, error) {
	label := []byte(driver.CheckValueMACLabel)
	switch {
	case k.gcm != nil:
		return cmac(material, label)
	case k.mac != nil:
		m := hmac.New(sha256.New, material)
		m.Write(label)
		return m.Sum(nil), nil
	}
	spki, err := k.public()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(append(label, spki...))
	return sum[:], nil
}

// cmac returns AES-CMAC (NIST SP 800-38B) of a message that is not empty.
func cmac(key, message []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	var subkey, mac, last [aes.BlockSize]byte
	block.Encrypt(subkey[:], subkey[:])
	double(&subkey)
	whole := (len(message) - 1) / aes.BlockSize * aes.BlockSize // all but the last block, which may be full
	n := copy(last[:], message[whole:])
	if n < len(last) {
		last[n] = 0x80
		double(&subkey)
	}
	subtle.XORBytes(last[:], last[:], subkey[:])
	for at := 0; at < whole; at += aes.BlockSize {
		subtle.XORBytes(mac[:], mac[:], message[at:at+aes.BlockSize])
		block.Encrypt(mac[:], mac[:])
	}
	subtle.XORBytes(mac[:], mac[:], last[:])
	block.Encrypt(mac[:], mac[:])
	return mac[:], nil
}

// double multiplies by x in GF(2^128).
func double(b *[aes.BlockSize]byte) {
	carry := b[0] >> 7
	for i := range len(b) - 1 {
		b[i] = b[i]<<1 | b[i+1]>>7
	}
	b[len(b)-1] = b[len(b)-1]<<1 ^ 0x87&-carry
}

// agree returns the X coordinate of ECDH with the peer whose SubjectPublicKeyInfo is spki.
func (k *workingKey) agree(spki []byte) ([]byte, error) {
	bad := driver.Errorf(driver.InvalidArgument, "the peer's public key is not on this key's curve")
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, bad
	}
	pub, ok := parsed.(*ecdsa.PublicKey)
	if !ok || pub.Curve != k.ec.Curve {
		return nil, bad
	}
	peer, err := pub.ECDH()
	if err != nil {
		return nil, bad
	}
	own, err := k.ec.ECDH()
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "ecdh: %w", err)
	}
	secret, err := own.ECDH(peer)
	if err != nil {
		return nil, bad
	}
	return secret, nil
}
