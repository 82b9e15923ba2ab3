package kms

import "context"

// ReEncryptInput says what to decrypt under one key and encrypt under another. A symmetric ciphertext names its key and
// keeps its purpose: data stays data, a data key stays a data key.
type ReEncryptInput struct {
	Source      DecryptInput
	Destination EncryptInput // Plaintext is not used
	// DataKeyBytes is, where the source is an RSA block, 0 for data, and else the length of the data key in it.
	DataKeyBytes int
}

// ReEncryptOutput is the new ciphertext.
type ReEncryptOutput struct {
	SourceKeyID     KeyID
	SourceAlgorithm EncryptionAlgorithm
	KeyID           KeyID
	Algorithm       EncryptionAlgorithm
	Ciphertext      []byte
	Purpose         Purpose
}

// ReEncrypt moves a ciphertext from one key to another. The plaintext is in the sidecar's memory meanwhile, and cleared.
func (s *Service) ReEncrypt(ctx context.Context, in ReEncryptInput) (*ReEncryptOutput, error) {
	return nil, errPending
}
