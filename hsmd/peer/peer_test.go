package peer

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyside/keyside/policy"
)

// TestMain plays another process where a test asks for it: a client, a server, or a service under socket activation.
func TestMain(m *testing.M) {
	for variable, play := range map[string]func(string) error{playClient: client, playServer: serve} {
		if path, ok := os.LookupEnv(variable); ok {
			if err := play(path); err != nil {
				_, _ = os.Stderr.WriteString(err.Error() + "\n")
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	if path := os.Getenv("KEYSIDE_TEST_ACTIVATED"); path != "" {
		// systemd sets LISTEN_PID after its fork; here the child does it itself.
		_ = os.Setenv("LISTEN_PID", itoa(os.Getpid()))
		ln, err := Listen(path, 0o600, "")
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
			os.Exit(0)
		}
		conn, err := ln.Accept()
		if err != nil {
			os.Exit(1)
		}
		_, _ = conn.Write([]byte("served"))
		_ = conn.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// dir is a short temporary directory: a socket's path has 107 bytes.
func dir(t *testing.T) string {
	t.Helper()
	d, err := os.MkdirTemp("/tmp", "ks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(d) })
	return d
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	ln, err := Listen(path, 0o640, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func TestListenSetsModeAndRemovesItsSocket(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	old := syscall.Umask(0) // a lax umask must not open the socket either
	ln := listen(t, path)
	syscall.Umask(old)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode: %v, %v", info.Mode(), err)
	}
	if err := errors.Join(ln.Close(), ln.Close()); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket outlived its listener: %v", err)
	}
	listen(t, path)
}

func TestListenRefusesWhatIsServed(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	listen(t, path)
	if _, err := Listen(path, 0o600, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("second listener: %v", err)
	}
	// Also where the first holds no lock, as a program that is not ours.
	other := filepath.Join(dir(t), "s")
	ln, err := net.Listen("unix", other)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	if _, err := Listen(other, 0o600, ""); !errors.Is(err, ErrInUse) {
		t.Errorf("socket of another program: %v", err)
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false) // as a kill leaves it
	_ = ln.Close()
	listen(t, path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestListenRefusesBadPlaces(t *testing.T) {
	d := dir(t)
	file := filepath.Join(d, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(d, "open")
	if err := errors.Join(os.Mkdir(open, 0o700), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(d, "linked.lock")
	if err := os.Symlink("/etc/passwd", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                            "exists and is no socket",
		filepath.Join(open, "s"):        "is writable by others",
		filepath.Join(d, "none", "s"):   "no such file",
		"relative":                      "absolute path",
		d + strings.Repeat("/long", 30): "at most 107 bytes",
		filepath.Join(d, "linked"):      "too many levels of symbolic links",
	} {
		if _, err := Listen(path, 0o600, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	if _, err := Listen(filepath.Join(d, "g"), 0o600, "no-such-group-here"); err == nil {
		t.Error("an unknown group passes")
	}
	if _, err := os.Lstat(file); err != nil {
		t.Errorf("what was no socket is gone: %v", err)
	}
}

func TestCredsAreTheKernels(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	ln := listen(t, path)
	client, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	want := policy.Caller{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid()), PID: int32(os.Getpid()), Known: true}
	for _, conn := range []net.Conn{client, server} {
		if got, err := Creds(conn); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
	a, b := net.Pipe()
	_ = b.Close()
	if got, err := Creds(a); err != nil || got.Known {
		t.Errorf("a pipe: %+v, %v", got, err)
	}
}

func TestSocketActivation(t *testing.T) {
	path := filepath.Join(dir(t), "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	f, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	service := func(ask string) *exec.Cmd {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"KEYSIDE_TEST_ACTIVATED=" + ask, "LISTEN_FDS=1"}
		cmd.ExtraFiles = []*os.File{f}
		return cmd
	}
	cmd := service(path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 16)
	if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "served" {
		t.Errorf("%q, %v", answer[:n], err)
	}
	_ = conn.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the service removed the manager's socket: %v", err)
	}
	out, err := service(path + "-other").Output()
	if err != nil || !strings.Contains(string(out), "not this one") {
		t.Errorf("socket that was not passed: %s, %v", out, err)
	}
}
