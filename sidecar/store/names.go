package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// Own aliases (a) and further aliases (b) are one name space: of the names that kms.SameNames takes for the same, all are one key's.
// So a new name never changes which key an existing one stands for. Formats know no such rule: a database of an earlier version may
// have names of several keys, which stay.

// Named implements kms.KeyStore.
func (s *Store) Named(_ context.Context, alias string) (id kms.KeyID, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		id, err = readOwnAlias(txn, alias)
		return err
	})
	return id, err
}

// readOwnAlias returns the key whose own alias this is (CodeNotFound).
func readOwnAlias(txn reader, alias string) (id kms.KeyID, err error) {
	return id, read(txn, aliasKey(alias), "key", func(value []byte) error {
		if len(value) != len(id) {
			return errors.New("own alias of a key is damaged")
		}
		copy(id[:], value)
		return nil
	})
}

// checkNewOwnAlias refuses an own alias for a key, zero for a new one, if another key has it or a name that means the same.
func checkNewOwnAlias(txn reader, alias string, owner kms.KeyID) error {
	switch _, err := txn.Get(aliasKey(alias)); {
	case err == nil:
		return kms.Errorf(kms.CodeAlreadyExists, "another key has this alias").In("alias")
	case !errors.Is(err, badger.ErrKeyNotFound):
		return fmt.Errorf("read alias: %w", err)
	}
	return checkName(txn, alias, owner, "")
}

// checkName refuses a name for a key, zero for a new one, if another key has a name that means the same, or has it as its id. moved is
// a further alias that does not count, because it goes to that key; empty: none.
func checkName(txn reader, name string, owner kms.KeyID, moved string) error {
	others, err := sameNames(txn, name, owner, moved)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return kms.Errorf(kms.CodeAlreadyExists, "another key has the name %s, which means the same", others[0].Same).In("alias")
	}
	id, err := kms.ParseKeyID(name)
	if err != nil || id == owner {
		return nil
	}
	switch _, err := txn.Get(recordKey(id)); {
	case err == nil:
		return kms.Errorf(kms.CodeAlreadyExists, "another key has this id").In("alias")
	case !errors.Is(err, badger.ErrKeyNotFound):
		return fmt.Errorf("read key: %w", err)
	}
	return nil
}

// sameNames returns the names of keys other than owner that mean the same as a name of owner.
func sameNames(txn reader, name string, owner kms.KeyID, moved string) (others []kms.NameConflict, err error) {
	add := func(same string, id kms.KeyID, err error) error {
		switch {
		case notFound(err) || err == nil && id == owner:
			return nil
		case err != nil:
			return err
		}
		others = append(others, kms.NameConflict{Name: name, KeyID: owner, Same: same, Other: id})
		return nil
	}
	for _, same := range kms.SameNames(name) {
		id, err := readOwnAlias(txn, same)
		if err := add(same, id, err); err != nil {
			return nil, err
		}
		if same == moved {
			continue
		}
		further, err := readAlias(txn, same)
		if err == nil {
			id = further.KeyID
		}
		if err := add(same, id, err); err != nil {
			return nil, err
		}
	}
	return others, nil
}

// moveOwnAlias renames a key.
func moveOwnAlias(txn *transaction, id kms.KeyID, from, to string) error {
	if err := checkNewOwnAlias(txn, to, id); err != nil {
		return err
	}
	return errors.Join(txn.Delete(aliasKey(from)), txn.Set(aliasKey(to), id[:]))
}

// loadConflicts finds the keys that have names which mean the same as those of other keys. Of two such names one is a further alias,
// or begins with the prefix. A damaged name is reported where it is used.
func (s *Store) loadConflicts(txn reader) {
	s.conflicting = map[kms.KeyID]bool{}
	find := func(name string, owner kms.KeyID) {
		others, _ := sameNames(txn, name, owner, "")
		for _, c := range others {
			s.conflicting[c.KeyID], s.conflicting[c.Other] = true, true
		}
	}
	for key := range keysFrom(txn, nameKey(""), nil) {
		name := string(key[1:])
		if alias, err := readAlias(txn, name); err == nil {
			find(name, alias.KeyID)
		}
	}
	for key := range keysFrom(txn, aliasKey(kms.AliasPrefix), nil) {
		name := string(key[1:])
		if id, err := readOwnAlias(txn, name); err == nil {
			find(name, id)
		}
	}
}

// NameConflicts implements kms.AliasStore.
func (s *Store) NameConflicts(_ context.Context, id kms.KeyID) (conflicts []kms.NameConflict, err error) {
	if !s.conflicting[id] { // as since the start: new ones are refused
		return nil, nil
	}
	err = s.db.View(func(txn *badger.Txn) error {
		r, err := readRecord(txn, id)
		if err != nil {
			return err
		}
		for _, name := range append([]string{r.key.Alias}, aliasNames(txn, id, "", 0)...) {
			others, err := sameNames(txn, name, id, "")
			if err != nil {
				return err
			}
			conflicts = append(conflicts, others...)
		}
		return nil
	})
	return conflicts, err
}

// ConflictingNames returns the ids of the keys that had conflicting names when the database was opened, in ascending order.
func (s *Store) ConflictingNames() []kms.KeyID {
	var ids []kms.KeyID
	for id := range s.conflicting {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b kms.KeyID) int { return slices.Compare(a[:], b[:]) })
	return ids
}
