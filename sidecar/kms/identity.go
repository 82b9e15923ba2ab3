package kms

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// maxIdentities limits the opened secrets in memory, and likewise the tokens.
const maxIdentities = 4096

// identities caches access keys and tokens that were used lately, after the HSM authenticated them. Every deletion empties
// the cache, and a request in flight at that time cannot refill it.
type identities struct {
	store CredentialStore
	decoy [secretSize]byte // used as the secret of unknown access keys

	making   gate // held while the credential key is created
	changing gate // held while something is deleted, and while a token is stored

	mu         sync.Mutex
	generation uint64 // counts the deletions
	key        *Key   // the tenant's credential key, after its first use
	secrets    map[string]identity
	tokens     map[[32]byte]identity
}

// identity is the principal of an access key or a token.
type identity struct {
	principal policy.Principal
	secret    [secretSize]byte // of an access key
	dialects  []string         // of an access key: those that it signs for; nil: all
	expires   time.Time        // of a token
}

func newIdentities(store CredentialStore) *identities {
	i := &identities{
		store: store, making: make(gate, 1), changing: make(gate, 1), secrets: map[string]identity{}, tokens: map[[32]byte]identity{},
	}
	rand.Read(i.decoy[:]) // never fails
	return i
}

func (i *identities) ready() error {
	if i.store == nil {
		return Errorf(CodeInternal, "internal error").Because(errors.New("service has no credential store"))
	}
	return nil
}

// gate admits one holder at a time. Waiting for it ends with the context.
type gate chan struct{}

func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }

// remove deletes an access key, with all tokens or those of its user, and empties the cache.
func (i *identities) remove(ctx context.Context, accessKey string, allTokens bool) error {
	if err := i.changing.enter(ctx); err != nil {
		return err
	}
	defer i.changing.leave()
	err := i.store.DeleteCredential(ctx, accessKey, allTokens)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.generation++
	clear(i.secrets)
	clear(i.tokens)
	return err
}

// add stores a token, unless something was deleted since generation: it may have been the user's access key.
func (i *identities) add(ctx context.Context, t *Token, now time.Time, generation uint64) error {
	if err := i.changing.enter(ctx); err != nil {
		return err
	}
	defer i.changing.leave()
	if generation != i.deletions() {
		return Errorf(CodeBusy, "an access key was deleted meanwhile")
	}
	return i.store.CreateToken(ctx, t, now)
}

func (i *identities) deletions() uint64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.generation
}

// lookup returns a cached identity, or else the generation to pass to keep.
func lookup[K comparable](i *identities, in map[K]identity, at K) (held identity, ok bool, generation uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	held, ok = in[at]
	return held, ok, i.generation
}

// keep caches an identity, unless something was deleted since generation.
func keep[K comparable](i *identities, in map[K]identity, at K, what identity, generation uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if generation != i.generation {
		return
	}
	if len(in) >= maxIdentities {
		for other := range in { // any of them: its next use opens it again
			delete(in, other)
			break
		}
	}
	in[at] = what
}

func unauthenticated() *Error { return Errorf(CodeUnauthenticated, "signature or token is not valid") }

// Authenticate returns the principal of an access key if verify accepts the signature of the request. verify gets the
// secret, which is valid only during the call. Authenticate returns the same CodeUnauthenticated for an unknown access key
// and for a wrong signature, and calls verify in both cases, and for one that does not sign for the dialect of the call;
// CodeKeyUnavailable if the HSM cannot open the secret now.
func (s *Service) Authenticate(ctx context.Context, accessKey string, verify func(secret []byte) bool) (policy.Principal, error) {
	who, err := s.credential(ctx, accessKey)
	known := err == nil
	if !known {
		if AsError(err).Code != CodeUnauthenticated {
			return policy.Principal{}, err
		}
		who.secret = s.identities.decoy
	}
	secret := who.secret[:]
	defer clear(secret)
	if !verify(secret) || !known || who.dialects != nil && !slices.Contains(who.dialects, CallFrom(ctx).dialect()) {
		return policy.Principal{}, unauthenticated()
	}
	return who.principal, nil
}

// credential opens an access key.
func (s *Service) credential(ctx context.Context, accessKey string) (identity, error) {
	i := s.identities
	if i.store == nil || len(accessKey) != accessKeySize {
		return identity{}, unauthenticated()
	}
	who, ok, generation := lookup(i, i.secrets, accessKey)
	if ok {
		return who, nil
	}
	c, err := i.store.Credential(ctx, accessKey)
	if err != nil {
		return identity{}, instead(err, CodeNotFound, unauthenticated())
	}
	secret, err := s.unseal(ctx, c.Sealed, c.bound())
	defer clear(secret)
	if err == nil && len(secret) != secretSize {
		err = hostile("secret of %d bytes", len(secret))
	}
	if err != nil {
		return identity{}, s.unopened(ctx, err, slog.String("access_key", accessKey))
	}
	who = identity{principal: c.principal(), secret: [secretSize]byte(secret), dialects: c.Dialects}
	keep(i, i.secrets, accessKey, who, generation)
	return who, nil
}

// AuthenticateToken returns the principal of a token: CodeUnauthenticated if it does not exist, CodeTokenExpired, or
// CodeKeyUnavailable if the HSM cannot authenticate its record now.
func (s *Service) AuthenticateToken(ctx context.Context, token string) (policy.Principal, error) {
	i := s.identities
	if i.store == nil || len(token) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return policy.Principal{}, unauthenticated()
	}
	hash := sha256.Sum256([]byte(token))
	who, ok, generation := lookup(i, i.tokens, hash)
	if !ok {
		t, err := i.store.Token(ctx, hash)
		if err != nil {
			return policy.Principal{}, instead(err, CodeNotFound, unauthenticated())
		}
		sealed, err := s.unseal(ctx, t.Sealed, t.bound())
		if err == nil && subtle.ConstantTimeCompare(sealed, hash[:]) != 1 {
			err = invalidCiphertext()
		}
		if err != nil {
			return policy.Principal{}, s.unopened(ctx, err, slog.String("token_user", t.User))
		}
		who = identity{principal: t.principal(), expires: t.ExpiresAt}
		keep(i, i.tokens, hash, who, generation)
	}
	if !s.clock.Now().Before(who.expires) {
		return policy.Principal{}, Errorf(CodeTokenExpired, "token has expired")
	}
	return who.principal, nil
}

// unopened returns the error for a record that did not open. A record that is not authentic was tampered with in the
// database; every other failure means that the HSM is unavailable.
func (s *Service) unopened(ctx context.Context, err error, which slog.Attr) error {
	e := AsError(err)
	switch e.Code {
	case CodeInvalidCiphertext:
		s.log.LogAttrs(ctx, slog.LevelError, "credential record is not authentic", which)
		return unauthenticated().Because(err)
	case CodeBusy, CodeInternal:
		return err
	}
	return Errorf(CodeKeyUnavailable, "the HSM is not available").Because(err)
}

// shown returns an access key for records, "" if the text cannot be one.
func shown(accessKey string) string {
	if len(accessKey) != accessKeySize || strings.Trim(accessKey, upperAndDigits) != "" {
		return ""
	}
	return accessKey
}

func (c *Credential) principal() policy.Principal {
	return policy.Principal{Name: c.User, Role: c.Role, Service: c.Service}
}

func (t *Token) principal() policy.Principal {
	return policy.Principal{Name: t.User, Role: t.Role, Service: t.Service}
}

// What secrets and tokens are bound to: a domain, then every field of the record, so that none can be changed and no
// secret moved to another. The domains differ from a ciphertext's, so that no data encrypted for a caller can pass.
const (
	credentialDomain = "keyside credential v1\x00"
	tokenDomain      = "keyside token v1\x00"
)

func (c *Credential) bound() []byte {
	b := appendText([]byte(credentialDomain), c.AccessKey)
	b = appendRights(b, c.principal(), c.CreatedAt)
	for _, name := range c.Dialects { // the parts before have lengths of their own, so none of these can be taken for them
		b = appendText(b, name)
	}
	return b
}

func (t *Token) bound() []byte {
	b := append([]byte(tokenDomain), t.Hash[:]...)
	return appendRights(b, t.principal(), t.ExpiresAt)
}

// roleNumbers are the roles as seals contain them.
var roleNumbers = map[policy.Role]byte{policy.None: 0, policy.Administrator: 1, policy.KeyUser: 2, policy.Auditor: 3}

func appendRights(b []byte, p policy.Principal, at time.Time) []byte {
	b = appendText(b, p.Name)
	b = appendText(b, p.Service)
	b = append(b, roleNumbers[p.Role]) // roles without a number are refused earlier
	return binary.BigEndian.AppendUint64(b, uint64(at.UnixMilli()))
}

// A sealed secret is the format's number, 1, the version of the credential key (4 bytes, big-endian), a 12-byte IV, and
// the encrypted secret with its 16-byte tag.
const (
	sealFormat = 1
	sealHeader = 1 + 4 + ivSize
)

// seal encrypts a secret under the tenant's credential key, which it creates if necessary.
func (s *Service) seal(ctx context.Context, secret, bound []byte) ([]byte, error) {
	key, err := s.makeCredentialKey(ctx)
	if err != nil {
		return nil, err
	}
	version := key.Current()
	_, counter, err := s.messages.take(ctx, key.ID, version.Number)
	if err != nil {
		return nil, err
	}
	iv, body, err := s.hsm.Encrypt(ctx, key.Ref(version), secret, bound)
	if err != nil {
		return nil, err
	}
	if err := counter.checkIV(iv); err != nil {
		return nil, err
	}
	if len(body) != len(secret)+tagSize {
		return nil, hostile("%d bytes of ciphertext for %d bytes of plaintext", len(body), len(secret))
	}
	b := binary.BigEndian.AppendUint32([]byte{sealFormat}, version.Number)
	return append(append(b, iv...), body...), nil
}

// unseal decrypts what seal returned; CodeInvalidCiphertext for anything else.
func (s *Service) unseal(ctx context.Context, sealed, bound []byte) ([]byte, error) {
	if len(sealed) < sealHeader+tagSize || sealed[0] != sealFormat {
		return nil, invalidCiphertext()
	}
	key, err := s.credentialKey(ctx)
	if err != nil {
		return nil, instead(err, CodeNotFound, invalidCiphertext())
	}
	version := key.Version(binary.BigEndian.Uint32(sealed[1:]))
	if version == nil {
		return nil, invalidCiphertext()
	}
	return s.hsm.Decrypt(ctx, key.Ref(version), sealed[5:sealHeader], sealed[sealHeader:], bound)
}

// credentialKey returns the tenant's credential key, CodeNotFound if there is none.
func (s *Service) credentialKey(ctx context.Context) (*Key, error) {
	i := s.identities
	i.mu.Lock()
	key := i.key
	i.mu.Unlock()
	if key != nil {
		return key, nil
	}
	key, err := i.store.CredentialKey(ctx)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key = key
	return key, nil
}

// makeCredentialKey returns the tenant's credential key, and creates it if necessary.
func (s *Service) makeCredentialKey(ctx context.Context) (*Key, error) {
	i := s.identities
	if err := i.making.enter(ctx); err != nil {
		return nil, err
	}
	defer i.making.leave()
	key, err := s.credentialKey(ctx)
	if err == nil || AsError(err).Code != CodeNotFound {
		return key, err
	}
	key = &Key{
		ID: uuid.New(), Alias: "credentials", Spec: AES256, Usage: EncryptDecrypt, Origin: OriginKMS, CreatedAt: s.now(),
	}
	if err := s.makeMaterial(ctx, key); err != nil {
		return nil, err
	}
	return i.store.CreateCredentialKey(ctx, key)
}
