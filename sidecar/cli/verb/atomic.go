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

// output is a file that appears under its name whole and on disk, or not at all.
type output struct {
	*os.File
	path  string
	force bool
	named string // temporary name, empty while the file has none
}

// CreateOutput begins a file. The file system keeps it nameless where it can (O_TMPFILE), so that not even a kill leaves
// a part of it behind; elsewhere it has a temporary name beside the final one.
func CreateOutput(path string, force bool) (*output, error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return nil, Failf(ExitExists, "%s exists: choose another name, or replace it with --force", path)
	}
	dir := filepath.Dir(path)
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return &output{File: os.NewFile(uintptr(fd), path), path: path, force: force}, nil
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return nil, err
	}
	return &output{File: f, path: path, force: force, named: f.Name()}, nil
}

// Commit makes the file durable and gives it its name.
func (o *output) Commit() error {
	if err := o.Sync(); err != nil {
		return errors.Join(err, o.Discard())
	}
	if err := o.publish(); err != nil {
		return errors.Join(err, o.Discard())
	}
	return errors.Join(o.Close(), SyncDir(filepath.Dir(o.path)))
}

// publish links or renames the file. A link never replaces; so without force the name is given by a link, and with it
// by renaming a temporary name.
func (o *output) publish() error {
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
func (o *output) link(name string) error {
	if o.named != "" {
		return os.Link(o.named, name)
	}
	self := fmt.Sprintf("/proc/self/fd/%d", o.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, self, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: self, New: name, Err: err}
	}
	return nil
}

func (o *output) dropName() error {
	if o.named == "" {
		return nil
	}
	name := o.named
	o.named = ""
	return os.Remove(name)
}

// Discard forgets the file. After commit it does nothing.
func (o *output) Discard() error {
	err := o.dropName()
	if cerr := o.Close(); cerr != nil && !errors.Is(cerr, fs.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}

// FileSet are files of one result, by what they hold.
type FileSet map[string]*output

// CreateFiles begins files under the paths given, before there is anything to keep in them.
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

func (s FileSet) Discard() error {
	var errs []error
	for _, f := range s {
		errs = append(errs, f.Discard())
	}
	return errors.Join(errs...)
}

// Commit writes the files and gives them their names.
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

// SyncDir makes the names in a folder durable.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
