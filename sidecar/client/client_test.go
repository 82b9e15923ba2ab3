package client

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve answers every request on a Unix socket and returns a client of it.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "kc") // short enough for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	c := New(ln.Addr().String())
	t.Cleanup(func() {
		c.Close()
		_ = srv.Close()
	})
	return c
}

// TestErrors checks what a caller gets for each kind of response that is no success.
func TestErrors(t *testing.T) {
	const secret = "c2VjcmV0c2VjcmV0"
	for _, c := range []struct {
		name, body string
		status     int
		check      func(err error) bool
	}{
		{"refusal", `{"error":{"code":"Busy","message":"come back","field":"key_id","reason":"past","retry_after":3}}`, 503, func(err error) bool {
			var e *Error
			return errors.As(err, &e) && errors.Is(err, ErrBusy) && !errors.Is(err, ErrDenied) && e.Status == 503 && e.Field == "key_id" &&
				e.Reason == "past" && e.RetryAfter == 3*time.Second && e.RequestID == "1234" &&
				err.Error() == "key_id: come back (Busy, request 1234)"
		}},
		{"another server's refusal", `<html>`, 502, func(err error) bool {
			var e *Error
			return errors.As(err, &e) && e.Code == "HTTP 502" && e.Message == "bad gateway"
		}},
		{"malformed success", `{"plaintext":"` + secret + `","key_id":7}`, 200, func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "/key_id") && !strings.Contains(err.Error(), secret)
		}},
		{"no JSON", secret, 200, func(err error) bool {
			return err != nil && !strings.Contains(err.Error(), secret)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.URL.Path != "/keyside/v1/decrypt" || r.Header.Get("Content-Type") != "application/json" {
					t.Errorf("%s %s %v", r.Method, r.URL.Path, r.Header)
				}
				w.Header().Set("X-Request-Id", "1234")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.body))
			})
			if _, err := client.Decrypt(t.Context(), DecryptRequest{Ciphertext: []byte("x")}); !c.check(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestNoAnswer checks the errors of a socket without a server, a context that ends, and an operation above its time limit.
func TestNoAnswer(t *testing.T) {
	var silent *ConnectError
	if _, err := New(filepath.Join(t.TempDir(), "none")).CountKeys(t.Context()); !errors.As(err, &silent) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.CountKeys(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	c.Timeout = 10 * time.Millisecond
	if _, err := c.CountKeys(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("above the time limit: %v", err)
	}
}

// TestCutOff checks that a stream that ends early is an error with its request's id.
func TestCutOff(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Request-Id", "1234")
		_, _ = w.Write([]byte(`{"record":1,"file":"f","line":1,"entry":{}}` + "\n" + `{"rec`))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	records := 0
	err := c.ReadAuditLog(t.Context(), AuditQuery{}, func(*AuditEntry) error { records++; return nil })
	if !errors.Is(err, ErrCutOff) || !strings.Contains(err.Error(), "1234") || records != 1 {
		t.Errorf("%d records, %v", records, err)
	}
	if _, err := c.VerifyAuditLog(t.Context(), ""); !errors.Is(err, ErrCutOff) {
		t.Errorf("a report that is cut off: %v", err)
	}
}
