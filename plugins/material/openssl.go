package material

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

// Files of `openssl enc -aes-256-cbc -salt -pbkdf2 -iter 10`, as in VNG Cloud's guide: Salted__, 8 bytes of salt, AES-256-CBC with
// PKCS #7 padding. Key and IV are PBKDF2-HMAC-SHA-256 of the password. The files are not authenticated.
const (
	opensslMagic      = "Salted__"
	opensslHead       = len(opensslMagic) + 8
	opensslIterations = 10
)

// IsOpenSSL reports whether a container is a file of openssl enc. A container under RFC 5649 has the same first bytes once in 2^64.
func IsOpenSSL(container []byte) bool { return bytes.HasPrefix(container, []byte(opensslMagic)) }

// openOpenSSL opens a file of openssl enc that contains a private key as PEM or DER. It takes every step even if an earlier one
// failed, so that neither the answer nor its time distinguishes bad padding from a bad key.
func openOpenSSL(spec driver.KeySpec, temporary, file []byte) (pkcs8 []byte, ok bool) {
	if n := len(file) - opensslHead; n <= 0 || n%aes.BlockSize != 0 || n > MaxWrapped {
		return nil, false
	}
	cut, whole, isCut := passwords(temporary)
	first, firstOK := openWith(spec, cut, file)
	second, secondOK := openWith(spec, whole, file)
	switch {
	case firstOK:
		clear(second)
		return first, true
	case secondOK && isCut:
		return second, true
	}
	clear(second)
	return nil, false
}

// passwords returns the two possible passwords. `-pass file:` reads the first line of the temporary key as a C string, which is
// shorter than the key for 22 % of random keys; other tools use the whole key. For the other 78 % isCut is false, and whole is no
// password but takes as long to try.
func passwords(temporary []byte) (cut, whole []byte, isCut bool) {
	end := slices.IndexFunc(temporary, func(b byte) bool { return b == '\n' || b == 0 })
	if end < 0 {
		return temporary, temporary[:len(temporary)-1], false
	}
	return temporary[:end], temporary, true
}

func openWith(spec driver.KeySpec, password, file []byte) (pkcs8 []byte, ok bool) {
	text, padded, err := decryptOpenSSL(password, file)
	defer clear(text)
	if err != nil {
		return nil, false
	}
	key, last, err := readFile(text, spec)
	// Whatever follows the key must not be ignored: a sender who appends blocks to a file of others would learn from the answer whether
	// their padding is valid, which decrypts the file (Vaudenay, 2002).
	if pkcs8, ok = key.ofSpec(spec, err); ok && !(padded && last) {
		clear(pkcs8)
		return nil, false
	}
	return pkcs8, ok
}

// decryptOpenSSL returns the text without its padding. If the padding is bad, padded is false and the text includes it.
func decryptOpenSSL(password, file []byte) (text []byte, padded bool, err error) {
	block, iv, err := opensslCipher(password, file)
	if err != nil {
		return nil, false, err
	}
	text = make([]byte, len(file)-opensslHead)
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(text, file[opensslHead:])
	n, good := padding(text)
	return text[:len(text)-n], good == 1, nil
}

// padding returns the length of a text's PKCS #7 padding (RFC 5652 section 6.3), 0 if it is bad, in constant time.
func padding(text []byte) (n, good int) {
	n = int(text[len(text)-1])
	good = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i := range aes.BlockSize {
		inside := subtle.ConstantTimeLessOrEq(i+1, n)
		same := subtle.ConstantTimeByteEq(text[len(text)-1-i], byte(n))
		good &= 1 ^ inside | same
	}
	return subtle.ConstantTimeSelect(good, n, 0), good
}
