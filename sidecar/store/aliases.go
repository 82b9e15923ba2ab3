package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/keyside/keyside/sidecar/kms"
)

// storedAlias is an alias as it is stored. Its names are the format, as storedKey's are.
type storedAlias struct {
	KeyID     kms.KeyID `json:"key"`
	CreatedMS int64     `json:"created"`
	UpdatedMS int64     `json:"updated"`
}

// Alias implements kms.AliasStore.
func (s *Store) Alias(_ context.Context, name string) (alias *kms.Alias, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		alias, err = readAlias(txn, name)
		return err
	})
	return alias, err
}

func readAlias(txn reader, name string) (*kms.Alias, error) {
	var stored storedAlias
	if err := readJSON(txn, nameKey(name), "alias", &stored); err != nil {
		return nil, err
	}
	return &kms.Alias{
		Name: name, KeyID: stored.KeyID, CreatedAt: time.UnixMilli(stored.CreatedMS).UTC(),
		UpdatedAt: time.UnixMilli(stored.UpdatedMS).UTC(),
	}, nil
}

func writeAlias(txn *transaction, a *kms.Alias) error {
	return errors.Join(
		write(txn, nameKey(a.Name), storedAlias{a.KeyID, a.CreatedAt.UnixMilli(), a.UpdatedAt.UnixMilli()}),
		txn.Set(keyNameKey(a.KeyID, a.Name), nil),
	)
}

func deleteAlias(txn *transaction, key kms.KeyID, name string) error {
	return errors.Join(txn.Delete(nameKey(name)), txn.Delete(keyNameKey(key, name)))
}

// aliasNames returns the names of a key's aliases in byte order, up to limit of them after one (0: all).
func aliasNames(txn reader, key kms.KeyID, after string, limit int) (names []string) {
	prefix := keyNameKey(key, "")
	for k := range keysFrom(txn, prefix, afterKey(keyNameKey(key, after), after)) {
		if names = append(names, string(k[len(prefix):])); len(names) == limit {
			break
		}
	}
	return names
}

// CreateAlias implements kms.AliasStore.
func (s *Store) CreateAlias(ctx context.Context, alias kms.Alias, limit int) error {
	return s.change(ctx, func(txn *transaction) error {
		switch _, err := txn.Get(nameKey(alias.Name)); {
		case err == nil:
			return kms.Errorf(kms.CodeAlreadyExists, "alias exists").In("alias")
		case !errors.Is(err, badger.ErrKeyNotFound):
			return fmt.Errorf("read alias: %w", err)
		}
		if err := checkTarget(txn, alias.KeyID, limit); err != nil {
			return err
		}
		if err := checkName(txn, alias.Name, alias.KeyID, ""); err != nil {
			return err
		}
		return writeAlias(txn, &alias)
	}, func() {})
}

// checkTarget refuses a key that does not exist or has its limit of aliases.
func checkTarget(txn reader, key kms.KeyID, limit int) error {
	switch _, err := txn.Get(recordKey(key)); {
	case errors.Is(err, badger.ErrKeyNotFound):
		return kms.Errorf(kms.CodeNotFound, "key does not exist")
	case err != nil:
		return fmt.Errorf("read key %s: %w", key, err)
	}
	if limit <= 0 || len(aliasNames(txn, key, "", limit)) >= limit {
		return kms.Errorf(kms.CodeQuotaExceeded, "the limit of %d aliases of a key is reached", limit)
	}
	return nil
}

// MoveAlias implements kms.AliasStore.
func (s *Store) MoveAlias(ctx context.Context, name string, target kms.KeyID, at time.Time, limit int) (*kms.Alias, error) {
	var moved *kms.Alias
	err := s.change(ctx, func(txn *transaction) error {
		alias, err := readAlias(txn, name)
		if err != nil {
			return err
		}
		if alias.KeyID != target {
			if err := checkTarget(txn, target, limit); err != nil {
				return err
			}
			if err := checkName(txn, name, target, name); err != nil {
				return err
			}
			if err := deleteAlias(txn, alias.KeyID, name); err != nil {
				return err
			}
		}
		alias.KeyID, alias.UpdatedAt = target, at
		moved = alias
		return writeAlias(txn, alias)
	}, func() {})
	if err != nil {
		return nil, err
	}
	return moved, nil
}

// DeleteAliases implements kms.AliasStore.
func (s *Store) DeleteAliases(ctx context.Context, key kms.KeyID, names []string) error {
	return s.change(ctx, func(txn *transaction) error {
		for _, name := range names {
			alias, err := readAlias(txn, name)
			if err != nil {
				return err
			}
			if alias.KeyID != key {
				return kms.Errorf(kms.CodeNotFound, "alias is not the key's")
			}
			if err := deleteAlias(txn, key, name); err != nil {
				return err
			}
		}
		return nil
	}, func() {})
}

// ListAliases implements kms.AliasStore.
func (s *Store) ListAliases(ctx context.Context, key *kms.KeyID, after string, limit int) (aliases []*kms.Alias, more bool, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		var names []string
		if key != nil {
			names = aliasNames(txn, *key, after, limit+1)
		} else {
			for k := range keysFrom(txn, nameKey(""), afterKey(nameKey(after), after)) {
				if names = append(names, string(k[1:])); len(names) > limit {
					break
				}
			}
		}
		for _, name := range names {
			if len(aliases) == limit {
				more = true
				return nil
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			alias, err := readAlias(txn, name)
			if err != nil {
				return fmt.Errorf("list aliases: %w", notAbsent(err))
			}
			aliases = append(aliases, alias)
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return aliases, more, nil
}

// afterKey returns where the names after one begin.
func afterKey(key []byte, after string) []byte {
	if after == "" {
		return key
	}
	return append(key, 0)
}

// notAbsent is the error of what must be there: that it is not says that the database is damaged.
func notAbsent(err error) error {
	if notFound(err) {
		return errors.New("an entry is missing: the database is damaged, restore it from a backup")
	}
	return err
}
