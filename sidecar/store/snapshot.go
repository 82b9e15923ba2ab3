package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// A snapshot is all entries of the database as they were after one change, in the order of their keys. Its state record says what
// they amount to, so that a snapshot is checked while it is read, with constant memory.

// snapshotLimit is how long a purge waits for a snapshot: until the snapshot ends, badger keeps the versions that the purge must
// remove. Then the snapshot fails, and the purge goes on.
const snapshotLimit = time.Minute

var errPurged = errors.New("destroyed keys had to be purged from the database's files meanwhile: try again")

// snapshots ends a snapshot that other work waits for.
type snapshots struct {
	running atomic.Pointer[context.CancelCauseFunc]
	limit   time.Duration // 0 means snapshotLimit; for tests
}

// interrupt ends the running snapshot, if there is one.
func (x *snapshots) interrupt(why error) {
	if cancel := x.running.Load(); cancel != nil {
		(*cancel)(why)
	}
}

// lockPurging locks s.purging, for which a snapshot has some time to end.
func (s *Store) lockPurging() {
	wait := s.snapshots.limit
	if wait == 0 {
		wait = snapshotLimit
	}
	timer := time.AfterFunc(wait, func() {
		s.snapshots.interrupt(errPurged)
		s.opts.failpoint("a snapshot is interrupted")
	})
	defer timer.Stop()
	s.purging.Lock()
}

// Snapshot calls begin with what the database is now, and then entry with each of its entries, in the order of their keys. It returns
// the first error of either. Key and value are valid until entry returns. Changes go on meanwhile; merges of tables and
// purges wait, purges at most for snapshotLimit. One snapshot runs at a time.
func (s *Store) Snapshot(ctx context.Context, begin func(*State) error, entry func(key, value []byte) error) error {
	s.purging.Lock()
	defer s.purging.Unlock()
	if s.closed {
		return errors.New("database is closed")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.snapshots.running.Store(&cancel)
	defer s.snapshots.running.Store(nil)

	s.visible.RLock() // not between the commit of a change and its place in memory
	txn := s.db.NewTransaction(false)
	s.visible.RUnlock()
	defer txn.Discard()
	recorded, err := readState(txn)
	if err != nil {
		return fmt.Errorf("read the state record: %w", err)
	}
	have, err := s.readSchema()
	if err != nil {
		return err
	}
	if err := begin(recorded.describe(have)); err != nil {
		return err
	}
	it := txn.NewIterator(badger.IteratorOptions{}) // values are read from the tables as they are needed
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := it.Item().Value(func(value []byte) error { return entry(it.Item().Key(), value) }); err != nil {
			return err
		}
	}
	return nil
}

// describe returns the state of a database of a schema, without what depends on other entries.
func (s *state) describe(of schema) *State {
	return &State{Tenant: of.Tenant, Format: of.Format, Node: s.node, Change: s.change, Entries: s.entries, Recorded: s.recorded}
}

// SnapshotCheck compares the entries of a snapshot with its state record. Its zero value is ready for the first entry.
type SnapshotCheck struct {
	actual   state
	recorded *state
	schema   schema
	last     []byte
}

// Add takes the next entry, whose key must be greater than those before.
func (c *SnapshotCheck) Add(key, value []byte) (err error) {
	if len(key) == 0 || bytes.Compare(key, c.last) <= 0 {
		return errors.New("entries are not in order")
	}
	c.last = append(c.last[:0], key...)
	switch {
	case bytes.Equal(key, stateKey):
		recorded, err := decodeState(value)
		c.recorded = &recorded
		return err
	case bytes.Equal(key, schemaKey()):
		err = json.Unmarshal(value, &c.schema, json.RejectUnknownMembers(true))
	}
	c.actual.entries++
	c.actual.digest.toggle(entryDigest(key, value))
	return err
}

// End returns what the database was, or an error if an entry is missing, changed or added.
func (c *SnapshotCheck) End() (*State, error) {
	if c.recorded == nil || c.schema.Format == 0 {
		return nil, errors.New("the state record or the schema is missing")
	}
	if c.actual.entries != c.recorded.entries || c.actual.digest != c.recorded.digest {
		return nil, fmt.Errorf("there are %d entries and should be %d, or their content differs", c.actual.entries, c.recorded.entries)
	}
	return c.recorded.describe(c.schema), nil
}

// Load creates a database in dir, which must not exist, with the entries of a snapshot, which each sets in any order, and inspects it. After an
// error dir may exist.
func Load(dir string, each func(set func(key, value []byte) error) error) (*State, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	db, err := badger.Open(badgerOptions(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), unsynced: true}))
	if err != nil {
		return nil, err
	}
	batch := db.NewWriteBatch()
	err = each(func(key, value []byte) error { return batch.Set(bytes.Clone(key), bytes.Clone(value)) })
	if err == nil {
		err = batch.Flush()
	} else {
		batch.Cancel()
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
	}
	if err != nil {
		return nil, err
	}
	return Inspect(dir)
}

// AnchoredNode returns the id of the node whose database an anchor describes; the zero id without an intact anchor.
func AnchoredNode(path string) (uuid.UUID, error) {
	a, err := readAnchor(path)
	if a == nil || errors.Is(err, errAnchor) {
		return uuid.UUID{}, nil
	}
	return a.Node, err
}
