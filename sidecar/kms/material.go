package kms

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"time"

	"github.com/keyside/keyside/policy"
)

// ImportParametersInput asks for a wrapping key and a token for an import into a key.
type ImportParametersInput struct {
	KeyID        KeyID
	Algorithm    WrappingAlgorithm
	WrappingSpec KeySpec // zero means RSA2048
	OnlyLast     bool    // expires the earlier tokens of the key
	Repeat       bool    // also for a key that has its material, to import the same again
}

// ImportParameters is a wrapping key and the token that an import under it needs. Both can be used any number of times until
// ExpiresAt.
type ImportParameters struct {
	KeyID        KeyID
	Algorithm    WrappingAlgorithm
	WrappingSpec KeySpec
	PublicKey    []byte // DER SubjectPublicKeyInfo
	Token        []byte
	ExpiresAt    time.Time // in whole seconds
	Warning      string    // about the algorithm, or empty
}

// ImportInput is wrapped material for a key. Material and PrivateKey are as in WrappedMaterial, under the wrapping key and
// the algorithm of the token.
type ImportInput struct {
	KeyID      KeyID
	Token      []byte
	Material   []byte
	PrivateKey []byte
	ExpiresAt  time.Time // when the material is destroyed; zero means never
	CheckValue []byte    // other material is refused; empty means any; see checkSaid for the three forms
	Repeat     bool      // the key may have the material already; then only ExpiresAt changes
	Short      bool      // the first material of an AES_256 key may have 16 bytes: the key is an AES_128 key then
}

// wraps has a row for every wrapping algorithm. Numbers are those in tokens.
var wraps = map[WrappingAlgorithm]struct {
	number  byte
	whole   bool   // the material includes private keys
	warning string // for the caller and the record
}{
	WrapPKCS1:        {1, false, "RSAES_PKCS1_V1_5 is open to padding attacks: prefer RSAES_OAEP_SHA_256"},
	WrapOAEPSHA1:     {2, false, "SHA-1 is outdated: prefer RSAES_OAEP_SHA_256"},
	WrapOAEPSHA256:   {3, false, ""},
	WrapRSAAESSHA1:   {4, true, "SHA-1 is outdated: prefer RSA_AES_KEY_WRAP_SHA_256"},
	WrapRSAAESSHA256: {5, true, ""},
}

const (
	checkValueSize = 32
	// A private key under RFC 5649 is a multiple of 8 bytes: no key has less than minPrivateKey, and PKCS #8 of RSA-4096
	// takes 2.4 kB. Material may be that with a block in front, or as PEM, which is a third longer.
	minPrivateKey = 24
	maxWrapped    = 4096
)

// GetImportParameters returns a wrapping key and a token for an import.
func (s *Service) GetImportParameters(ctx context.Context, in ImportParametersInput) (*ImportParameters, error) {
	in.WrappingSpec = cmp.Or(in.WrappingSpec, RSA2048)
	return run(ctx, s, policy.OpGetImportParameters, func(ctx context.Context, r *request) (*ImportParameters, error) {
		key, err := s.external(ctx, r, in.KeyID, in.Repeat)
		if err != nil {
			return nil, err
		}
		if err := s.checkWrap(key, in.Algorithm, in.WrappingSpec); err != nil {
			return nil, err
		}
		r.warning = wraps[in.Algorithm].warning
		pair, err := s.pool.take(ctx, s, in.WrappingSpec)
		if err != nil {
			return nil, err
		}
		r.target = pair.ID.String()
		now := s.now()
		pair.KeyID, pair.CreatedAt, pair.ExpiresAt = in.KeyID, now, now.Add(pairLife).Truncate(time.Second)
		token, err := s.makeToken(ctx, importToken{in.Algorithm, pair})
		if err != nil {
			return nil, err
		}
		limit := pairsPerKey
		if in.OnlyLast {
			limit = 1
		}
		if err := s.store.CreatePair(s.recorded(ctx, r), pair, limit); err != nil {
			return nil, err
		}
		return &ImportParameters{
			KeyID: in.KeyID, Algorithm: in.Algorithm, WrappingSpec: in.WrappingSpec, PublicKey: pair.PublicKey, Token: token,
			ExpiresAt: pair.ExpiresAt, Warning: r.warning,
		}, nil
	})
}

// external loads the key of an operation on imported material, and checks that it takes part.
func (s *Service) external(ctx context.Context, r *request, id KeyID, repeat bool) (*Key, error) {
	key, err := s.load(ctx, r, id)
	if err != nil {
		return nil, err
	}
	return key, r.rules().checkExternal(r.op, key, repeat)
}

// checkWrap checks that this HSM can unwrap with an algorithm and a wrapping key spec.
func (s *Service) checkWrap(key *Key, alg WrappingAlgorithm, spec KeySpec) error {
	can := s.hsm.Imports()
	switch {
	case wraps[alg].number == 0:
		return Invalid("wrapping_algorithm", ReasonUnknown, "unknown wrapping algorithm")
	case key.Instance != "" && alg != WrapPKCS1 && alg != WrapOAEPSHA256:
		return Invalid("wrapping_algorithm", ReasonConflict, "keys of an instance are imported with %s or %s", WrapPKCS1, WrapOAEPSHA256)
	case !slices.Contains(can.Algorithms, alg):
		return Errorf(CodeUnsupported, "this HSM cannot import with %s", alg).In("wrapping_algorithm")
	case spec.row().family != RSA:
		return Invalid("wrapping_key_spec", ReasonUnknown, "wrapping keys are RSA keys")
	case !slices.Contains(can.Specs, spec):
		return Errorf(CodeUnsupported, "this HSM has no %s wrapping keys", spec).In("wrapping_key_spec")
	}
	return nil
}

// ImportKeyMaterial unwraps material in the HSM and stores it as that of the key, which is then Enabled. The first import
// binds the key to its material: later imports must have the same, and then decrypt again what it encrypted. The HSM works
// before the one transaction that changes the key, and keeps nothing.
func (s *Service) ImportKeyMaterial(ctx context.Context, in ImportInput) (*Key, error) {
	return run(ctx, s, policy.OpImportMaterial, func(ctx context.Context, r *request) (*Key, error) {
		key, err := s.external(ctx, r, in.KeyID, in.Repeat)
		if err != nil {
			return nil, err
		}
		token, err := s.openToken(ctx, in.Token, in.KeyID)
		if err != nil {
			return nil, err
		}
		r.target, r.warning = token.pair.ID.String(), wraps[token.algorithm].warning
		if err := checkWrapped(key.Spec, token, in); err != nil {
			return nil, err
		}
		return s.importUnder(ctx, r, key, token, in)
	})
}

// checkWrapped checks the form of the material as far as possible without unwrapping it.
func checkWrapped(spec KeySpec, token *importToken, in ImportInput) error {
	modulus, whole := token.pair.Spec.row().size(), wraps[token.algorithm].whole
	asymmetric := spec.row().asymmetric()
	switch n := len(in.PrivateKey); {
	case n > 0 && (whole || !asymmetric):
		return Invalid("private_key", ReasonConflict, "encrypted private key is for asymmetric keys, without RSA_AES_KEY_WRAP")
	case n == 0 && asymmetric && (!whole || len(in.Material) == modulus):
		return Errorf(CodeInvalidKeyMaterial, "an asymmetric key needs its encrypted private key").In("private_key").with(ReasonMissing)
	case n > 0 && (n < minPrivateKey || n > maxWrapped || n%8 != 0):
		return Errorf(CodeInvalidKeyMaterial, "not the form of a private key under RFC 5649").In("private_key").with(ReasonMalformed)
	}
	if n := len(in.Material); n < modulus || n > modulus+maxWrapped || (n > modulus && !whole) {
		return badMaterial()
	}
	own := proofSize
	if asymmetric {
		own = sha256.Size
	}
	if n := len(in.CheckValue); n != 0 && n != shownCheckValue && n != own {
		return Invalid("check_value", ReasonLength, "check value must have %d or %d bytes", shownCheckValue, own)
	}
	return nil
}

func badMaterial() *Error {
	return Errorf(CodeInvalidKeyMaterial, "material does not open, or is no key of this spec").In("material")
}

// importUnder performs an import whose token is valid.
func (s *Service) importUnder(ctx context.Context, r *request, key *Key, token *importToken, in ImportInput) (*Key, error) {
	if wait := s.tries.take(key.ID, s.clock.Now()); wait > 0 {
		e := Errorf(CodeBusy, "too many imports into this key failed")
		e.RetryAfter = wait
		return nil, e
	}
	changed, err := s.importMaterial(ctx, r, key, token, in)
	if err != nil {
		if code := AsError(err).Code; code == CodeInvalidKeyMaterial || code == CodeKeyMaterialMismatch {
			return nil, err
		}
	}
	s.tries.giveBack(key.ID)
	return changed, err
}

func (s *Service) importMaterial(ctx context.Context, r *request, key *Key, token *importToken, in ImportInput) (*Key, error) {
	wrapped := WrappedMaterial{
		WrappingKey: token.pair.Ref(), Algorithm: token.algorithm, Material: in.Material, PrivateKey: in.PrivateKey,
	}
	ref := KeyRef{ID: key.ID, Version: 1, Spec: key.Spec, Usage: key.Usage}
	made, err := s.hsm.ImportKey(ctx, ref, wrapped)
	if other := otherSize[key.Spec]; in.Short && other != "" && err != nil && AsError(err).Code == CodeInvalidKeyMaterial {
		if ok, _ := s.hsm.Supports(other, key.Usage); ok {
			ref.Spec = other
			made, err = s.hsm.ImportKey(ctx, ref, wrapped)
		}
	}
	if err != nil { // the same answer, wherever the fault was found
		return nil, instead(err, CodeInvalidKeyMaterial, badMaterial())
	}
	if err := checkImported(ref.Spec, made); err != nil {
		return nil, err
	}
	if err := s.checkSaid(ctx, ref, made, in.CheckValue); err != nil {
		return nil, err
	}
	mark, err := s.clockMark(ctx)
	if err != nil {
		return nil, err
	}
	changed, err := s.store.UpdateKey(s.recorded(ctx, r), key.ID, func(k *Key) error {
		err := s.bind(r, k, ref.Spec, made, in, mark.reading())
		if err == nil {
			r.version = k.Current()
		}
		return err
	})
	if err != nil {
		r.version = nil
		return nil, err
	}
	return changed, nil
}

// otherSize is the spec of material of the other length that ImportInput.Short allows.
var otherSize = map[KeySpec]KeySpec{AES128: AES256, AES256: AES128}

// ProofLabel is the additional data of a proof of symmetric material.
const ProofLabel = "keyside import proof v1\x00"

// proofSize is the length of a proof in bytes: IV, 16 bytes, tag.
const proofSize = ivSize + 16 + tagSize

// checkSaid compares material with the check value that the client gave. The check value is the public form that an earlier
// import of the same material into a key of the tenant returned; or, for an asymmetric key, the SHA-256 of its DER
// SubjectPublicKeyInfo; or, for a symmetric key, a proof: a random IV and any 16 bytes under AES-GCM with the material, with
// ProofLabel as additional data.
func (s *Service) checkSaid(ctx context.Context, ref KeyRef, made *SealedKey, said []byte) error {
	same := false
	switch {
	case len(said) == 0:
		return nil
	case len(said) == shownCheckValue:
		same = subtle.ConstantTimeCompare(said, made.CheckValue[:shownCheckValue]) == 1
	case len(made.PublicKey) > 0:
		sum := sha256.Sum256(made.PublicKey)
		same = subtle.ConstantTimeCompare(said, sum[:]) == 1
	default:
		ref.Sealed = made.Sealed
		opened, err := s.hsm.Decrypt(ctx, ref, said[:ivSize], said[ivSize:], []byte(ProofLabel))
		clear(opened)
		s.forgetRefs(context.WithoutCancel(ctx), []KeyRef{ref}) // unused so far
		if err != nil && AsError(err).Code != CodeInvalidCiphertext {
			return err
		}
		same = err == nil
	}
	if !same {
		return Errorf(CodeKeyMaterialMismatch, "material is not what the check value says").In("check_value")
	}
	return nil
}

// checkImported checks the answer of the HSM to an import.
func checkImported(spec KeySpec, made *SealedKey) error {
	if err := checkSealed(spec, made); err != nil {
		return err
	}
	if len(made.CheckValue) != checkValueSize || allZero(made.CheckValue) {
		return hostile("check value of %d bytes, or zero", len(made.CheckValue))
	}
	if made.OpenedIn != ProtectionHSM && made.OpenedIn != ProtectionDriver {
		return hostile("material was opened in %q", made.OpenedIn)
	}
	return nil
}

// bind makes material of a spec that of the key, inside the transaction.
func (s *Service) bind(r *request, key *Key, spec KeySpec, made *SealedKey, in ImportInput, clock ClockReading) error {
	now := s.now()
	if err := r.rules().checkExternal(r.op, key, in.Repeat); err != nil {
		return err
	}
	if !in.ExpiresAt.IsZero() && !in.ExpiresAt.After(now) {
		return Invalid("expires_at", ReasonPast, "expiry is not in the future")
	}
	if key.CheckValue != nil && (subtle.ConstantTimeCompare(key.CheckValue, made.CheckValue) != 1 || spec != key.Spec) {
		return Errorf(CodeKeyMaterialMismatch, "material is not that of the key's first import").In("material")
	}
	key.MaterialExpiresAt, key.ExpiryClock = in.ExpiresAt.UTC().Truncate(time.Millisecond), ClockReading{}
	if !in.ExpiresAt.IsZero() {
		key.ExpiryClock = clock
	}
	if key.Current() != nil {
		return nil
	}
	key.State, key.CheckValue, key.Spec = Enabled, made.CheckValue, spec
	key.Versions = []KeyVersion{{
		Number: 1, CreatedAt: now, Sealed: made.Sealed, Root: made.Root, Protection: made.Protection, PublicKey: made.PublicKey,
		OpenedIn: made.OpenedIn,
	}}
	return nil
}

// DeleteImportedKeyMaterial destroys the material of an external symmetric key, which is PendingImport then. As that cannot
// be taken back from here, the audit log says so before.
func (s *Service) DeleteImportedKeyMaterial(ctx context.Context, id KeyID) (*Key, error) {
	return run(ctx, s, policy.OpDeleteMaterial, func(ctx context.Context, r *request) (*Key, error) {
		if _, err := s.external(ctx, r, id, false); err != nil {
			return nil, err
		}
		if err := s.recordBegun(ctx, r); err != nil {
			return nil, err
		}
		return s.dropMaterial(s.recorded(ctx, r), id, func(key *Key) error { return r.rules().checkExternal(r.op, key, false) })
	})
}

// dropMaterial destroys a key's material, if the key still is as check wants it. What the material was stays known by its
// check value. The context is that of the transaction, see recorded.
func (s *Service) dropMaterial(ctx context.Context, id KeyID, check func(*Key) error) (*Key, error) {
	var before *Key
	after, err := s.store.UpdateKey(ctx, id, func(key *Key) error {
		if err := check(key); err != nil {
			return err
		}
		was := *key
		before = &was
		key.Versions, key.MaterialExpiresAt, key.ExpiryClock = nil, time.Time{}, ClockReading{}
		if key.State != PendingDeletion {
			key.State = PendingImport
		}
		return nil
	})
	if before != nil {
		s.forgetMaterial(context.WithoutCancel(ctx), before) // even if the caller has gone
		if err != nil {
			s.scheduler.unclear.Store(true)
		}
	}
	return after, err
}

// expireMaterial destroys the material of a key whose time has come.
func (s *Service) expireMaterial(ctx context.Context, r *request, key *Key) error {
	if err := s.recordBegun(ctx, r); err != nil {
		return err
	}
	r.version = key.Current()
	_, err := s.dropMaterial(s.recorded(ctx, r), key.ID, func(k *Key) error {
		if !k.MaterialExpiresAt.Equal(key.MaterialExpiresAt) {
			return errNotDue
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("expire material: %w", err)
	}
	return nil
}

// expired reports whether the key's material is past its time, be it not yet destroyed.
func (k *Key) expired(clock Clock) bool {
	return !k.MaterialExpiresAt.IsZero() && !clock.Now().Before(k.MaterialExpiresAt)
}
