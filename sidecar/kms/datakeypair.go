package kms

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"github.com/keyside/keyside/policy"
)

// DataKeyPairInput asks for a new asymmetric key pair, with its private half encrypted under a key.
type DataKeyPairInput struct {
	KeyID            KeyID
	Spec             KeySpec // an RSA or EC spec
	Context          map[string]string
	AAD              []byte
	WithoutPlaintext bool
}

// DataKeyPairOutput is a key pair. PrivateKey is PKCS #8 DER, nil if the caller wanted none; the caller clears it. PublicKey
// is DER SubjectPublicKeyInfo.
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

// maxPrivateKey is enough for the longest private key of a pair, in bytes: PKCS #8 of an RSA-4096 key has up to 2377.
const maxPrivateKey = 2400

// pairsAtOnce limits the concurrent generation of RSA pairs, because each takes a processor for up to seconds and other
// requests need the processors, too.
const pairsAtOnce = 1

// GenerateDataKeyPair generates a key pair and encrypts its private half, which DecryptDataKey decrypts. The pair is
// generated in this process, because its private half is returned anyway. RSA and EC pairs are two operations, so that a
// grant of one does not include the other.
func (s *Service) GenerateDataKeyPair(ctx context.Context, in DataKeyPairInput) (*DataKeyPairOutput, error) {
	op := policy.OpCreateECKeyPair
	if in.Spec.row().family == RSA {
		op = policy.OpCreateRSAKeyPair
	}
	return run(ctx, s, op, func(ctx context.Context, r *request) (*DataKeyPairOutput, error) {
		r.keyID = &in.KeyID
		if !in.Spec.row().pairs() {
			return nil, Invalid("key_spec", ReasonUnknown, "there are no key pairs of this spec")
		}
		under := EncryptInput{KeyID: in.KeyID, Context: in.Context, AAD: in.AAD}
		key, err := s.encrypter(ctx, r, under)
		if err != nil {
			return nil, err
		}
		out := &DataKeyPairOutput{KeyID: in.KeyID, Spec: in.Spec}
		if out.PublicKey, out.PrivateKey, err = s.makeDataKeyPair(ctx, in.Spec); err != nil {
			return out, err
		}
		under.Plaintext = out.PrivateKey
		out.Ciphertext, err = s.encryptUnder(ctx, r, key, under, PurposeDataKey)
		if in.WithoutPlaintext {
			out.wipe()
			out.PrivateKey = nil
		}
		return out, err
	})
}

type pair struct {
	public, private []byte
	err             error
}

// makeDataKeyPair returns a new pair, PKIX and PKCS #8. It returns when the context ends; the generation of an RSA key
// continues, and holds its place, until Go has finished it.
func (s *Service) makeDataKeyPair(ctx context.Context, spec KeySpec) (public, private []byte, err error) {
	if spec.row().family != RSA {
		p := newPair(spec)
		return p.public, p.private, p.err
	}
	if err := s.pairs.enter(ctx); err != nil {
		return nil, nil, err
	}
	made := make(chan pair, 1)
	go func() {
		defer s.pairs.leave()
		p := newPair(spec)
		if ctx.Err() != nil {
			clear(p.private) // canceled or timed out
		}
		made <- p
	}()
	select {
	case p := <-made:
		return p.public, p.private, p.err
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
}

func newPair(spec KeySpec) pair {
	var key crypto.Signer
	var err error
	if row := spec.row(); row.family == RSA {
		key, err = rsa.GenerateKey(rand.Reader, row.bits)
	} else {
		key, err = ecdsa.GenerateKey(row.curve, rand.Reader)
	}
	if err != nil {
		return pair{err: fmt.Errorf("make a %s pair: %w", spec, err)}
	}
	var p pair
	if p.public, p.err = x509.MarshalPKIXPublicKey(key.Public()); p.err == nil {
		p.private, p.err = x509.MarshalPKCS8PrivateKey(key)
	}
	return p
}
