package verb

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Output is a file that appears under its name complete and synced to disk, or not at all. If its name is that of a device, a pipe or
// an open descriptor, it is written through instead, like standard output.
type Output struct {
	*os.File
	path    string
	force   bool
	through bool
	named   string // temporary name; empty: the file has no name yet
}

// temporaries are the temporary names of outputs in this process.
var temporaries sync.Map

// RemoveTemporary removes the files of outputs that have temporary names, before a process ends that cannot wait for its outputs.
func RemoveTemporary() {
	temporaries.Range(func(name, _ any) bool {
		_ = os.Remove(name.(string))
		return true
	})
}

// CreateOutput begins a file. If the file system supports O_TMPFILE, the file has no name yet, so that not even a kill
// leaves a part of it behind; otherwise it has a temporary name in the same directory.
func CreateOutput(path string, force bool) (*Output, error) {
	if through, err := openThrough(path); err != nil {
		return nil, err
	} else if through != nil {
		return &Output{File: through, path: path, through: true}, nil
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return nil, exists(path)
	} else if err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil { // replace what a link names, and keep the link
			path = target
		}
	}
	dir := filepath.Dir(path)
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		o := &Output{File: os.NewFile(uintptr(fd), path), path: path, force: force}
		if _, err := os.Stat(o.self()); err == nil { // without /proc it cannot get a name
			return o, nil
		}
		_ = o.Close()
	}
	f, err := os.OpenFile(temporaryName(dir), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: path, Err: errors.Unwrap(err)}
	}
	temporaries.Store(f.Name(), nil)
	return &Output{File: f, path: path, force: force, named: f.Name()}, nil
}

func exists(path string) error {
	return Failf(ExitExists, "%s exists: choose another name, or replace it with --force", path)
}

// temporaryName returns a name that is as short in a directory of long names as in any other.
func temporaryName(dir string) string { return filepath.Join(dir, ".keyside-tmp-"+rand.Text()[:12]) }

// openThrough opens an output that is no regular file. It returns nil if the path names a regular file, or nothing.
func openThrough(path string) (*os.File, error) {
	if fd, ok := ownDescriptor(path); ok { // opening it again would begin at its start, and cannot open sockets
		copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		return os.NewFile(uintptr(copied), path), nil
	}
	info, err := os.Stat(path)
	switch {
	case path == "":
		return nil, Failf(ExitUsage, "the name of the output file is empty")
	case errors.Is(err, fs.ErrNotExist) && strings.HasSuffix(path, "/"):
		return nil, Failf(ExitNotFound, "%s does not exist, and names a directory: create it, and name a file in it", path)
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular():
		return nil, nil
	case err != nil: // such as a name that is too long, before all the work
		return nil, err
	case info.IsDir():
		return nil, Failf(ExitUsage, "%s is a directory: name a file in it", path)
	}
	return os.OpenFile(path, os.O_WRONLY, 0)
}

// ownDescriptor returns the open descriptor of this process that a path names, as /dev/stdout, /dev/fd/3 and /proc/self/fd/1 do.
func ownDescriptor(path string) (fd int, ok bool) {
	own := fmt.Sprintf("/proc/%d/fd", os.Getpid())
	for range 40 { // the kernel's limit of links in a path
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return 0, false
		}
		if dir == own {
			fd, err := strconv.Atoi(filepath.Base(path))
			return fd, err == nil
		}
		target, err := os.Readlink(path)
		if err != nil {
			return 0, false
		}
		if path = target; !filepath.IsAbs(target) {
			path = filepath.Join(dir, target)
		}
	}
	return 0, false
}

// Commit syncs the file to disk and gives it its name.
func (o *Output) Commit() error {
	if o.through {
		return o.Close()
	}
	if err := o.Sync(); err != nil {
		return errors.Join(err, o.Discard())
	}
	if err := o.publish(); err != nil {
		return errors.Join(err, o.Discard())
	}
	return errors.Join(o.Close(), SyncDir(filepath.Dir(o.path)))
}

// publish gives the file its name. Without force nothing is replaced.
func (o *Output) publish() error {
	var err error
	switch {
	case o.named == "" && !o.force:
		err = o.link(o.path)
	case o.named == "":
		name := temporaryName(filepath.Dir(o.path))
		if err := o.link(name); err != nil {
			return err
		}
		o.named = name
		temporaries.Store(name, nil)
		fallthrough
	case o.force:
		err = os.Rename(o.named, o.path)
	default:
		err = o.renameNew()
	}
	if errors.Is(err, fs.ErrExist) {
		return exists(o.path)
	}
	if err == nil {
		o.forget()
	}
	return err
}

// self returns the name of the open file in /proc.
func (o *Output) self() string { return fmt.Sprintf("/proc/self/fd/%d", o.Fd()) }

// link gives an open file without a name its first one.
func (o *Output) link(name string) error {
	if err := unix.Linkat(unix.AT_FDCWD, o.self(), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: o.self(), New: name, Err: err}
	}
	return nil
}

// renameNew renames the file if its name is free. File systems without O_TMPFILE often lack links, too.
func (o *Output) renameNew() error {
	err := unix.Renameat2(unix.AT_FDCWD, o.named, unix.AT_FDCWD, o.path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // such as NFS, which has links
		if err := os.Link(o.named, o.path); err != nil {
			return err
		}
		return os.Remove(o.named)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: o.named, New: o.path, Err: err}
	}
	return nil
}

// forget notes that the file has its temporary name no longer.
func (o *Output) forget() {
	temporaries.Delete(o.named)
	o.named = ""
}

// Discard deletes the file. After Commit it does nothing.
func (o *Output) Discard() error {
	var err error
	if o.named != "" {
		err = os.Remove(o.named)
		o.forget()
	}
	if cerr := o.Close(); cerr != nil && !errors.Is(cerr, fs.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}

// FileSet is the files of one result, by what they hold.
type FileSet map[string]*Output

// CreateFiles begins files with the given paths, before their content exists.
func CreateFiles(paths map[string]string, force bool) (FileSet, error) {
	files := FileSet{}
	for what, path := range paths {
		f, err := CreateOutput(path, force)
		if err != nil {
			return nil, errors.Join(err, files.Discard())
		}
		files[what] = f
	}
	return files, nil
}

// Discard deletes all files.
func (s FileSet) Discard() error {
	var errs []error
	for _, f := range s {
		errs = append(errs, f.Discard())
	}
	return errors.Join(errs...)
}

// Commit writes the contents to the files and gives them their names.
func (s FileSet) Commit(content map[string][]byte) error {
	for what, f := range s {
		if _, err := f.Write(content[what]); err != nil {
			return errors.Join(err, s.Discard())
		}
	}
	for _, f := range s {
		if err := f.Commit(); err != nil {
			return errors.Join(err, s.Discard())
		}
	}
	return nil
}

// WriteFile writes a file of mode 0600, which appears complete and synced to disk, or not at all.
func WriteFile(path string, content []byte, force bool) error {
	o, err := CreateOutput(path, force)
	if err != nil {
		return err
	}
	return o.finish(content)
}

// finish writes the content and commits the file.
func (o *Output) finish(content []byte) error {
	if _, err := o.Write(content); err != nil {
		return errors.Join(err, o.Discard())
	}
	return o.Commit()
}

// SyncDir syncs the names in a directory to disk.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
