package kms

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"regexp"
	"slices"
	"time"

	"github.com/keyside/keyside/policy"
)

// Sizes of new credentials. Access keys and secrets have the form of those of Huawei Cloud.
const (
	accessKeySize = 20 // characters of A-Z and 0-9: 103 bits
	secretSize    = 40 // characters of A-Z, a-z and 0-9: 238 bits
	tokenSize     = 32 // bytes, 43 characters of base64url

	upperAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	alphanumerics  = upperAndDigits + "abcdefghijklmnopqrstuvwxyz"

	defaultTokenTime = time.Hour
	maxTokenTime     = 24 * time.Hour
)

var (
	userForm    = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._@-]{0,63}$`)
	serviceForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
)

// CheckUser returns what is wrong with the name of a user. Records show these names.
func CheckUser(name string) error {
	if !userForm.MatchString(name) {
		return Invalid("user", ReasonMalformed, "user must be 1 to 64 letters, digits and any of . _ @ -, the first a letter or digit")
	}
	return nil
}

// CheckService returns what is wrong with the name of a cloud service, whose default key is called NAME/default.
func CheckService(name string) error {
	if !serviceForm.MatchString(name) {
		return Invalid("service", ReasonMalformed, "service must be 1 to 32 of a-z, 0-9 and -, the first a letter")
	}
	return nil
}

// CreateCredentialInput describes a new access key: for a user with a role, for a cloud service, or, with neither, for a
// user with only the permissions that grants and policies give.
type CreateCredentialInput struct {
	User    string
	Role    policy.Role
	Service string
	// Dialects are those whose requests the access key signs, by Call.Dialect; nil: all. An access key of some alone makes no
	// access keys and no tokens, which would have none of its limits.
	Dialects []string
}

// NewCredential is a new access key with its secret, which is returned only once. The caller clears it.
type NewCredential struct {
	Credential
	Secret []byte
}

func (n *NewCredential) wipe() {
	if n != nil {
		clear(n.Secret)
	}
}

// mayDelegate refuses to create credentials for a caller with a token or with an access key of some dialects alone, whatever its
// role: they would outlive the token, and be good for other dialects.
func (s *Service) mayDelegate(ctx context.Context, r *request) error {
	if r.call.Token {
		return r.settle(policy.Decision{Reason: "a token makes no tokens and no access keys"})
	}
	if r.call.AccessKey == "" {
		return nil
	}
	who, err := s.credential(ctx, r.call.AccessKey)
	clear(who.secret[:])
	if err == nil && who.dialects != nil {
		err = r.settle(policy.Decision{Reason: "an access key of some dialects alone makes no tokens and no access keys"})
	}
	return err
}

// checkNamesake refuses an access key for a principal of the configuration that has other permissions there. Grants are
// issued to names, so two principals with one name would share them, and records could not tell them apart.
func (s *Service) checkNamesake(in CreateCredentialInput) error {
	if s.principals == nil {
		return nil
	}
	known, ok := s.principals(in.User)
	if !ok || known.Role == in.Role && known.Service == in.Service && cmp.Or(known.Account, s.account) == s.account {
		return nil
	}
	return Invalid("user", ReasonConflict, "the configuration has a principal of this name with another role or account: give the access key "+
		"to another user, or the principal's own role")
}

// CreateCredential creates an access key. For a principal of the configuration, the input must state its role. It requires
// kernel credentials or an access key, not a token.
func (s *Service) CreateCredential(ctx context.Context, in CreateCredentialInput) (*NewCredential, error) {
	return run(ctx, s, policy.OpCreateCredential, func(ctx context.Context, r *request) (*NewCredential, error) {
		r.target = in.User
		if err := cmp.Or(s.mayDelegate(ctx, r), in.check(), s.checkNamesake(in), s.identities.ready()); err != nil {
			return nil, err
		}
		n := &NewCredential{
			Credential: Credential{
				AccessKey: string(randomText(accessKeySize, upperAndDigits)), User: in.User, Role: in.Role,
				Service: in.Service, CreatedAt: s.now(), Dialects: in.Dialects,
			},
			Secret: randomText(secretSize, alphanumerics),
		}
		r.target = n.AccessKey
		var err error
		if n.Sealed, err = s.seal(ctx, n.Secret, n.bound()); err == nil {
			err = s.identities.store.CreateCredential(s.recorded(ctx, r), &n.Credential, s.limits.Credentials)
		}
		return n, err
	})
}

func (in CreateCredentialInput) check() error {
	if err := CheckUser(in.User); err != nil {
		return err
	}
	if !slices.Contains(policy.Roles, in.Role) {
		return Invalid("role", ReasonUnknown, "unknown role")
	}
	if in.Service == "" {
		return nil
	}
	if in.Role != policy.None {
		return Invalid("service", ReasonConflict, "a service has no other role")
	}
	return CheckService(in.Service)
}

// randomText returns n uniformly distributed characters.
func randomText(n int, alphabet string) []byte {
	out := make([]byte, 0, n)
	var random [64]byte
	defer clear(random[:])
	most := byte(256 - 256%len(alphabet)) // reject bytes >= most to avoid modulo bias
	for len(out) < n {
		rand.Read(random[:]) // never fails
		for _, b := range random {
			if b < most && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return out
}

// ListCredentials returns the access keys in order of creation, without their secrets.
func (s *Service) ListCredentials(ctx context.Context) ([]*Credential, error) {
	return run(ctx, s, policy.OpListCredentials, func(ctx context.Context, _ *request) ([]*Credential, error) {
		if err := s.identities.ready(); err != nil {
			return nil, err
		}
		return s.identities.store.ListCredentials(ctx)
	})
}

// DeleteCredential deletes an access key and the tokens of its user; the next request with either is refused. If the record
// of the access key was tampered with, all tokens are deleted, because its user name cannot be trusted.
func (s *Service) DeleteCredential(ctx context.Context, accessKey string) error {
	return doWithout(ctx, s, policy.OpDeleteCredential, func(ctx context.Context, r *request) error {
		r.target = shown(accessKey)
		if err := s.identities.ready(); err != nil {
			return err
		}
		return s.identities.remove(s.recorded(ctx, r), accessKey, s.forged(ctx, accessKey))
	})
}

// openTimeout limits how long the deletion of an access key waits for the HSM. It is deleted afterwards in any case.
const openTimeout = 2 * time.Second

// forged reports whether the record of an access key is not authentic, so that its user is unknown.
func (s *Service) forged(ctx context.Context, accessKey string) bool {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	who, err := s.credential(ctx, accessKey)
	clear(who.secret[:])
	return err != nil && AsError(err).Code == CodeUnauthenticated
}

// CreateTokenInput asks for a token of a user, by default the caller itself. TTL is at most a day; zero means an hour.
type CreateTokenInput struct {
	User string
	TTL  time.Duration
}

// NewToken is a new token, which is returned only once. The caller clears Text.
type NewToken struct {
	Token
	Text []byte // base64url, 43 characters
}

func (n *NewToken) wipe() {
	if n != nil {
		clear(n.Text)
	}
}

// CreateToken creates a token with the permissions of its user. One of another user has permissions that the caller may not have,
// so it is an operation of its own. CreateToken requires kernel credentials or an access key: no token creates another.
func (s *Service) CreateToken(ctx context.Context, in CreateTokenInput) (*NewToken, error) {
	op := policy.OpCreateToken
	if call := CallFrom(ctx); in.User != "" && (call == nil || in.User != call.Principal.Name) {
		op = policy.OpCreateTokenFor
	}
	return run(ctx, s, op, func(ctx context.Context, r *request) (*NewToken, error) {
		if err := s.mayDelegate(ctx, r); err != nil {
			return nil, err
		}
		ttl := cmp.Or(in.TTL, defaultTokenTime)
		if ttl < time.Second || ttl > maxTokenTime {
			return nil, Invalid("ttl", ReasonOutOfRange, "a token lives a second to %s", maxTokenTime)
		}
		if err := s.identities.ready(); err != nil {
			return nil, err
		}
		generation := s.identities.deletions()
		who, err := s.rightsOf(ctx, r, in.User)
		if err != nil {
			return nil, err
		}
		r.target = who.Name
		if cmp.Or(who.Account, s.account) != s.account { // token records hold no account, so the token would get the grants of ours
			return nil, Invalid("user", ReasonConflict, "a token belongs to account %s, and its user does not", s.account)
		}
		var random [tokenSize]byte
		rand.Read(random[:]) // never fails
		defer clear(random[:])
		n := &NewToken{Text: base64.RawURLEncoding.AppendEncode(nil, random[:])}
		n.Token = Token{
			Hash: sha256.Sum256(n.Text), User: who.Name, Role: who.Role, Service: who.Service,
			ExpiresAt: s.now().Add(ttl),
		}
		if n.Sealed, err = s.seal(ctx, n.Hash[:], n.bound()); err == nil {
			err = s.identities.add(s.recorded(ctx, r), &n.Token, s.now(), generation)
		}
		return n, err
	})
}

// rightsOf returns the principal of the access keys of a user, or that of the caller if no user is named. An access key that
// was deleted after it signed the request creates no token.
func (s *Service) rightsOf(ctx context.Context, r *request, user string) (policy.Principal, error) {
	if r.op == policy.OpCreateToken {
		if r.call.AccessKey == "" {
			return r.call.Principal, nil
		}
		who, err := s.credential(ctx, r.call.AccessKey)
		clear(who.secret[:])
		return who.principal, err
	}
	if err := CheckUser(user); err != nil {
		return policy.Principal{}, err
	}
	r.target = user
	credentials, err := s.identities.store.ListCredentials(ctx)
	if err != nil {
		return policy.Principal{}, err
	}
	var found policy.Principal
	limited := false
	for _, c := range credentials {
		if c.User != user {
			continue
		}
		secret, err := s.unseal(ctx, c.Sealed, c.bound()) // the record counts only if it is authentic
		clear(secret)
		if err != nil {
			return policy.Principal{}, err
		}
		if c.Dialects != nil { // it makes no tokens, which all dialects take
			limited = true
			continue
		}
		if found.Name != "" && found != c.principal() {
			return policy.Principal{}, Invalid("user", ReasonConflict, "access keys of this user have different roles")
		}
		found = c.principal()
	}
	switch {
	case found.Name == "" && limited:
		return policy.Principal{}, Invalid("user", ReasonConflict, "access keys of this user are limited to some dialects, and tokens are not")
	case found.Name == "":
		return policy.Principal{}, Errorf(CodeNotFound, "user has no access key").In("user")
	}
	return found, nil
}

// Admit decides and records an operation that the caller of Admit performs itself.
func (s *Service) Admit(ctx context.Context, op policy.Operation) error {
	return s.AdmitAbout(ctx, op, "")
}

// Readmit decides an admitted operation again, for an answer that continues while permissions change. Only a denial is
// recorded.
func (s *Service) Readmit(ctx context.Context, op policy.Operation) error {
	r := s.newRequest(ctx, op)
	if r.call == nil {
		return denied()
	}
	if r.call.Valid != nil {
		if err := r.call.Valid(ctx); err != nil {
			return s.Refuse(ctx, op, err)
		}
	}
	if err := s.authorize(&r, nil, nil); err != nil {
		return s.finish(ctx, &r, err)
	}
	return nil
}

// AdmitAbout is Admit for an operation whose record names a target.
func (s *Service) AdmitAbout(ctx context.Context, op policy.Operation, target string) error {
	return doWithout(ctx, s, op, func(_ context.Context, r *request) error {
		r.target = target
		return nil
	})
}
