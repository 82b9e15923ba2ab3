package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// Sealed is a sealed key in the database: a version of a key, the credential key, or the private half of a wrapping pair.
type Sealed struct {
	Ref       kms.KeyRef
	PublicKey []byte // as stored; nil for symmetric keys
	Key       *kms.Key
}

// Counts is how many entries of each kind a database has, by the names of kinds.
type Counts map[string]int

// kindsOfEntries has the entries that the database consists of, by their first letter. check returns an error if an entry cannot be
// decoded, or if what belongs to it is missing.
var kindsOfEntries = map[byte]struct {
	name  string // of what is counted; empty: part of another entry
	check func(txn reader, key, value []byte, seal func(Sealed) error) error
}{
	'r': {"keys", checkKeyEntry},
	'v': {"", checkMaterialEntry},
	'a': {"", checkOwnAlias},
	'b': {"aliases", checkAliasEntry},
	'd': {"", nothing},
	'm': {"", checkNumber},
	'n': {"", checkNumber},
	's': {"", nothing}, // read by Open
	'w': {"wrapping keys", checkPair},
	'x': {"", nothing},
	'f': {"", nothing},
	'q': {"unsent records", nothing}, // the whole outbox is read at once
	'y': {"", checkState},
	'c': {"access keys", checkCredential},
	't': {"tokens", checkToken},
	'u': {"", checkCredentialKey},
	'g': {"grants", func(_ reader, key, value []byte, _ func(Sealed) error) error {
		_, err := decodeGrant(key, value)
		return err
	}},
	'h': {"", nothing}, // both values are read at once
	'z': {"", checkClock},
}

func nothing(reader, []byte, []byte, func(Sealed) error) error { return nil }

// Decode reads every entry of the database and calls seal with every sealed key. It returns the first error.
func (s *Store) Decode(ctx context.Context, seal func(Sealed) error) (Counts, error) {
	counts := Counts{}
	err := s.db.View(func(txn *badger.Txn) error {
		if _, err := readOutbox(txn); err != nil {
			return err
		}
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			key := it.Item().KeyCopy(nil)
			kind, known := kindsOfEntries[key[0]]
			if !known {
				return fmt.Errorf("entry %q is of no known kind", key)
			}
			value, err := it.Item().ValueCopy(nil)
			if err == nil {
				err = kind.check(txn, key, value, seal)
			}
			if err != nil {
				return fmt.Errorf("entry %c: %w", key[0], err)
			}
			if kind.name != "" {
				counts[kind.name]++
			}
		}
		return nil
	})
	if err == nil {
		_, _, err = s.AuditHead()
	}
	return counts, err
}

func checkKeyEntry(txn reader, key, _ []byte, seal func(Sealed) error) error {
	id, err := idOf(key)
	if err != nil {
		return err
	}
	r, err := readKey(txn, id)
	if err != nil {
		return err
	}
	return sealsOf(r.key, seal)
}

func sealsOf(key *kms.Key, seal func(Sealed) error) error {
	for i := range key.Versions {
		v := &key.Versions[i]
		if len(v.Sealed) == 0 {
			continue
		}
		if err := seal(Sealed{key.Ref(v), v.PublicKey, key}); err != nil {
			return fmt.Errorf("key %s, version %d: %w", key.ID, v.Number, err)
		}
	}
	return nil
}

// checkMaterialEntry looks for the key of material. Its content is checked with the key.
func checkMaterialEntry(txn reader, key, _ []byte, _ func(Sealed) error) error {
	var id kms.KeyID
	if len(key) != len(materialKey(id, 0)) {
		return errMaterial
	}
	copy(id[:], key[1:])
	return checkExists(txn, id)
}

func checkOwnAlias(txn reader, key, value []byte, _ func(Sealed) error) error {
	var id kms.KeyID
	if copy(id[:], value) != len(value) || len(value) != len(id) {
		return errRecord
	}
	r, err := readRecord(txn, id)
	if err == nil && r.key.Alias != string(key[1:]) {
		err = fmt.Errorf("key %s has another alias", id)
	}
	return err
}

func checkAliasEntry(txn reader, key, _ []byte, _ func(Sealed) error) error {
	alias, err := readAlias(txn, string(key[1:]))
	if err != nil {
		return err
	}
	_, err = txn.Get(keyNameKey(alias.KeyID, alias.Name))
	return errors.Join(err, checkExists(txn, alias.KeyID))
}

func checkNumber(txn reader, key, _ []byte, _ func(Sealed) error) error {
	_, err := readUint64(txn, key)
	return err
}

func checkPair(txn reader, key, _ []byte, seal func(Sealed) error) error {
	id, err := idOf(key)
	if err != nil {
		return err
	}
	p, err := readPair(txn, id)
	if err == nil {
		err = seal(Sealed{Ref: p.Ref(), PublicKey: p.PublicKey})
	}
	if err != nil {
		return fmt.Errorf("wrapping pair %s: %w", id, err)
	}
	return nil
}

func checkState(_ reader, _, value []byte, _ func(Sealed) error) error {
	_, err := decodeState(value)
	return err
}

func checkCredential(txn reader, key, _ []byte, _ func(Sealed) error) error {
	_, err := readCredential(txn, string(key[1:]))
	return err
}

func checkToken(txn reader, key, _ []byte, _ func(Sealed) error) error {
	_, err := readTokenNamed(txn, key)
	return err
}

func checkCredentialKey(txn reader, _, _ []byte, seal func(Sealed) error) error {
	key, err := readCredentialKey(txn)
	if err != nil {
		return err
	}
	return sealsOf(key, seal)
}
