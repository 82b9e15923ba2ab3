package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
)

// badger 4.9 loses what a merge of its tables would have written where it cannot make a file for it: subcompact (levels.go)
// hands an error on that is not set yet, and the tables that were merged are removed all the same. So badger merges nothing by
// itself here. The store has it do so when there are enough tables, after it has found out that files can be made, and
// holds what is there afterwards against what is in memory.
const (
	mergeAt    = 5    // tables of level 0, each of about memTableSize
	stallAt    = 1000 // tables of level 0 at which badger would wait for a merge of its own
	largeTable = 2 * memTableSize
)

// tryPrefix begins the names of the files by which the store finds out whether files can be made.
const tryPrefix = "try-"

// errUnmerged is badger's refusal to merge now. It does no harm, and another try may succeed.
var errUnmerged = errors.New("tables are not merged")

// maintainSoon merges tables if there are many, and renews the anchor, in the background.
func (s *Store) maintainSoon() {
	if s.opts.InMemory || !s.maintaining.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.maintaining.Store(false)
		s.purging.Lock()
		defer s.purging.Unlock()
		if s.closed {
			return
		}
		if s.db.Levels()[0].NumTables >= mergeAt {
			if err := s.merge(); err != nil {
				s.opts.Logger.Warn("tables of the database not merged", slog.Any("error", err))
			}
		}
		s.writing.Lock()
		now := s.state
		s.writing.Unlock()
		if err := s.renewAnchor(now); err != nil {
			s.opts.Logger.Warn("anchor of the database not renewed", slog.Any("error", err))
		}
	}()
}

// merge merges all tables into one level. s.purging is held.
func (s *Store) merge() error {
	if err := s.tryFile(); err != nil {
		return err
	}
	err := s.db.Flatten(1)
	if err != nil {
		err = fmt.Errorf("%w: %w", errUnmerged, err)
	}
	if lost := s.whole(); lost != nil {
		s.writing.Lock()
		defer s.writing.Unlock()
		s.fail(lost)
		return lost
	}
	return err
}

// tryFile makes a file as long as a table may become, and looks for the room that all of them take once more.
func (s *Store) tryFile() error {
	f, err := os.CreateTemp(s.opts.Dir, tryPrefix)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(largeTable), f.Close(), os.Remove(f.Name()))
	free, freeErr := s.opts.freeBytes(s.opts.Dir)
	var needed uint64 = minFree
	for _, t := range s.db.Tables() {
		needed += uint64(t.OnDiskSize)
	}
	if err = errors.Join(err, freeErr); err == nil && free < needed {
		err = fmt.Errorf("disk of %s is full: %d bytes are free and %d are needed; make room", s.opts.Dir, free, needed)
	}
	return err
}

// whole reports entries that are in memory and no longer in the database.
func (s *Store) whole() error {
	s.visible.RLock()
	txn := s.db.NewTransaction(false)
	keys, defaults := s.index.count()
	grants := s.grants.count()
	s.visible.RUnlock()
	defer txn.Discard()
	if found := entries(txn, recordPrefix()); found < keys+defaults {
		return fmt.Errorf("the database has %d of %d keys left: stop the sidecar and restore the database from a backup", found, keys+defaults)
	}
	if found := entries(txn, grantsPrefix()); found < grants {
		return fmt.Errorf("the database has %d of %d grants left: stop the sidecar and restore the database from a backup", found, grants)
	}
	return nil
}

// entries counts the entries that have a prefix.
func entries(txn reader, prefix []byte) (n int) {
	for range keysFrom(txn, prefix, nil) {
		n++
	}
	return n
}
