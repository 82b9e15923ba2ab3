package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Access keys and tokens lie beside the customers' keys, under letters of their own:
//
//	c access-key       an access key, as JSON
//	t hash             a token by its SHA-256 (32 bytes), as JSON
//	u                  the tenant's credential key: its id (16 bytes), then a key's record; its material is under v as any key's
//
// The rights in a record are authenticated by the core, not here: whoever writes the database can change them, and then the
// record opens no more.
const (
	credentialLetter    = 'c'
	tokenLetter         = 't'
	credentialKeyLetter = 'u'
)

// tokenBatch is how many tokens one transaction removes at most, far below what badger takes in one.
const tokenBatch = 1000

var _ kms.CredentialStore = (*Store)(nil)

// storedCredential is an access key as it is stored. Its names are the format, as storedKey's are.
type storedCredential struct {
	User          string      `json:"user"`
	Administrator bool        `json:"administrator,omitzero"`
	Role          policy.Role `json:"role,omitzero"` // other than administrator
	Service       string      `json:"service,omitzero"`
	CreatedMS     int64       `json:"created"`
	Dialects      []string    `json:"dialects,omitempty"` // that it signs for; none: all
	Sealed        []byte      `json:"sealed"`
}

type storedToken struct {
	User          string      `json:"user"`
	Administrator bool        `json:"administrator,omitzero"`
	Role          policy.Role `json:"role,omitzero"` // other than administrator
	Service       string      `json:"service,omitzero"`
	ExpiresMS     int64       `json:"expires"`
	Sealed        []byte      `json:"sealed"`
}

// Administrators were there before there were roles, and have a member of their own.
func otherRole(r policy.Role) policy.Role {
	if r == policy.Administrator {
		return policy.None
	}
	return r
}

func role(administrator bool, other policy.Role) policy.Role {
	if administrator {
		return policy.Administrator
	}
	return other
}

func credentialName(accessKey string) []byte { return append([]byte{credentialLetter}, accessKey...) }
func tokenName(hash [32]byte) []byte         { return append([]byte{tokenLetter}, hash[:]...) }

// CredentialKey implements kms.CredentialStore.
func (s *Store) CredentialKey(context.Context) (key *kms.Key, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		key, err = readCredentialKey(txn)
		return err
	})
	return key, err
}

func readCredentialKey(txn reader) (*kms.Key, error) {
	var r record
	err := read(txn, []byte{credentialKeyLetter}, "credential key", func(value []byte) (err error) {
		var id kms.KeyID
		if len(value) < len(id) {
			return errRecord
		}
		copy(id[:], value)
		r, err = decodeRecord(id, value[len(id):])
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.key, readMaterial(txn, r)
}

// CreateCredentialKey implements kms.CredentialStore.
func (s *Store) CreateCredentialKey(ctx context.Context, key *kms.Key) (*kms.Key, error) {
	err := s.change(ctx, func(txn *transaction) error {
		have, err := readCredentialKey(txn)
		if err == nil {
			key = have
			return nil
		}
		if !notFound(err) {
			return err
		}
		r := newRecord(key, 1) // it has no place in the order, and a record needs one
		value, err := encodeRecord(r)
		if err != nil {
			return fmt.Errorf("encode credential key: %w", err)
		}
		if _, err := writeMaterial(txn, record{}, r); err != nil {
			return err
		}
		return txn.Set([]byte{credentialKeyLetter}, append(key.ID[:], value...))
	}, func() {})
	if err != nil {
		return nil, err
	}
	return key, nil
}

// CreateCredential implements kms.CredentialStore.
func (s *Store) CreateCredential(ctx context.Context, c *kms.Credential, quota int) error {
	return s.change(ctx, func(txn *transaction) error {
		n := 0
		for range keysFrom(txn, []byte{credentialLetter}, nil) {
			n++
		}
		if n >= quota {
			return kms.Errorf(kms.CodeQuotaExceeded, "the limit of %d access keys is reached", quota)
		}
		if _, err := txn.Get(credentialName(c.AccessKey)); !errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("new access key is taken, or cannot be looked up: %w", err)
		}
		return write(txn, credentialName(c.AccessKey), storedCredential{
			User: c.User, Administrator: c.Role == policy.Administrator, Role: otherRole(c.Role), Service: c.Service, CreatedMS: c.CreatedAt.UnixMilli(),
			Dialects: c.Dialects, Sealed: c.Sealed,
		})
	}, func() {})
}

// Credential implements kms.CredentialStore.
func (s *Store) Credential(_ context.Context, accessKey string) (c *kms.Credential, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		c, err = readCredential(txn, accessKey)
		return err
	})
	return c, err
}

func readCredential(txn reader, accessKey string) (*kms.Credential, error) {
	var stored storedCredential
	if err := readJSON(txn, credentialName(accessKey), "access key", &stored); err != nil {
		return nil, err
	}
	return &kms.Credential{
		AccessKey: accessKey, User: stored.User, Role: role(stored.Administrator, stored.Role), Service: stored.Service,
		CreatedAt: time.UnixMilli(stored.CreatedMS).UTC(), Dialects: stored.Dialects, Sealed: stored.Sealed,
	}, nil
}

// ListCredentials implements kms.CredentialStore.
func (s *Store) ListCredentials(ctx context.Context) (list []*kms.Credential, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		for name := range keysFrom(txn, []byte{credentialLetter}, nil) {
			if err := ctx.Err(); err != nil {
				return err
			}
			c, err := readCredential(txn, string(name[1:]))
			if err != nil {
				return err
			}
			list = append(list, c)
		}
		return nil
	})
	slices.SortStableFunc(list, func(a, b *kms.Credential) int { return a.CreatedAt.Compare(b.CreatedAt) })
	return list, err
}

// DeleteCredential implements kms.CredentialStore. The tokens go first, in as many transactions as they need: the access key
// is there until all of them are gone, and a deletion that was cut short can be asked for again. Each transaction has a record.
func (s *Store) DeleteCredential(ctx context.Context, accessKey string, allTokens bool) error {
	for more := true; more; {
		err := s.change(ctx, func(txn *transaction) error {
			c, err := readCredential(txn, accessKey)
			if err != nil {
				return err
			}
			more, err = removeTokens(txn, func(t *kms.Token) bool { return allTokens || t.User == c.User })
			if txn.part = more; err == nil && !more {
				err = txn.Delete(credentialName(accessKey))
			}
			return err
		}, func() {})
		if err != nil {
			return err
		}
	}
	return nil
}

// removeTokens adds the removal of some tokens to a transaction, also of unreadable ones, which are invalid anyway. It
// removes as many as fit, and reports whether there may be more.
func removeTokens(txn *transaction, doomed func(*kms.Token) bool) (more bool, err error) {
	removed := 0
	for name := range keysFrom(txn, []byte{tokenLetter}, nil) {
		t, err := readTokenNamed(txn, name)
		if err == nil && !doomed(t) {
			continue
		}
		if err := txn.Delete(name); err != nil {
			return false, fmt.Errorf("remove a token: %w", err)
		}
		if removed++; removed == tokenBatch {
			return true, nil
		}
	}
	return false, nil
}

// CreateToken implements kms.CredentialStore. Tokens that have ended and do not fit are removed with a later one.
func (s *Store) CreateToken(ctx context.Context, t *kms.Token, now time.Time) error {
	return s.change(ctx, func(txn *transaction) error {
		if _, err := removeTokens(txn, func(t *kms.Token) bool { return t.ExpiresAt.Before(now) }); err != nil {
			return err
		}
		return write(txn, tokenName(t.Hash), storedToken{
			User: t.User, Administrator: t.Role == policy.Administrator, Role: otherRole(t.Role), Service: t.Service, ExpiresMS: t.ExpiresAt.UnixMilli(), Sealed: t.Sealed,
		})
	}, func() {})
}

// Token implements kms.CredentialStore.
func (s *Store) Token(_ context.Context, hash [32]byte) (t *kms.Token, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		t, err = readToken(txn, hash)
		return err
	})
	return t, err
}

func readTokenNamed(txn reader, name []byte) (*kms.Token, error) {
	var hash [32]byte
	if copy(hash[:], name[1:]) != len(hash) || len(name) != len(tokenName(hash)) {
		return nil, fmt.Errorf("%w: name of a token has %d bytes", errRecord, len(name))
	}
	return readToken(txn, hash)
}

func readToken(txn reader, hash [32]byte) (*kms.Token, error) {
	var stored storedToken
	if err := readJSON(txn, tokenName(hash), "token", &stored); err != nil {
		return nil, err
	}
	return &kms.Token{
		Hash: hash, User: stored.User, Role: role(stored.Administrator, stored.Role), Service: stored.Service,
		ExpiresAt: time.UnixMilli(stored.ExpiresMS).UTC(), Sealed: stored.Sealed,
	}, nil
}
