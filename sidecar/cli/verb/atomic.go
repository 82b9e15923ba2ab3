package verb

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Output is a file that appears under its name complete and synced to disk, or not at all.
type Output struct {
	*os.File
	path  string
	force bool
	named string // temporary name; empty: the file has no name yet
}

// CreateOutput begins a file. If the file system supports O_TMPFILE, the file has no name yet, so that not even a kill
// leaves a part of it behind; otherwise it has a temporary name in the same directory.
func CreateOutput(path string, force bool) (*Output, error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return nil, Failf(ExitExists, "%s exists: choose another name, or replace it with --force", path)
	}
	dir := filepath.Dir(path)
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return &Output{File: os.NewFile(uintptr(fd), path), path: path, force: force}, nil
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return nil, err
	}
	return &Output{File: f, path: path, force: force, named: f.Name()}, nil
}

// Commit syncs the file to disk and gives it its name.
func (o *Output) Commit() error {
	if err := o.Sync(); err != nil {
		return errors.Join(err, o.Discard())
	}
	if err := o.publish(); err != nil {
		return errors.Join(err, o.Discard())
	}
	return errors.Join(o.Close(), SyncDir(filepath.Dir(o.path)))
}

// publish gives the file its name. Without force it links the file, because a link never replaces another file; with
// force it renames a temporary name.
func (o *Output) publish() error {
	if !o.force {
		if err := o.link(o.path); errors.Is(err, fs.ErrExist) {
			return Failf(ExitExists, "%s exists: choose another name, or replace it with --force", o.path)
		} else if err != nil {
			return err
		}
		return o.dropName()
	}
	if o.named == "" {
		name := fmt.Sprintf("%s.tmp-%s", o.path, rand.Text()[:12])
		if err := o.link(name); err != nil {
			return err
		}
		o.named = name
	}
	if err := os.Rename(o.named, o.path); err != nil {
		return err
	}
	o.named = ""
	return nil
}

// link gives the open file a name.
func (o *Output) link(name string) error {
	if o.named != "" {
		return os.Link(o.named, name)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", o.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: self, New: name, Err: err}
	}
	return nil
}

func (o *Output) dropName() error {
	if o.named == "" {
		return nil
	}
	name := o.named
	o.named = ""
	return os.Remove(name)
}

// Discard deletes the file. After Commit it does nothing.
func (o *Output) Discard() error {
	err := o.dropName()
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
