package kms

import "context"

// MACInput says what to make a MAC of: 1 byte of message to the limit.
type MACInput struct {
	KeyID     KeyID
	Algorithm MACAlgorithm
	Message   []byte
}

// GenerateMAC returns the HMAC of a message.
func (s *Service) GenerateMAC(ctx context.Context, in MACInput) ([]byte, error) {
	return nil, errPending
}

// VerifyMAC reports whether mac is the HMAC of the message.
func (s *Service) VerifyMAC(ctx context.Context, in MACInput, mac []byte) (bool, error) {
	return false, errPending
}
