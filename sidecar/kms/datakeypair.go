package kms

import "context"

// DataKeyPairInput asks for a new asymmetric key pair of the caller's own, its private half encrypted under a key.
type DataKeyPairInput struct {
	KeyID            KeyID
	Spec             KeySpec // an RSA or EC spec
	Context          map[string]string
	AAD              []byte
	WithoutPlaintext bool
}

// DataKeyPairOutput is a key pair. PrivateKey is PKCS #8 DER, nil if the caller wanted none, and else the caller's to
// clear; PublicKey is DER SubjectPublicKeyInfo.
type DataKeyPairOutput struct {
	KeyID      KeyID
	Spec       KeySpec
	PublicKey  []byte
	PrivateKey []byte
	Ciphertext []byte
}

func (o *DataKeyPairOutput) wipe() {
	if o != nil {
		clear(o.PrivateKey)
	}
}

// GenerateDataKeyPair makes a key pair and encrypts its private half. DecryptDataKey opens that.
func (s *Service) GenerateDataKeyPair(ctx context.Context, in DataKeyPairInput) (*DataKeyPairOutput, error) {
	return nil, errPending
}
