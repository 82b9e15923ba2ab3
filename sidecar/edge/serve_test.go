package edge

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// logLines is a log whose lines a test looks for.
type logLines chan string

func (l logLines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// have reports whether a line that was written contains text.
func (l logLines) have(text string) bool {
	for {
		select {
		case line := <-l:
			if strings.Contains(line, text) {
				return true
			}
		default:
			return false
		}
	}
}

// serve serves with the options, completed, until stop is called, which returns what Serve did.
func serve(t *testing.T, opts Options) (completed *Options, stop func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "edge") // shorter than t.TempDir, for the limit of a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if opts.Handler == nil {
		opts.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	}
	opts.Socket, opts.SocketMode, opts.DrainTimeout = filepath.Join(dir, "socket"), 0o600, 5*time.Second
	if opts.Connections == (ConnectionsConfig{}) {
		opts.Connections = ConnectionsConfig{Socket: 100, Listen: 100, Share: 50}
	}
	ready := make(chan struct{})
	opts.OnReady, opts.OnDrain = func() { close(ready) }, func() {}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, opts) }()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
	return &opts, func() error {
		cancel()
		return <-ended
	}
}

// freePort returns an address of the loopback that is not in use.
func freePort(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = free.Close() }()
	return free.Addr().String()
}
