package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
	"github.com/go-json-experiment/json"
)

// schema says what a database is.
type schema struct {
	Format int    `json:"format"` // number of migrations that made it what it is, plus one
	Tenant string `json:"tenant"`
}

// migration brings a database from one format to the next. It must bear being run again on what a crash left of its
// first run; the new format's number is written after it returns.
type migration func(s *Store) error

// migrations lead from format 1 to the present one, one step each. They only go forward.
var migrations = []migration{moveMaterial, addState}

// formatWithState is the first format with a state record.
const formatWithState = 3

// bind makes a new database the tenant's, or checks that it is, and migrates it.
func (s *Store) bind() error {
	current := 1 + len(s.opts.migrations)
	have, err := s.readSchema()
	if errors.Is(err, badger.ErrKeyNotFound) {
		return s.found(schema{Format: current, Tenant: s.opts.Tenant})
	}
	if err != nil {
		return fmt.Errorf("read schema: %w", err)
	}
	if have.Tenant != s.opts.Tenant {
		return fmt.Errorf("it belongs to tenant %q, not to %q: correct the tenant in the configuration, or choose "+
			"another data directory", have.Tenant, s.opts.Tenant)
	}
	if have.Format > current {
		return fmt.Errorf("its format %d is newer than this program, which knows %d: run the newer keyside", have.Format, current)
	}
	if have.Format < 1 {
		return fmt.Errorf("its format is %d, which never was one", have.Format)
	}
	if have.Format >= formatWithState {
		if err := s.db.View(func(txn *badger.Txn) (err error) {
			s.state, err = readState(txn)
			return err
		}); err != nil {
			return fmt.Errorf("read the state record: %w", err)
		}
		s.stateful = true
	}
	for ; have.Format < current; have.Format++ {
		s.opts.Logger.Info("migrating the database", "from", have.Format, "to", have.Format+1)
		if err := s.opts.migrations[have.Format-1](s); err != nil {
			return fmt.Errorf("migrate from format %d: %w", have.Format, err)
		}
		if err := s.writeSchema(schema{Format: have.Format + 1, Tenant: have.Tenant}, false); err != nil {
			return err
		}
	}
	return nil
}

// found writes the first records of a new database, after making sure that it is one.
func (s *Store) found(first schema) error {
	if first.Tenant == "" {
		return errors.New("a new database needs a tenant")
	}
	empty := true
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{})
		defer it.Close()
		it.Rewind()
		empty = !it.Valid()
		return nil
	})
	if err != nil {
		return err
	}
	if !empty {
		return errors.New("it is no database of keyside's, or is damaged")
	}
	s.fresh, s.state, s.stateful = true, state{node: newNode()}, true
	return s.writeSchema(first, true)
}

func (s *Store) readSchema() (have schema, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(schemaKey())
		if err != nil {
			return err
		}
		return item.Value(func(value []byte) error { return json.Unmarshal(value, &have, json.RejectUnknownMembers(true)) })
	})
	return have, err
}

func (s *Store) writeSchema(what schema, first bool) error {
	text, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return s.change(context.Background(), func(txn *transaction) error {
		if first {
			if err := txn.Set(countKey(), appendUint64(nil, 0)); err != nil {
				return err
			}
		}
		return txn.Set(schemaKey(), text)
	}, func() {})
}
