package kms

import (
	"context"
	"crypto/hmac"
	_ "crypto/sha256" // the hashes of MACAlgorithm
	_ "crypto/sha512"

	"github.com/keyside/keyside/policy"
)

// MACInput is a message of 1 byte to the limit, with the key and the algorithm.
type MACInput struct {
	KeyID     KeyID
	Algorithm MACAlgorithm
	Message   []byte
}

// GenerateMAC returns the HMAC of a message.
func (s *Service) GenerateMAC(ctx context.Context, in MACInput) ([]byte, error) {
	return run(ctx, s, policy.OpGenerateMAC, func(ctx context.Context, r *request) ([]byte, error) {
		return s.mac(ctx, r, in)
	})
}

// VerifyMAC reports whether mac is the HMAC of the message.
func (s *Service) VerifyMAC(ctx context.Context, in MACInput, mac []byte) (bool, error) {
	return run(ctx, s, policy.OpVerifyMAC, func(ctx context.Context, r *request) (bool, error) {
		// The MAC is computed again and compared here, in constant time, so that a faulty HSM cannot accept a wrong one.
		right, err := s.mac(ctx, r, in)
		if err != nil {
			return false, err
		}
		defer clear(right)
		return hmac.Equal(right, mac), nil
	})
}

func (s *Service) mac(ctx context.Context, r *request, in MACInput) ([]byte, error) {
	r.keyID = &in.KeyID
	if err := checkBytes(in.Message, r.limits.Message, "message"); err != nil {
		return nil, err
	}
	key, err := s.use(ctx, r, in.KeyID)
	if err != nil {
		return nil, err
	}
	if key.Spec.row().mac != in.Algorithm {
		return nil, errAlgorithm.In("mac_algorithm")
	}
	if err := r.dry(); err != nil {
		return nil, err
	}
	mac, err := s.hsm.MAC(ctx, key.Ref(r.version), in.Algorithm, in.Message)
	if err != nil {
		return nil, err
	}
	if len(mac) != key.Spec.row().size() || allZero(mac) {
		return nil, hostile("mac of %d bytes, or of zeros", len(mac))
	}
	return mac, nil
}
