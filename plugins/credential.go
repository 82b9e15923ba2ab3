package plugins

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/procattr"
)

const (
	// maxCredential is the longest credential, bytes.
	maxCredential = 4096
	// helperTimeout limits a credential helper, which may have to ask another machine.
	helperTimeout = 30 * time.Second
)

// errHelperFailed reports a helper that ran and printed no credential. A later run may succeed, because its source may be unavailable.
var errHelperFailed = errors.New("helper failed")

// Load reads the credential without its trailing newline. It returns nil if none is configured. The caller must clear it.
func (c *Credential) Load(ctx context.Context) ([]byte, error) {
	switch {
	case c.File != "":
		return readSecret(c.File, true)
	case c.Systemd != "":
		dir := os.Getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return nil, fmt.Errorf("credential.systemd: the service manager passed no credentials; add LoadCredential=%s:/path to the unit", c.Systemd)
		}
		return readSecret(filepath.Join(dir, c.Systemd), false) // the directory itself is private to the service
	case len(c.Command) > 0:
		return runHelper(ctx, c.Command)
	}
	return nil, nil
}

// named adds to the error of a driver that rejected the credential the file that it came from.
func (c *Credential) named(err error) error {
	var e *driver.Error
	if c.File == "" || !errors.As(err, &e) || e.Code != driver.PINIncorrect {
		return err
	}
	named := *e
	named.Message += fmt.Sprintf("; the credential is that of %s: restore it or the token, whichever changed, from a backup", c.File)
	return &named
}

// readSecret reads a file with a secret. With private, the owner must be root or this user and only the owner may read it.
func readSecret(path string, private bool) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("credential: %w", procattr.AdviseAccess(err))
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return nil, fmt.Errorf("credential: %s is not a regular file", path)
	case private && st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("credential: %s belongs to uid %d, not to root or this user", path, st.Uid)
	case private && info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("credential: %s is readable by others (mode %04o): chmod 600 it", path, info.Mode().Perm())
	}
	secret, err := readLimited(f)
	if err != nil {
		return nil, fmt.Errorf("credential: %s: %w: restore it from a backup", path, err)
	}
	return secret, nil
}

func runHelper(ctx context.Context, command []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("credential.command: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("credential.command: %w", err)
	}
	// Processes that the helper started may keep the pipe open after it exits.
	stop := context.AfterFunc(ctx, func() { _ = out.Close() })
	secret, readErr := readLimited(out)
	stop()
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		clear(secret)
		return nil, fmt.Errorf("credential.command: %s: %w: %w", command[0], errHelperFailed, err)
	}
	return secret, nil
}

// readLimited reads a secret into one buffer, so that reallocation leaves no copy, and removes one trailing newline.
func readLimited(r io.Reader) ([]byte, error) {
	buf := make([]byte, maxCredential+1)
	n, err := io.ReadFull(r, buf)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		clear(buf)
		return nil, err
	}
	if n > maxCredential {
		clear(buf)
		return nil, fmt.Errorf("longer than %d bytes", maxCredential)
	}
	secret := bytes.TrimSuffix(bytes.TrimSuffix(buf[:n], []byte("\n")), []byte("\r"))
	if len(secret) == 0 {
		return nil, errors.New("is empty")
	}
	return secret, nil
}
