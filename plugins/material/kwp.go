package material

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
)

// KeyWrap is AES key wrap with padding, RFC 5649 (NIST SP 800-38F calls it KWP), under one key.
type KeyWrap struct {
	block cipher.Block
}

// kwpPrefix is the constant half of the alternative initial value, RFC 5649 section 3.
const kwpPrefix = 0xA65959A6

// MaxWrapped is the longest material that Wrap accepts, in bytes. The longest real material, a PKCS#8 RSA-4096 key, has under 2,500.
const MaxWrapped = 8 << 10

// NewKeyWrap returns the KeyWrap of an AES key of 16, 24 or 32 bytes.
func NewKeyWrap(key []byte) (*KeyWrap, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &KeyWrap{block}, nil
}

// Wrap encrypts material, which has 1 to MaxWrapped bytes.
func (w *KeyWrap) Wrap(material []byte) ([]byte, error) {
	if len(material) == 0 || len(material) > MaxWrapped {
		return nil, fmt.Errorf("material of %d bytes cannot be wrapped", len(material))
	}
	padded := (len(material) + 7) &^ 7
	b := make([]byte, 8+padded)
	binary.BigEndian.PutUint32(b, kwpPrefix)
	binary.BigEndian.PutUint32(b[4:], uint32(len(material)))
	copy(b[8:], material)
	if padded == 8 {
		w.block.Encrypt(b, b)
		return b, nil
	}
	// RFC 3394 section 2.2.1, the index-based form: a is the first half of every block.
	var block [aes.BlockSize]byte
	copy(block[:8], b)
	for step, n := uint64(1), padded/8; step <= uint64(6*n); step++ {
		r := b[8*(1+(int(step)-1)%n):][:8]
		copy(block[8:], r)
		w.block.Encrypt(block[:], block[:])
		binary.BigEndian.PutUint64(block[:], binary.BigEndian.Uint64(block[:])^step)
		copy(r, block[8:])
	}
	copy(b, block[:8])
	clear(block[:])
	return b, nil
}

// Unwrap decrypts the result of Wrap. ok is false for everything else.
func (w *KeyWrap) Unwrap(wrapped []byte) (material []byte, ok bool) {
	if len(wrapped) < 16 || len(wrapped)%8 != 0 || len(wrapped) > 8+MaxWrapped {
		return nil, false
	}
	b := make([]byte, len(wrapped))
	if len(b) == aes.BlockSize {
		w.block.Decrypt(b, wrapped)
	} else {
		w.unwrapSteps(b, wrapped)
	}
	// Knowing which check failed does not help a forger, because the 64 bits are random for a forged input.
	padded, length := len(b)-8, int(binary.BigEndian.Uint32(b[4:]))
	if binary.BigEndian.Uint32(b) != kwpPrefix || length <= padded-8 || length > padded || !allZero(b[8+length:]) {
		clear(b)
		return nil, false
	}
	return b[8 : 8+length], true
}

func allZero(b []byte) bool {
	var or byte
	for _, c := range b {
		or |= c
	}
	return or == 0
}

// unwrapSteps is RFC 3394 section 2.2.2, the index-based form.
func (w *KeyWrap) unwrapSteps(b, wrapped []byte) {
	var block [aes.BlockSize]byte
	copy(b, wrapped)
	copy(block[:8], b)
	n := (len(b) - 8) / 8
	for step := uint64(6 * n); step > 0; step-- {
		r := b[8*(1+(int(step)-1)%n):][:8]
		binary.BigEndian.PutUint64(block[:], binary.BigEndian.Uint64(block[:])^step)
		copy(block[8:], r)
		w.block.Decrypt(block[:], block[:])
		copy(r, block[8:])
	}
	copy(b, block[:8])
	clear(block[:])
}
