package drivertest

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

// marker begins every plaintext of the kit, so that it is recognized in ciphertexts and errors.
const marker = "plaintext-of-drivertest"

var cipherChecks = []check{
	{"encrypt/round-trip", (*suite).checkRoundTrip},
	{"encrypt/ivs-differ", (*suite).checkIVs},
	{"encrypt/bad-ciphertext", (*suite).checkBadCiphertext},
	{"encrypt/limits", (*suite).checkCipherLimits},
	{"data-key/round-trip", (*suite).checkDataKeys},
	{"data-key/limits", (*suite).checkDataKeyLimits},
}

// plaintext returns n bytes that begin with the marker.
func plaintext(n int) []byte {
	return bytes.Repeat([]byte(marker), n/len(marker)+1)[:n]
}

func encryptOp(key *testKey, data, aad []byte) *driver.Op {
	return key.op(driver.Encrypt, func(op *driver.Op) { op.Data, op.Aad = data, aad })
}

func decryptOp(key *testKey, from *driver.Result, aad []byte) *driver.Op {
	return key.op(driver.Decrypt, func(op *driver.Op) { op.Iv, op.Data, op.Aad = from.GetIv(), from.GetData(), aad })
}

func (s *suite) checkRoundTrip(p *probe) {
	s.secret([]byte(marker))
	for _, k := range s.ciphers(p) {
		key := s.mustShare(p, k)
		for _, n := range []int{0, 1, 15, 16, 17, 1000, int(s.desc.GetMaxData())} {
			n = min(n, int(s.desc.GetMaxData()))
			for _, aad := range [][]byte{nil, []byte("context")} {
				data := plaintext(n)
				out := s.mustDo(p, encryptOp(key, bytes.Clone(data), aad))
				if len(out.GetIv()) != driver.GCMIVSize || len(out.GetData()) != n+driver.GCMTagSize {
					p.Fatalf("%s: %d bytes gave an iv of %d and %d bytes", k, n, len(out.GetIv()), len(out.GetData()))
				}
				if n >= 16 && bytes.Contains(out.GetData(), data[:16]) {
					p.Errorf("%s: ciphertext holds the plaintext", k)
				}
				back := s.mustDo(p, decryptOp(key, out, aad))
				p.equal(back.GetData(), data, fmt.Sprintf("%s: plaintext of %d bytes", k, n))
			}
		}
	}
}

// checkIVs looks for a repeated IV, which would break GCM.
func (s *suite) checkIVs(p *probe) {
	k := s.ciphers(p)[0]
	key := s.mustShare(p, k)
	seen := map[string]bool{}
	for range 256 {
		out := s.mustDo(p, encryptOp(key, []byte(marker), nil))
		if iv := string(out.GetIv()); seen[iv] {
			p.Fatalf("%s: an iv came twice in 256 encryptions", k)
		} else {
			seen[iv] = true
		}
	}
}

func (s *suite) checkBadCiphertext(p *probe) {
	bad := only(driver.BadCiphertext)
	for _, k := range s.ciphers(p) {
		key := s.mustShare(p, k)
		aad := []byte("context")
		out := s.mustDo(p, encryptOp(key, []byte(marker), aad))
		try := func(what string, change func(*driver.Op)) {
			op := decryptOp(key, &driver.Result{Iv: bytes.Clone(out.GetIv()), Data: bytes.Clone(out.GetData())}, bytes.Clone(aad))
			change(op)
			s.refuse(p, op, bad, "%s: decrypt with %s", k, what)
		}
		try("another aad", func(op *driver.Op) { op.Aad[0] ^= 1 })
		try("no aad", func(op *driver.Op) { op.Aad = nil })
		try("another iv", func(op *driver.Op) { op.Iv[11] ^= 1 })
		try("a bit of the data flipped", func(op *driver.Op) { op.Data[0] ^= 0x80 })
		try("a bit of the tag flipped", func(op *driver.Op) { op.Data[len(op.Data)-1] ^= 1 })
		try("the data cut by one", func(op *driver.Op) { op.Data = op.Data[:len(op.Data)-1] })
		try("half a tag", func(op *driver.Op) { op.Data = op.Data[:8] })
		try("a byte added", func(op *driver.Op) { op.Data = append(op.Data, 0) })
		other := s.mustMake(p, k)
		s.refuse(p, decryptOp(other, out, aad), bad, "%s: decrypt with another key", k)
		for what, change := range map[string]func(*driver.Op){
			"no data":       func(op *driver.Op) { op.Data = nil },
			"no iv":         func(op *driver.Op) { op.Iv = nil },
			"an iv cut off": func(op *driver.Op) { op.Iv = op.Iv[:11] },
			"a longer iv":   func(op *driver.Op) { op.Iv = append(slices.Clone(op.Iv), 0) },
		} {
			op := decryptOp(key, out, aad)
			change(op)
			s.refuse(p, op, only(driver.BadCiphertext, driver.InvalidArgument), "%s: decrypt with %s", k, what)
		}
		p.equal(s.mustDo(p, decryptOp(key, out, aad)).GetData(), []byte(marker), "plaintext after all that")
	}
}

func (s *suite) checkCipherLimits(p *probe) {
	key := s.mustShare(p, s.ciphers(p)[0])
	over := make([]byte, s.desc.GetMaxData()+1)
	s.refuse(p, encryptOp(key, over, nil), only(driver.InvalidArgument), "encrypt more than max_data")
	long := &driver.Result{Iv: make([]byte, driver.GCMIVSize), Data: make([]byte, int(s.desc.GetMaxData())+driver.GCMTagSize+1)}
	s.refuse(p, decryptOp(key, long, nil), only(driver.InvalidArgument, driver.BadCiphertext), "decrypt more than max_data")
}

func dataKeyOp(key *testKey, n uint32, aad []byte) *driver.Op {
	return key.op(driver.DataKey, func(op *driver.Op) { op.Length, op.Aad = n, aad })
}

func (s *suite) checkDataKeys(p *probe) {
	for _, k := range s.ciphers(p) {
		key := s.mustShare(p, k)
		for _, n := range []uint32{1, 16, 32, 64, s.desc.GetMaxDataKey()} {
			n = min(n, s.desc.GetMaxDataKey())
			aad := []byte("context")
			out := s.mustDo(p, dataKeyOp(key, n, aad))
			s.secret(out.GetPlaintext()[:min(len(out.GetPlaintext()), 64)])
			if len(out.GetPlaintext()) != int(n) {
				p.Fatalf("%s: data key of %d bytes has %d", k, n, len(out.GetPlaintext()))
			}
			p.equal(s.mustDo(p, decryptOp(key, out, aad)).GetData(), out.GetPlaintext(), k.String()+": decrypted data key")
			s.refuse(p, decryptOp(key, out, []byte("other")), only(driver.BadCiphertext), "%s: decrypt a data key with another aad", k)
			if n < 16 {
				continue
			}
			if again := s.mustDo(p, dataKeyOp(key, n, aad)); bytes.Equal(again.GetPlaintext(), out.GetPlaintext()) {
				p.Errorf("%s: the same data key twice", k)
			}
		}
	}
}

func (s *suite) checkDataKeyLimits(p *probe) {
	key := s.mustShare(p, s.ciphers(p)[0])
	for _, n := range []uint32{0, s.desc.GetMaxDataKey() + 1, 1<<32 - 1} {
		s.refuse(p, dataKeyOp(key, n, nil), only(driver.InvalidArgument), "data key of %d bytes", n)
	}
}
