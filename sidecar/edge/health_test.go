package edge

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// TestHealthFollows turns to 503 when a check fails, and back, and when no check has run for too long.
func TestHealthFollows(t *testing.T) {
	var mu sync.Mutex
	var broken error
	h, stop := StartHealth(t.Context(), HealthOptions{Interval: time.Hour, Use: []string{"a"}, Change: []string{"b"}, Logger: slog.New(slog.DiscardHandler), Answer: client.Health{Tenant: "t"}, Checks: map[string]func(context.Context) error{
		"a": func(context.Context) error { return nil },
		"b": func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return broken
		},
	}})
	defer func() { _ = stop(t.Context()) }()
	ask := func() (int, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, nil)
		return w.Code, w.Body.String()
	}
	probe := func(name string, of http.Handler, query string, status int) {
		t.Helper()
		w := httptest.NewRecorder()
		of.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x"+query, nil))
		if w.Code != status {
			t.Errorf("%s%s: %d %s, want %d", name, query, w.Code, w.Body, status)
		}
	}
	expect := func(status int, text string) {
		t.Helper()
		if s, b := ask(); s != status || !strings.Contains(b, text) {
			t.Errorf("%d %s, want %d with %s", s, b, status, text)
		}
	}
	expect(200, `"b":"ok"`)
	broken = errors.New("secret cause")
	h.check(t.Context())
	expect(503, `"b":"unavailable"`)
	probe("live", h.Live(), "", 200)
	probe("ready", h.Ready(), "", 200)
	probe("ready", h.Ready(), "?need=change", 503)
	probe("ready", h.Ready(), "?need=everything", 400)
	broken = nil
	h.check(t.Context())
	expect(200, `"status":"ok"`)
	probe("ready", h.Ready(), "?need=change", 200)
	r := *h.last.Load()
	r.expires = time.Now().Add(-time.Second)
	h.last.Store(&r)
	expect(503, `"status":"unavailable"`) // no check has run for too long
	probe("live", h.Live(), "", 200)
	probe("ready", h.Ready(), "", 503)
}
