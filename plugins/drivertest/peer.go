package drivertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/plugins/driver"
)

// Go's x509 and ecdh do not support secp256k1. The kit has what it needs on Decred's implementation of the curve.

// secp256k1Header is what precedes the uncompressed point in the SubjectPublicKeyInfo of a key on secp256k1 (RFC 5480).
var secp256k1Header = []byte{
	0x30, 0x56, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a,
	0x03, 0x42, 0x00,
}

// parsePublic is x509.ParsePKIXPublicKey for all curves of the contract.
func parsePublic(spki []byte) (any, error) {
	point, ok := bytes.CutPrefix(spki, secp256k1Header)
	if !ok {
		return x509.ParsePKIXPublicKey(spki)
	}
	if len(point) != secp256k1.PubKeyBytesLenUncompressed {
		return nil, errors.New("point is not an uncompressed one")
	}
	return secp256k1.ParsePubKey(point)
}

// publicOf reads a public key of one type.
func publicOf[K any](spki []byte) (key K, err error) {
	parsed, err := parsePublic(spki)
	if err != nil {
		return key, err
	}
	key, ok := parsed.(K)
	if !ok {
		return key, fmt.Errorf("public key is a %T", parsed)
	}
	return key, nil
}

// peer is the other party of a key agreement. agree returns the secret shared with the owner of another public key.
type peer struct {
	spki  []byte
	field int // bytes of a coordinate, of which spki ends in two
	agree func(spki []byte) ([]byte, error)
}

// newPeer makes a peer for keys of a spec.
func newPeer(spec driver.KeySpec) (*peer, error) {
	if spec == driver.Secp256k1 {
		return newSecp256k1Peer()
	}
	row := driver.SpecOf(spec)
	if row.Curve == nil {
		return nil, fmt.Errorf("there is no key agreement with %s", spec)
	}
	key, err := ecdsa.GenerateKey(row.Curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	return &peer{spki, row.Size(), func(spki []byte) ([]byte, error) {
		other, err := publicOf[*ecdsa.PublicKey](spki)
		if err != nil {
			return nil, err
		}
		point, err := other.ECDH()
		if err != nil {
			return nil, err
		}
		own, err := key.ECDH()
		if err != nil {
			return nil, err
		}
		return own.ECDH(point)
	}}, err
}

func newSecp256k1Peer() (*peer, error) {
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, err
	}
	spki := append(bytes.Clone(secp256k1Header), key.PubKey().SerializeUncompressed()...)
	return &peer{spki, 32, func(spki []byte) ([]byte, error) {
		other, err := publicOf[*secp256k1.PublicKey](spki)
		if err != nil {
			return nil, err
		}
		return secp256k1.GenerateSharedSecret(key, other), nil
	}}, nil
}
