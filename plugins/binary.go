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

// execFDBase is the least number of the descriptor that a driver is executed from. It lies above every descriptor that
// the child's start moves about, so the number still means the verified file when execve opens it.
const execFDBase = 100

// binary is a driver's executable, opened once: what was verified is what runs, whatever the path names by then.
type binary struct {
	file *os.File
	name string   // for people: the path that was opened
	args []string // after the name
}

// openBinary opens and verifies the executable of a driver.
func openBinary(cfg *Config) (*binary, error) {
	b := &binary{name: cfg.Command}
	if cfg.Kind != KindExternal {
		// The running binary, even where an upgrade has replaced its file meanwhile. Whoever can write to it already
		// owns this process, so only a pinned checksum is worth a look.
		b.name, b.args = "/proc/self/exe", []string{"driver", cfg.Kind}
	}
	f, err := os.OpenFile(b.name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	if self, err := os.Executable(); err == nil && cfg.Kind != KindExternal {
		b.name = self // what ps shows
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

// checkOwner refuses an executable that anybody but root and we could have changed or replaced. f is the open file.
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
		// A sticky directory further up, such as /tmp, lets nobody rename what is ours in it.
		if err := checkPermissions(dir, info, dir != filepath.Dir(path)); err != nil {
			return err
		}
	}
	magic := make([]byte, 4)
	if _, err := f.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte("\x7fELF")) {
		return fmt.Errorf("%s is no ELF executable (of a script only the text would be verified, not what interprets it)", path)
	}
	return nil
}

func checkPermissions(path string, info fs.FileInfo, stickyOK bool) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: owner unknown", path)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, neither root nor us", path, st.Uid)
	}
	if info.Mode().Perm()&0o022 != 0 && (!stickyOK || info.Mode()&fs.ModeSticky == 0) {
		return fmt.Errorf("%s is writable by others (mode %04o); take that away with chmod go-w", path, info.Mode().Perm())
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
