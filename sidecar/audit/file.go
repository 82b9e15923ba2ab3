package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Files are named so that their names sort in the order of their records.
const (
	namePattern = "audit-%08d.jsonl"
	nameGlob    = "audit-????????.jsonl"
)

func fileName(dir string, number int) string {
	return filepath.Join(dir, fmt.Sprintf(namePattern, number))
}

// list returns the numbers of the log's files in order.
func list(dir string) ([]int, error) {
	names, err := filepath.Glob(filepath.Join(dir, nameGlob))
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(name), namePattern, &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// create creates file n and makes its name durable.
func (l *Log) create(n int) error {
	path := fileName(l.opts.Dir, n)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	l.opts.failpoint("a file is made")
	leaves, err := os.OpenFile(leavesPath(l.opts.Dir, n), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err == nil {
		if err = l.lock.Sync(); err != nil {
			_ = leaves.Close()
		}
	}
	if err != nil {
		f.Close()
		os.Remove(path)
		return err
	}
	l.file, l.path, l.number, l.size = f, path, n, 0
	l.leaves, l.start = leaves, l.tree
	return nil
}

// startJournal creates an empty journal, if the log syncs. The file must contain the journal's records and be synced.
func (l *Log) startJournal() (err error) {
	if !l.opts.Sync {
		return l.endJournal()
	}
	if l.journal != nil {
		_ = l.journal.file.Close()
	}
	l.journal, err = openJournal(l.lock, l.opts.journalSize)
	return err
}

// endJournal removes the journal. The file must contain its records and be synced.
func (l *Log) endJournal() error {
	if l.journal != nil {
		_ = l.journal.file.Close()
		l.journal = nil
	}
	if err := os.Remove(filepath.Join(l.opts.Dir, journalName)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// rotate ends the file and begins the next.
func (l *Log) rotate() error {
	if err := errors.Join(fdatasync(l.file), fdatasync(l.leaves)); err != nil {
		return err
	}
	old, oldLeaves, end := l.file, l.leaves, l.end()
	if err := l.create(l.number + 1); err != nil {
		return err
	}
	l.opts.failpoint("the next file is begun")
	if l.journal != nil {
		l.journal.restart()
	}
	if l.opts.Heads != nil {
		l.rotating.Lock()
		l.rotated = append(l.rotated, end)
		l.rotating.Unlock()
	}
	return errors.Join(old.Close(), oldLeaves.Close())
}

// reopen opens the file again and truncates it to end, the end of its last whole line. It copies the rest into a file of its
// own, whose path it returns.
func (l *Log) reopen(end int64) (kept string, err error) {
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return "", err
	}
	l.file, l.size = f, end
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	switch {
	case info.Size() < end:
		return "", fmt.Errorf("%s has %d bytes of the %d that were written: it was truncated", l.path, info.Size(), end)
	case info.Size() == end:
		return "", nil
	}
	if kept, err = l.keepFragment(f, end, info.Size()); err != nil {
		return "", err
	}
	if err := f.Truncate(end); err != nil {
		return "", err
	}
	return kept, f.Sync()
}

// keepFragment copies the bytes from end on into a file of their own and returns its path.
func (l *Log) keepFragment(f *os.File, end, size int64) (string, error) {
	path := fmt.Sprintf("%s.%d.torn", l.path, end)
	torn, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer torn.Close()
	if _, err := io.Copy(torn, io.NewSectionReader(f, end, size-end)); err != nil {
		return "", err
	}
	return path, torn.Sync()
}

// endOfLines returns how many bytes of a file are whole lines.
func endOfLines(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, 64<<10)
	for end := info.Size(); end > 0; {
		start := max(0, end-int64(len(buf)))
		part := buf[:end-start]
		if _, err := f.ReadAt(part, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(part, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

// readIfExists returns the content of a file, nil if it does not exist.
func readIfExists(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// fdatasync makes a file's content durable, and of its metadata only what is needed to read it.
func fdatasync(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}

// HasRecords reports whether a directory contains files of an audit log. It may be missing.
func HasRecords(dir string) (bool, error) {
	names, err := filepath.Glob(filepath.Join(dir, nameGlob))
	return len(names) > 0, err
}
