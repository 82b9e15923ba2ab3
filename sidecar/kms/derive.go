package kms

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/policy"
)

// DeriveInput names the key and the public key of the peer, DER SubjectPublicKeyInfo.
type DeriveInput struct {
	KeyID     KeyID
	PublicKey []byte
}

// secret is a result that is cleared if it must not be returned.
type secret []byte

func (s secret) wipe() { clear(s) }

// DeriveSharedSecret returns the X coordinate of the ECDH shared point, as long as the curve's field (SEC 1, section 3.3.1).
// The caller clears it.
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
			return shared, hostile("shared secret of %d bytes, or of zeros", len(shared))
		}
		return shared, nil
	})
}

// checkPeer parses the public key of a peer and returns its only encoding. A point that is not on the curve of the key, or
// at infinity, would reveal the key (Biehl, Meyer, Mueller: Differential fault attacks on elliptic curve cryptosystems,
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
	return nil, Invalid("public_key", ReasonMalformed, "public key is not that of a %s key", spec).Because(err)
}
