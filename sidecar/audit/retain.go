package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Keep limits the log. A zero field sets no limit, and the zero Keep keeps everything. Only whole files are removed, the oldest
// first, after a signed checkpoint covers their end. That checkpoint stays, and verification starts from it. A record precedes
// each removal.
type Keep struct {
	For   time.Duration // after a file's end
	Files int           // besides the current one
	Bytes int64         // of all files together
}

// retainPause is the time between two checks of retention.
const retainPause = time.Minute

// retain removes files that need not be kept, unless the log is being read.
func (l *Log) retain() error {
	if l.opts.Keep == (Keep{}) || !l.retaining.TryLock() {
		return nil
	}
	defer l.retaining.Unlock()
	last, err := l.removable()
	if err != nil || last == 0 {
		return err
	}
	accepted, err := l.acceptances(last)
	if err != nil {
		return err
	}
	l.writing.Lock()
	if err = l.resume(); err == nil {
		err = l.repeat(accepted)
	}
	if err == nil {
		err = l.recordEvent(OpRemoved, fmt.Sprintf("retention removes the files up to %s", nameOf(last)), strconv.Itoa(last))
		if err != nil {
			l.fail(err)
		}
	}
	l.writing.Unlock()
	if err != nil {
		return err
	}
	l.opts.failpoint("a removal is on record")
	if err := l.storeHead(false); err != nil { // a marker counts only once the head covers it
		return err
	}
	l.opts.failpoint("the database has the record of a removal")
	return l.remove(last)
}

// acceptances returns the records of accepted losses in the files up to one.
func (l *Log) acceptances(last int) (found []*marker, err error) {
	numbers, err := filesUpTo(l.opts.Dir, last)
	if err != nil {
		return nil, err
	}
	for _, number := range numbers {
		in, err := content(l.opts.Dir, number)
		if err != nil {
			return nil, err
		}
		err = eachLine(in, func(line []byte, _ bool) error {
			if m := markerIn(line); m != nil && m.Operation == OpLossAccepted {
				found = append(found, m)
			}
			return nil
		})
		if err = errors.Join(err, in.Close()); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// repeated begins the warning of an acceptance that was recorded again.
const repeated = "accepted at "

// repeat records accepted losses again whose records are about to be removed: an accepted loss is reported as long as the log exists.
func (l *Log) repeat(accepted []*marker) error {
	for _, m := range accepted {
		warning := m.Warning
		if !strings.HasPrefix(warning, repeated) {
			warning = repeated + m.Time.UTC().Format(time.RFC3339) + ": " + warning
		}
		if err := l.recordEventBy(m.Caller, OpLossAccepted, warning, m.Target); err != nil {
			return err
		}
	}
	return nil
}

// removable returns the number of the last file that need not be kept, 0 if there is none.
func (l *Log) removable() (last int, err error) {
	now := l.now.Load()
	numbers, err := filesUpTo(l.opts.Dir, now.number)
	if err != nil {
		return 0, err
	}
	keys := l.present().verifiers()
	sizes := make([]int64, len(numbers))
	var bytes int64
	for i, n := range numbers {
		info, err := os.Stat(fileName(l.opts.Dir, n))
		if err != nil {
			return 0, err
		}
		sizes[i] = info.Size()
		bytes += sizes[i]
	}
	keep := l.opts.Keep
	for i, n := range numbers {
		if n == now.number {
			break
		}
		c, err := readCheckpoint(l.opts.Dir, fmt.Sprintf(checkpointOfFile, n), keys)
		if err != nil || c.file != n {
			break // not signed yet, or invalid: Verify needs this file
		}
		old := keep.For > 0 && l.opts.Clock.Now().Sub(c.time) > keep.For
		many := keep.Files > 0 && len(numbers)-1-i > keep.Files
		large := keep.Bytes > 0 && bytes > keep.Bytes
		if !old && !many && !large {
			break
		}
		last, bytes = n, bytes-sizes[i]
	}
	return last, nil
}

// remove removes the files up to last, with their leaf hashes and the fragments of crashes.
func (l *Log) remove(last int) error {
	numbers, err := filesUpTo(l.opts.Dir, last)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if err := os.Remove(fileName(l.opts.Dir, n)); err != nil {
			return err
		}
		l.opts.failpoint("a file is removed")
	}
	entries, err := os.ReadDir(l.opts.Dir) // a removal before a crash may have left some
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e.Name(), "audit-%08d.", &n); err != nil || n > last {
			continue
		}
		if strings.HasSuffix(e.Name(), ".leaves") || strings.HasSuffix(e.Name(), ".torn") {
			errs = append(errs, os.Remove(filepath.Join(l.opts.Dir, e.Name())))
		}
	}
	return errors.Join(append(errs, syncDir(l.opts.Dir))...)
}
