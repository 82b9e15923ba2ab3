package kms

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // for OAEP, in which SHA-1 has no known weakness
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
)

// oaepHashes are the hashes of the RSA algorithms, of the padding and of its mask both.
var oaepHashes = map[EncryptionAlgorithm]crypto.Hash{RSAOAEPSHA1: crypto.SHA1, RSAOAEPSHA256: crypto.SHA256}

func (a EncryptionAlgorithm) rsa() bool { return oaepHashes[a] != 0 }

func (a EncryptionAlgorithm) symmetric() bool { return a == "" || a == SymmetricDefault }

// mostRSA returns the maximum length of the content of an RSA block in bytes: the modulus minus two hashes and two bytes
// (RFC 8017, section 7.1.1).
func mostRSA(spec KeySpec, alg EncryptionAlgorithm) int {
	return spec.row().size() - 2*oaepHashes[alg].Size() - 2
}

// encryptRSA encrypts with the public half of a key.
func (s *Service) encryptRSA(ctx context.Context, r *request, key *Key, version *KeyVersion, alg EncryptionAlgorithm, plaintext []byte) ([]byte, error) {
	if most := mostRSA(key.Spec, alg); len(plaintext) > most {
		return nil, Invalid("plaintext", ReasonLength, "plaintext has more than the %d bytes that a key of this spec encrypts", most)
	}
	parsed, err := parsePublicKey(key.Spec, version.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("stored public key: %w", err)
	}
	public, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("stored public key is a %T", parsed)
	}
	if err := r.dry(); err != nil {
		return nil, err
	}
	if err := s.prove(ctx, key, version, alg, public); err != nil {
		return nil, err
	}
	return encryptOAEP(public, alg, plaintext)
}

func encryptOAEP(public *rsa.PublicKey, alg EncryptionAlgorithm, plaintext []byte) ([]byte, error) {
	block, err := rsa.EncryptOAEP(oaepHashes[alg].New(), rand.Reader, public, plaintext, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypt with RSA: %w", err)
	}
	return block, nil
}

// provenKey identifies a checked public key of a key version.
type provenKey struct {
	versionID
	public [sha256.Size]byte
}

func proven(key *Key, version *KeyVersion) provenKey {
	return provenKey{versionID{key.ID, version.Number}, sha256.Sum256(version.PublicKey)}
}

// prove has the HSM decrypt a random block once per process, before a public key encrypts. The public key in the database is
// not authenticated, and data encrypted to a false one would be lost, or readable by another party.
func (s *Service) prove(
	ctx context.Context, key *Key, version *KeyVersion, alg EncryptionAlgorithm, public *rsa.PublicKey,
) error {
	this := proven(key, version)
	if _, known := s.proven.Load(this); known {
		return nil
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	block, err := encryptOAEP(public, alg, secret)
	if err != nil {
		return err
	}
	opened, err := s.hsm.DecryptRSA(ctx, key.Ref(version), alg, block)
	if err != nil && AsError(err).Code != CodeInvalidCiphertext {
		return err
	}
	if subtle.ConstantTimeCompare(opened, secret) != 1 {
		return errUnavailable.Because(errors.New("the stored public key is not that of the key in the HSM"))
	}
	s.proven.Store(this, nil)
	return nil
}

// locateBlock finds the key of an RSA block, which the caller must name.
func (s *Service) locateBlock(ctx context.Context, r *request, in DecryptInput) (*locked, error) {
	if in.KeyID == nil {
		return nil, Invalid("key_id", ReasonMissing, "an RSA ciphertext does not say which key opens it")
	}
	key, err := s.useVersion(ctx, r, *in.KeyID, in.Version)
	if err != nil {
		return nil, err
	}
	if key.State == Archived {
		return nil, errArchived
	}
	if err := checkEncryption(key.Spec, in.Algorithm, in.Context, in.AAD); err != nil {
		return nil, err
	}
	if len(in.Ciphertext) != key.Spec.row().size() {
		return nil, invalidCiphertext()
	}
	return &locked{key: key, version: r.version, algorithm: in.Algorithm, body: in.Ciphertext}, nil
}

// mispaired returns the error for a ciphertext that no symmetric key made. It is err, unless the key that the caller names
// is an RSA key: then only the algorithm is wrong.
func (s *Service) mispaired(ctx context.Context, r *request, in DecryptInput, err error) error {
	if in.KeyID == nil {
		return err
	}
	key, e := s.load(ctx, r, *in.KeyID)
	switch {
	case e != nil && AsError(e).Code == CodeDenied:
		return e
	case e == nil && key.Spec.row().kind(key.Usage) == decryptingKey:
		return checkEncryption(key.Spec, in.Algorithm, nil, nil)
	}
	return err
}
