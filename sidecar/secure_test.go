package sidecar

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/edge"
)

// TestInsecureStart refuses directories that other users can write to, with the command that helps, and more connections than
// the process may have descriptors for, with the key to change.
func TestInsecureStart(t *testing.T) {
	n := newNode(t)
	for _, dir := range []string{n.cfg.Data, n.cfg.Audit.Dir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o770); err != nil {
			t.Fatal(err)
		}
	}
	n.cfg.Connections.Socket = edge.MaxConnections
	n.cfg.Connections.Listen = edge.MaxConnections
	err := Run(t.Context(), n.cfg, n.logger())
	if err == nil {
		t.Fatal("it started")
	}
	for _, want := range []string{"data: ", "chmod 0700 " + n.cfg.Data, "audit.dir: ", "chmod 0700 " + n.cfg.Audit.Dir} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
	if _, err := n.cfg.Connections.Fit(1024, true); err == nil || !strings.Contains(err.Error(), "connections.socket") {
		t.Errorf("too many connections: %v", err)
	}
}

// TestProbes asks every probe while one user holds all connections that it may have, when other requests are refused in the
// words of their dialects, and finds no file of the node that another user can open.
func TestProbes(t *testing.T) {
	n := newNode(t)
	n.cfg.Connections.Socket, n.cfg.Connections.Share = 4, 50
	_, stop := n.run()
	ask := func(conn net.Conn, request string) (status int, retry, body string) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: localhost\r\n\r\n", request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, 1000)
		read, _ := resp.Body.Read(text)
		return resp.StatusCode, resp.Header.Get("Retry-After"), string(text[:read])
	}
	dial := func() net.Conn {
		conn, err := net.Dial("unix", n.cfg.Socket)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for deadline := time.Now().Add(20 * time.Second); ; { // that of n.run may not have ended
		held := dial()
		if status, _, _ := ask(held, "GET "+client.LivePath); status == 200 {
			if status, _, _ := ask(dial(), "GET /keyside/v1/openapi.json"); status == http.StatusServiceUnavailable {
				break
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is refused")
		}
	}
	for _, path := range []string{client.HealthPath, client.LivePath, client.ReadyPath, client.ReadyPath + "?need=change"} {
		if status, _, body := ask(dial(), "GET "+path); status != 200 || !strings.Contains(body, `"status":"ok"`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for request, want := range map[string]string{
		"POST /v1.0/keyside/kms/list-keys": `"error_code":"KMS.0104"`, "POST /keyside/v1/list-keys": `"code":"Busy"`, "GET /nothing": "KMS.0104",
	} {
		if status, retry, body := ask(dial(), request); status != 503 || retry != "1" || !strings.Contains(body, want) {
			t.Errorf("%s: %d, retry after %q: %s", request, status, retry, body)
		}
	}
	for _, dir := range []string{n.cfg.Data, n.cfg.Audit.Dir} {
		if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %04o", path, info.Mode().Perm())
			}
			return err
		}); err != nil {
			t.Error(err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
