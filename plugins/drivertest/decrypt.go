package drivertest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

var decryptChecks = []check{
	{"decrypt-rsa/opens", (*suite).checkDecryptRSA},
	{"decrypt-rsa/bad-blocks", (*suite).checkBadBlocks},
	{"decrypt-rsa/arguments", (*suite).checkDecryptRSAArguments},
}

func decryptRSAOp(key *testKey, a driver.Algorithm, block []byte) *driver.Op {
	return key.op(driver.DecryptRSA, func(op *driver.Op) { op.Algorithm, op.Data = a, block })
}

// decrypters returns the announced kinds of RSA keys that decrypt, the fastest to make first. It ends the check if there is none.
func (s *suite) decrypters(p *probe) []kind {
	list := slices.DeleteFunc(s.kinds(), func(k kind) bool { return !k.decryptsRSA() })
	p.skipIf(len(list) == 0, "describe announces no RSA key for %s", driver.EncryptDecrypt)
	return list
}

// mustRSAPublic returns the public key of an RSA key that the driver made.
func mustRSAPublic(p *probe, key *testKey) *rsa.PublicKey {
	pub, err := publicOf[*rsa.PublicKey](key.sealed.GetPublicKey())
	p.must(err, "public key of %s", key.id.GetSpec())
	return pub
}

func (s *suite) checkDecryptRSA(p *probe) {
	for _, k := range s.decrypters(p) {
		key := s.mustShare(p, k)
		pub := mustRSAPublic(p, key)
		for _, a := range s.algorithms(k) {
			most := pub.Size() - 2*driver.HashOf(a).Size() - 2
			for _, n := range []int{0, 1, 32, most - 1, most} {
				block, err := encryptRSA(a, pub, plaintext(n))
				p.must(err, "%s: encrypt %d bytes in go", k, n)
				got := s.mustDo(p, decryptRSAOp(key, a, block)).GetData()
				p.equal(got, plaintext(n), fmt.Sprintf("%s with %s: plaintext of %d bytes", k, a, n))
			}
		}
	}
}

// checkBadBlocks sends blocks with every fault. All must get the same answer: a difference is an oracle that decrypts other people's
// blocks.
func (s *suite) checkBadBlocks(p *probe) {
	var text string
	for _, k := range s.decrypters(p) {
		key := s.mustShare(p, k)
		pub := mustRSAPublic(p, key)
		for _, a := range s.algorithms(k) {
			good, err := encryptRSA(a, pub, []byte(marker))
			p.must(err, "encrypt in go")
			for what, block := range badBlocks(p, a, pub, good) {
				_, err := s.do(p.ctx, decryptRSAOp(key, a, block))
				p.refused(err, only(driver.BadCiphertext), "%s: decrypt with %s and %s", k, a, what)
				if err == nil {
					continue
				}
				if text == "" {
					text = err.Error()
				}
				p.errorIf(err.Error() != text, "bad blocks have two answers: %q, and for %s %q", text, what, err)
			}
			p.equal(s.mustDo(p, decryptRSAOp(key, a, good)).GetData(), []byte(marker), "plaintext after all that")
		}
	}
}

// badBlocks returns blocks that do not decrypt with a: corrupt, of another scheme, or with one fault in their padding.
func badBlocks(p *probe, a driver.Algorithm, pub *rsa.PublicKey, good []byte) map[string][]byte {
	h := driver.HashOf(a).Size()
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	oaep := func(hash crypto.Hash, label string) []byte {
		block, err := rsa.EncryptOAEP(hash.New(), rand.Reader, pub, []byte(marker), []byte(label))
		p.must(err, "encrypt in go")
		return block
	}
	list := map[string][]byte{
		"a block with another hash": oaep(crypto.SHA384, ""), "a label": oaep(driver.HashOf(a), "label"),
		"its last bit flipped": flip(len(good) - 1), "its middle flipped": flip(len(good) / 2),
		"its last byte cut": good[:len(good)-1], "a byte added": append(bytes.Clone(good), 0), "a zero before it": append([]byte{0}, good...),
		"nothing": nil, "zeros": make([]byte, len(good)), "a block above the modulus": bytes.Repeat([]byte{0xff}, len(good)),
	}
	for what, spoil := range map[string]func(em, db []byte){
		"a first byte that is not zero": func(em, _ []byte) { em[0] = 1 },
		"another label's hash":          func(_, db []byte) { db[0] ^= 1 },
		"a padding that is not zero":    func(_, db []byte) { db[h] = 2 },
		"nothing but padding":           func(_, db []byte) { clear(db[h:]) },
	} {
		list[what] = rawRSA(pub, encode(driver.HashOf(a), pub.Size(), []byte(marker), spoil))
	}
	return list
}

// encode is EME-OAEP of RFC 8017 section 7.1.1, with a fault in it: the first byte, or the data block before it is masked.
func encode(hash crypto.Hash, size int, message []byte, spoil func(em, db []byte)) []byte {
	em := make([]byte, size)
	seed, db := em[1:1+hash.Size()], em[1+hash.Size():]
	rand.Read(seed)
	copy(db, hash.New().Sum(nil))
	copy(db[len(db)-len(message):], message)
	db[len(db)-len(message)-1] = 1
	spoil(em, db)
	mask(hash, db, seed)
	mask(hash, seed, db)
	return em
}

// mask is MGF1 of RFC 8017 section B.2.1.
func mask(hash crypto.Hash, out, seed []byte) {
	for i := range out {
		if i%hash.Size() == 0 {
			h := hash.New()
			h.Write(binary.BigEndian.AppendUint32(slices.Clone(seed), uint32(i/hash.Size())))
			for j, b := range h.Sum(nil)[:min(hash.Size(), len(out)-i)] {
				out[i+j] ^= b
			}
		}
	}
}

func rawRSA(pub *rsa.PublicKey, em []byte) []byte {
	m := new(big.Int).SetBytes(em)
	return m.Exp(m, big.NewInt(int64(pub.E)), pub.N).FillBytes(make([]byte, pub.Size()))
}

func (s *suite) checkDecryptRSAArguments(p *probe) {
	k := s.decrypters(p)[0]
	key, announced := s.mustShare(p, k), s.algorithms(k)
	block, err := encryptRSA(announced[0], mustRSAPublic(p, key), []byte(marker))
	p.must(err, "encrypt in go")
	s.refuseOthers(p, announced, k.String()+": decrypt", func(a driver.Algorithm) *driver.Op { return decryptRSAOp(key, a, block) })
}
