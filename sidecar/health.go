package sidecar

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	client "github.com/keyside/keyside/sidecar/client/old"
	"github.com/keyside/keyside/sidecar/dialect"
)

// checkTimeout bounds one round of checks.
const checkTimeout = 3 * time.Second

// health knows how the parts are that every operation needs. It looks now and then, so that asking costs nothing.
type health struct {
	interval time.Duration
	checks   map[string]func(context.Context) error
	log      *slog.Logger
	last     atomic.Pointer[report]
}

// report is the result of one round: what each check found, "ok" or "unavailable". Causes go to the log.
type report struct {
	ok     bool
	checks map[string]string
	until  time.Time // when it is too old to be believed
}

func newHealth(interval time.Duration, checks map[string]func(context.Context) error, log *slog.Logger) *health {
	return &health{interval: interval, checks: checks, log: log}
}

// check does one round.
func (h *health) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	r := &report{ok: true, checks: make(map[string]string, len(h.checks)), until: time.Now().Add(2*h.interval + checkTimeout)}
	before := h.last.Load()
	for name, check := range h.checks {
		r.checks[name] = "ok"
		if err := check(ctx); err != nil {
			r.ok, r.checks[name] = false, "unavailable"
			h.log.Warn("health check failed", slog.String("check", name), slog.Any("error", err))
		} else if before != nil && before.checks[name] != "ok" {
			h.log.Info("health check passes again", slog.String("check", name))
		}
	}
	h.last.Store(r)
}

// start checks every interval until the returned function is called.
func (h *health) start() (stop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(h.interval)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				h.check(ctx)
			case <-ctx.Done():
				return
			}
		}
	}()
	return func(context.Context) error {
		cancel()
		<-done
		return nil
	}
}

// healthRoute answers GET /healthz, to anybody who can connect: it says nothing that is secret.
type healthRoute struct {
	health *health
	tenant string
	huawei client.Huawei
}

func (h *healthRoute) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r := h.health.last.Load()
	answer := client.Health{Status: "ok", Checks: r.checks, Tenant: h.tenant, Huawei: h.huawei}
	status := http.StatusOK
	if !r.ok || time.Now().After(r.until) {
		answer.Status, status = "unavailable", http.StatusServiceUnavailable
	}
	sendJSON(w, status, answer)
}

// sendJSON answers with a value of the client package.
func sendJSON(w http.ResponseWriter, status int, v any) {
	x := dialect.Begin()
	defer x.End()
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error_code":"KMS.0103","error_msg":"internal error"}`)
	}
	x.Out = append(x.Out, b...)
	x.Send(w, status)
}
