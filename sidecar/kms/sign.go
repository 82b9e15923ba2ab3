package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of SigningAlgorithm
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/policy"
)

// SignInput describes a signature. Message is the message itself or, with Digest, its digest under the algorithm.
type SignInput struct {
	KeyID     KeyID
	Algorithm SigningAlgorithm
	Message   []byte
	Digest    bool
	Version   uint32 // of the key; zero: the current one
}

// SignOutput is a verified signature.
type SignOutput struct {
	KeyID     KeyID
	Version   uint32
	Signature []byte
}

// VerifyInput describes a signature to verify. Message is as in SignInput.
type VerifyInput struct {
	KeyID     KeyID
	Version   uint32 // of the key; zero: the current one
	Algorithm SigningAlgorithm
	Message   []byte
	Digest    bool
	Signature []byte
}

// PublicKeyOutput is the public half of a key.
type PublicKeyOutput struct {
	KeyID   KeyID
	Version uint32
	Spec    KeySpec
	Usage   KeyUsage
	DER     []byte // SubjectPublicKeyInfo
}

// scheme describes a signing algorithm.
type scheme struct {
	hash crypto.Hash
	pss  bool // RSA: PSS, not PKCS #1 v1.5
}

var schemes = map[SigningAlgorithm]scheme{
	RSAPSSSHA256: {crypto.SHA256, true}, RSAPSSSHA384: {crypto.SHA384, true}, RSAPSSSHA512: {crypto.SHA512, true},
	RSAPKCS1SHA256: {crypto.SHA256, false}, RSAPKCS1SHA384: {crypto.SHA384, false},
	RSAPKCS1SHA512: {crypto.SHA512, false},
	ECDSASHA256:    {crypto.SHA256, false}, ECDSASHA384: {crypto.SHA384, false}, ECDSASHA512: {crypto.SHA512, false},
}

// Sign signs a message or a digest.
func (s *Service) Sign(ctx context.Context, in SignInput) (*SignOutput, error) {
	return run(ctx, s, policy.OpSign, func(ctx context.Context, r *request) (*SignOutput, error) {
		key, digest, err := s.signer(ctx, r, in)
		if err != nil {
			return nil, err
		}
		if err := r.dry(); err != nil {
			return nil, err
		}
		signature, err := s.hsm.Sign(ctx, key.Ref(r.version), in.Algorithm, digest)
		if err != nil {
			return nil, err
		}
		// A faulty signature can reveal the private key (Boneh, DeMillo, Lipton: On the importance of checking cryptographic
		// protocols for faults, 1997). So every signature is verified before it is returned.
		valid, err := verify(key.Spec, r.version.PublicKey, in.Algorithm, digest, signature, rsa.PSSSaltLengthEqualsHash)
		if err != nil {
			return nil, err
		}
		if !valid {
			return nil, hostile("the signature does not verify")
		}
		return &SignOutput{KeyID: in.KeyID, Version: r.version.Number, Signature: signature}, nil
	})
}

// Verify reports whether a signature is valid. It does not call the HSM. PSS salts may have any length.
func (s *Service) Verify(ctx context.Context, in VerifyInput) (bool, error) {
	return run(ctx, s, policy.OpVerify, func(ctx context.Context, r *request) (bool, error) {
		key, digest, err := s.signer(ctx, r, SignInput{
			KeyID: in.KeyID, Version: in.Version, Algorithm: in.Algorithm, Message: in.Message, Digest: in.Digest,
		})
		if err == nil {
			err = r.dry()
		}
		if err != nil {
			return false, err
		}
		return verify(key.Spec, r.version.PublicKey, in.Algorithm, digest, in.Signature, rsa.PSSSaltLengthAuto)
	})
}

// signer returns the key of a signature and the digest to sign.
func (s *Service) signer(ctx context.Context, r *request, in SignInput) (*Key, []byte, error) {
	r.keyID = &in.KeyID
	if err := checkBytes(in.Message, r.limits.Message, "message"); err != nil {
		return nil, nil, err
	}
	key, err := s.useVersion(ctx, r, in.KeyID, in.Version)
	if err != nil {
		return nil, nil, err
	}
	if err := checkAlgorithm(key.Spec, in.Algorithm); err != nil {
		return nil, nil, err
	}
	hash := schemes[in.Algorithm].hash
	if !in.Digest {
		h := hash.New()
		h.Write(in.Message)
		return key, h.Sum(nil), nil
	}
	if len(in.Message) != hash.Size() {
		return nil, nil, Invalid("message", ReasonDigest, "digest must have %d bytes", hash.Size())
	}
	return key, in.Message, nil
}

// PublicKey returns the public half of an asymmetric key.
func (s *Service) PublicKey(ctx context.Context, id KeyID) (*PublicKeyOutput, error) {
	return s.PublicKeyOf(ctx, id, 0)
}

// PublicKeyOf returns the public half of a version of an asymmetric key; zero: of the current one.
func (s *Service) PublicKeyOf(ctx context.Context, id KeyID, version uint32) (*PublicKeyOutput, error) {
	return run(ctx, s, policy.OpGetPublicKey, func(ctx context.Context, r *request) (*PublicKeyOutput, error) {
		key, err := s.useVersion(ctx, r, id, version)
		if err == nil {
			err = r.dry()
		}
		if err != nil {
			return nil, err
		}
		return &PublicKeyOutput{KeyID: id, Version: r.version.Number, Spec: key.Spec, Usage: key.Usage, DER: r.version.PublicKey}, nil
	})
}

// verify checks a signature with Go's own cryptography; err means that the stored public key is broken.
func verify(
	spec KeySpec, der []byte, alg SigningAlgorithm, digest, signature []byte, pssSalt int,
) (valid bool, err error) {
	public, err := parsePublicKey(spec, der)
	if err != nil {
		return false, fmt.Errorf("stored public key: %w", err)
	}
	sch := schemes[alg]
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature), nil
	case *secp256k1.PublicKey:
		return verifySecp256k1(public, digest, signature), nil
	case *rsa.PublicKey:
		if sch.pss {
			return rsa.VerifyPSS(public, sch.hash, digest, signature, &rsa.PSSOptions{SaltLength: pssSalt}) == nil, nil
		}
		return rsa.VerifyPKCS1v15(public, sch.hash, digest, signature) == nil, nil
	}
	return false, errors.New("stored public key has an unknown type")
}

// parsePublicKey parses a SubjectPublicKeyInfo and checks that it is that of a key of the spec.
func parsePublicKey(spec KeySpec, der []byte) (crypto.PublicKey, error) {
	parse := x509.ParsePKIXPublicKey
	if spec == Secp256k1 {
		parse = parseSecp256k1
	}
	public, err := parse(der)
	if err != nil {
		return nil, fmt.Errorf("public key of a %s key: %w", spec, err)
	}
	row := spec.row()
	switch p := public.(type) {
	case *rsa.PublicKey:
		if row.family == RSA && p.N.BitLen() == row.bits && p.N.Bit(0) == 1 && p.E >= 1<<16+1 && p.E&1 == 1 {
			return p, nil
		}
	case *ecdsa.PublicKey:
		if row.curve != nil && p.Curve == row.curve {
			return p, nil
		}
	case *secp256k1.PublicKey:
		return p, nil
	}
	return nil, fmt.Errorf("public key does not fit a %s key", spec)
}
