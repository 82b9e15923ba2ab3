package edge

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestConnections opens more connections to the port than it takes: the others wait, the socket is none the worse, and those
// that wait are served when one ends.
func TestConnections(t *testing.T) {
	log := make(logLines, 100)
	opts, stop := serve(t, Options{
		Listen: freePort(t), Connections: ConnectionsConfig{Socket: 3, Listen: 2}, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	dial := func(network, address string) net.Conn {
		t.Helper()
		conn, err := net.Dial(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	// ask sends a request, and answered reports whether an answer comes soon.
	ask := func(conn net.Conn) {
		t.Helper()
		if _, err := conn.Write([]byte("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	answered := func(conn net.Conn, within time.Duration) bool {
		_ = conn.SetReadDeadline(time.Now().Add(within))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		return err == nil && resp.StatusCode == http.StatusOK
	}
	first, second := dial("tcp", opts.Listen), dial("tcp", opts.Listen)
	for _, conn := range []net.Conn{first, second} {
		if ask(conn); !answered(conn, 20*time.Second) {
			t.Error("a connection within the bound is not served")
		}
	}
	third := dial("tcp", opts.Listen)
	if ask(third); answered(third, 100*time.Millisecond) {
		t.Error("a connection over the bound is served")
	}
	for range 10 { // each closed again
		other := dial("unix", opts.Socket)
		if ask(other); !answered(other, 20*time.Second) {
			t.Error("a connection to the socket is not served")
		}
		_ = other.Close()
	}
	_ = first.Close()
	if !answered(third, 20*time.Second) {
		t.Error("a connection that waited is not served when another has ended")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if !log.have("connection limit reached") {
		t.Error("the log does not say so")
	}
}
