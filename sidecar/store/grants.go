package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"
	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Grants are stored under their keys:
//
//	g id grant         a grant: grantFormat, JSON, and a checksum over the entry's key and both (CRC-32C)
//
// Format 1 had no seals, and was never released: a grant without a seal cannot be told from one that an attacker wrote into
// the database. The grant's id is 32 bytes. All grants are in memory, too, exactly as on disk: they are read at start, and
// replaced after each commit, before the next one begins. A grant that cannot be read stops the start, because skipping it
// would change what is allowed.
const grantFormat = 2

var (
	errGrant    = errors.New("a grant is damaged: restore the database from a backup")
	errUnsealed = errors.New("a grant has no seal, as a development version of keyside made them: run that version once more to revoke its grants, " +
		"and make them again with this one")
)

// storedGrant is a grant as it is stored. Its names are the format, as storedKey's are.
type storedGrant struct {
	Name       string             `json:"name,omitzero"`
	CreatedMS  int64              `json:"created"`
	Grantee    string             `json:"grantee"`
	Account    bool               `json:"account,omitzero"`
	Operations []policy.Operation `json:"operations"`
	Retiring   string             `json:"retiring,omitzero"`
	Issuer     string             `json:"issuer"`
	Parent     string             `json:"parent,omitzero"`
	Context    map[string]string  `json:"context,omitempty"`
	Exact      bool               `json:"exact,omitzero"`
	ExpiresMS  int64              `json:"expires,omitzero"`
	Source     policy.Source      `json:"source,omitzero"`
	Seal       []byte             `json:"seal"`
}

func grantsPrefix() []byte               { return []byte{'g'} }
func keyGrants(id kms.KeyID) []byte      { return append(grantsPrefix(), id[:]...) }
func grantSize() int                     { return len(keyGrants(kms.KeyID{})) + 32 }
func grantKey(g *policy.Grant) []byte    { return mustHex(keyGrants(g.Key), g.ID) }
func mustHex(b []byte, id string) []byte { raw, _ := hex.DecodeString(id); return append(b, raw...) }

func encodeGrant(g *policy.Grant) ([]byte, error) {
	c := &g.Constraints
	text, err := json.Marshal(&storedGrant{
		Name: g.Name, CreatedMS: g.CreatedAt.UnixMilli(), Grantee: g.Grantee, Account: g.Account, Operations: g.Operations,
		Retiring: g.Retiring, Issuer: g.Issuer, Parent: g.Parent, Context: c.Context, Exact: c.Exact,
		ExpiresMS: milliseconds(c.Expires), Source: c.Source, Seal: g.Seal[:],
	})
	b := append([]byte{grantFormat}, text...)
	return binary.BigEndian.AppendUint32(b, checksum(grantKey(g), b)), err
}

// decodeGrant reads a grant. What is not exactly one is an error.
func decodeGrant(key, value []byte) (*policy.Grant, error) {
	if len(key) != grantSize() || len(value) < 1+crc32.Size {
		return nil, fmt.Errorf("%w: too short", errGrant)
	}
	body := value[:len(value)-crc32.Size]
	if binary.BigEndian.Uint32(value[len(body):]) != checksum(key, body) {
		return nil, fmt.Errorf("%w: wrong checksum", errGrant)
	}
	switch body[0] {
	case grantFormat:
	case 1:
		return nil, errUnsealed
	default:
		return nil, fmt.Errorf("%w: unknown format", errGrant)
	}
	var stored storedGrant
	if err := json.Unmarshal(body[1:], &stored, json.RejectUnknownMembers(true)); err != nil {
		return nil, fmt.Errorf("%w: %w", errGrant, err)
	}
	g := &policy.Grant{
		ID: hex.EncodeToString(key[len(key)-32:]), Name: stored.Name, CreatedAt: timeOf(stored.CreatedMS), Grantee: stored.Grantee,
		Account: stored.Account, Operations: stored.Operations, Retiring: stored.Retiring, Issuer: stored.Issuer,
		Parent: stored.Parent, Constraints: policy.Constraints{
			Context: stored.Context, Exact: stored.Exact, Expires: timeOf(stored.ExpiresMS), Source: stored.Source,
		},
	}
	copy(g.Key[:], key[1:])
	if copy(g.Seal[:], stored.Seal) != len(stored.Seal) || len(stored.Seal) != len(g.Seal) {
		return nil, fmt.Errorf("%w: a seal of %d bytes", errGrant, len(stored.Seal))
	}
	if err := g.Check(); err != nil || g.Grantee == "" {
		return nil, fmt.Errorf("%w: %w", errGrant, errors.Join(err, errors.New("or it has no grantee")))
	}
	return g, nil
}

// grants is all grants by their keys, each key's in order of creation. Slices are never changed, only replaced.
type grants struct {
	mu    sync.RWMutex
	byKey map[kms.KeyID][]*policy.Grant
}

func (x *grants) of(id kms.KeyID) []*policy.Grant {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.byKey[id]
}

func (x *grants) count() (n int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, list := range x.byKey {
		n += len(list)
	}
	return n
}

func (x *grants) set(id kms.KeyID, list []*policy.Grant) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(list) == 0 {
		delete(x.byKey, id)
		return
	}
	x.byKey[id] = list
}

// load reads all grants. Grants of a key that does not exist allow nothing: a version of Keyside that knew no grants
// destroyed it.
func (x *grants) load(txn reader) error {
	x.byKey = make(map[kms.KeyID][]*policy.Grant)
	it := txn.NewIterator(badger.IteratorOptions{Prefix: grantsPrefix(), PrefetchValues: true, PrefetchSize: 100})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().KeyCopy(nil)
		if err := it.Item().Value(func(value []byte) error {
			g, err := decodeGrant(key, value)
			if err == nil {
				x.byKey[g.Key] = append(x.byKey[g.Key], g)
			}
			return err
		}); err != nil {
			return fmt.Errorf("grant %x of key %x: %w", key[min(17, len(key)):], key[1:min(17, len(key))], err)
		}
	}
	for id, list := range x.byKey {
		slices.SortFunc(list, inOrder)
		if _, err := txn.Get(recordKey(id)); errors.Is(err, badger.ErrKeyNotFound) {
			delete(x.byKey, id)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func inOrder(a, b *policy.Grant) int {
	if n := a.CreatedAt.Compare(b.CreatedAt); n != 0 {
		return n
	}
	return bytes.Compare([]byte(a.ID), []byte(b.ID))
}

// Grants implements kms.GrantStore.
func (s *Store) Grants(id kms.KeyID) []*policy.Grant { return s.grants.of(id) }

// MostGrants implements kms.GrantStore.
func (s *Store) MostGrants() (most int) {
	s.grants.mu.RLock()
	defer s.grants.mu.RUnlock()
	for _, list := range s.grants.byKey {
		most = max(most, len(list))
	}
	return most
}

// FindGrants implements kms.GrantStore.
func (s *Store) FindGrants(accept func(*policy.Grant) bool, offset, limit int) (found []*policy.Grant, total int) {
	s.grants.mu.RLock()
	defer s.grants.mu.RUnlock()
	for _, list := range s.grants.byKey {
		for _, g := range list {
			if accept(g) {
				found = append(found, g)
			}
		}
	}
	slices.SortFunc(found, func(a, b *policy.Grant) int {
		if n := bytes.Compare(a.Key[:], b.Key[:]); n != 0 {
			return n
		}
		return inOrder(a, b)
	})
	from := min(offset, len(found))
	return found[from:min(from+limit, len(found))], len(found)
}

// ChangeGrants implements kms.GrantStore.
func (s *Store) ChangeGrants(
	ctx context.Context, id kms.KeyID, change func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error),
) error {
	var after []*policy.Grant
	return s.change(ctx, func(txn *transaction) error {
		r, err := readRecord(txn, id)
		if err != nil {
			return err
		}
		before := s.grants.of(id)
		list, err := change(r.key, before)
		if err != nil {
			return err
		}
		after = slices.SortedFunc(slices.Values(list), inOrder)
		for _, g := range before {
			if !slices.Contains(after, g) {
				if err := txn.Delete(grantKey(g)); err != nil {
					return err
				}
			}
		}
		for _, g := range after {
			if slices.Contains(before, g) {
				continue
			}
			if err := writeGrant(txn, id, g); err != nil {
				return err
			}
		}
		return nil
	}, func() { s.grants.set(id, after) })
}

// writeGrant puts a new grant into a transaction. What it could not read back it does not write.
func writeGrant(txn *transaction, id kms.KeyID, g *policy.Grant) error {
	value, err := encodeGrant(g)
	if err != nil {
		return fmt.Errorf("encode grant: %w", err)
	}
	if _, err := decodeGrant(grantKey(g), value); err != nil || g.Key != id || len(value) >= valueThreshold {
		return fmt.Errorf("grant %q of key %s cannot be stored: %w", g.ID, id, err)
	}
	return txn.Set(grantKey(g), value)
}
