package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"
)

// Options configures a database.
type Options struct {
	Dir    string // one process at a time
	Create bool   // create the database, in a directory of mode 0700, if it does not exist
	Anchor string // file outside Dir that says what the database was (see anchor.go); empty means none
	Tenant string // a database belongs to the tenant that created it
	Logger *slog.Logger
	// InMemory keeps everything in memory, for tests of packages that use the store.
	InMemory bool
	// Check is asked about an existing database before it is opened for writing, and about one that is to be created, with nil.
	// An error refuses the start. nil: no check.
	Check func(*State) error
	// Failed is told, once, why the database takes no more changes until it is opened again: a commit whose outcome is not known,
	// or files that were removed or replaced. It must not call the Store. nil: it is only logged.
	Failed func(why error)

	cacheSize  int  // in keys; 0 means defaultCacheSize
	unsynced   bool // for tests that create very many keys
	migrations []migration
	freeBytes  func(dir string) (uint64, error)
	failpoint  func(step string) // called between two durable steps; for tests
}

const (
	defaultCacheSize = 4096

	// These bound the memory of a sidecar. The arena of a memtable takes about 1.3 times its size, and at most memTables
	// wait besides the one in use. badger keeps the buffers of some table builders, each twice tableSize.
	memTableSize = 4 << 20
	memTables    = 1
	tableSize    = 1 << 20
	// valueThreshold is larger than every record, so that all values are in tables, not in the value log.
	valueThreshold   = 512 << 10
	valueLogFileSize = 1 << 20 // the minimum of badger; it stays empty

	// minFree is the free disk space that a write needs. badger writes through memory maps, where a full disk is a SIGBUS
	// instead of an error, so free space is checked first.
	minFree = 8 * memTableSize
)

// Open opens the database in opts.Dir, or creates it if opts.Create says so. It recovers from a crash and migrates older formats. It
// returns an error, and changes nothing, if the database does not exist, is corrupt, is newer than this program, is owned by
// another tenant or in use.
func Open(opts Options) (*Store, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.cacheSize == 0 {
		opts.cacheSize = defaultCacheSize
	}
	if opts.migrations == nil {
		opts.migrations = migrations
	}
	if opts.freeBytes == nil {
		opts.freeBytes = freeBytes
	}
	if opts.failpoint == nil {
		opts.failpoint = func(string) {}
	}
	if opts.Check == nil {
		opts.Check = func(*State) error { return nil }
	}
	if opts.Failed == nil {
		opts.Failed = func(error) {}
	}
	if opts.InMemory {
		opts.Dir = ""
	} else if err := opts.prepare(); err != nil {
		return nil, err
	}
	db, err := badger.Open(badgerOptions(opts))
	if err != nil {
		if strings.Contains(err.Error(), "Another process is using") {
			return nil, fmt.Errorf("database %s is in use by another process%s: stop that process, or give this "+
				"sidecar a data directory of its own", opts.Dir, owner(opts.Dir))
		}
		return nil, fmt.Errorf("database %s cannot be opened (restore it from a backup if it is damaged): %w", opts.Dir, err)
	}
	s := &Store{db: db, opts: opts, cache: newCache(opts.cacheSize)}
	err = s.prepare()
	if err == nil {
		s.watcher, err = s.watch()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", opts.Dir, err), db.Close())
	}
	return s, nil
}

// prepare inspects the database, and looks for what badger would not survive, or not notice: no right to write, no room.
func (o Options) prepare() error {
	if _, err := os.Stat(o.Dir); errors.Is(err, os.ErrNotExist) {
		if err := o.absent(); err != nil {
			return err
		}
		if err := o.Check(nil); err != nil {
			return err
		}
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			return fmt.Errorf("database directory: %w", err)
		}
	}
	f, err := os.Open(o.Dir)
	if err != nil {
		return fmt.Errorf("database directory: %w", err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return nil // badger takes this lock, too, and reports its owner
	}
	defer func() { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }() // a child that was just forked may still have the descriptor
	if err := errors.Join(o.checkWritable(), o.checkRoom()); err != nil {
		return fmt.Errorf("database %s: %w", o.Dir, err)
	}
	found, err := Inspect(o.Dir)
	if errors.Is(err, ErrAbsent) {
		if err := o.absent(); err != nil {
			return err
		}
		found = nil
	} else if err := o.checkAnchor(found, err); errors.Is(err, errBehind) {
		if named := o.Check(found); named != nil { // which says what is lost
			return fmt.Errorf("%w; %w", err, named)
		}
		return fmt.Errorf("%w; nothing was changed: restore a newer copy of the database, or, if there is none, run `keyside audit accept-loss`", err)
	} else if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; nothing was changed", err)
	} else if err != nil {
		return fmt.Errorf("%w; nothing was changed: restore the database from a backup", err)
	}
	if err := o.Check(found); err != nil {
		return err
	}
	return removeUseless(o.Dir)
}

// absent refuses to open a database that does not exist, unless it is to be created and there was none before.
func (o Options) absent() error {
	err := fmt.Errorf("%w in %s", ErrAbsent, o.Dir)
	if known := o.checkAnchor(nil, err); known != err {
		return fmt.Errorf("%w: mount its volume or restore it from a backup", known)
	}
	if !o.Create {
		return fmt.Errorf("%w: mount its volume or restore it from a backup, or start with --create for a new one", err)
	}
	return nil
}

// checkWritable refuses a directory in which this process cannot create files or write to the existing ones.
func (o Options) checkWritable() error {
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return err
	}
	if err := writable(o.Dir, unix.W_OK|unix.X_OK); err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		if err := writable(filepath.Join(o.Dir, e.Name()), unix.R_OK|unix.W_OK); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func writable(path string, mode uint32) error {
	if err := unix.Access(path, mode); err != nil {
		return fmt.Errorf("%s cannot be written by uid %d (%w): let that user write it", path, os.Geteuid(), err)
	}
	return nil
}

// removeUseless removes files without content that would keep badger from opening the database: the empty logs that a kill leaves while
// badger creates or removes one, which badger 4.9 takes for new ones (github.com/dgraph-io/badger/issues/2207); a value log or a key registry
// with a corrupt header, which never have entries here; and what a kill leaves of tryFile.
func removeUseless(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		useless, err := isUseless(dir, e.Name())
		if err == nil && useless {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func isUseless(dir, name string) (bool, error) {
	ext := filepath.Ext(name)
	switch {
	case strings.HasPrefix(name, tryPrefix):
		return true, nil
	case name == keyRegistry:
		registry, err := badger.OpenKeyRegistry(badger.KeyRegistryOptions{Dir: dir, ReadOnly: true})
		if err != nil {
			return true, nil
		}
		return false, registry.Close()
	case ext != logExt && ext != valueLogExt:
		return false, nil
	}
	b, err := readStart(filepath.Join(dir, name), logHeader)
	return err == nil && (len(b) == 0 || ext == valueLogExt && checkLogHeader(b) != nil), err
}

func badgerOptions(o Options) badger.Options {
	b := badger.DefaultOptions(o.Dir)
	b.Logger = logger{o.Logger.With("component", "badger")}
	b.InMemory, b.SyncWrites = o.InMemory, !o.unsynced
	b.MemTableSize, b.NumMemtables, b.BaseTableSize = memTableSize, memTables, tableSize
	b.ValueThreshold, b.ValueLogFileSize = valueThreshold, valueLogFileSize
	b.NumCompactors, b.NumLevelZeroTables, b.NumLevelZeroTablesStall = 0, 2, stallAt // see merge.go
	b.NumGoroutines = 1
	b.MetricsEnabled = false
	b.DetectConflicts = false // one writer
	// Tables are read through memory maps; without compression they need no cache of badger's.
	b.Compression, b.BlockCacheSize, b.IndexCacheSize = options.None, 0, 0
	// A corrupt table must stop the start: badger's compaction would drop the entries after a bad block. (Verifying blocks
	// as well crashes badger 4.9 on the first bad one.)
	b.ChecksumVerificationMode = options.OnTableRead
	return b
}

// owner returns the id of the process in badger's lock file, if there is one.
func owner(dir string) string {
	pid, err := os.ReadFile(dir + "/LOCK")
	if err != nil || len(pid) == 0 {
		return ""
	}
	return " (pid " + strings.TrimSpace(string(pid)) + ")"
}

// prepare checks the tenant and the format of the database, migrates it, loads the index, and completes what a crash
// interrupted.
func (s *Store) prepare() error {
	if err := s.bind(); err != nil {
		return err
	}
	if err := s.syncDir(); err != nil {
		return err
	}
	if err := s.db.View(func(txn *badger.Txn) error {
		s.readIntents(txn)
		s.loadConflicts(txn)
		return errors.Join(s.readPairs(txn), s.index.load(txn), s.grants.load(txn))
	}); err != nil {
		return err
	}
	if err := s.purge(); err != nil {
		return err
	}
	s.maintainSoon()
	s.purging.Lock()
	defer s.purging.Unlock()
	return s.renewAnchor(s.state)
}

// checkRoom refuses to write to a disk that is nearly full.
func (o Options) checkRoom() error {
	free, err := o.freeBytes(o.Dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free < minFree {
		return fmt.Errorf("disk of %s is full: %d bytes are free and %d are needed; make room (%w)", o.Dir, free, minFree, unix.ENOSPC)
	}
	return nil
}

// checkDisk refuses changes during which badger would wait forever or crash.
func (s *Store) checkDisk() error {
	if s.opts.InMemory {
		return nil
	}
	if err := writable(s.opts.Dir, unix.W_OK|unix.X_OK); err != nil {
		return err
	}
	return s.opts.checkRoom()
}

// Ready returns an error if the database refuses changes, as far as can be told without one.
func (s *Store) Ready(context.Context) error {
	if s.writing.TryLock() { // otherwise the holder of the lock checks
		defer s.writing.Unlock()
		if s.broken != nil {
			return restartNeeded(s.broken)
		}
	}
	return s.checkDisk()
}

func restartNeeded(why error) error {
	return fmt.Errorf("database takes no more changes until a restart: %w", why)
}

func freeBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// syncDir makes the names of new files durable, which badger does not. Without new files it costs one stat.
func (s *Store) syncDir() error {
	if s.opts.InMemory {
		return nil
	}
	info, err := os.Stat(s.opts.Dir)
	if err != nil || info.ModTime().Equal(s.dirTime) {
		return err
	}
	dir, err := os.Open(s.opts.Dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return err
	}
	s.dirTime = info.ModTime()
	return nil
}

// logger passes the messages of badger to slog, those about levels and tables at debug level.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(f string, a ...any)   { l.log.Error("badger", "text", text(f, a)) }
func (l logger) Warningf(f string, a ...any) { l.log.Warn("badger", "text", text(f, a)) }
func (l logger) Infof(f string, a ...any)    { l.log.Debug("badger", "text", text(f, a)) }
func (l logger) Debugf(string, ...any)       {}

func text(f string, a []any) string { return strings.TrimSpace(fmt.Sprintf(f, a...)) }
