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
	// Text marks the plaintext in the ciphertext's header as what a client sent in place of base64. Decryption returns the
	// mark, and is the same otherwise.
	Text bool
	// Version is the version of an RSA key whose public half encrypts; zero: the current one. Symmetric keys take no other.
	Version uint32
}

// EncryptOutput is a ciphertext and the key version that made it.
type EncryptOutput struct {
	KeyID      KeyID
	Version    uint32
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
	Version    uint32 // of the RSA key that opens a block; zero: the current one
}

// DecryptOutput is a plaintext and the key version that decrypted it. The caller clears the plaintext.
type DecryptOutput struct {
	KeyID     KeyID
	Version   uint32
	Plaintext []byte
	Text      bool // see EncryptInput.Text
}

func (o *DecryptOutput) wipe() {
	if o != nil {
		clear(o.Plaintext)
	}
}

// DataKeyInput asks for a new data key of Bytes bytes.
type DataKeyInput struct {
	KeyID            KeyID
	Bytes            int
	Context          map[string]string
	AAD              []byte
	WithoutPlaintext bool
}

// DataKeyOutput is a data key. Plaintext is nil if the caller wanted none; the caller clears it.
type DataKeyOutput struct {
	KeyID      KeyID
	Version    uint32
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
		if err := checkBytes(in.Plaintext, r.limits.Data, "plaintext"); err != nil {
			return nil, err
		}
		return s.encrypt(ctx, r, in, PurposeData)
	})
}

// EncryptDataKey encrypts a data key of the caller.
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
	key, err := s.encrypter(ctx, r, in)
	if err != nil {
		return nil, err
	}
	ciphertext, err := s.encryptUnder(ctx, r, key, in, purpose)
	if err != nil {
		return nil, err
	}
	return &EncryptOutput{KeyID: in.KeyID, Version: r.version.Number, Ciphertext: ciphertext}, nil
}

// encrypter returns the key for an encryption, after checking that it can encrypt as the input asks.
func (s *Service) encrypter(ctx context.Context, r *request, in EncryptInput) (*Key, error) {
	r.context = in.Context
	if err := r.limits.checkBound(in.Context, in.AAD); err != nil {
		return nil, err
	}
	key, err := s.useVersion(ctx, r, in.KeyID, in.Version)
	if err != nil {
		return nil, err
	}
	if key.State == Archived { // which a re-encryption decrypts with
		return nil, errArchived
	}
	return key, checkEncryption(key.Spec, in.Algorithm, in.Context, in.AAD)
}

// encryptUnder encrypts the input's plaintext under the key that encrypter returned.
func (s *Service) encryptUnder(ctx context.Context, r *request, key *Key, in EncryptInput, purpose Purpose) ([]byte, error) {
	if in.Algorithm.rsa() {
		return s.encryptRSA(ctx, r, key, r.version, in.Algorithm, in.Plaintext)
	}
	m, err := s.begin(ctx, r, key, header{Purpose: purpose, Text: in.Text}, in.Context, in.AAD)
	if err != nil {
		return nil, err
	}
	iv, body, err := s.hsm.Encrypt(ctx, m.ref, in.Plaintext, m.aad)
	if err != nil {
		return nil, err
	}
	return m.seal(iv, body, len(in.Plaintext))
}

// GenerateDataKey generates a data key and encrypts it.
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
	key, err := s.encrypter(ctx, r, EncryptInput{KeyID: in.KeyID, Context: in.Context, AAD: in.AAD})
	if err != nil {
		return nil, err
	}
	m, err := s.begin(ctx, r, key, header{Purpose: PurposeDataKey}, in.Context, in.AAD)
	if err != nil {
		return nil, err
	}
	plaintext, iv, body, err := s.hsm.DataKey(ctx, m.ref, in.Bytes, m.aad)
	if err != nil {
		return nil, err
	}
	out := &DataKeyOutput{KeyID: in.KeyID, Version: r.version.Number, Plaintext: plaintext}
	if err := checkRandom(plaintext, in.Bytes); err != nil {
		return out, err
	}
	out.Ciphertext, err = m.seal(iv, body, in.Bytes)
	if in.WithoutPlaintext {
		out.wipe()
		out.Plaintext = nil
	}
	return out, err
}

// message is one encryption in progress.
type message struct {
	header  header
	ref     KeyRef
	aad     []byte
	counter *counter
}

// begin prepares an encryption under a symmetric key: it takes a message number and computes what the ciphertext is bound
// to.
func (s *Service) begin(
	ctx context.Context, r *request, key *Key, h header, context map[string]string, aad []byte,
) (*message, error) {
	if err := r.dry(); err != nil {
		return nil, err
	}
	n, counter, err := s.messages.take(ctx, key.ID, r.version.Number)
	if err != nil {
		return nil, err
	}
	if n >= warnMessages {
		r.warning = "half of this key version's messages are used: rotate the key"
	}
	h.KeyID, h.Version, h.Message = key.ID, r.version.Number, n
	return &message{header: h, ref: key.Ref(r.version), aad: h.boundTo(context, aad), counter: counter}, nil
}

// seal checks the answer of the HSM to n bytes of plaintext and assembles the ciphertext.
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

// Decrypt decrypts a ciphertext of Encrypt.
func (s *Service) Decrypt(ctx context.Context, in DecryptInput) (*DecryptOutput, error) {
	return run(ctx, s, policy.OpDecryptData, func(ctx context.Context, r *request) (*DecryptOutput, error) {
		return s.decrypt(ctx, r, in, PurposeData)
	})
}

// DecryptDataKey decrypts a ciphertext of GenerateDataKey, EncryptDataKey or GenerateDataKeyPair.
func (s *Service) DecryptDataKey(ctx context.Context, in DecryptInput) (*DecryptOutput, error) {
	return run(ctx, s, policy.OpDecryptDataKey, func(ctx context.Context, r *request) (*DecryptOutput, error) {
		return s.decrypt(ctx, r, in, PurposeDataKey)
	})
}

func (s *Service) decrypt(ctx context.Context, r *request, in DecryptInput, purpose Purpose) (*DecryptOutput, error) {
	l, err := s.locate(ctx, r, in, purpose)
	if err != nil {
		return nil, err
	}
	plaintext, err := s.open(ctx, r, l)
	if err != nil {
		return nil, err
	}
	return &DecryptOutput{KeyID: l.key.ID, Version: l.version.Number, Plaintext: plaintext, Text: l.text}, nil
}

// locked is a ciphertext with what is needed to decrypt it.
type locked struct {
	key           *Key
	version       *KeyVersion
	algorithm     EncryptionAlgorithm
	purpose       Purpose // 0 for an RSA block, which does not say
	text          bool
	iv, body, aad []byte
}

// locate finds what decrypts a ciphertext of a purpose, 0 for any.
//
// It returns CodeInvalidCiphertext for every fault of a symmetric ciphertext, so that callers cannot find keys by inventing
// headers. Only the state of an existing key has codes of its own.
func (s *Service) locate(ctx context.Context, r *request, in DecryptInput, purpose Purpose) (*locked, error) {
	r.keyID, r.context = in.KeyID, in.Context
	if err := r.limits.checkBound(in.Context, in.AAD); err != nil {
		return nil, err
	}
	if !in.Algorithm.symmetric() {
		return s.locateBlock(ctx, r, in)
	}
	h, iv, body, err := parseCiphertext(in.Ciphertext)
	if err == nil && in.KeyID == nil {
		r.keyID = &h.KeyID
	}
	switch {
	case err != nil:
		return nil, s.mispaired(ctx, r, in, err)
	case purpose != 0 && h.Purpose != purpose, len(body) > r.limits.plaintext(h.Purpose)+tagSize,
		in.KeyID != nil && *in.KeyID != h.KeyID:
		return nil, invalidCiphertext()
	}
	key, version, err := s.opener(ctx, r, h)
	if err != nil {
		return nil, err
	}
	return &locked{
		key: key, version: version, algorithm: SymmetricDefault, purpose: h.Purpose, text: h.Text, iv: iv, body: body,
		aad: h.boundTo(in.Context, in.AAD),
	}, nil
}

// open decrypts a located ciphertext.
func (s *Service) open(ctx context.Context, r *request, l *locked) (plaintext []byte, err error) {
	if err := r.dry(); err != nil {
		return nil, err
	}
	if l.algorithm.rsa() {
		plaintext, err = s.hsm.DecryptRSA(ctx, l.key.Ref(l.version), l.algorithm, l.body)
	} else {
		plaintext, err = s.hsm.Decrypt(ctx, l.key.Ref(l.version), l.iv, l.body, l.aad)
	}
	if err != nil { // the same answer, wherever the fault was found
		return nil, instead(err, CodeInvalidCiphertext, invalidCiphertext())
	}
	if err := l.check(len(plaintext)); err != nil {
		clear(plaintext)
		return nil, err
	}
	return plaintext, nil
}

// check checks the length of a plaintext from the HSM.
func (l *locked) check(n int) error {
	if !l.algorithm.rsa() {
		if n != len(l.body)-tagSize {
			return hostile("%d bytes of plaintext for %d bytes of ciphertext", n, len(l.body))
		}
		return nil
	}
	switch most := mostRSA(l.key.Spec, l.algorithm); {
	case n > most:
		return hostile("%d bytes of plaintext in a block that holds %d", n, most)
	case n == 0: // a block made elsewhere can be empty, but a plaintext cannot
		return invalidCiphertext()
	}
	return nil
}

// opener returns the key and the version that a ciphertext's header names.
func (s *Service) opener(ctx context.Context, r *request, h header) (*Key, *KeyVersion, error) {
	key, err := s.load(ctx, r, h.KeyID)
	if err != nil {
		return nil, nil, instead(err, CodeNotFound, invalidCiphertext())
	}
	version := key.Version(h.Version)
	// A key whose imported material was deleted answers that it has none. An import restores its versions.
	if (version == nil && (len(key.Versions) > 0 || key.CheckValue == nil)) || checkKind(r.op, key.Spec, key.Usage) != nil {
		return nil, nil, invalidCiphertext()
	}
	if err := r.rules().checkKey(r.op, key); err != nil {
		return nil, nil, err
	}
	if version == nil || key.expired(s.clock) {
		return nil, nil, errPendingImport
	}
	r.version = version
	return key, version, nil
}

// Random returns random bytes of the HSM. The caller clears them.
func (s *Service) Random(ctx context.Context, bytes int) ([]byte, error) {
	return run(ctx, s, policy.OpGenRandom, func(ctx context.Context, r *request) (secret, error) {
		if err := checkLength(bytes, r.limits.Random, "length"); err != nil {
			return nil, err
		}
		if err := r.dry(); err != nil {
			return nil, err
		}
		random, err := s.hsm.Random(ctx, bytes)
		if err != nil {
			return nil, err
		}
		return random, checkRandom(random, bytes)
	})
}

// enoughToJudge is the number of random bytes from which on zeros alone mean a broken generator, not chance.
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
