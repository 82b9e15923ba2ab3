package peer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// maxPath is the longest path of a Unix socket, bytes (unix(7): sun_path has 108 with the final zero).
const maxPath = 107

// ErrInUse is the error of a socket that another process serves.
var ErrInUse = errors.New("another process is serving this socket")

// Listen returns the listener of the Unix socket at path. If the service manager passed listening sockets (LISTEN_FDS), it is the one
// with this path. Otherwise Listen creates the socket. The directory must belong to root or to this user, and other users must
// not be able to replace the socket. Listen removes a stale socket; if a process serves it, the error is ErrInUse. Only
// the owner can connect before mode and group (a name or number, "" for our own) are set. Closing the listener removes a socket
// that Listen created.
func Listen(path string, mode fs.FileMode, group string) (net.Listener, error) {
	path = filepath.Clean(path)
	ln, err := activated(path)
	if ln != nil || err != nil {
		return ln, err
	}
	if !filepath.IsAbs(path) || len(path) > maxPath {
		return nil, fmt.Errorf("socket %s: want an absolute path of at most %d bytes", path, maxPath)
	}
	gid, err := groupID(group)
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	if err := checkDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	ln, err = bind(path, mode, gid)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket %s: %w", path, err), lock.Close())
	}
	return &listener{Listener: ln, lock: lock}, nil
}

// listener holds the lock file for as long as it listens.
type listener struct {
	net.Listener
	lock *os.File
	once sync.Once
	err  error
}

func (l *listener) Close() error {
	l.once.Do(func() { l.err = errors.Join(l.Listener.Close(), l.lock.Close()) })
	return l.err
}

// passed are the service manager's sockets, taken from the environment once.
var passed = sync.OnceValues(func() ([]net.Listener, error) { return activation.Listeners() })

func activated(path string) (net.Listener, error) {
	listeners, err := passed()
	if err != nil {
		return nil, fmt.Errorf("sockets of the service manager: %w", err)
	}
	unixSockets := 0
	for _, ln := range listeners {
		if ln == nil || ln.Addr().Network() != "unix" {
			continue
		}
		if ln.Addr().String() == path {
			return ln, nil
		}
		unixSockets++
	}
	if unixSockets > 0 {
		return nil, fmt.Errorf("socket %s: the service manager passed other sockets but not this one; make its ListenStream= and the configuration agree", path)
	}
	return nil, nil
}

func groupID(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// checkDir refuses a directory in which another user could replace our socket.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() {
		return fmt.Errorf("%s is no directory", dir)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("directory %s belongs to uid %d, neither root nor us", dir, st.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 && info.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("directory %s is writable by others (mode %04o)", dir, info.Mode().Perm())
	}
	return nil
}

func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, err
	}
	return f, nil
}

// CheckLock returns an error if Listen could not open the lock of the socket at path, so that it is known before anything else is opened.
func CheckLock(path string) error {
	f, err := os.OpenFile(filepath.Clean(path)+".lock", os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("socket %s: %w", path, err)
	}
	return f.Close()
}

func bind(path string, mode fs.FileMode, gid int) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode of a socket's file is that of the descriptor at bind, so it starts out as the owner's alone.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		err := c.Control(func(fd uintptr) { modeErr = unix.Fchmod(int(fd), 0o600) })
		return errors.Join(err, modeErr)
	}}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if gid >= 0 {
		err = os.Chown(path, -1, gid)
	}
	if err == nil {
		err = os.Chmod(path, mode.Perm())
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("exists and is no socket")
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = conn.Close()
		return ErrInUse
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("is it served? %w", err)
}
