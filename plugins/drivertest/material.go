package drivertest

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for driver.HashOf
	"crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	mathrand "math/rand/v2"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

var importAlgorithms = []driver.Algorithm{
	driver.OAEPSHA1, driver.OAEPSHA256, driver.PKCS1v15, driver.RSAAESKeyWrapSHA1, driver.RSAAESKeyWrapSHA256,
}

// material is a key that the kit generated to import it. raw is a symmetric key or PKCS#8 DER.
type material struct {
	kind    kind
	raw     []byte
	private crypto.Signer // nil for a symmetric key
	spki    []byte
	longer  bool // bytes follow the key. A module that opens PKCS#8 itself may ignore them, as SoftHSM does.
}

// mustMaterial makes a key with Go's cryptography.
func mustMaterial(p *probe, k kind) *material {
	m := &material{kind: k}
	if spec := driver.SpecOf(k.spec); spec.Symmetric() {
		m.raw = make([]byte, spec.Size())
		rand.Read(m.raw)
		return m
	}
	var err error
	m.private, err = newPrivate(driver.SpecOf(k.spec))
	p.must(err, "make %s in go", k)
	m.raw, err = x509.MarshalPKCS8PrivateKey(m.private)
	p.must(err, "encode %s", k)
	m.spki, err = x509.MarshalPKIXPublicKey(m.private.Public())
	p.must(err, "encode the public key of %s", k)
	return m
}

func newPrivate(spec *driver.Spec) (crypto.Signer, error) {
	switch {
	case spec.Family == driver.RSA:
		return rsa.GenerateKey(rand.Reader, spec.Bits)
	case spec.Curve != nil:
		return ecdsa.GenerateKey(spec.Curve, rand.Reader)
	}
	return nil, errors.New("go cannot make a key of this spec")
}

// wholeBlob reports whether the algorithm has one blob for all kinds of keys.
func wholeBlob(a driver.Algorithm) bool {
	return a == driver.RSAAESKeyWrapSHA1 || a == driver.RSAAESKeyWrapSHA256
}

// wrapped is encrypted material in one layout of an algorithm.
type wrapped struct {
	layout           string
	blob, privateKey []byte
	block            int  // bytes of the RSA block that blob begins with
	openssl          bool // a file of openssl enc, which the driver process always opens
}

// wrap encrypts the material as importers do, with Go's cryptography: in every layout of the algorithm.
func (m *material) wrap(p *probe, a driver.Algorithm, pub *rsa.PublicKey) (all []*wrapped) {
	if m.spki == nil {
		block, err := encryptRSA(a, pub, m.raw)
		p.must(err, "encrypt %s with %s", m.kind, a)
		all = append(all, &wrapped{layout: "the key in the block", blob: block, block: len(block)})
	}
	if m.spki != nil || wholeBlob(a) {
		all = append(all, m.behind(p, a, pub, false))
	}
	if m.spki != nil && !fips140.Enforced() { // which forbids openssl's salts of 8 bytes
		all = append(all, m.behind(p, a, pub, true))
	}
	return all
}

// behind puts a temporary key into the block, and the material after the block or into a field of its own.
func (m *material) behind(p *probe, a driver.Algorithm, pub *rsa.PublicKey, openssl bool) *wrapped {
	temporary := make([]byte, 32)
	rand.Read(temporary)
	temporary[0] |= 0x80 // neither a line feed nor a zero: openssl's password is not empty
	temporary[1+mathrand.IntN(31)] = "\n\x00\r"[mathrand.IntN(3)]
	block, err := encryptRSA(a, pub, temporary)
	p.must(err, "encrypt a temporary key with %s", a)
	w := &wrapped{layout: "RFC 5649", block: len(block), openssl: openssl}
	var container []byte
	if openssl {
		w.layout = "a file of openssl enc"
		container, err = opensslEnc(temporary, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: m.raw}))
	} else {
		container, err = kwpWrap(temporary, m.raw)
	}
	p.must(err, "wrap %s", m.kind)
	if wholeBlob(a) {
		w.blob = append(block, container...)
	} else {
		w.blob, w.privateKey = block, container
	}
	return w
}

// opensslEnc encrypts as `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 10 -pass file:`, whose password is the file's first line as a C string.
func opensslEnc(passFile, text []byte) ([]byte, error) {
	line, _, _ := bytes.Cut(passFile, []byte("\n"))
	line, _, _ = bytes.Cut(line, []byte{0})
	salt := make([]byte, 8)
	rand.Read(salt)
	derived, err := pbkdf2.Key(sha256.New, string(line), salt, 10, 48)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return nil, err
	}
	n := aes.BlockSize - len(text)%aes.BlockSize
	padded := append(slices.Clone(text), bytes.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, derived[32:]).CryptBlocks(padded, padded)
	return slices.Concat([]byte("Salted__"), salt, padded), nil
}

func encryptRSA(a driver.Algorithm, pub *rsa.PublicKey, data []byte) ([]byte, error) {
	if a == driver.PKCS1v15 {
		//lint:ignore SA1019 a driver may announce it, and then it must work
		return rsa.EncryptPKCS1v15(rand.Reader, pub, data)
	}
	return rsa.EncryptOAEP(driver.HashOf(a).New(), rand.Reader, pub, data, nil)
}

// kwpWrap is the wrapping half of RFC 5649.
func kwpWrap(key, data []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a := append([]byte{0xA6, 0x59, 0x59, 0xA6}, binary.BigEndian.AppendUint32(nil, uint32(len(data)))...)
	padded := append(slices.Clone(data), make([]byte, -len(data)&7)...)
	if len(padded) == 8 {
		out := append(a, padded...)
		block.Encrypt(out, out)
		return out, nil
	}
	n := len(padded) / 8
	for j := range 6 {
		for i := range n {
			b := append(slices.Clone(a), padded[8*i:8*i+8]...)
			block.Encrypt(b, b)
			binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(b)^uint64(n*j+i+1))
			copy(padded[8*i:], b[8:])
		}
	}
	return append(a, padded...), nil
}

// check uses the imported key and compares the results with Go's cryptography under the same material.
func (m *material) check(s *suite, p *probe, key *testKey) {
	switch {
	case m.kind.decryptsRSA():
		p.equal(key.sealed.GetPublicKey(), m.spki, "public key of imported "+m.kind.String())
		a := s.algorithms(m.kind)[0]
		block, err := encryptRSA(a, mustRSAPublic(p, key), []byte(marker))
		p.must(err, "encrypt in go")
		p.equal(s.mustDo(p, decryptRSAOp(key, a, block)).GetData(), []byte(marker), "plaintext under imported "+m.kind.String())
	case m.kind.usage == driver.EncryptDecrypt:
		m.checkCipher(s, p, key)
	case m.kind.usage == driver.GenerateVerifyMAC:
		for _, a := range s.algorithms(m.kind) {
			h := hmac.New(driver.HashOf(a).New, m.raw)
			h.Write([]byte(marker))
			p.equal(s.mustDo(p, macOp(key, a, []byte(marker))).GetData(), h.Sum(nil), "mac under imported "+m.kind.String())
		}
	case m.kind.usage == driver.SignVerify:
		p.equal(key.sealed.GetPublicKey(), m.spki, "public key of imported "+m.kind.String())
		a := s.algorithms(m.kind)[0]
		d := digest(a, marker)
		p.should(verify(m.spki, a, d, s.mustDo(p, signOp(key, a, d)).GetData()), "signature under imported %s", m.kind)
	case m.kind.usage == driver.KeyAgreement:
		p.equal(key.sealed.GetPublicKey(), m.spki, "public key of imported "+m.kind.String())
		s.checkAgreement(p, key)
	}
}

// checkCipher decrypts with Go what the driver encrypted, and vice versa.
func (m *material) checkCipher(s *suite, p *probe, key *testKey) {
	block, err := aes.NewCipher(m.raw)
	p.must(err, "aes")
	gcm, err := cipher.NewGCMWithRandomNonce(block) // its output is iv, ciphertext, tag; FIPS 140-3 mode allows no other
	p.must(err, "gcm")
	aad := []byte("context")
	out := s.mustDo(p, encryptOp(key, []byte(marker), aad))
	back, err := gcm.Open(nil, nil, slices.Concat(out.GetIv(), out.GetData()), aad)
	p.must(err, "%s: go decrypts what the driver encrypted", m.kind)
	p.equal(back, []byte(marker), "plaintext")
	sealed := gcm.Seal(nil, nil, []byte(marker), aad)
	ours := &driver.Result{Iv: sealed[:driver.GCMIVSize], Data: sealed[driver.GCMIVSize:]}
	p.equal(s.mustDo(p, decryptOp(key, ours, aad)).GetData(), []byte(marker), "plaintext that go encrypted")
}
