package sidecar

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// passer is the environment that makes this test's binary connect to a socket and hand the connection over.
const passer = "KEYSIDE_TEST_PASSER"

// passConnection connects, sends the connection through the socket that is descriptor 3, and waits to be ended.
func passConnection(path string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	f, err := conn.File()
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(3, []byte("x"), unix.UnixRights(int(f.Fd())), nil, 0); err != nil {
		return err
	}
	_, err = os.Stdin.Read(make([]byte, 1))
	return err
}

// connectionOf has a process of a uid connect, and returns its connection and what ends the process.
func connectionOf(t *testing.T, uid uint32, path string) (net.Conn, func()) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "passer")
	// Only this test's user may be able to read where go test built it.
	program := filepath.Join(filepath.Dir(path), "passer")
	self, err := os.ReadFile("/proc/self/exe")
	if err := errors.Join(err, os.WriteFile(program, self, 0o700), os.Chmod(program, 0o755), os.Chmod(filepath.Dir(path), 0o755), os.Chmod(path, 0o777)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = "/", []string{passer + "=" + path}, []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err := errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	end := func() {
		_ = in.Close()
		_ = cmd.Wait()
	}
	t.Cleanup(end)
	control := make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(pair[0], make([]byte, 1), control, 0)
	if err := errors.Join(err, unix.Close(pair[0])); err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[0]), "connection")
	conn, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn, end
}

// TestPassedConnection has root hold a connection of another user's process. While that process runs, the connection has that user's rights
// and not root's, who is the owner. Afterwards it has none: every request is refused and recorded, and the connection ends.
func TestPassedConnection(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("this test plays another user: run it as root")
	}
	n := newNode(t)
	n.cfg.Principals = []Principal{{Name: "app", UID: 64301}}
	_, stop := n.run()
	conn, end := connectionOf(t, 64301, n.cfg.Socket)
	answers := bufio.NewReader(conn)
	ask := func() (status int, body string, closed bool) {
		t.Helper()
		_, err := io.WriteString(conn, "POST /v1.0/"+n.cfg.huawei().ProjectID+"/kms/list-keys HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
		if err != nil {
			return 0, "", true
		}
		r, err := http.ReadResponse(answers, nil)
		if err != nil {
			return 0, "", true
		}
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, string(text), r.Close
	}
	const refused, over = "KMS.0307", "has ended"
	if status, body, closed := ask(); status != 403 || !strings.Contains(body, refused) || strings.Contains(body, over) || closed {
		t.Errorf("while it lives: %d %s, closed %t", status, body, closed)
	}
	end()
	deadline := time.Now().Add(20 * time.Second)
	for {
		status, body, closed := ask()
		if status == 403 && strings.Contains(body, over) && closed {
			break
		}
		if status != 403 || closed || time.Now().After(deadline) {
			t.Fatalf("after its end: %d %s, closed %t", status, body, closed)
		}
	}
	if status, _, closed := ask(); status != 0 || !closed {
		t.Error("the connection goes on")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	log := n.audit()
	if !strings.Contains(log, `"principal":"app","caller":{"uid":64301,`) || !strings.Contains(log, `"caller":{"uid":64301,`) ||
		!strings.Contains(log, `"known":false`) || strings.Contains(log, `"principal":"owner","caller":{"uid":64301`) {
		t.Errorf("on record:\n%s", log)
	}
}
