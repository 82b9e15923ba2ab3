package kms

import (
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
)

// A ciphertext is
//
//	offset  bytes  field
//	     0      4  magic "KSCT"
//	     4      1  format version, 1
//	     5      1  suite, 1: AES-GCM with a random 96-bit IV and a 128-bit tag
//	     6      1  purpose, 1: data, 2: data key
//	     7      1  flags, 0, or 1: the plaintext is a text (see EncryptInput.Text)
//	     8     16  key id
//	    24      4  key version, from 1
//	    28      8  message number within the key version
//	    36     76  reserved, zero
//	   112     12  IV
//	   124      n  encrypted plaintext
//	 124+n     16  tag
//
// Integers are big-endian. The reserved bytes make the whole overhead 140 bytes, the one figure that every published
// length rule of the clouds' ciphertexts accepts.
//
// The additional authenticated data given to the HSM is the text "keyside ciphertext v1" and a zero byte, the header's
// 112 bytes as they are, the number of pairs of the encryption context (4 bytes), each name and value in the names'
// byte order with its length (4 bytes) before it, and the caller's additional authenticated data with its length
// (4 bytes) before it.
const (
	headerSize = 112
	ivSize     = 12
	tagSize    = 16
	// CiphertextOverhead is the length of a ciphertext minus that of its plaintext, in bytes.
	CiphertextOverhead = headerSize + ivSize + tagSize

	formatVersion = 1
	suiteAESGCM   = 1
	flagText      = 1
	usedHeader    = 36 // the rest is reserved

	aadDomain = "keyside ciphertext v1\x00"
)

var magic = [4]byte{'K', 'S', 'C', 'T'}

// header is the header of a ciphertext.
type header struct {
	Purpose Purpose
	KeyID   KeyID
	Version uint32
	Message uint64
	Text    bool // flagText
}

// appendTo appends the header's 112 bytes.
func (h header) appendTo(b []byte) []byte {
	b = append(b, magic[:]...)
	flags := byte(0)
	if h.Text {
		flags = flagText
	}
	b = append(b, formatVersion, suiteAESGCM, byte(h.Purpose), flags)
	b = append(b, h.KeyID[:]...)
	b = binary.BigEndian.AppendUint32(b, h.Version)
	b = binary.BigEndian.AppendUint64(b, h.Message)
	return append(b, make([]byte, headerSize-usedHeader)...)
}

// invalidCiphertext returns the one error for every fault of a ciphertext.
func invalidCiphertext() *Error {
	return Errorf(CodeInvalidCiphertext, "ciphertext cannot be decrypted").In("ciphertext")
}

// parseCiphertext splits a ciphertext. It accepts exactly what appendTo and the answer of an HSM make up.
func parseCiphertext(c []byte) (h header, iv, body []byte, err error) {
	var reserved [headerSize - usedHeader]byte
	switch {
	case len(c) <= CiphertextOverhead,
		!bytes.Equal(c[:4], magic[:]),
		c[4] != formatVersion, c[5] != suiteAESGCM, c[7]&^flagText != 0,
		!bytes.Equal(c[usedHeader:headerSize], reserved[:]):
		return header{}, nil, nil, invalidCiphertext()
	}
	h = header{
		Purpose: Purpose(c[6]), KeyID: KeyID(c[8:24]),
		Version: binary.BigEndian.Uint32(c[24:28]), Message: binary.BigEndian.Uint64(c[28:36]),
		Text: c[7] == flagText,
	}
	if (h.Purpose != PurposeData && h.Purpose != PurposeDataKey) || h.Version == 0 {
		return header{}, nil, nil, invalidCiphertext()
	}
	return h, c[headerSize : headerSize+ivSize], c[headerSize+ivSize:], nil
}

// PurposeOf returns the purpose that a symmetric ciphertext claims in its header, 0 if it has none. Only decryption tells
// whether the header is authentic.
func PurposeOf(ciphertext []byte) Purpose {
	h, _, _, err := parseCiphertext(ciphertext)
	if err != nil {
		return 0
	}
	return h.Purpose
}

// boundTo returns the additional authenticated data that binds a ciphertext to its header, an encryption context and the
// caller's additional data.
func (h header) boundTo(context map[string]string, aad []byte) []byte {
	size := len(aadDomain) + headerSize + 8 + len(aad)
	for name, value := range context {
		size += 8 + len(name) + len(value)
	}
	b := make([]byte, 0, size)
	b = append(b, aadDomain...)
	b = h.appendTo(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(context)))
	if len(context) > 0 {
		names := slices.AppendSeq(make([]string, 0, len(context)), maps.Keys(context))
		slices.Sort(names)
		for _, name := range names {
			b = appendText(b, name)
			b = appendText(b, context[name])
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(aad)))
	return append(b, aad...)
}

func appendText(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
