package kms

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// drillDomain separates what a drill encrypts and authenticates from everything else.
const drillDomain = "keyside drill v1\x00"

// Drill uses a key version once, in the way of its kind, and checks the result as far as possible without the HSM: a drill shows
// that a restored key works. It uses no message number.
func Drill(ctx context.Context, h HSM, key KeyRef, publicKey []byte) error {
	use := drills[key.Spec.row().kind(key.Usage)]
	if use == nil {
		return fmt.Errorf("no %s key for %s can be tried", key.Spec, key.Usage)
	}
	probe := make([]byte, 32)
	rand.Read(probe) // never fails
	return use(ctx, h, key, publicKey, probe)
}

// drills has a use for each kind of key.
var drills = map[kind]func(ctx context.Context, h HSM, key KeyRef, publicKey, probe []byte) error{
	symmetricKey: drillEncryption, decryptingKey: drillRSA, signingKey: drillSignature, ellipticKey: drillSignature,
	macKey: drillMAC, agreementKey: drillAgreement,
}

var errDrill = errors.New("its result is wrong")

func drillEncryption(ctx context.Context, h HSM, key KeyRef, _, probe []byte) error {
	iv, body, err := h.Encrypt(ctx, key, probe, []byte(drillDomain))
	if err != nil {
		return err
	}
	opened, err := h.Decrypt(ctx, key, iv, body, []byte(drillDomain))
	return same(opened, probe, err)
}

func same(have, want []byte, err error) error {
	if err == nil && subtle.ConstantTimeCompare(have, want) != 1 {
		err = errDrill
	}
	return err
}

// drillRSA lets the HSM decrypt what the stored public key encrypts, by the first algorithm that the HSM has.
func drillRSA(ctx context.Context, h HSM, key KeyRef, publicKey, probe []byte) error {
	parsed, err := parsePublicKey(key.Spec, publicKey)
	if err != nil {
		return err
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return errDrill
	}
	for _, alg := range key.Spec.row().encryption {
		var block []byte
		if block, err = encryptOAEP(public, alg, probe); err != nil {
			return err
		}
		var opened []byte
		if opened, err = h.DecryptRSA(ctx, key, alg, block); !unsupported(err) {
			return same(opened, probe, err)
		}
	}
	return err
}

func unsupported(err error) bool { return err != nil && AsError(err).Code == CodeUnsupported }

func drillSignature(ctx context.Context, h HSM, key KeyRef, publicKey, probe []byte) (err error) {
	for _, alg := range key.Spec.row().signing {
		hash := schemes[alg].hash.New()
		hash.Write(append([]byte(drillDomain), probe...))
		digest := hash.Sum(nil)
		var signature []byte
		if signature, err = h.Sign(ctx, key, alg, digest); unsupported(err) {
			continue
		} else if err != nil {
			return err
		}
		valid, err := verify(key.Spec, publicKey, alg, digest, signature, rsa.PSSSaltLengthEqualsHash)
		if err == nil && !valid {
			err = errDrill
		}
		return err
	}
	return err
}

func drillMAC(ctx context.Context, h HSM, key KeyRef, _, probe []byte) error {
	message := append([]byte(drillDomain), probe...)
	first, err := h.MAC(ctx, key, key.Spec.row().mac, message)
	if err != nil {
		return err
	}
	again, err := h.MAC(ctx, key, key.Spec.row().mac, message)
	if err == nil && allZero(first) {
		err = errDrill
	}
	return same(again, first, err)
}

// drillAgreement derives a secret with a new peer, and compares it with the one that the peer derives.
func drillAgreement(ctx context.Context, h HSM, key KeyRef, publicKey, _ []byte) error {
	public, err := parsePublicKey(key.Spec, publicKey)
	if err != nil {
		return err
	}
	var peer, want []byte
	switch public := public.(type) {
	case *secp256k1.PublicKey:
		private, err := secp256k1.GeneratePrivateKey()
		if err != nil {
			return err
		}
		peer = append(bytes.Clone(secp256k1Header), private.PubKey().SerializeUncompressed()...)
		want = secp256k1.GenerateSharedSecret(private, public)
	case *ecdsa.PublicKey:
		other, err := public.ECDH()
		if err != nil {
			return err
		}
		var private *ecdh.PrivateKey
		if private, err = other.Curve().GenerateKey(rand.Reader); err != nil {
			return err
		}
		if peer, err = x509.MarshalPKIXPublicKey(private.PublicKey()); err != nil {
			return err
		}
		if want, err = private.ECDH(other); err != nil {
			return err
		}
	}
	secret, err := h.Derive(ctx, key, peer)
	defer clear(secret)
	defer clear(want)
	return same(secret, want, err)
}
