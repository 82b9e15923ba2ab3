package kms

import (
	"context"

	"github.com/keyside/keyside/policy"
)

// EncryptInput says what to encrypt. Context and AAD are bound to the ciphertext: decryption needs the same.
type EncryptInput struct {
	KeyID     KeyID
	Algorithm EncryptionAlgorithm // zero: SymmetricDefault; RSA keys need theirs, and bind neither Context nor AAD
	Plaintext []byte
	Context   map[string]string
	AAD       []byte
}

// EncryptOutput is a ciphertext and the key that made it.
type EncryptOutput struct {
	KeyID      KeyID
	Ciphertext []byte
}

// DecryptInput says what to decrypt. A symmetric ciphertext names its key, and a KeyID that is set must be the same; an
// RSA block names none and needs KeyID.
type DecryptInput struct {
	Algorithm  EncryptionAlgorithm // zero: SymmetricDefault
	Ciphertext []byte
	KeyID      *KeyID
	Context    map[string]string
	AAD        []byte
}

// DecryptOutput is a plaintext and the key that opened it. The plaintext is the caller's to clear.
type DecryptOutput struct {
	KeyID     KeyID
	Plaintext []byte
}

func (o *DecryptOutput) wipe() {
	if o != nil {
		clear(o.Plaintext)
	}
}

// DataKeyInput asks for a new data key of so many bytes.
type DataKeyInput struct {
	KeyID            KeyID
	Bytes            int
	Context          map[string]string
	AAD              []byte
	WithoutPlaintext bool
}

// DataKeyOutput is a data key. Plaintext is nil if the caller wanted none, and else the caller's to clear.
type DataKeyOutput struct {
	KeyID      KeyID
	Plaintext  []byte
	Ciphertext []byte
}

func (o *DataKeyOutput) wipe() {
	if o != nil {
		clear(o.Plaintext)
	}
}

// Encrypt encrypts data.
func (s *Service) Encrypt(ctx context.Context, in EncryptInput) (*EncryptOutput, error) {
	return run(ctx, s, policy.OpEncryptData, func(ctx context.Context, r *request) (*EncryptOutput, error) {
		r.keyID = &in.KeyID
		if err := r.limits.checkPlaintext(in.Plaintext); err != nil {
			return nil, err
		}
		return s.encrypt(ctx, r, in, PurposeData)
	})
}

// EncryptDataKey encrypts a data key that the caller has.
func (s *Service) EncryptDataKey(ctx context.Context, in EncryptInput) (*EncryptOutput, error) {
	return run(ctx, s, policy.OpEncryptDataKey, func(ctx context.Context, r *request) (*EncryptOutput, error) {
		r.keyID = &in.KeyID
		if err := checkLength(len(in.Plaintext), r.limits.DataKey, "plaintext"); err != nil {
			return nil, err
		}
		return s.encrypt(ctx, r, in, PurposeDataKey)
	})
}

func (s *Service) encrypt(ctx context.Context, r *request, in EncryptInput, purpose Purpose) (*EncryptOutput, error) {
	m, err := s.begin(ctx, r, in.KeyID, purpose, in.Context, in.AAD)
	if err != nil {
		return nil, err
	}
	iv, body, err := s.hsm.Encrypt(ctx, m.ref, in.Plaintext, m.aad)
	if err != nil {
		return nil, err
	}
	ciphertext, err := m.seal(iv, body, len(in.Plaintext))
	if err != nil {
		return nil, err
	}
	return &EncryptOutput{KeyID: in.KeyID, Ciphertext: ciphertext}, nil
}

// GenerateDataKey makes a data key and encrypts it.
func (s *Service) GenerateDataKey(ctx context.Context, in DataKeyInput) (*DataKeyOutput, error) {
	op := policy.OpCreateDataKey
	if in.WithoutPlaintext {
		op = policy.OpCreateDataKeyNoText
	}
	return run(ctx, s, op, func(ctx context.Context, r *request) (*DataKeyOutput, error) {
		r.keyID = &in.KeyID
		if err := checkLength(in.Bytes, r.limits.DataKey, "length"); err != nil {
			return nil, err
		}
		return s.dataKey(ctx, r, in)
	})
}

func (s *Service) dataKey(ctx context.Context, r *request, in DataKeyInput) (*DataKeyOutput, error) {
	m, err := s.begin(ctx, r, in.KeyID, PurposeDataKey, in.Context, in.AAD)
	if err != nil {
		return nil, err
	}
	plaintext, iv, body, err := s.hsm.DataKey(ctx, m.ref, in.Bytes, m.aad)
	if err != nil {
		return nil, err
	}
	out := &DataKeyOutput{KeyID: in.KeyID, Plaintext: plaintext}
	if err := checkRandom(plaintext, in.Bytes); err != nil {
		out.wipe()
		return nil, err
	}
	if out.Ciphertext, err = m.seal(iv, body, in.Bytes); err != nil {
		out.wipe()
		return nil, err
	}
	if in.WithoutPlaintext {
		out.wipe()
		out.Plaintext = nil
	}
	return out, nil
}

// message is one encryption under way.
type message struct {
	header  header
	ref     KeyRef
	aad     []byte
	counter *counter
}

// begin does what comes before the HSM encrypts: the key, the message's number, what the ciphertext is bound to.
func (s *Service) begin(
	ctx context.Context, r *request, id KeyID, purpose Purpose, context map[string]string, aad []byte,
) (*message, error) {
	if err := r.limits.checkBound(context, aad); err != nil {
		return nil, err
	}
	key, err := s.use(ctx, r, id)
	if err != nil {
		return nil, err
	}
	n, counter, err := s.messages.take(ctx, id, r.version.Number)
	if err != nil {
		return nil, err
	}
	if n >= warnMessages {
		r.warning = "half of this key version's messages are used: rotate the key"
	}
	h := header{Purpose: purpose, KeyID: id, Version: r.version.Number, Message: n}
	return &message{header: h, ref: key.Ref(r.version), aad: h.boundTo(context, aad), counter: counter}, nil
}

// seal checks what the HSM made of n bytes and puts the ciphertext together.
func (m *message) seal(iv, body []byte, n int) ([]byte, error) {
	if err := m.counter.checkIV(iv); err != nil {
		return nil, err
	}
	if len(body) != n+tagSize {
		return nil, hostile("%d bytes of ciphertext for %d bytes of plaintext", len(body), n)
	}
	c := make([]byte, 0, n+CiphertextOverhead)
	c = m.header.appendTo(c)
	c = append(c, iv...)
	return append(c, body...), nil
}

// Decrypt opens what Encrypt made.
func (s *Service) Decrypt(ctx context.Context, in DecryptInput) (*DecryptOutput, error) {
	return run(ctx, s, policy.OpDecryptData, func(ctx context.Context, r *request) (*DecryptOutput, error) {
		return s.decrypt(ctx, r, in, PurposeData, r.limits.Data)
	})
}

// DecryptDataKey opens what GenerateDataKey or EncryptDataKey made.
func (s *Service) DecryptDataKey(ctx context.Context, in DecryptInput) (*DecryptOutput, error) {
	return run(ctx, s, policy.OpDecryptDataKey, func(ctx context.Context, r *request) (*DecryptOutput, error) {
		return s.decrypt(ctx, r, in, PurposeDataKey, r.limits.DataKey)
	})
}

// decrypt answers CodeInvalidCiphertext for everything that is wrong with the ciphertext, so that nobody learns which
// keys there are by making headers up. Only the state of a key that is there has codes of its own.
func (s *Service) decrypt(ctx context.Context, r *request, in DecryptInput, purpose Purpose, limit int) (*DecryptOutput, error) {
	r.keyID = in.KeyID
	if err := r.limits.checkBound(in.Context, in.AAD); err != nil {
		return nil, err
	}
	h, iv, body, err := parseCiphertext(in.Ciphertext)
	if err != nil {
		return nil, err
	}
	if h.Purpose != purpose || len(body) > limit+tagSize || (in.KeyID != nil && *in.KeyID != h.KeyID) {
		return nil, invalidCiphertext()
	}
	key, version, err := s.opener(ctx, r, h)
	if err != nil {
		return nil, err
	}
	plaintext, err := s.hsm.Decrypt(ctx, key.Ref(version), iv, body, h.boundTo(in.Context, in.AAD))
	if err != nil {
		if AsError(err).Code == CodeInvalidCiphertext {
			return nil, invalidCiphertext().Because(err) // in the same words, whoever found out
		}
		return nil, err
	}
	out := &DecryptOutput{KeyID: key.ID, Plaintext: plaintext}
	if len(plaintext) != len(body)-tagSize {
		out.wipe()
		return nil, hostile("%d bytes of plaintext for %d bytes of ciphertext", len(plaintext), len(body))
	}
	return out, nil
}

// opener finds the key and the version that a ciphertext's header names.
func (s *Service) opener(ctx context.Context, r *request, h header) (*Key, *KeyVersion, error) {
	key, err := s.load(ctx, r, h.KeyID)
	if err != nil {
		if AsError(err).Code == CodeNotFound && r.administrator() {
			return nil, nil, invalidCiphertext().Because(err)
		}
		return nil, nil, err
	}
	version := key.Version(h.Version)
	if version == nil || checkKind(r.op, key.Spec, key.Usage) != nil {
		return nil, nil, invalidCiphertext()
	}
	if err := checkKey(r.op, key); err != nil {
		return nil, nil, err
	}
	r.version = version
	return key, version, nil
}

// Random returns so many random bytes of the HSM.
func (s *Service) Random(ctx context.Context, bytes int) ([]byte, error) {
	return run(ctx, s, policy.OpGenRandom, func(ctx context.Context, r *request) ([]byte, error) {
		if err := checkLength(bytes, r.limits.Random, "length"); err != nil {
			return nil, err
		}
		random, err := s.hsm.Random(ctx, bytes)
		if err != nil {
			return nil, err
		}
		return random, checkRandom(random, bytes)
	})
}

// enoughToJudge is from how many random bytes on all of them being zero means a broken generator and not chance.
const enoughToJudge = 16

func checkRandom(b []byte, n int) error {
	if len(b) != n {
		return hostile("%d random bytes where %d were asked for", len(b), n)
	}
	if n >= enoughToJudge && allZero(b) {
		return hostile("random bytes are all zero")
	}
	return nil
}
