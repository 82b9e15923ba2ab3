package pkcs11

import (
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"math/big"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/material"
)

// standInBlocks are RSA blocks of this process, one that opens and one that does not.
type standInBlocks struct{ good, bad []byte }

// newStandInBlocks encrypts a secret as an algorithm wants it, and makes a block with bad padding for every algorithm.
func newStandInBlocks(a driver.Algorithm, public *rsa.PublicKey, secret []byte) (b standInBlocks, err error) {
	em := material.Random(public.Size())
	em[0], em[1] = 0, 1 // PKCS #1 v1.5 wants type 2 here, and OAEP a hash that random bytes do not give
	b.bad = rawEncrypt(public, em)
	if a == driver.PKCS1v15 {
		for i := range em {
			em[i] |= 1 // no zero ends the padding early
		}
		em[0], em[1], em[len(em)-len(secret)-1] = 0, 2, 0
		copy(em[len(em)-len(secret):], secret)
		b.good = rawEncrypt(public, em)
		return b, nil
	}
	fips140.WithoutEnforcement(func() { // a stand-in needs no protection: it also takes SHA-1 where the HSM does
		b.good, err = rsa.EncryptOAEP(driver.HashOf(a).New(), rand.Reader, public, secret, nil)
	})
	return b, err
}

func rawEncrypt(public *rsa.PublicKey, em []byte) []byte {
	m := new(big.Int).SetBytes(em)
	return m.Exp(m, big.NewInt(int64(public.E)), public.N).FillBytes(make([]byte, public.Size()))
}

// balanced makes a C call twice, so that it succeeds once and fails once, whether the caller's input is good or bad: with that input,
// and then with a stand-in, bad if the input was good and good if it was bad. So what the module does, and for how long, does not
// depend on the input, except for the order. ok reports whether the input was good, and standIn is the result of the second call, if it
// succeeded. An error means that also the good stand-in failed, which is not the input's fault.
func balanced[T any](j *importJob, call func([]byte) (T, error), theirs, good, bad []byte) (got, standIn T, ok bool, err error) {
	got, err = call(theirs)
	switch {
	case err == nil:
		// Some modules answer bad padding with a random key, so that both calls succeed.
		if standIn, err = call(bad); j.data(err) {
			err = nil
		}
		return got, standIn, true, err
	case !j.data(err):
		return got, standIn, false, err
	}
	standIn, err = call(good)
	return got, standIn, false, err
}
