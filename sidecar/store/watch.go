package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4/table"
)

// watchEvery is how often the files of an open database are looked at. badger keeps them open and mapped: without a look, changes
// to files that were removed would be acknowledged until the next start finds them gone.
const watchEvery = time.Second

// watcher looks at the database's files until it is stopped.
type watcher struct {
	stopped chan struct{}
	done    sync.WaitGroup
	once    sync.Once
}

func (w *watcher) stop() {
	if w == nil {
		return
	}
	w.once.Do(func() { close(w.stopped) })
	w.done.Wait()
}

// watch begins to look. A database in memory has no files.
func (s *Store) watch() (*watcher, error) {
	if s.opts.InMemory {
		return nil, nil
	}
	known, err := s.openedFiles()
	if err != nil {
		return nil, err
	}
	w := &watcher{stopped: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-w.stopped:
				return
			case <-tick.C:
			}
			if err := s.look(known); err != nil {
				s.opts.Logger.Error("files of the database were removed or changed: it takes no more changes", slog.Any("error", err))
				s.writing.Lock()
				s.fail(err)
				s.writing.Unlock()
				return
			}
		}
	})
	return w, nil
}

// known is what the files of an open database were at the last look.
type known struct {
	dir, manifest fs.FileInfo
	tables        map[string]fs.FileInfo // by name; badger never changes one
	suspect       bool                   // MANIFEST did not match badger's tables
}

// openedFiles returns what the files are that badger has open.
func (s *Store) openedFiles() (k *known, err error) {
	k = &known{tables: map[string]fs.FileInfo{}}
	if k.dir, err = os.Stat(s.opts.Dir); err != nil {
		return nil, err
	}
	if k.manifest, err = os.Stat(filepath.Join(s.opts.Dir, manifest)); err != nil {
		return nil, err
	}
	return k, s.checkTables(k)
}

// look reports files of the database that were removed, replaced or changed by another process, and has the anchor renewed when there
// are others.
func (s *Store) look(k *known) error {
	dir, err := os.Stat(s.opts.Dir)
	if err != nil {
		return err
	}
	if !os.SameFile(dir, k.dir) {
		return fmt.Errorf("%s was replaced", s.opts.Dir)
	}
	if !dir.ModTime().Equal(k.dir.ModTime()) {
		s.maintainSoon()
	}
	k.dir = dir
	logs, err := s.files(logExt) // the one in use has no fixed name
	if err == nil && len(logs) == 0 {
		err = errors.New("the log of the database was removed")
	}
	return errors.Join(err, s.checkManifest(k), s.checkTables(k))
}

// checkManifest reads MANIFEST again if it changed: badger appends to it, or replaces it by a shorter one. It must name badger's tables.
// A difference counts at the second look, because badger writes MANIFEST before it uses a new table.
func (s *Store) checkManifest(k *known) error {
	path := filepath.Join(s.opts.Dir, manifest)
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	same := os.SameFile(info, k.manifest)
	if same && info.Size() == k.manifest.Size() && info.ModTime().Equal(k.manifest.ModTime()) && !k.suspect {
		return nil
	}
	cut := same && info.Size() < k.manifest.Size()
	k.manifest = info
	if cut {
		return fmt.Errorf("%s was cut", path)
	}
	names, err := namedTables(path)
	if err == nil && !maps.Equal(s.liveTables(), setOf(names)) {
		err = fmt.Errorf("%s was replaced or changed", path)
	}
	if err == nil || !k.suspect {
		k.suspect = err != nil
		return nil
	}
	return err
}

func setOf(names []string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}

// checkTables looks for the files of all tables.
func (s *Store) checkTables(k *known) error {
	live := s.liveTables()
	maps.DeleteFunc(k.tables, func(name string, _ fs.FileInfo) bool { return !live[name] })
	for name := range live {
		path := filepath.Join(s.opts.Dir, name)
		info, err := os.Stat(path)
		if was, seen := k.tables[name]; err == nil && seen &&
			(!os.SameFile(info, was) || info.Size() != was.Size() || !info.ModTime().Equal(was.ModTime())) {
			err = fmt.Errorf("%s was replaced or changed", path)
		}
		if err != nil && s.liveTables()[name] { // else a merge removed it meanwhile
			return err
		}
		if err == nil {
			k.tables[name] = info
		}
	}
	return nil
}

// liveTables returns the names of badger's tables.
func (s *Store) liveTables() map[string]bool {
	live := make(map[string]bool)
	for _, t := range s.db.Tables() {
		live[table.IDToFilename(t.ID)] = true
	}
	return live
}
