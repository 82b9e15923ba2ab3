package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Destroyed material must be purged from the database files. badger keeps a deleted or replaced value as an older version: in
// the log of its memtable, and in tables of any level until a compaction merges them. So the transaction that destroys
// material also writes an intent: a prefix under which no older version may stay in any file. A purge completes all intents:
//
//  1. It writes filler until badger has written the memtable to a table and removed its log.
//  2. It has badger merge all tables into one level, which drops the versions that a newer one replaces.
//  3. It searches all versions under the prefixes. If an older one is left (because a reader still used it, or the newer one
//     was in another table), it writes that entry again and restarts.
//  4. It waits until badger has removed the replaced tables, and then deletes the intents.
//
// A purge never removes a current value, and repeating it does no harm. So the next start completes a purge after a crash.
//
// badger's own DropPrefix is not enough: it ignores values that were deleted earlier, blocks all readers and writers while it
// rewrites tables, compares every entry with every prefix, and does not report an error of level 0.

const (
	filler      = 400 << 10 // bytes of one write that fills the memtable
	purgeRounds = 8         // more mean that the purge does not work
	purgePoll   = time.Millisecond
	purgeWait   = time.Minute // for badger to write a memtable, or for the last reader of a table
)

var (
	intentPrefix = []byte{'x'}
	fillerKey    = []byte{'f'}
)

// writeIntents puts the intent to purge what is under prefixes into a transaction.
func writeIntents(txn *transaction, prefixes [][]byte) error {
	for _, p := range prefixes {
		if err := txn.Set(slices.Concat(intentPrefix, p), nil); err != nil {
			return err
		}
	}
	return nil
}

// intend remembers intents that are committed. s.writing is held.
func (s *Store) addPendingPurges(prefixes [][]byte) {
	for _, p := range prefixes {
		s.pendingPurges[string(p)]++
	}
}

func (s *Store) readIntents(txn reader) {
	s.pendingPurges = make(map[string]int)
	for key := range keysFrom(txn, intentPrefix, nil) {
		s.pendingPurges[string(key[len(intentPrefix):])]++
	}
}

// purge fulfils all intents. Purges that come at once are done by one of them. It does not end with the request that it is
// for: what it does is half done until it is done.
func (s *Store) purge() error {
	s.lockPurging()
	defer s.purging.Unlock()
	s.writing.Lock()
	intents := maps.Clone(s.pendingPurges)
	s.writing.Unlock()
	if len(intents) == 0 {
		return nil
	}
	prefixes := slices.Sorted(maps.Keys(intents))
	if !s.opts.InMemory {
		if err := s.rewrite(prefixes); err != nil {
			return fmt.Errorf("remove destroyed material from the files: %w", err)
		}
	}
	for batch := range slices.Chunk(prefixes, destroyBatch) {
		if err := s.removeIntents(intents, batch); err != nil {
			return err
		}
	}
	return nil
}

// removeIntents removes intents that are fulfilled, but for those that came again meanwhile: their purge is still to come.
func (s *Store) removeIntents(fulfilled map[string]int, prefixes []string) error {
	var done []string
	return s.change(context.Background(), func(txn *transaction) error {
		if err := txn.Delete(fillerKey); err != nil {
			return err
		}
		for _, p := range prefixes {
			if s.pendingPurges[p] != fulfilled[p] {
				continue
			}
			done = append(done, p)
			if err := txn.Delete(slices.Concat(intentPrefix, []byte(p))); err != nil {
				return err
			}
		}
		return nil
	}, func() {
		for _, p := range done {
			delete(s.pendingPurges, p)
		}
	})
}

// rewrite makes badger rewrite what holds older versions of what is under the prefixes.
func (s *Store) rewrite(prefixes []string) error {
	var merge error
	for round := range purgeRounds {
		old, err := s.olderVersions(prefixes)
		if err != nil {
			return err
		}
		if len(old) == 0 {
			return s.waitForTables()
		}
		if round > 0 {
			if err := s.renew(old); err != nil {
				return err
			}
		}
		if err := s.flush(); err != nil {
			return err
		}
		s.opts.failpoint("after the memtable was written")
		merge = s.merge()
		s.opts.failpoint("after the tables were merged")
		if merge != nil && !errors.Is(merge, errUnmerged) {
			return merge
		}
	}
	return errors.Join(errors.New("old versions stay"), merge)
}

// olderVersions returns the keys under the prefixes that have versions other than the newest.
func (s *Store) olderVersions(prefixes []string) (keys [][]byte, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{AllVersions: true})
		defer it.Close()
		var last []byte
		for _, p := range prefixes {
			last = nil
			for it.Seek([]byte(p)); it.ValidForPrefix([]byte(p)); it.Next() {
				key := it.Item().Key()
				if !bytes.Equal(key, last) {
					last = append(last[:0], key...)
				} else if n := len(keys); n == 0 || !bytes.Equal(keys[n-1], last) {
					keys = append(keys, bytes.Clone(last))
				}
			}
		}
		return nil
	})
	return keys, err
}

// renew writes entries anew as they are, so that the next merge takes their older versions in.
func (s *Store) renew(keys [][]byte) error {
	for batch := range slices.Chunk(keys, destroyBatch) {
		err := s.change(context.Background(), func(txn *transaction) error {
			for _, key := range batch {
				item, err := txn.Get(key)
				switch {
				case errors.Is(err, badger.ErrKeyNotFound):
					err = txn.Delete(key)
				case err == nil:
					err = item.Value(func(value []byte) error { return txn.Set(key, bytes.Clone(value)) })
				}
				if err != nil {
					return err
				}
			}
			return nil
		}, func() {})
		if err != nil {
			return err
		}
	}
	return nil
}

// flush has badger write to tables what is in memtables now, and remove their logs. badger has no call for it, so the
// memtable is filled up. There must be enough tables then for badger to see a reason to merge them.
func (s *Store) flush() error {
	for {
		logs, err := s.files(".mem")
		if err != nil {
			return err
		}
		for {
			if err := s.change(context.Background(), func(txn *transaction) error {
				return txn.Set(fillerKey, make([]byte, filler))
			}, func() {}); err != nil {
				return err
			}
			now, err := s.files(".mem")
			if err != nil {
				return err
			}
			if slices.ContainsFunc(now, func(l string) bool { return !slices.Contains(logs, l) }) {
				break
			}
		}
		if err := s.wait("a memtable to be written", func() (bool, error) {
			now, err := s.files(".mem")
			return !slices.ContainsFunc(now, func(l string) bool { return slices.Contains(logs, l) }), err
		}); err != nil {
			return err
		}
		levels := s.db.Levels()
		if levels[0].NumTables > s.db.Opts().NumLevelZeroTables ||
			slices.ContainsFunc(levels[1:], func(l badger.LevelInfo) bool { return l.NumTables > 0 }) {
			return nil
		}
	}
}

// waitForTables waits until the tables that a merge replaced are removed. A file that is none of badger's tables now is
// one of them, or one that is being written from tables that were looked through.
func (s *Store) waitForTables() error {
	stray, err := s.strayTables()
	if err != nil {
		return err
	}
	return s.wait("old tables to be removed", func() (bool, error) {
		now, err := s.strayTables()
		return !slices.ContainsFunc(now, func(f string) bool { return slices.Contains(stray, f) }), err
	})
}

func (s *Store) strayTables() ([]string, error) {
	files, err := s.files(".sst")
	if err != nil {
		return nil, err
	}
	live := s.liveTables()
	return slices.DeleteFunc(files, func(f string) bool { return live[f] }), nil
}

// files returns the names of the database's files of one kind.
func (s *Store) files(suffix string) ([]string, error) {
	entries, err := os.ReadDir(s.opts.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// wait looks again and again until what it waits for has come.
func (s *Store) wait(what string, come func() (bool, error)) error {
	for end := time.Now().Add(purgeWait); ; time.Sleep(purgePoll) {
		s.opts.failpoint("waiting for " + what)
		switch ok, err := come(); {
		case err != nil || ok:
			return err
		case time.Now().After(end):
			return fmt.Errorf("waited %s for %s", purgeWait, what)
		}
	}
}
