// Package store persists the keys of one tenant in a badger database and implements the core's store interfaces. Every
// change is one transaction, synced before it is acknowledged. Only one process writes: a lock orders the changes, and each
// commit also updates the cache and the index in memory.
package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/kms"
)

// Store is the database. It implements kms.Store.
type Store struct {
	db     *badger.DB
	opts   Options
	fresh  bool
	cache  cache
	index  index
	grants grants
	// conflicting are the keys that had conflicting names when the database was opened.
	conflicting map[kms.KeyID]bool
	// visible is held for writing while a change is in the database but not yet in the index.
	visible sync.RWMutex

	failed      atomic.Bool    // the database takes no changes until it is opened again
	maintaining atomic.Bool    // a merge of tables or renewal of the anchor waits or runs
	purging     sync.Mutex     // one purge, merge or renewal of the anchor at a time; taken before writing
	closed      bool           // guarded by purging
	anchored    []anchoredFile // as the anchor has them; guarded by purging
	watcher     *watcher
	snapshots   snapshots

	writing       sync.Mutex     // one state change at a time; guards what follows
	broken        error          // why changes are refused: closed, or a commit with unknown outcome
	dirTime       time.Time      // when the directory was last changed, as of its last sync
	pendingPurges map[string]int // prefix → number of its pending purges
	pairs         []pairEnd      // of all wrapping pairs
	state         state          // as of the last transaction
	stateful      bool           // the database has a state record: it is of formatWithState or later
}

var _ kms.Store = (*Store)(nil)

// Fresh reports whether Open created the database.
func (s *Store) Fresh() bool { return s.fresh }

// Node returns the id of the node that created the database.
func (s *Store) Node() uuid.UUID {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.state.node
}

// Failed reports whether the database takes no changes until it is opened again.
func (s *Store) Failed() bool { return s.failed.Load() }

// Close flushes and closes the database. One that failed stays open until the process ends.
func (s *Store) Close() error {
	s.watcher.stop()
	s.snapshots.interrupt(errors.New("the process stops"))
	s.purging.Lock()
	defer s.purging.Unlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.broken != nil {
		s.closed = true
		return nil // badger may retry a write for ever; the process ends, and the next start reads what was committed
	}
	s.closed, s.broken = true, errors.New("database is closed")
	if err := s.db.Close(); err != nil {
		return err
	}
	return s.renewAnchor(s.state)
}

// Key implements kms.KeyStore.
func (s *Store) Key(_ context.Context, id kms.KeyID) (*kms.Key, error) {
	key, generation := s.cache.get(id)
	if key != nil {
		return key, nil
	}
	var r record
	err := s.db.View(func(txn *badger.Txn) (err error) {
		r, err = readKey(txn, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.cache.fill(r.key, generation)
	return r.key, nil
}

// CheckNew implements kms.KeyStore.
func (s *Store) CheckNew(_ context.Context, alias string, quota int) error {
	return s.db.View(func(txn *badger.Txn) error { return s.checkNew(txn, alias, quota) })
}

func (s *Store) checkNew(txn reader, alias string, quota int) error {
	if n, _ := s.index.count(); n >= quota {
		return kms.Errorf(kms.CodeQuotaExceeded, "the limit of %d keys is reached", quota)
	}
	return checkNewOwnAlias(txn, alias, kms.KeyID{})
}

// CreateKey implements kms.KeyStore.
func (s *Store) CreateKey(ctx context.Context, key *kms.Key, quota int) error {
	if key.IsDefault() {
		quota = math.MaxInt
	}
	var created record
	return s.change(ctx, func(txn *transaction) (err error) {
		if err := s.checkNew(txn, key.Alias, quota); err != nil {
			return err
		}
		if _, err := txn.Get(recordKey(key.ID)); !errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("new key %s: its id is taken, or cannot be looked up: %w", key.ID, err)
		}
		sequence, err := s.index.next()
		if err != nil {
			return err
		}
		created = newRecord(key, sequence)
		if _, err := writeMaterial(txn, record{}, created); err != nil {
			return err
		}
		keys, defaults := s.index.count()
		return errors.Join(
			writeRecord(txn, created),
			txn.Set(aliasKey(key.Alias), key.ID[:]),
			txn.Set(countKey(), appendUint64(nil, uint64(keys+defaults+1))),
		)
	}, func() {
		s.index.add(created)
		s.cache.put(key)
	})
}

// UpdateKey implements kms.KeyStore.
func (s *Store) UpdateKey(ctx context.Context, id kms.KeyID, change func(*kms.Key) error) (*kms.Key, error) {
	var before, after record
	var dropped [][]byte
	err := s.change(ctx, func(txn *transaction) (err error) {
		if before, err = readKey(txn, id); err != nil {
			return err
		}
		k := *before.key
		k.Versions, k.Tags = slices.Clone(k.Versions), slices.Clone(k.Tags)
		if err := change(&k); err != nil {
			return err
		}
		if k.ID != id {
			return fmt.Errorf("key %s: its id cannot be changed", id)
		}
		if k.Alias != before.key.Alias {
			if err := moveOwnAlias(txn, id, before.key.Alias, k.Alias); err != nil {
				return err
			}
		}
		after = newRecord(&k, before.sequence)
		if dropped, err = writeMaterial(txn, before, after); err != nil {
			return err
		}
		return errors.Join(writeRecord(txn, after), writeIntents(txn, dropped))
	}, func() {
		s.index.update(before, after)
		s.cache.put(after.key)
		s.addPendingPurges(dropped)
	})
	if err != nil {
		return nil, err
	}
	if len(dropped) > 0 {
		if err := s.purge(); err != nil {
			return nil, fmt.Errorf("key %s is changed, but its old material is not yet gone: %w", id, err)
		}
	}
	return after.key, nil
}

// ListKeys implements kms.KeyIndex. It goes past the cache: a page would push the hot keys out.
func (s *Store) ListKeys(ctx context.Context, filter kms.KeyFilter, offset, limit int) ([]*kms.Key, int, error) {
	s.visible.RLock()
	ids, total := s.index.page(filter, offset, limit)
	txn := s.db.NewTransaction(false)
	s.visible.RUnlock()
	defer txn.Discard()
	keys := make([]*kms.Key, 0, len(ids))
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		r, err := readRecord(txn, id)
		if err != nil {
			return nil, 0, notAbsent(err)
		}
		keys = append(keys, r.key)
	}
	return keys, total, nil
}

// CountKeys implements kms.KeyIndex.
func (s *Store) CountKeys(context.Context) (keys, defaults int, err error) {
	keys, defaults = s.index.count()
	return keys, defaults, nil
}

// CountStates returns the number of keys in each state, default keys included. It answers from memory.
func (s *Store) CountStates() map[kms.KeyState]int { return s.index.states() }

// ListTags implements kms.KeyIndex.
func (s *Store) ListTags(context.Context) ([]kms.TagValues, error) { return s.index.tags(), nil }

// DueKeys implements kms.KeyIndex.
func (s *Store) DueKeys(_ context.Context, now time.Time, limit int) ([]kms.KeyID, time.Time, error) {
	ids, next := s.index.dueBy(now, limit)
	return ids, next, nil
}

// DueAfter implements kms.KeyIndex.
func (s *Store) DueAfter(_ context.Context, at time.Time) ([]kms.KeyID, error) {
	return s.index.dueAfter(at), nil
}

// change performs one change: stage adds the new values to a transaction, which is committed and synced, and then apply
// updates the memory. After a failed commit, the contents of the disk are unknown, so further changes are refused until a
// restart reads them.
func (s *Store) change(ctx context.Context, stage func(*transaction) error, apply func()) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err // canceled or timed out
	}
	if s.broken != nil {
		return restartNeeded(s.broken)
	}
	if err := s.checkDisk(); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			return kms.NoRoom(err)
		}
		return err
	}
	txn := newTransaction(s.db)
	defer txn.txn.Discard()
	if err := stage(txn); err != nil {
		return err
	}
	pending := kms.PendingFrom(ctx)
	next, recorded, err := s.stateAfter(txn, pending)
	if err != nil {
		return err
	}
	s.opts.failpoint("before a commit")
	if err := s.commit(txn, apply); err != nil {
		s.fail(fmt.Errorf("commit: %w", err))
		return s.broken
	}
	s.state = next
	if recorded {
		pending.Committed()
	}
	s.opts.failpoint("after a commit")
	return nil
}

// commit makes a change visible in the database and in memory at once.
func (s *Store) commit(txn *transaction, apply func()) error {
	s.visible.Lock()
	defer s.visible.Unlock()
	before := s.dirTime
	if err := errors.Join(txn.txn.Commit(), s.syncDir()); err != nil {
		return err
	}
	apply()
	if s.dirTime != before { // badger may have created a table
		s.maintainSoon()
	}
	return nil
}

// fail lets the database take no more changes, and tells whoever runs the process. s.writing is held.
func (s *Store) fail(why error) {
	if s.broken == nil {
		s.broken = why
		s.failed.Store(true)
		s.opts.Failed(why)
	}
}
