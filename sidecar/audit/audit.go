// Package audit appends one JSON line per operation to log files and detects lines that were changed, deleted or added.
package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Operations of the marker records that the log writes about itself.
const (
	// OpResumed follows a time in which records could not be written. Its warning says how many were lost, and why.
	OpResumed policy.Operation = "audit-resumed"
	// OpRepaired follows a record that a crash truncated. Its warning names the file that keeps the fragment.
	OpRepaired policy.Operation = "audit-repaired"
	// OpBegun is the first record that the database's head covers. The target is the id of the log; the warning counts the
	// records before it.
	OpBegun policy.Operation = "audit-begun"
	// OpKeyChanged says that the tenant has a new audit key. The target is the verifier key.
	OpKeyChanged policy.Operation = "audit-key-changed"
	// OpRemoved precedes the removal by retention of the files up to the one whose number is the target.
	OpRemoved policy.Operation = "audit-removed"
	// OpLossAccepted says that an administrator continues the log although records are missing or changed. The target names
	// the affected files, each with its content.
	OpLossAccepted policy.Operation = "audit-loss-accepted"
)

// DefaultMaxFileSize is the size in bytes above which a new file begins.
const DefaultMaxFileSize = 64 << 20

// ErrClosed is the error of a log that was closed.
var ErrClosed = errors.New("audit log is closed")

// Options configures a log.
type Options struct {
	Dir         string // created with mode 0700 if it does not exist; one process at a time
	Sync        bool   // acknowledge after fdatasync; without it a power cut, but no kill, can lose the last records
	MaxFileSize int64  // bytes; 0: DefaultMaxFileSize
	Keep        Keep   // retention; needs checkpoints
	Tenant      string // of the marker records
	Logger      *slog.Logger
	Clock       kms.Clock // nil: the system's
	// Heads stores the high-water mark of the log, below which it must not fall. nil means none, and no checkpoints.
	Heads HeadStore
	// Failed is told, once, why the log takes no more records until it is opened again. It must not call the Log. nil: it is only logged.
	Failed func(why error)

	accepted    *acceptance       // nil means that no loss is accepted
	journalSize int64             // 0 means the constant; for tests
	waitLimit   time.Duration     // 0 means the constant; for tests
	watchEvery  time.Duration     // 0 means the constant; for tests
	failpoint   func(step string) // called between two durable steps; for tests
}

// Log is the audit log. It implements kms.Auditor and is safe for concurrent use.
type Log struct {
	opts Options
	lock *os.File // the directory, flocked

	mu     sync.Mutex    // guards group and spare
	group  *group        // that records join now
	spare  []byte        // an empty buffer to reuse
	enough chan struct{} // has room for one word that an awaited group is large enough

	writing   sync.Mutex // held while a group is written; guards what follows
	file      *os.File
	leaves    *os.File // the leaf hashes of the file's records, see leaves.go
	journal   *journal // nil without Options.Sync
	syncer    *syncer
	path      string
	number    int            // of the file
	size      int64          // of the file as far as it is acknowledged
	start     tree           // as the file began
	tree      tree           // of the acknowledged records
	hashed    []byte         // the leaf hashes of the group being written
	before    int            // records of the last group
	skipWaits int            // number of groups not to wait for
	skipped   int            // skipWaits after the last wait, 0 if that wait filled the group
	lost      int            // records refused since the first error, without those in owed
	owed      []loggedChange // changes in the database whose records could not be written
	cause     error          // the first error
	broken    error          // why no record can be written until the log is opened again
	closed    bool

	figures figures  // for metrics
	seen    *changes // since the start; nil if the database numbers none

	failed atomic.Bool              // cause is set
	now    atomic.Pointer[snapshot] // the acknowledged end, for readers

	outbox sync.Mutex     // guards logged
	logged []loggedChange // in the log, but not yet out of the database's outbox; those of the first records first

	watching  atomic.Pointer[chan struct{}] // closed when the log has grown; nil if no reader waits
	retaining sync.RWMutex                  // held for writing while files are removed, for reading by whoever reads several

	heads    sync.Mutex // held while the head is stored; guards what follows
	anchor   anchor     // as stored, except for changes not stored yet
	anchored bool       // anchor is stored
	grown    chan struct{}
	keeping  sync.WaitGroup
	endWatch func()        // ends startWatch
	stop     chan struct{} // closed to end the goroutines of keeping

	rotating    sync.Mutex  // guards rotated
	rotated     []*snapshot // ends of files that no checkpoint covers yet, the oldest first
	signed      atomic.Uint64
	checkpoints *checkpoints // nil until SignCheckpoints
}

// snapshot is the acknowledged end of the log. It must not be changed.
type snapshot struct {
	tree   tree  // of all records
	number int   // of the file
	size   int64 // bytes of the file
	start  tree  // as the file began
}

// sync makes the snapshot's file durable, for a log without Options.Sync.
func (s *snapshot) sync(dir string) error {
	f, err := os.OpenFile(fileName(dir, s.number), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fdatasync(f), f.Close())
}

// group is records that are written together.
type group struct {
	lines    []byte
	records  int
	inFlight int            // operations that will be recorded soon, as of the last record
	least    int            // records to wait for; set when it is awaited
	awaited  bool           // await waits until it is large
	changes  []loggedChange // whose records are among the lines
	written  sync.WaitGroup
	err      error // once written
}

// Open opens the log in opts.Dir for appending, and repairs its last file if a crash cut its last line off.
func Open(opts Options) (*Log, error) {
	opts.MaxFileSize = cmp.Or(opts.MaxFileSize, DefaultMaxFileSize)
	opts.waitLimit = cmp.Or(opts.waitLimit, waitLimit)
	opts.watchEvery = cmp.Or(opts.watchEvery, watchEvery)
	opts.journalSize = cmp.Or(opts.journalSize, journalSize)
	opts.Logger = cmp.Or(opts.Logger, slog.New(slog.DiscardHandler))
	opts.Clock = cmp.Or[kms.Clock](opts.Clock, kms.SystemClock{})
	if opts.failpoint == nil {
		opts.failpoint = func(string) {}
	}
	if opts.Failed == nil {
		opts.Failed = func(error) {}
	}
	l := &Log{
		opts: opts, group: newGroup(nil), syncer: newSyncer(), start: emptyTree(), tree: emptyTree(),
		enough: make(chan struct{}, 1), grown: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("audit log in %s: %w", opts.Dir, errors.Join(err, l.release()))
	}
	if opts.Heads != nil {
		l.startCounting()
		l.keeping.Go(func() { l.keepHead(l.stop) })
	}
	l.endWatch = l.startWatch()
	return l, nil
}

func newGroup(buffer []byte) *group {
	g := &group{lines: buffer}
	g.written.Add(1)
	return g
}

// Line implements kms.Auditor.
func (l *Log) Line(r *kms.AuditRecord) []byte { return appendRecord(nil, r) }

// Record appends r and, with Options.Sync, returns once r is on disk. It ignores the context: a canceled operation is still
// recorded.
func (l *Log) Record(_ context.Context, r *kms.AuditRecord) error {
	l.mu.Lock()
	g := l.group
	first := g.records == 0
	g.add(r)
	if g.awaited && g.large() {
		g.awaited = false
		l.enough <- struct{}{}
	}
	l.mu.Unlock()
	if !first {
		g.written.Wait()
		return g.err
	}
	// The first caller of a group writes it once the previous group is written; until then others join.
	l.writing.Lock()
	l.gatherGroup(g)
	g.err = l.write(g)
	l.writing.Unlock()
	g.written.Done()

	l.mu.Lock()
	l.spare = g.lines[:0]
	l.mu.Unlock()
	return g.err
}

// gatherGroup closes a group to further records; l.writing is held. It yields to other goroutines as long as these add
// records, because a sync costs far more than a record, and a yield without other goroutines costs nothing. If many
// operations are in flight, it then waits for their records.
func (l *Log) gatherGroup(g *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for seen := 0; g.records > seen || l.await(g); {
		seen = g.records
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	}
	l.group, l.spare = newGroup(l.spare), nil
}

// add adds a record, and those that belong to the same change.
func (g *group) add(r *kms.AuditRecord) {
	g.inFlight = r.InFlight
	from, records := len(g.lines), g.records
	for one := r; one != nil; one = one.Next {
		g.lines = appendRecord(g.lines, one)
		g.records++
	}
	if r.Change != 0 {
		g.changes = append(g.changes, loggedChange{change: r.Change, from: from, to: len(g.lines), records: g.records - records})
	}
}

// large reports whether a group has a record of each operation in flight, and at least as many as await wants.
func (g *group) large() bool { return g.records >= max(g.inFlight, g.least) }

// Of many operations in flight, half share a sync, and the others continue meanwhile. If fewer than minInFlight are in flight
// and shared the previous sync, none is waited for.
const (
	minInFlight = 8
	waitLimit   = 2 * time.Millisecond // the longest wait
	maxSkips    = 64                   // groups
)

// await waits until a group is large, and reports whether it did; l.mu is released meanwhile. If operations take longer than
// waitLimit, most of the following groups are not waited for.
func (l *Log) await(g *group) bool {
	g.least = l.before / 2
	switch {
	case !l.opts.Sync || max(g.inFlight, l.before) < minInFlight || g.large():
		return false
	case l.skipWaits > 0:
		l.skipWaits--
		return false
	}
	g.awaited = true
	l.mu.Unlock()
	timer := time.NewTimer(l.opts.waitLimit)
	select {
	case <-l.enough:
	case <-timer.C:
	}
	timer.Stop()
	l.mu.Lock()
	if g.awaited {
		g.awaited = false
		l.skipped = min(2*l.skipped+1, maxSkips)
		l.skipWaits = l.skipped
		return false
	}
	select { // the signal that arrived with the end of the wait
	case <-l.enough:
	default:
	}
	l.skipped = 0
	return true
}

// Ready returns nil if a record could be written now. After an error it tries to write a marker.
func (l *Log) Ready(context.Context) error {
	if !l.failed.Load() {
		return nil
	}
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.resume()
}

// write writes a group; l.writing is held.
func (l *Log) write(g *group) error {
	if err := l.resume(); err != nil {
		l.owe(g)
		return err
	}
	err := l.append(g.lines, g.changes, g.records == 1 && l.before <= 1)
	l.before = g.records
	if err != nil {
		l.owe(g)
		l.fail(err)
	}
	return err
}

// append writes whole lines to the file, or to a new one if this one is full, and syncs them if so configured. changes are those
// with records among them. alone says that no other operation is recording.
func (l *Log) append(lines []byte, changes []loggedChange, alone bool) error {
	if l.size > 0 && l.size+int64(len(lines)) > l.opts.MaxFileSize {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if _, err := l.file.Write(lines); err != nil {
		return err
	}
	if err := l.checkWritten(l.size + int64(len(lines))); err != nil {
		return err
	}
	l.opts.failpoint("records are written")
	grown := l.tree.clone()
	hash := func() { l.hashed = grown.addLines(lines, l.hashed[:0]) }
	if !l.opts.Sync {
		hash()
	} else if err := l.sync(lines, alone, hash); err != nil {
		return err
	}
	l.opts.failpoint("records are synced")
	if err := l.keepLeaves(); err != nil {
		return err
	}
	l.opts.failpoint("leaf hashes are written")
	l.size += int64(len(lines))
	l.tree = grown
	l.noteLogged(changes)
	l.countGaps(lines, changes)
	l.publish()
	return nil
}

// end returns the acknowledged end; l.writing is held.
func (l *Log) end() *snapshot {
	return &snapshot{tree: l.tree, number: l.number, size: l.size, start: l.start}
}

// publish shows the acknowledged end to readers.
func (l *Log) publish() {
	l.now.Store(l.end())
	l.wakeHeads()
	if l.watching.Load() != nil {
		close(*l.watching.Swap(nil))
	}
}

// sync makes lines durable that were just written: in the journal or, if that is full, in the file with all lines before
// them. It calls meanwhile once, while the disk works if possible.
func (l *Log) sync(lines []byte, alone bool, meanwhile func()) error {
	sync := l.syncer.sync
	if alone { // faster, and delays no other operation
		sync = func(f *os.File, meanwhile func()) error {
			meanwhile()
			return fdatasync(f)
		}
	}
	if !l.journal.fits(lines) {
		if err := sync(l.file, meanwhile); err != nil {
			return err
		}
		l.journal.restart()
		return nil
	}
	if err := l.journal.write(l.number, l.size, lines); err != nil {
		return err
	}
	l.opts.failpoint("the journal is written")
	return sync(l.journal.file, meanwhile)
}

// fail keeps the error; no record is acknowledged until resume succeeds.
func (l *Log) fail(err error) {
	if l.cause == nil {
		l.cause = err
		l.failed.Store(true)
		l.opts.Logger.Error("the audit log cannot be written; every operation is refused until it can",
			"file", l.path, "error", err)
	}
	l.noteBroken(err)
}

// resume does nothing without an earlier error. After one, it opens the file again, removes what was not acknowledged, and
// writes the records of changes that could not be written, and a marker; if that works, records are acknowledged again.
func (l *Log) resume() error {
	if l.closed {
		return ErrClosed
	}
	if l.cause == nil {
		return nil
	}
	if l.broken != nil {
		return restartNeeded(l.broken)
	}
	if err := l.restore(); err != nil {
		return fmt.Errorf("audit log failed (%w) and cannot be opened again: %w", l.cause, err)
	}
	err := l.writeOwed()
	if err == nil {
		err = l.recordEvent(OpResumed, fmt.Sprintf("%d records could not be written: %v", l.lost, l.cause), "")
	}
	if err != nil {
		l.noteBroken(err)
		return fmt.Errorf("audit log failed (%w) and still does: %w", l.cause, err)
	}
	l.opts.Logger.Info("the audit log can be written again", "file", l.path, "lost", l.lost)
	l.lost, l.cause = 0, nil
	l.failed.Store(false)
	return nil
}

// restore writes the file again from the journal, because the kernel drops pages that it failed to write, and truncates it
// to the acknowledged records.
func (l *Log) restore() error {
	if err := replay(l.opts.Dir, l.path, l.number); err != nil {
		return err
	}
	if _, err := l.reopen(l.size); err != nil {
		return err
	}
	return errors.Join(l.openLeaves(), l.startJournal())
}

// Close syncs the file and closes it. Later records fail.
func (l *Log) Close() error {
	if l.checkpoints != nil { // it may be writing a checkpoint
		l.checkpoints.cancel()
		l.checkpoints.work.Wait()
	}
	l.endWatch()
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.failed.Store(true)
	close(l.stop)
	l.keeping.Wait()
	whole := l.cause == nil
	err := l.release()
	l.opts.failpoint("the log is closed")
	if err == nil && whole {
		err = l.storeHead(true)
	}
	return err
}

func (l *Log) release() error {
	var errs []error
	if l.file != nil {
		err := fdatasync(l.file)
		if err == nil && l.cause == nil {
			err = l.endJournal()
		}
		errs = append(errs, err, l.file.Close())
	}
	if l.leaves != nil {
		errs = append(errs, l.leaves.Close())
	}
	l.syncer.release()
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}
