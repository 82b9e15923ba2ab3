package procattr

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// PrivateFiles makes every file that this process and its children create from now on accessible to their user alone, whatever
// mode the program that creates it asks for.
func PrivateFiles() { unix.Umask(0o077) }

// Descriptors raises the limit on open file descriptors to the hard limit and returns it. Go's runtime does the same at start,
// but not if the soft limit was set later.
func Descriptors() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("limit on file descriptors: %w", err)
	}
	if limit.Cur < limit.Max {
		limit.Cur = limit.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			return 0, fmt.Errorf("limit on file descriptors: %w", err)
		}
	}
	return int(min(limit.Cur, 1<<30)), nil
}

// OpenDescriptors returns how many file descriptors this process has open and how many it may have.
func OpenDescriptors() (open, limit int, err error) {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, 0, err
	}
	names, err := dir.Readdirnames(-1)
	if err = errors.Join(err, dir.Close()); err != nil {
		return 0, 0, err
	}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, 0, fmt.Errorf("limit on file descriptors: %w", err)
	}
	return len(names) - 1, int(min(l.Cur, 1<<30)), nil // one of them was that of the directory
}

// CheckDirectory refuses a directory in which other users can replace files. One that does not exist passes.
func CheckDirectory(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("directory %s is writable by its group or others (mode %04o): run chmod 0700 %s", path, info.Mode().Perm(), path)
	}
	return nil
}

// AdviseAccess adds to an error about a file that this process may not open what to do about it.
func AdviseAccess(err error) error {
	var path *fs.PathError
	if !errors.Is(err, fs.ErrPermission) || !errors.As(err, &path) {
		return err
	}
	return fmt.Errorf("%w: let uid %d read and write %s", err, os.Geteuid(), path.Path)
}
