package peer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestWatchdog holds that the service manager is told while the process works, and not while it does not.
func TestWatchdog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "")
	asked := make(chan chan error)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		Watchdog(ctx, func(ctx context.Context) error {
			answer := make(chan error)
			select {
			case asked <- answer:
				return <-answer
			case <-ctx.Done():
				return ctx.Err()
			}
		}, slog.New(slog.DiscardHandler))
	}()
	told := func() string {
		b := make([]byte, 100)
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	for range 3 {
		answer := <-asked
		answer <- nil
		if got := told(); got != "WATCHDOG=1" {
			t.Errorf("the service manager is told %q", got)
		}
	}
	answer := <-asked
	answer <- errors.New("it does not work")
	<-asked // the next question comes only after all that the failure leads to
	if err := conn.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("the service manager is told %d bytes by a process that does not work", n)
	}
	cancel()
	t.Setenv("WATCHDOG_USEC", "")
	Watchdog(t.Context(), func(context.Context) error { t.Error("asked without a watchdog"); return nil }, slog.New(slog.DiscardHandler))
}
