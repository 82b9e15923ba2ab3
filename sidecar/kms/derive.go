package kms

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/policy"
)

// DeriveInput says with whom to agree on a secret: PublicKey is the peer's, DER SubjectPublicKeyInfo.
type DeriveInput struct {
	KeyID     KeyID
	PublicKey []byte
}

// secret is an answer that is cleared where it must not go out.
type secret []byte

func (s secret) wipe() { clear(s) }

// DeriveSharedSecret returns the X coordinate of the ECDH shared point, as long as the curve's field (SEC 1, 3.3.1). It is
// the caller's to clear.
func (s *Service) DeriveSharedSecret(ctx context.Context, in DeriveInput) ([]byte, error) {
	return run(ctx, s, policy.OpDeriveSharedSecret, func(ctx context.Context, r *request) (secret, error) {
		r.keyID = &in.KeyID
		key, err := s.use(ctx, r, in.KeyID)
		if err != nil {
			return nil, err
		}
		peer, err := checkPeer(key.Spec, in.PublicKey)
		if err != nil {
			return nil, err
		}
		shared, err := s.hsm.Derive(ctx, key.Ref(r.version), peer)
		if err != nil {
			return nil, err
		}
		if len(shared) != key.Spec.row().size() || allZero(shared) {
			clear(shared)
			return nil, hostile("shared secret of %d bytes, or of zeros", len(shared))
		}
		return shared, nil
	})
}

// checkPeer reads a peer's public key and returns it in its one encoding. A point that is not on the key's curve, or at
// infinity, would give the key away (Biehl, Meyer, Mueller: Differential fault attacks on elliptic curve cryptosystems,
// 2000).
func checkPeer(spec KeySpec, der []byte) ([]byte, error) {
	parsed, err := parsePublicKey(spec, der)
	if err == nil {
		switch public := parsed.(type) {
		case *ecdsa.PublicKey:
			return x509.MarshalPKIXPublicKey(public)
		case *secp256k1.PublicKey:
			return append(bytes.Clone(secp256k1Header), public.SerializeUncompressed()...), nil
		}
	}
	return nil, Invalid("public_key", ReasonMalformed, "public key is none of a %s key", spec).Because(err)
}
