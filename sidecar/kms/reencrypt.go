package kms

import (
	"bytes"
	"cmp"
	"context"
	"maps"

	"github.com/keyside/keyside/policy"
)

// ReEncryptInput says what to decrypt under one key and encrypt under another. A symmetric ciphertext names its key and
// keeps its purpose: data or data key. An RSA block has no purpose, so a principal that may move a data key to an RSA key
// can read it with the permission to decrypt data under that key.
type ReEncryptInput struct {
	Source      DecryptInput
	Destination EncryptInput // Plaintext is not used
	// DataKeyBytes is the length of the data key in an RSA block, 0 if the block contains data. Other sources ignore it.
	DataKeyBytes int
	SameKey      bool // the source's key is that of the destination, too
	// Keep returns the ciphertext as it is if its key version is the newest of the destination's key and its encryption context
	// stays the same. It must open.
	Keep bool
}

// ReEncryptOutput is the new ciphertext.
type ReEncryptOutput struct {
	SourceKeyID     KeyID
	SourceAlgorithm EncryptionAlgorithm
	KeyID           KeyID
	Algorithm       EncryptionAlgorithm
	Version         uint32 // of the key KeyID
	Ciphertext      []byte
	Purpose         Purpose
	Kept            bool // see ReEncryptInput.Keep
}

// decrypting returns the operation that decrypts a ciphertext of the purpose. An RSA block, which has none, is decrypted as
// data.
func (p Purpose) decrypting() policy.Operation {
	if p == PurposeDataKey {
		return policy.OpDecryptDataKey
	}
	return policy.OpDecryptData
}

// ReEncrypt moves a ciphertext from one key to another. It requires its own permission on both keys and replaces no other:
// the caller also needs the permission to decrypt the ciphertext under the first key and to encrypt it under the second,
// each with that key's encryption context. The plaintext is in the sidecar's memory meanwhile, and cleared.
func (s *Service) ReEncrypt(ctx context.Context, in ReEncryptInput) (*ReEncryptOutput, error) {
	return run(ctx, s, policy.OpReEncrypt, func(ctx context.Context, r *request) (*ReEncryptOutput, error) {
		source, err := s.locate(ctx, r, in.Source, 0)
		if in.SameKey && r.keyID != nil {
			in.Destination.KeyID = *r.keyID
		}
		r.isSource() // also after an error
		r.keyID = &in.Destination.KeyID
		if err != nil {
			return nil, err
		}
		if err := s.authorizeAlso(r, source.purpose.decrypting(), source.key); err != nil {
			return nil, err
		}
		purpose, err := in.purpose(r.limits, source)
		if err != nil {
			return nil, err
		}
		key, err := s.encrypter(ctx, r, in.Destination)
		if err != nil {
			return nil, err
		}
		encrypting := policy.OpEncryptData
		if purpose == PurposeDataKey && !in.Destination.Algorithm.rsa() {
			encrypting = policy.OpEncryptDataKey
		}
		if err := s.authorizeAlso(r, encrypting, key); err != nil {
			return nil, err
		}
		ciphertext, err := s.move(ctx, r, source, key, in, purpose)
		if err != nil {
			return nil, err
		}
		return &ReEncryptOutput{
			SourceKeyID: source.key.ID, SourceAlgorithm: source.algorithm,
			KeyID: key.ID, Version: r.version.Number, Algorithm: cmp.Or(in.Destination.Algorithm, SymmetricDefault),
			Ciphertext: ciphertext, Purpose: purpose, Kept: in.keeps(source, key, r.version),
		}, nil
	})
}

// keeps reports whether the ciphertext stays as it is under a version of the destination's key.
func (in *ReEncryptInput) keeps(source *locked, key *Key, version *KeyVersion) bool {
	return in.Keep && source.key.ID == key.ID && source.version.Number == version.Number && !source.algorithm.rsa() &&
		!in.Destination.Algorithm.rsa() && maps.Equal(in.Source.Context, in.Destination.Context) && bytes.Equal(in.Source.AAD, in.Destination.AAD)
}

// purpose returns the purpose of the plaintext.
func (in *ReEncryptInput) purpose(limits *Limits, source *locked) (Purpose, error) {
	switch {
	case !source.algorithm.rsa():
		return source.purpose, nil
	case in.DataKeyBytes == 0:
		return PurposeData, nil
	}
	return PurposeDataKey, checkLength(in.DataKeyBytes, limits.DataKey, "data_key_bytes")
}

// move decrypts under one key and encrypts under the other.
func (s *Service) move(
	ctx context.Context, r *request, source *locked, key *Key, in ReEncryptInput, purpose Purpose,
) ([]byte, error) {
	plaintext, err := s.open(ctx, r, source)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	if source.algorithm.rsa() && purpose == PurposeDataKey && len(plaintext) != in.DataKeyBytes {
		return nil, invalidCiphertext()
	}
	if in.keeps(source, key, r.version) {
		return in.Source.Ciphertext, nil
	}
	destination := in.Destination
	destination.Plaintext, destination.Text = plaintext, source.text
	return s.encryptUnder(ctx, r, key, destination, purpose)
}
