package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A file that is removed, replaced or cut while the log has it open takes records that the next start does not find. So the log takes no
// more records then, and tells whoever runs the process: the next Open repairs what can be repaired and names the rest.

// watchEvery is how often the names of the open files are looked at. Each write looks at the open file itself.
const watchEvery = time.Second

// errNotInPlace says that an open file is no longer the one under its name, or no longer what was written to it.
var errNotInPlace = errors.New("it was removed, replaced or cut while the log had it open")

// startWatch looks at the open files until end is called, or one is not in place.
func (l *Log) startWatch() (end func()) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(l.opts.watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-stop:
				return
			}
			if l.look() != nil {
				return
			}
		}
	})
	return sync.OnceFunc(func() {
		close(stop)
		done.Wait()
	})
}

// look ends the log if one of its open files is not in place. A log that failed before is looked at again once it works.
func (l *Log) look() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.closed || l.cause != nil {
		return l.broken
	}
	open := []openFile{{l.file, l.path, l.size}, {l.leaves, leavesPath(l.opts.Dir, l.number), l.leavesSize()}}
	if l.journal != nil {
		open = append(open, openFile{l.journal.file, filepath.Join(l.opts.Dir, journalName), l.journal.size})
	}
	for _, f := range open {
		if err := f.check(); err != nil {
			l.fail(err)
			return err
		}
	}
	return nil
}

// noteBroken ends the log if an error says that a file is not in place. l.writing is held.
func (l *Log) noteBroken(err error) {
	if l.broken == nil && errors.Is(err, errNotInPlace) {
		l.broken = err
		l.opts.Failed(restartNeeded(err))
	}
}

func restartNeeded(why error) error {
	return fmt.Errorf("the audit log takes no more records until a restart: %w", why)
}

// openFile is a file that the log has open, with the number of bytes that it must have.
type openFile struct {
	file *os.File
	path string
	size int64
}

// check returns an error if the open file is not the one under its path, or too short.
func (f *openFile) check() error {
	opened, err := f.file.Stat()
	if err != nil {
		return err
	}
	named, err := os.Stat(f.path)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case err != nil || !os.SameFile(opened, named) || opened.Size() < f.size:
		return fmt.Errorf("%s: %w", f.path, errNotInPlace)
	}
	return nil
}

// checkWritten returns an error if the file was removed, or does not end behind what was just written to it. Both would lose the
// records that were just written.
func (l *Log) checkWritten(end int64) error {
	// Not fstat: after times were asked for, Linux 6.13 and later note the exact time of the next write, and each sync writes the
	// inode, too.
	var st unix.Statx_t
	if err := unix.Statx(int(l.file.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_SIZE|unix.STATX_NLINK, &st); err != nil {
		return os.NewSyscallError("statx", err)
	}
	if st.Nlink == 0 || st.Size != uint64(end) {
		return fmt.Errorf("%s: %w", l.path, errNotInPlace)
	}
	return nil
}
