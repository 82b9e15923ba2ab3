package kms

import (
	"bytes"
	"crypto/rsa"
	"encoding/hex"
	"testing"
)

// A key of openssl's, and its signatures of the text "message" with SHA-256, SHA-384 and SHA-512.
const (
	opensslSecp256k1 = "3056301006072a8648ce3d020106052b8104000a03420004f130893ab617a6a90462d5500b7a1fd0d4681dec178edbba9ad06c6fc4bbaace" +
		"c9375e9323661576058eaf0b5f4e6d6a1e24d32b9f6a6c6594ae7ca1ec1af554"
	opensslCompressed = "3036301006072a8648ce3d020106052b8104000a03220002f130893ab617a6a90462d5500b7a1fd0d4681dec178edbba9ad06c6fc4bbaace"
)

var opensslSignatures = map[SigningAlgorithm]string{
	ECDSASHA256: "3045022100e4a36bb0f1f91e7cba4ba9f0c92cf3c9d0ff58c3d9f3f3c6a5561665c2695651022042b6bbd2be9e07f0570aaf109c5569287f227d5167e1a63a17fb3df9de5387fd",
	ECDSASHA384: "304402202c9bfb3bbfef8a7359bf5dfaa3b2c5ce2922ce39c73d3c8d2d1b25942af980e4022029e0a8714f4c8c58734cd2669fde6de76c58b7deadfa062b03ca93ce86f03c52",
	ECDSASHA512: "304502202fc3a34ce06e6fab4f71857f477d07714b0188497fea76a8c7e2630083c3e10f022100f19510a0118c08c2202eb616bf0415a8493dbbbe0ad4d679b594f1ad0a58b999",
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestSecp256k1Verifies holds the curve that Go has not against openssl's key and signatures.
func TestSecp256k1Verifies(t *testing.T) {
	der := unhex(t, opensslSecp256k1)
	for alg, text := range opensslSignatures {
		h := schemes[alg].hash.New()
		h.Write([]byte("message"))
		digest, signature := h.Sum(nil), unhex(t, text)
		check := func(digest, signature []byte) bool {
			valid, err := verify(Secp256k1, der, alg, digest, signature, rsa.PSSSaltLengthAuto)
			if err != nil {
				t.Fatal(err)
			}
			return valid
		}
		if !check(digest, signature) {
			t.Errorf("%s: openssl's signature does not verify", alg)
		}
		other := bytes.Clone(digest)
		other[0] ^= 1
		if check(other, signature) {
			t.Errorf("%s: the signature of another digest verifies", alg)
		}
		for i := range signature {
			bad := bytes.Clone(signature)
			bad[i] ^= 1
			if check(digest, bad) {
				t.Errorf("%s: the signature verifies with byte %d changed", alg, i)
			}
		}
		if check(digest, nil) || check(digest, append(signature, 0)) {
			t.Errorf("%s: no signature verifies, or one with a byte more", alg)
		}
	}
}

// TestSecp256k1Public holds that only a point of the curve in the one encoding is a public key, and of that spec alone.
func TestSecp256k1Public(t *testing.T) {
	der := unhex(t, opensslSecp256k1)
	if _, err := parsePublicKey(Secp256k1, der); err != nil {
		t.Error(err)
	}
	if _, err := parsePublicKey(ECP256, der); err == nil {
		t.Error("a key on secp256k1 is taken for one on P-256")
	}
	off, zero, hybrid := bytes.Clone(der), bytes.Clone(der), bytes.Clone(der)
	off[len(off)-1] ^= 1
	clear(zero[len(zero)-64:])
	hybrid[len(hybrid)-65] = 6
	for what, bad := range map[string][]byte{
		"nothing": nil, "off the curve": off, "0, 0": zero, "hybrid": hybrid, "compressed": unhex(t, opensslCompressed),
		"a byte more": append(bytes.Clone(der), 0), "a byte less": der[:len(der)-1], "the bare point": der[len(der)-65:],
		"no point": der[:len(der)-65],
	} {
		if _, err := parsePublicKey(Secp256k1, bad); err == nil {
			t.Errorf("%s is taken for a public key", what)
		}
		if _, err := checkPeer(Secp256k1, bad); AsError(err).Field != "public_key" || AsError(err).Reason != ReasonMalformed {
			t.Errorf("%s is taken for a peer's: %v", what, err)
		}
	}
	if got, err := checkPeer(Secp256k1, der); err != nil || !bytes.Equal(got, der) {
		t.Errorf("a good peer: %x, %v", got, err)
	}
}
