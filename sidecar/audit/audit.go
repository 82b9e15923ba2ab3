// Package audit writes the record of every operation as JSON lines into files that only grow.
//
// A record is acknowledged once it is written, and with Options.Sync once it is on disk, at first in a journal beside the
// files. Records that wait while one group is being written form the next group, which takes one fdatasync; no timer is
// involved. After an error nothing more is acknowledged until the log has proved, with a marker of its own, that it can
// write again.
package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Operations of the marker records that the log writes about itself.
const (
	// OpResumed follows a time in which records could not be written; its warning says how many and why.
	OpResumed policy.Operation = "audit-resumed"
	// OpRepaired follows a record that a crash had cut off; its warning says where the fragment is kept.
	OpRepaired policy.Operation = "audit-repaired"
)

// DefaultMaxFileSize is at how many bytes a new file begins.
const DefaultMaxFileSize = 64 << 20

// ErrClosed is the error of a log that was closed.
var ErrClosed = errors.New("audit log is closed")

// Options says where and how to write.
type Options struct {
	Dir         string // made with mode 0700 if it is missing; one process at a time
	Sync        bool   // acknowledge after fdatasync; without it a power cut, but no kill, can lose the last records
	MaxFileSize int64  // bytes; 0: DefaultMaxFileSize
	Tenant      string // of the marker records
	Logger      *slog.Logger
	Clock       kms.Clock // nil: the system's

	journalSize int64 // 0: the constant; for tests
}

// Log is the audit log. It implements kms.Auditor and is safe for concurrent use.
type Log struct {
	opts Options
	lock *os.File // the directory, flocked

	mu    sync.Mutex // guards group and spare
	group *group     // that records join now
	spare []byte     // an empty buffer to reuse

	writing sync.Mutex // held while a group is written; guards what follows
	file    *os.File
	journal *journal // nil without Options.Sync
	syncer  *syncer
	path    string
	number  int   // of the file
	size    int64 // of the file as far as it is acknowledged
	before  int   // records of the last group
	lost    int   // records refused since the first error
	cause   error // the first error
	closed  bool

	failed atomic.Bool // cause is set
}

// group is records that are written together.
type group struct {
	lines   []byte
	records int
	written sync.WaitGroup
	err     error // once written
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// Open opens the log in opts.Dir for appending, and repairs its last file if a crash cut its last line off.
func Open(opts Options) (*Log, error) {
	if opts.MaxFileSize == 0 {
		opts.MaxFileSize = DefaultMaxFileSize
	}
	if opts.journalSize == 0 {
		opts.journalSize = journalSize
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Clock == nil {
		opts.Clock = systemClock{}
	}
	l := &Log{opts: opts, group: newGroup(nil), syncer: newSyncer()}
	if err := l.open(); err != nil {
		l.release()
		return nil, fmt.Errorf("audit log in %s: %w", opts.Dir, err)
	}
	return l, nil
}

func (l *Log) open() error {
	if err := os.MkdirAll(l.opts.Dir, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(l.opts.Dir)
	if err != nil {
		return err
	}
	l.lock = dir
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.New("another process writes it: stop that process, or give this one a directory of its own")
	}
	numbers, err := list(l.opts.Dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 {
		if err := l.create(1); err != nil {
			return err
		}
		return l.startJournal()
	}
	l.number = numbers[len(numbers)-1]
	l.path = fileName(l.opts.Dir, l.number)
	if err := replay(l.opts.Dir, l.path, l.number); err != nil {
		return err
	}
	end, err := endOfLines(l.path)
	if err != nil {
		return err
	}
	kept, err := l.reopen(end)
	if err != nil {
		return err
	}
	if err := l.startJournal(); err != nil || kept == "" {
		return err
	}
	l.opts.Logger.Warn("the audit log's last record was cut off by a crash", "file", l.path, "kept", kept)
	return l.mark(OpRepaired, "a crash cut the last record off; its fragment is in "+filepath.Base(kept))
}

func newGroup(buffer []byte) *group {
	g := &group{lines: buffer}
	g.written.Add(1)
	return g
}

// Record makes a record durable. It waits for the disk and not for the context: a record that is under way is
// written, whoever still wants to know.
func (l *Log) Record(_ context.Context, r *kms.AuditRecord) error {
	l.mu.Lock()
	g := l.group
	first := g.records == 0
	g.records++
	g.lines = appendRecord(g.lines, r)
	l.mu.Unlock()
	if !first {
		g.written.Wait()
		return g.err
	}
	// The first of a group writes it, as soon as the group before is done; until then others join.
	l.writing.Lock()
	l.gather(g)
	g.err = l.write(g)
	l.writing.Unlock()
	g.written.Done()

	l.mu.Lock()
	l.spare = g.lines[:0]
	l.mu.Unlock()
	return g.err
}

// gather closes a group to further records. It lets those run that are about to join, for as long as some do: a sync
// costs far more than a record, and a yield with nobody else to run costs nothing.
func (l *Log) gather(g *group) {
	for seen := 0; ; runtime.Gosched() {
		l.mu.Lock()
		if g.records == seen {
			l.group, l.spare = newGroup(l.spare), nil
			l.mu.Unlock()
			return
		}
		seen = g.records
		l.mu.Unlock()
	}
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
		l.lost += g.records
		return err
	}
	err := l.append(g.lines, g.records == 1 && l.before <= 1)
	l.before = g.records
	if err != nil {
		l.lost += g.records
		l.fail(err)
	}
	return err
}

// append writes whole lines to the file, or to a new one if this one is full, and syncs them if so configured. alone
// says that nobody else records at the moment.
func (l *Log) append(lines []byte, alone bool) error {
	if l.size > 0 && l.size+int64(len(lines)) > l.opts.MaxFileSize {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	if _, err := l.file.Write(lines); err != nil {
		return err
	}
	if l.opts.Sync {
		if err := l.sync(lines, alone); err != nil {
			return err
		}
	}
	l.size += int64(len(lines))
	return nil
}

// sync makes lines durable that were just written: in the journal, or where that is full in the file, with all before
// them.
func (l *Log) sync(lines []byte, alone bool) error {
	sync := l.syncer.sync
	if alone {
		sync = fdatasync // the quicker one, and there is nobody to hold up
	}
	if !l.journal.fits(lines) {
		if err := sync(l.file); err != nil {
			return err
		}
		l.journal.restart()
		return nil
	}
	if err := l.journal.write(l.number, l.size, lines); err != nil {
		return err
	}
	return sync(l.journal.file)
}

// fail remembers the error; nothing is acknowledged from now on.
func (l *Log) fail(err error) {
	if l.cause == nil {
		l.cause = err
		l.failed.Store(true)
		l.opts.Logger.Error("the audit log cannot be written; every operation is refused until it can",
			"file", l.path, "error", err)
	}
}

// resume does nothing if all is well. After an error it opens the file again, removes what no one was told is
// written, and writes a marker; only if that works is the log good again.
func (l *Log) resume() error {
	if l.closed {
		return ErrClosed
	}
	if l.cause == nil {
		return nil
	}
	if err := l.restore(); err != nil {
		return fmt.Errorf("audit log failed (%w) and cannot be opened again: %w", l.cause, err)
	}
	if err := l.mark(OpResumed, fmt.Sprintf("%d records could not be written: %v", l.lost, l.cause)); err != nil {
		return fmt.Errorf("audit log failed (%w) and still does: %w", l.cause, err)
	}
	l.opts.Logger.Info("the audit log can be written again", "file", l.path, "lost", l.lost)
	l.lost, l.cause = 0, nil
	l.failed.Store(false)
	return nil
}

// restore writes the file again from the journal, since the kernel forgets what it failed to write, and cuts it to what is
// acknowledged.
func (l *Log) restore() error {
	if err := replay(l.opts.Dir, l.path, l.number); err != nil {
		return err
	}
	if _, err := l.reopen(l.size); err != nil {
		return err
	}
	return l.startJournal()
}

// mark writes a record about the log itself.
func (l *Log) mark(op policy.Operation, warning string) error {
	return l.append(appendRecord(nil, &kms.AuditRecord{
		Time: l.opts.Clock.Now(), Operation: op, Tenant: l.opts.Tenant, Decision: "allow", By: "audit", Outcome: "ok",
		Warning: warning,
	}), true)
}

// Close syncs the file and closes it. Later records fail.
func (l *Log) Close() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.failed.Store(true)
	return l.release()
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
	l.syncer.release()
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	return errors.Join(errs...)
}
