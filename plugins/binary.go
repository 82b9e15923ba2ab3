package plugins

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// execFDBase is the lowest file descriptor from which a driver is executed. It is above all descriptors that os/exec moves in the
// child, so that it still refers to the verified file at execve.
const execFDBase = 100

// binary is a driver's executable. It is opened once, so that the verified file is the one that runs.
type binary struct {
	file *os.File
	name string   // path for logs and errors
	args []string // after the name
}

// openBinary opens and verifies the executable of a driver.
func openBinary(cfg *Config) (*binary, error) {
	b := &binary{name: cfg.Command}
	if cfg.Kind != KindExternal {
		// The running binary, also if an upgrade has replaced its file. Users that can write to it control this process
		// anyway, so only a pinned checksum is verified.
		b.name, b.args = "/proc/self/exe", []string{"driver", cfg.Kind}
	}
	f, err := os.OpenFile(b.name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if self, err := os.Executable(); err == nil && cfg.Kind != KindExternal {
		b.name = self // for ps
	}
	if cfg.Kind == KindExternal {
		if err := checkOwner(b.name, f); err != nil {
			return nil, err
		}
	}
	if cfg.SHA256 != "" {
		if err := checkSum(f, cfg.SHA256); err != nil {
			return nil, fmt.Errorf("%s: %w", b.name, err)
		}
	}
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, execFDBase)
	if err != nil {
		return nil, fmt.Errorf("duplicate descriptor: %w", err)
	}
	b.file = os.NewFile(uintptr(fd), b.name)
	return b, nil
}

// path is the name under which the child executes the opened file.
func (b *binary) path() string { return "/proc/self/fd/" + strconv.Itoa(int(b.file.Fd())) }

func (b *binary) close() error { return b.file.Close() }

// checkOwner returns an error if users other than root and this user could have changed or replaced the executable f.
func checkOwner(path string, f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", path)
	}
	if err := checkPermissions(path, info, false); err != nil {
		return err
	}
	dir := path
	for dir != "/" {
		dir = filepath.Dir(dir)
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		// In a sticky parent directory, such as /tmp, other users cannot rename our files.
		if err := checkPermissions(dir, info, dir != filepath.Dir(path)); err != nil {
			return err
		}
	}
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte("\x7fELF")) {
		return fmt.Errorf("%s is not an ELF executable (a checksum of a script would not cover its interpreter)", path)
	}
	return nil
}

func checkPermissions(path string, info fs.FileInfo, stickyOK bool) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: owner unknown", path)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, not to root or this user", path, st.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 && (!stickyOK || info.Mode()&fs.ModeSticky == 0) {
		return fmt.Errorf("%s is writable by others (mode %04o): chmod go-w", path, info.Mode().Perm())
	}
	return nil
}

func checkSum(f *os.File, want string) error {
	sum, err := hex.DecodeString(want)
	if err != nil {
		return fmt.Errorf("sha256: %w", err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return err
	}
	if got := h.Sum(nil); subtle.ConstantTimeCompare(got, sum) != 1 {
		return fmt.Errorf("checksum is %x, not the pinned sha256 %s", got, want)
	}
	return nil
}
