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

// serve answers every request on a Unix socket with handler.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	dir, err := os.MkdirTemp("", "cl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close() })
	c := New(socket)
	t.Cleanup(c.Close)
	return c
}

const health = `{"status":"ok","checks":{},"tenant":"t","huawei":{"project_id":"p1"}}`

// TestErrors reads both forms of an error, and what is none.
func TestErrors(t *testing.T) {
	var status int
	var body string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == HealthPath {
			_, _ = w.Write([]byte(health))
			return
		}
		if r.URL.Path != "/v1.0/p1/kms/describe-key" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Header().Set("X-Request-Id", "r1")
		w.Header().Set("Retry-After", "3")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	for _, s := range []struct {
		status int
		body   string
		want   Error
	}{
		{404, `{"error":{"error_code":"KMS.0207","error_msg":"key not found"}}`, Error{404, "KMS.0207", "key not found", "r1", 3 * time.Second}},
		{401, `{"error_code":"APIGW.0301","error_msg":"who?","request_id":"r1"}`, Error{401, "APIGW.0301", "who?", "r1", 3 * time.Second}},
		{502, `<html>`, Error{502, "HTTP.502", "Bad Gateway", "r1", 3 * time.Second}},
		{301, ``, Error{301, "HTTP.301", "Moved Permanently", "r1", 3 * time.Second}},
	} {
		status, body = s.status, s.body
		_, err := c.DescribeKey(t.Context(), "k")
		var e *Error
		if !errors.As(err, &e) || *e != s.want {
			t.Errorf("%d %s: %+v", s.status, s.body, err)
		}
		if errors.Is(err, ErrNotFound) != (s.status == 404) {
			t.Errorf("%d is ErrNotFound: %v", s.status, err)
		}
	}
	status, body = 200, `{"key_info":`
	if _, err := c.DescribeKey(t.Context(), "k"); err == nil || !strings.Contains(err.Error(), "not its format") {
		t.Errorf("half an answer: %v", err)
	}
}

// TestNoSidecar tells apart a socket that nobody serves, one that somebody else serves, and a context that ended.
func TestNoSidecar(t *testing.T) {
	var gone *ConnectError
	c := New(filepath.Join(t.TempDir(), "s"))
	if _, err := c.Random(t.Context(), 8); !errors.As(err, &gone) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	stranger := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	if _, err := stranger.Random(t.Context(), 8); err == nil || !strings.Contains(err.Error(), "is not a sidecar") {
		t.Errorf("a stranger: %v", err)
	}
	slow := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := slow.Random(ctx, 8); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow one: %v", err)
	}
}

// TestHostileDataKey refuses a data key whose digest is another's.
func TestHostileDataKey(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == HealthPath {
			_, _ = w.Write([]byte(health))
			return
		}
		_, _ = w.Write([]byte(`{"data_key":"00","datakey_dgst":"` + strings.Repeat("00", 32) + `"}`))
	})
	if key, err := c.DecryptDataKey(t.Context(), DecryptDataKeyRequest{KeyID: "k", Bytes: 1}); err == nil {
		t.Errorf("it returned %x", key)
	}
}
