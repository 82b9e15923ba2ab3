// Package store keeps the keys of one tenant in a badger database, behind the core's Store interface.
//
// Every state change is one transaction, synced before it is acknowledged. One process writes, so one lock orders the
// writes, and what it commits also replaces what the cache holds: a hot key never costs a look into the database.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/kms"
)

// Options says where the database is and whose it is.
type Options struct {
	Dir    string // made with mode 0700 if it is missing; one process at a time
	Tenant string // a database belongs to the tenant that it was made for
	Logger *slog.Logger
	// InMemory keeps everything in memory and nothing on disk, for tests of what stands on the store.
	InMemory bool

	cacheSize  int  // keys; 0: defaultCacheSize
	unsynced   bool // tests that make very many keys
	migrations []migration
	freeBytes  func(dir string) (uint64, error)
}

const (
	defaultCacheSize = 4096

	// Memory is what a sidecar has little of. A memtable's arena takes about 1.3 times its size, and there are at
	// most memTables waiting beside the one in use. badger keeps the buffers of some table builders, each twice
	// tableSize.
	memTableSize = 4 << 20
	memTables    = 1
	tableSize    = 1 << 20
	// valueThreshold is above every record, so that all values are in the tables and none in the value log.
	valueThreshold   = 512 << 10
	valueLogFileSize = 1 << 20 // the least that badger takes; it stays empty

	// minFree is how much room on disk a write needs. badger writes through memory maps, where a full disk is not an
	// error but a SIGBUS, so the room is looked for before.
	minFree = 8 * memTableSize
)

// Store is the database. It implements kms.Store.
type Store struct {
	db    *badger.DB
	opts  Options
	fresh bool
	cache cache
	index index

	writing sync.Mutex // one state change at a time; guards what follows
	broken  error      // why there are no more changes: closed, or a commit whose outcome is unknown
	dirTime time.Time  // when the directory was last changed, as of its last sync
}

var (
	_ kms.Store           = (*Store)(nil)
	_ kms.MessageReleaser = (*Store)(nil)
)

// Open opens the database in opts.Dir or makes it. It repairs what an unclean end left, brings an older format up to
// date, and refuses a database that is damaged, newer than this program, another tenant's or another process's.
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
	if opts.InMemory {
		opts.Dir, opts.freeBytes = "", func(string) (uint64, error) { return minFree, nil }
	} else if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("database directory: %w", err)
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
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", opts.Dir, err), db.Close())
	}
	return s, nil
}

func badgerOptions(o Options) badger.Options {
	b := badger.DefaultOptions(o.Dir)
	b.Logger = logger{o.Logger.With("component", "badger")}
	b.InMemory, b.SyncWrites = o.InMemory, !o.unsynced
	b.MemTableSize, b.NumMemtables, b.BaseTableSize = memTableSize, memTables, tableSize
	b.ValueThreshold, b.ValueLogFileSize = valueThreshold, valueLogFileSize
	b.NumCompactors, b.NumLevelZeroTables, b.NumLevelZeroTablesStall = 2, 2, 6 // badger wants two compactors or none
	b.NumGoroutines = 1
	b.MetricsEnabled = false
	b.DetectConflicts = false // one writer
	// Tables are read through memory maps; without compression they need no cache of badger's.
	b.Compression, b.BlockCacheSize, b.IndexCacheSize = options.None, 0, 0
	// A damaged table must stop the start: badger's compaction would drop what follows a bad block. (Verifying blocks
	// as well crashes badger 4.9 on the first bad one.)
	b.ChecksumVerificationMode = options.OnTableRead
	return b
}

// owner names the process that badger's lock file names, if it does.
func owner(dir string) string {
	pid, err := os.ReadFile(dir + "/LOCK")
	if err != nil || len(pid) == 0 {
		return ""
	}
	return " (pid " + strings.TrimSpace(string(pid)) + ")"
}

// prepare checks whose database this is and in which format, migrates it, and loads the index.
func (s *Store) prepare() error {
	if err := s.bind(); err != nil {
		return err
	}
	if err := s.syncDir(); err != nil {
		return err
	}
	return s.db.View(func(txn *badger.Txn) error { return s.index.load(txn) })
}

// Fresh reports whether Open made the database.
func (s *Store) Fresh() bool { return s.fresh }

// Close flushes and closes the database.
func (s *Store) Close() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.broken = errors.New("database is closed")
	return s.db.Close()
}

// Key implements kms.Store.
func (s *Store) Key(_ context.Context, id kms.KeyID) (*kms.Key, error) {
	key, generation := s.cache.get(id)
	if key != nil {
		return key, nil
	}
	err := s.db.View(func(txn *badger.Txn) (err error) {
		key, err = readKey(txn, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.cache.fill(key, generation)
	return key, nil
}

// Named implements kms.Store.
func (s *Store) Named(_ context.Context, alias string) (id kms.KeyID, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(aliasKey(alias))
		switch {
		case errors.Is(err, badger.ErrKeyNotFound):
			return kms.Errorf(kms.CodeNotFound, "key does not exist")
		case err != nil:
			return fmt.Errorf("read alias: %w", err)
		}
		return item.Value(func(value []byte) error {
			if len(value) != len(id) {
				return errors.New("own alias of a key is damaged")
			}
			copy(id[:], value)
			return nil
		})
	})
	return id, err
}

// CheckNew implements kms.Store.
func (s *Store) CheckNew(_ context.Context, alias string, quota int) error {
	return s.db.View(func(txn *badger.Txn) error { return s.checkNew(txn, alias, quota) })
}

func (s *Store) checkNew(txn *badger.Txn, alias string, quota int) error {
	if n, _ := s.index.count(); n >= quota {
		return kms.Errorf(kms.CodeQuotaExceeded, "the limit of %d keys is reached", quota)
	}
	return checkAlias(txn, alias)
}

// checkAlias refuses the alias of another key.
func checkAlias(txn *badger.Txn, alias string) error {
	switch _, err := txn.Get(aliasKey(alias)); {
	case err == nil:
		return kms.Errorf(kms.CodeAliasExists, "another key has this alias").In("alias")
	case !errors.Is(err, badger.ErrKeyNotFound):
		return fmt.Errorf("read alias: %w", err)
	}
	return nil
}

// CreateKey implements kms.Store.
func (s *Store) CreateKey(ctx context.Context, key *kms.Key, quota int) error {
	if key.IsDefault() {
		quota = math.MaxInt
	}
	created := record{key: key}
	return s.change(ctx, func(txn *badger.Txn) (err error) {
		if err := s.checkNew(txn, key.Alias, quota); err != nil {
			return err
		}
		if _, err := txn.Get(recordKey(key.ID)); !errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("new key %s: its id is taken, or cannot be looked up: %w", key.ID, err)
		}
		if created.sequence, err = s.index.next(); err != nil {
			return err
		}
		keys, defaults := s.index.count()
		return errors.Join(
			writeKey(txn, created),
			txn.Set(aliasKey(key.Alias), key.ID[:]),
			txn.Set(countKey(), appendUint64(nil, uint64(keys+defaults+1))),
		)
	}, func() {
		s.index.add(created)
		s.cache.put(key)
	})
}

// UpdateKey implements kms.Store.
func (s *Store) UpdateKey(ctx context.Context, id kms.KeyID, change func(*kms.Key) error) (*kms.Key, error) {
	var before, after record
	err := s.change(ctx, func(txn *badger.Txn) (err error) {
		if before, err = readRecord(txn, id); err != nil {
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
		after = record{&k, before.sequence}
		return writeKey(txn, after)
	}, func() {
		s.index.update(before, after)
		s.cache.put(after.key)
	})
	if err != nil {
		return nil, err
	}
	return after.key, nil
}

func moveOwnAlias(txn *badger.Txn, id kms.KeyID, from, to string) error {
	if err := checkAlias(txn, to); err != nil {
		return err
	}
	return errors.Join(txn.Delete(aliasKey(from)), txn.Set(aliasKey(to), id[:]))
}

// ListKeys implements kms.Store.
func (s *Store) ListKeys(ctx context.Context, filter kms.KeyFilter, offset, limit int) ([]*kms.Key, int, error) {
	ids, total := s.index.page(filter, offset, limit)
	keys := make([]*kms.Key, 0, len(ids))
	err := s.db.View(func(txn *badger.Txn) error {
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				return err
			}
			// A page goes past the cache: it would push the hot keys out.
			key := s.cache.peek(id)
			if key == nil {
				var err error
				if key, err = readKey(txn, id); err != nil {
					return err
				}
			}
			keys = append(keys, withoutMaterial(key))
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return keys, total, nil
}

// withoutMaterial returns the key as lists show it.
func withoutMaterial(key *kms.Key) *kms.Key {
	k := *key
	k.Versions = slices.Clone(key.Versions)
	for i := range k.Versions {
		k.Versions[i].Sealed = nil
	}
	return &k
}

// CountKeys implements kms.Store.
func (s *Store) CountKeys(context.Context) (keys, defaults int, err error) {
	keys, defaults = s.index.count()
	return keys, defaults, nil
}

// ListTags implements kms.Store.
func (s *Store) ListTags(context.Context) ([]kms.TagValues, error) { return s.index.tags(), nil }

// DueKeys implements kms.Store.
func (s *Store) DueKeys(_ context.Context, now time.Time, limit int) ([]kms.KeyID, time.Time, error) {
	ids, next := s.index.dueBy(now, limit)
	return ids, next, nil
}

// ReserveMessages implements kms.Store.
func (s *Store) ReserveMessages(ctx context.Context, id kms.KeyID, version uint32, n uint64) (first uint64, err error) {
	err = s.change(ctx, func(txn *badger.Txn) error {
		if first, err = readUint64(txn, messagesKey(id, version)); err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("read message count: %w", err)
		}
		if first+n < first {
			return errors.New("message count overflows")
		}
		return txn.Set(messagesKey(id, version), appendUint64(nil, first+n))
	}, func() {})
	return first, err
}

// releaseBatch is how many numbers one transaction gives back, far below what badger takes in one.
const releaseBatch = 1000

// ReleaseMessages implements kms.MessageReleaser.
func (s *Store) ReleaseMessages(ctx context.Context, unused []kms.MessageRange) error {
	for batch := range slices.Chunk(unused, releaseBatch) {
		err := s.change(ctx, func(txn *badger.Txn) error {
			for _, r := range batch {
				next, err := readUint64(txn, messagesKey(r.ID, r.Version))
				if errors.Is(err, badger.ErrKeyNotFound) {
					continue // the key was destroyed
				}
				if err != nil {
					return fmt.Errorf("read message count: %w", err)
				}
				if next != r.End || r.First > r.End {
					continue
				}
				if err := txn.Set(messagesKey(r.ID, r.Version), appendUint64(nil, r.First)); err != nil {
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

// change runs one state change: stage puts the new values into a transaction, which is committed and synced, and then
// apply makes memory agree with it. If a commit fails, nobody knows what the disk holds, so nothing more is written
// until a restart has read it again.
func (s *Store) change(ctx context.Context, stage func(*badger.Txn) error, apply func()) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := ctx.Err(); err != nil {
		return err // nobody waits for it any more
	}
	if s.broken != nil {
		return fmt.Errorf("database takes no more changes until a restart: %w", s.broken)
	}
	if err := s.checkRoom(); err != nil {
		return err
	}
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	if err := stage(txn); err != nil {
		return err
	}
	if err := errors.Join(txn.Commit(), s.syncDir()); err != nil {
		s.broken = fmt.Errorf("commit: %w", err)
		return s.broken
	}
	apply()
	return nil
}

// checkRoom refuses to write to a disk that is nearly full.
func (s *Store) checkRoom() error {
	free, err := s.opts.freeBytes(s.opts.Dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free < minFree {
		return fmt.Errorf("disk of %s is full: %d bytes are free and %d are needed", s.opts.Dir, free, minFree)
	}
	return nil
}

func freeBytes(dir string) (uint64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, os.NewSyscallError("statfs", err)
	}
	return fs.Bavail * uint64(fs.Bsize), nil
}

// syncDir makes the names of new files durable, which badger leaves to the file system. It costs a stat when there
// are none.
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

// logger gives badger's words to slog. Its tales of levels and tables are for debugging only.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(f string, a ...any)   { l.log.Error("badger", "text", text(f, a)) }
func (l logger) Warningf(f string, a ...any) { l.log.Warn("badger", "text", text(f, a)) }
func (l logger) Infof(f string, a ...any)    { l.log.Debug("badger", "text", text(f, a)) }
func (l logger) Debugf(string, ...any)       {}

func text(f string, a []any) string { return strings.TrimSpace(fmt.Sprintf(f, a...)) }
