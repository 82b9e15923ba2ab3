package kms

import "context"

// DeriveInput says with whom to agree on a secret: PublicKey is the peer's, DER SubjectPublicKeyInfo.
type DeriveInput struct {
	KeyID     KeyID
	PublicKey []byte
}

// DeriveSharedSecret returns the X coordinate of the ECDH shared point, as long as the curve's field (SEC 1, 3.3.1). It is
// the caller's to clear.
func (s *Service) DeriveSharedSecret(ctx context.Context, in DeriveInput) ([]byte, error) {
	return nil, errPending
}
