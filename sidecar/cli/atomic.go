package cli

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

// createOutput begins a file. The file system keeps it nameless where it can (O_TMPFILE), so that not even a kill leaves
// a part of it behind; elsewhere it has a temporary name beside the final one.
func createOutput(path string, force bool) (*output, error) {
	if _, err := os.Lstat(path); err == nil && !force {
		return nil, failf(ExitExists, "%s exists: choose another name, or replace it with --force", path)
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

// commit makes the file durable and gives it its name.
func (o *output) commit() error {
	if err := o.Sync(); err != nil {
		return errors.Join(err, o.discard())
	}
	if err := o.publish(); err != nil {
		return errors.Join(err, o.discard())
	}
	return errors.Join(o.Close(), syncDir(filepath.Dir(o.path)))
}

// publish links or renames the file. A link never replaces; so without force the name is given by a link, and with it
// by renaming a temporary name.
func (o *output) publish() error {
	if !o.force {
		if err := o.link(o.path); errors.Is(err, fs.ErrExist) {
			return failf(ExitExists, "%s exists: choose another name, or replace it with --force", o.path)
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

// discard forgets the file. After commit it does nothing.
func (o *output) discard() error {
	err := o.dropName()
	if cerr := o.Close(); cerr != nil && !errors.Is(cerr, fs.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}

// fileSet are files of one result, by what they hold.
type fileSet map[string]*output

// createFiles begins files under the paths given, before there is anything to keep in them.
func createFiles(paths map[string]string, force bool) (fileSet, error) {
	files := fileSet{}
	for what, path := range paths {
		f, err := createOutput(path, force)
		if err != nil {
			return nil, errors.Join(err, files.discard())
		}
		files[what] = f
	}
	return files, nil
}

func (s fileSet) discard() error {
	var errs []error
	for _, f := range s {
		errs = append(errs, f.discard())
	}
	return errors.Join(errs...)
}

// commit writes the files and gives them their names.
func (s fileSet) commit(content map[string][]byte) error {
	for what, f := range s {
		if _, err := f.Write(content[what]); err != nil {
			return errors.Join(err, s.discard())
		}
	}
	for _, f := range s {
		if err := f.commit(); err != nil {
			return errors.Join(err, s.discard())
		}
	}
	return nil
}

// writeAtomic replaces a file of 0600 in one step.
func writeAtomic(path string, content []byte) error {
	o, err := createOutput(path, true)
	if err != nil {
		return err
	}
	if _, err := o.Write(content); err != nil {
		return errors.Join(err, o.discard())
	}
	return o.commit()
}

// syncDir makes the names in a folder durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncFilesystem writes out everything of the file system that holds path: SoftHSM syncs none of its files.
func syncFilesystem(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
