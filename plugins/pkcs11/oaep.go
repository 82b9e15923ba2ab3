package pkcs11

import (
	"crypto"
	_ "crypto/sha1" // for OAEP with SHA-1, which older import tools use
	"crypto/subtle"
	"encoding/binary"
)

// oaepDecode decodes EME-OAEP (RFC 8017 section 7.1.2) with an empty label and MGF1 of the same hash. Its time depends on the length
// of em only, not on whether em is good: a difference would let a sender decrypt other people's messages (Manger 2001).
func oaepDecode(hash crypto.Hash, em []byte) (message []byte, ok bool) {
	h := hash.Size()
	if len(em) < 2*h+2 {
		return nil, false
	}
	seed, db := em[1:1+h], em[1+h:]
	mgf1XOR(seed, hash, db)
	mgf1XOR(db, hash, seed)

	good := subtle.ConstantTimeByteEq(em[0], 0)
	good &= subtle.ConstantTimeCompare(db[:h], hash.New().Sum(nil))
	// After the hash: zeros, a one, the message.
	looking, at := 1, 0
	for i, b := range db[h:] {
		one := subtle.ConstantTimeByteEq(b, 1)
		zero := subtle.ConstantTimeByteEq(b, 0)
		at = subtle.ConstantTimeSelect(looking&one, i+1, at)
		good &= 1 ^ looking&(1^one)&(1^zero)
		looking &= 1 ^ one
	}
	good &= 1 ^ looking
	if good != 1 {
		return nil, false
	}
	return db[h+at:], true
}

// mgf1XOR masks out with MGF1 of seed.
func mgf1XOR(out []byte, hash crypto.Hash, seed []byte) {
	var counter [4]byte
	for n := uint32(0); len(out) > 0; n++ {
		binary.BigEndian.PutUint32(counter[:], n)
		h := hash.New()
		h.Write(seed)
		h.Write(counter[:])
		mask := h.Sum(nil)
		k := subtle.XORBytes(out, out, mask)
		out = out[k:]
	}
}
