//go:build soak

package test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/material"
)

const (
	timedPairs = 2000
	// worstZ is the largest |z| of a difference that may be chance: with the 47 comparisons of a run, one in eight runs has a larger one.
	worstZ = 3
)

// timed is an import whose time is measured in two ways.
type timed struct {
	what string
	ways [2]*driver.ImportKeyRequest
}

// TestSoakImportTimes measures at hsmd's socket whether the time of an import tells if the padding of its RSA block is good: for each
// algorithm and layout, 2,000 interleaved pairs of a good and a bad block. The good block once has all that the import needs, and
// once another key than the container needs, as a block that an attacker makes from a captured one.
func TestSoakImportTimes(t *testing.T) {
	backend := dialUnlimited(t, "softhsm")
	sender := newSender(t, backend)
	for _, c := range sender.comparisons() {
		t.Run(c.what, func(t *testing.T) {
			z, difference := compareTimes(t, timedPairs, func(way int) error {
				_, err := backend.ImportKey(t.Context(), c.ways[way])
				return err
			})
			t.Logf("z = %+.1f, a bad block takes %+.1f µs", z, difference)
			if math.Abs(z) >= worstZ {
				t.Errorf("the time tells a good from a bad block: z = %+.1f", z)
			}
		})
	}
}

// compareTimes times pairs of calls in random order and returns the mean difference of way 1 and way 0 in µs, and how many standard
// errors that is.
func compareTimes(t *testing.T, pairs int, call func(way int) error) (z, mean float64) {
	t.Helper()
	codes := [2]driver.Code{driver.CodeOf(call(0)), driver.CodeOf(call(1))}
	differences := make([]float64, pairs)
	for i := range differences {
		var took [2]time.Duration
		first := mathrand.IntN(2)
		for _, way := range []int{first, 1 - first} {
			start := time.Now()
			err := call(way)
			took[way] = time.Since(start)
			if got := driver.CodeOf(err); got != codes[way] {
				t.Fatalf("%v, want %s", err, codes[way])
			}
		}
		differences[i] = float64(took[1]-took[0]) / float64(time.Microsecond)
	}
	var sum, squares float64
	for _, d := range differences {
		sum += d
		squares += d * d
	}
	n := float64(pairs)
	mean = sum / n
	z = mean / math.Sqrt((squares/n-mean*mean)/(n-1))
	slices.Sort(differences)
	t.Logf("median of the differences %+.1f µs, middle half from %+.1f to %+.1f", differences[pairs/2], differences[pairs/4], differences[pairs*3/4])
	return z, mean
}

// sender makes the imports of a client that knows the wrapping key's public half.
type sender struct {
	t        *testing.T
	wrapping *driver.KeyIdentity
	sealed   []byte
	public   *rsa.PublicKey
}

func newSender(t *testing.T, d driver.Driver) *sender {
	t.Helper()
	s := &sender{t: t, wrapping: newIdentity(driver.RSA2048, driver.Unwrap)}
	pair, err := d.MakeWrappingKey(t.Context(), &driver.MakeWrappingKeyRequest{Tenant: "default", Key: s.wrapping})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(pair.GetPublicKey())
	if err != nil {
		t.Fatal(err)
	}
	s.sealed, s.public = pair.GetSealed(), public.(*rsa.PublicKey)
	return s
}

func newIdentity(spec driver.KeySpec, usage driver.KeyUsage) *driver.KeyIdentity {
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return &driver.KeyIdentity{KeyId: id, Version: 1, Spec: spec, Usage: usage}
}

// comparisons returns the imports of all algorithms and layouts, with a good and a bad block.
func (s *sender) comparisons() (all []timed) {
	secret, temporary, other := random(32), random(32), random(32)
	temporary[0], other[0] = 1, 1 // openssl's password is not empty
	add := func(layout string, spec driver.KeySpec, usage driver.KeyUsage, a driver.Algorithm, content, wrong, container []byte) {
		bad := s.badBlock()
		blocks := map[string][]byte{"all good": s.block(a, content), "another key in the block": s.block(a, wrong)}
		if spec == driver.RSA2048 && (a == driver.OAEPSHA256 || a == driver.RSAAESKeyWrapSHA256 || material.IsOpenSSL(container)) {
			// Read in the driver process. The test of its primes takes 5 to 8 ms, for each key a time of its own, and so for the stand-in.
			delete(blocks, "all good")
		}
		for what, block := range blocks {
			c := timed{what: fmt.Sprintf("%s %s, %s, %s", a, spec, layout, what)}
			for way, block := range [2][]byte{block, bad} {
				req := &driver.ImportKeyRequest{Tenant: "default", Key: newIdentity(spec, usage), WrappingKey: s.wrapping,
					SealedWrappingKey: s.sealed, Algorithm: a, EncryptedMaterial: block, EncryptedPrivateKey: container}
				if material.Keyed(a) {
					req.EncryptedMaterial, req.EncryptedPrivateKey = slices.Concat(block, container), nil
				}
				c.ways[way] = req
			}
			all = append(all, c)
		}
	}
	for _, a := range []driver.Algorithm{driver.PKCS1v15, driver.OAEPSHA1, driver.OAEPSHA256, driver.RSAAESKeyWrapSHA1, driver.RSAAESKeyWrapSHA256} {
		add("in the block", driver.AES256, driver.EncryptDecrypt, a, secret, random(57), nil)
		if material.Keyed(a) {
			add("RFC 5649", driver.AES256, driver.EncryptDecrypt, a, temporary, other, s.keyWrap(temporary, secret))
		}
		for spec, der := range s.privateKeys() {
			text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
			add("RFC 5649", spec, driver.SignVerify, a, temporary, other, s.keyWrap(temporary, der))
			add("file of openssl", spec, driver.SignVerify, a, temporary, other, opensslFile(s.t, temporary, text))
		}
	}
	return all
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

func (s *sender) privateKeys() map[driver.KeySpec][]byte {
	s.t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		s.t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		s.t.Fatal(err)
	}
	out := map[driver.KeySpec][]byte{}
	for spec, key := range map[driver.KeySpec]any{driver.RSA2048: rsaKey, driver.ECP256: ecKey} {
		if out[spec], err = x509.MarshalPKCS8PrivateKey(key); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

func (s *sender) block(a driver.Algorithm, content []byte) (block []byte) {
	s.t.Helper()
	var err error
	if a == driver.PKCS1v15 {
		//lint:ignore SA1019 clouds offer it for import
		block, err = rsa.EncryptPKCS1v15(rand.Reader, s.public, content)
	} else {
		block, err = rsa.EncryptOAEP(driver.HashOf(a).New(), rand.Reader, s.public, content, nil)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return block
}

// badBlock returns a block whose padding no algorithm accepts: a block of type 1.
func (s *sender) badBlock() []byte {
	em := random(s.public.Size())
	em[0], em[1] = 0, 1
	m := new(big.Int).SetBytes(em)
	return m.Exp(m, big.NewInt(int64(s.public.E)), s.public.N).FillBytes(em)
}

func (s *sender) keyWrap(key, content []byte) []byte {
	s.t.Helper()
	w, err := material.NewKeyWrap(key)
	if err != nil {
		s.t.Fatal(err)
	}
	wrapped, err := w.Wrap(content)
	if err != nil {
		s.t.Fatal(err)
	}
	return wrapped
}

// opensslFile encrypts as `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 10 -pass file:` does.
func opensslFile(t *testing.T, password, text []byte) []byte {
	t.Helper()
	for _, end := range []byte{'\n', 0} {
		if at := slices.Index(password, end); at >= 0 {
			password = password[:at]
		}
	}
	salt := random(8)
	derived, err := pbkdf2.Key(sha256.New, string(password), salt, 10, 48)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		t.Fatal(err)
	}
	n := aes.BlockSize - len(text)%aes.BlockSize
	padded := append(slices.Clone(text), slices.Repeat([]byte{byte(n)}, n)...)
	cipher.NewCBCEncrypter(block, derived[32:]).CryptBlocks(padded, padded)
	return slices.Concat([]byte("Salted__"), salt, padded)
}
