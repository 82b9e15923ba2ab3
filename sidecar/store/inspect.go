package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/google/uuid"
)

// badger changes a database when it opens it: it writes the logs of a crash into tables, cuts MANIFEST behind the last record
// that it can read, and deletes every table that MANIFEST does not name. So a database with a lost or cut file is destroyed
// by looking at it. Inspect therefore reads it where badger can change nothing: in a temporary directory with symbolic links
// to the files, and copies of the logs, which badger refuses to open read-only unless they end behind their last transaction.

// State is what Inspect finds in a database.
type State struct {
	Tenant  string
	Format  int
	Node    uuid.UUID // of the node that created the database
	Change  uint64    // number of the last change; 0 in formats without numbers
	Entries uint64

	Recorded uint64   // number of the last change with an audit record, 0 for none
	Outbox   []uint64 // numbers of the changes whose records the audit log may not have yet, in ascending order

	AuditAnchor, AuditHead string // the audit log's own values; empty where it stored none
}

// ErrAbsent says that a directory does not exist or contains no database, nor a part of one.
var ErrAbsent = errors.New("there is no database")

// CorruptError says that a database is not whole. Nothing was changed.
type CorruptError struct {
	Dir   string
	File  string // empty: not known
	cause error
}

func (e *CorruptError) Error() string {
	if e.File == "" {
		return fmt.Sprintf("database %s is corrupt: %v", e.Dir, e.cause)
	}
	return fmt.Sprintf("database %s is corrupt: file %s: %v", e.Dir, e.File, e.cause)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.cause }

// Inspect reads the whole database in dir, which no process has open, without changing or creating anything there. It returns ErrAbsent if
// there is none, and a *CorruptError if it is not whole: a file is missing, cut or unreadable, an entry is lost or corrupt.
func Inspect(dir string) (*State, error) {
	files, err := databaseFiles(dir)
	if err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp("", "keyside-inspect-")
	if err != nil {
		return nil, err
	}
	found, err := inspect(dir, scratch, files)
	return found, errors.Join(err, os.RemoveAll(scratch))
}

// databaseFiles lists the names of the files in a directory that badger would read. A table that MANIFEST does not name is what a
// crash left of writing it.
func databaseFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name := e.Name(); name == manifest || name == keyRegistry || slices.Contains([]string{tableExt, logExt, valueLogExt}, filepath.Ext(name)) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, ErrAbsent
	}
	tables, err := namedTables(filepath.Join(dir, manifest))
	if err != nil {
		return nil, &CorruptError{Dir: dir, File: manifest, cause: err}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return filepath.Ext(name) == tableExt })
	return append(names, tables...), nil
}

// namedTables returns the names of the tables that a MANIFEST names.
func namedTables(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badgerOptions(Options{Logger: slog.New(slog.DiscardHandler)}))
	if err != nil {
		return nil, err
	}
	var names []string
	for id := range m.Tables {
		names = append(names, table.IDToFilename(id))
	}
	slices.Sort(names)
	return names, nil
}

const (
	manifest    = "MANIFEST"
	keyRegistry = "KEYREGISTRY"
	tableExt    = ".sst"
	logExt      = ".mem"
	valueLogExt = ".vlog"
)

func inspect(dir, scratch string, files []string) (found *State, err error) {
	for _, name := range files {
		if err := present(dir, scratch, name); err != nil {
			return nil, &CorruptError{Dir: dir, File: name, cause: err}
		}
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a file that is cut meanwhile
	defer func() {
		if p := recover(); p != nil { // badger's way to report a corrupt table
			err = &CorruptError{Dir: dir, cause: fmt.Errorf("%v", p)}
		}
	}()
	ro := badgerOptions(Options{Dir: scratch, Logger: slog.New(slog.DiscardHandler)})
	ro.ReadOnly = true
	db, err := badger.Open(ro)
	if err != nil {
		return nil, &CorruptError{Dir: dir, cause: errors.New(strings.ReplaceAll(err.Error(), scratch, dir))}
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return readWhole(dir, db)
}

// present makes one file of a database visible in the scratch directory.
func present(dir, scratch, name string) error {
	path := filepath.Join(dir, name)
	if name == keyRegistry { // has no keys: nothing is encrypted by badger
		return nil
	}
	switch filepath.Ext(name) {
	case valueLogExt: // has no entries, see valueThreshold
		return nil
	case logExt:
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := checkLogHeader(b); err != nil {
			return err
		}
		if at := damageIn(b); at >= 0 {
			return fmt.Errorf("byte %d: %w", at, errLog)
		}
		if end, _, _ := logEnd(b); end > logHeader {
			return os.WriteFile(filepath.Join(scratch, name), b[:end], 0o600)
		}
		return nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if filepath.Ext(name) == tableExt {
		if err := checkTable(name, b); err != nil {
			return err
		}
	}
	absolute, err := filepath.Abs(path)
	return errors.Join(err, os.Symlink(absolute, filepath.Join(scratch, name)))
}

// checkTable verifies the checksums of a table. badger panics on some corrupt tables, and from its own goroutines when it opens a
// database, where nothing can recover.
func checkTable(name string, b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("its index is corrupt")
		}
	}()
	id, ok := table.ParseFileID(name)
	if !ok {
		return errors.New("is not the name of a table")
	}
	t, err := table.OpenInMemoryTable(b, id, &table.Options{Compression: options.None, ChkMode: options.NoVerification})
	if err != nil {
		return err
	}
	return t.VerifyChecksum()
}

func readStart(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(n)))
}

// checkLogHeader refuses a log that names an encryption key: badger's logs here have none. An empty log is what a crash leaves
// while badger creates or removes one.
func checkLogHeader(b []byte) error {
	if len(b) >= 8 && binary.BigEndian.Uint64(b) != 0 {
		return errors.New("its header is corrupt")
	}
	return nil
}

// readWhole reads everything in a database and holds it against the state record.
func readWhole(dir string, db *badger.DB) (*State, error) {
	found := &State{}
	corrupt := func(err error) error { return &CorruptError{Dir: dir, cause: err} }
	what, err := (&Store{db: db}).readSchema()
	if errors.Is(err, badger.ErrKeyNotFound) && len(db.Tables()) == 0 && db.MaxVersion() == 0 {
		return nil, ErrAbsent // a crash came between the creation of the files and the first transaction
	}
	if err != nil {
		return nil, corrupt(fmt.Errorf("its schema cannot be read, or it is no database of Keyside: %w", err))
	}
	found.Tenant, found.Format = what.Tenant, what.Format
	anchor, head, err := readAuditHead(db)
	if err != nil {
		return nil, corrupt(err)
	}
	found.AuditAnchor, found.AuditHead = string(anchor), string(head)
	if what.Format < formatWithState {
		return found, nil
	}
	err = db.View(func(txn *badger.Txn) error {
		recorded, err := readState(txn)
		if err != nil {
			return fmt.Errorf("read the state record: %w", err)
		}
		actual := recorded
		if err := actual.count(txn, nil); err != nil {
			return err
		}
		found.Node, found.Change, found.Entries, found.Recorded = recorded.node, recorded.change, recorded.entries, recorded.recorded
		outbox, err := readOutbox(txn)
		if err != nil {
			return err
		}
		found.Outbox = slices.Sorted(maps.Keys(outbox))
		if actual != recorded {
			return fmt.Errorf("it has %d entries and should have %d, or their content differs: acknowledged changes are lost", actual.entries, recorded.entries)
		}
		return nil
	})
	if err != nil {
		return nil, corrupt(err)
	}
	return found, nil
}
