package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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
	opened, err := s.openedFiles()
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
			if err := s.look(opened); err != nil {
				s.opts.Logger.Error("files of the database are gone: it takes no more changes", slog.Any("error", err))
				s.writing.Lock()
				s.fail(err)
				s.writing.Unlock()
				return
			}
		}
	})
	return w, nil
}

// openedFiles returns what the directory and MANIFEST are while badger has them open.
func (s *Store) openedFiles() (map[string]fs.FileInfo, error) {
	opened := map[string]fs.FileInfo{}
	for _, path := range []string{s.opts.Dir, filepath.Join(s.opts.Dir, manifest)} {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		opened[path] = info
	}
	return opened, nil
}

// look reports files of the database that were removed or replaced, and has the anchor renewed when there are others.
func (s *Store) look(opened map[string]fs.FileInfo) error {
	for path, was := range opened {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !os.SameFile(info, was) {
			if err := s.checkReplaced(path); err != nil {
				return err
			}
		}
		if path == s.opts.Dir && !info.ModTime().Equal(was.ModTime()) {
			s.maintainSoon()
		}
		opened[path] = info
	}
	logs, err := s.files(logExt) // the one in use has no fixed name
	if err == nil && len(logs) == 0 {
		err = errors.New("the log of the database was removed")
	}
	return errors.Join(err, s.checkTables())
}

// checkReplaced refuses a MANIFEST that badger did not rewrite, and another directory.
func (s *Store) checkReplaced(path string) error {
	replaced := fmt.Errorf("%s was replaced", path)
	if path == s.opts.Dir {
		return replaced
	}
	names, err := namedTables(path)
	if err != nil {
		return err
	}
	live := s.liveTables()
	for _, name := range names {
		if !live[name] {
			return replaced
		}
	}
	if len(names) != len(live) {
		return replaced
	}
	return nil
}

// checkTables looks for the files of all tables.
func (s *Store) checkTables() error {
	for name := range s.liveTables() {
		path := filepath.Join(s.opts.Dir, name)
		if _, err := os.Stat(path); err != nil && s.liveTables()[name] { // else a merge removed it meanwhile
			return err
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
