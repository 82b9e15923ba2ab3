package pkcs11

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// store is the directory of a module's objects, if the profile or the settings name one. Otherwise its methods do nothing.
type store struct {
	path string
	dir  *os.File
}

func openStore(s *Settings, p *Profile) (*store, error) {
	path := s.Store
	if path == "" && p.Store.ConfigKey != "" {
		var err error
		if path, err = storePath(p.Store); err != nil {
			return nil, driver.Errorf(driver.Device, "find the module's object store: %w", err)
		}
	}
	if path == "" {
		return &store{}, nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, driver.Errorf(driver.Device, "module's object store: %w", err)
	}
	return &store{path: path, dir: dir}, nil
}

// storePath reads the directory's path from the module's own configuration, which has lines of "key = value".
func storePath(p storeProfile) (string, error) {
	name := os.Getenv(p.ConfigEnv)
	if name == "" {
		name = p.ConfigDefault
	}
	file, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		key, value, ok := strings.Cut(lines.Text(), "=")
		if ok && strings.TrimSpace(key) == p.ConfigKey {
			return strings.TrimSpace(value), nil
		}
	}
	return "", errors.New(name + " does not set " + p.ConfigKey)
}

// lock takes the lock that keeps other driver processes on this machine from writing to the store. Without wait, it returns false
// if another process has the lock.
func (st *store) lock(wait bool) (bool, error) {
	if st.dir == nil {
		return true, nil
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err := syscall.Flock(int(st.dir.Fd()), how)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			st.close()
			return false, nil
		default:
			st.close()
			return false, driver.Errorf(driver.Device, "lock the module's object store: %w", err)
		}
	}
}

func (st *store) close() {
	if st.dir != nil {
		_ = st.dir.Close()
	}
}

// sync syncs all files that changed after since, and their directories, to disk.
func (st *store) sync(since time.Time) error {
	if st.dir == nil {
		return nil
	}
	since = since.Add(-time.Second) // file times are coarser than ours
	err := filepath.WalkDir(st.path, func(path string, e fs.DirEntry, err error) error {
		if notOurs(err) && path != st.path {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if notOurs(err) || err == nil && !e.IsDir() && info.ModTime().Before(since) {
			return nil
		}
		if err != nil {
			return err
		}
		return syncFile(path)
	})
	if err != nil {
		return driver.Errorf(driver.Device, "sync the module's object store: %w", err)
	}
	return nil
}

// notOurs reports whether a file need not be synced: it no longer exists, or belongs to another user's token.
func notOurs(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

func syncFile(path string) error {
	file, err := os.Open(path)
	if notOurs(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
