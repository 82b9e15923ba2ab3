package drivertest

import (
	"bytes"
	"fmt"

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
				p.fatalIf(len(out.GetIv()) != driver.GCMIVSize || len(out.GetData()) != n+driver.GCMTagSize,
					"%s: %d bytes gave an iv of %d and %d bytes", k, n, len(out.GetIv()), len(out.GetData()))
				p.errorIf(n >= 16 && bytes.Contains(out.GetData(), data[:16]), "%s: ciphertext holds the plaintext", k)
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
	bad, malformed := only(driver.BadCiphertext), only(driver.BadCiphertext, driver.InvalidArgument)
	for _, k := range s.ciphers(p) {
		key := s.mustShare(p, k)
		aad := []byte("context")
		out := s.mustDo(p, encryptOp(key, []byte(marker), aad))
		other := s.mustMake(p, k)
		s.refuse(p, decryptOp(other, out, aad), bad, "%s: decrypt with another key", k)
		for what, c := range map[string]struct {
			codes  []driver.Code
			change func(*driver.Op)
		}{
			"another aad":               {bad, func(op *driver.Op) { op.Aad[0] ^= 1 }},
			"no aad":                    {bad, func(op *driver.Op) { op.Aad = nil }},
			"another iv":                {bad, func(op *driver.Op) { op.Iv[11] ^= 1 }},
			"a bit of the data flipped": {bad, func(op *driver.Op) { op.Data[0] ^= 0x80 }},
			"a bit of the tag flipped":  {bad, func(op *driver.Op) { op.Data[len(op.Data)-1] ^= 1 }},
			"the data cut by one":       {bad, func(op *driver.Op) { op.Data = op.Data[:len(op.Data)-1] }},
			"half a tag":                {bad, func(op *driver.Op) { op.Data = op.Data[:8] }},
			"a byte added":              {bad, func(op *driver.Op) { op.Data = append(op.Data, 0) }},
			"no data":                   {malformed, func(op *driver.Op) { op.Data = nil }},
			"no iv":                     {malformed, func(op *driver.Op) { op.Iv = nil }},
			"an iv cut off":             {malformed, func(op *driver.Op) { op.Iv = op.Iv[:11] }},
			"a longer iv":               {malformed, func(op *driver.Op) { op.Iv = append(op.Iv, 0) }},
		} {
			op := decryptOp(key, &driver.Result{Iv: bytes.Clone(out.GetIv()), Data: bytes.Clone(out.GetData())}, bytes.Clone(aad))
			c.change(op)
			s.refuse(p, op, c.codes, "%s: decrypt with %s", k, what)
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
			p.fatalIf(len(out.GetPlaintext()) != int(n), "%s: data key of %d bytes has %d", k, n, len(out.GetPlaintext()))
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
