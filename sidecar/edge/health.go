package edge

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
)

// checkTimeout bounds one round of checks.
const checkTimeout = 3 * time.Second

// Health runs checks of the parts that every operation needs and answers GET /healthz from the last results. Anyone who can
// connect may ask: the answer has no secret, and the causes of failures go to the log only.
type Health struct {
	opts HealthOptions
	last atomic.Pointer[report]
}

// HealthOptions says what to check, and how often.
type HealthOptions struct {
	Interval time.Duration
	Checks   map[string]func(context.Context) error
	Answer   client.Health // what every answer says besides its status and its checks
	Logger   *slog.Logger
}

// report is the result of one round: "ok" or "unavailable" for each check.
type report struct {
	ok      bool
	checks  map[string]string
	expires time.Time // after it the report counts as a failure, because checks no longer run
}

// StartHealth runs the checks once, and then every interval until stop is called.
func StartHealth(ctx context.Context, opts HealthOptions) (h *Health, stop func(context.Context) error) {
	h = &Health{opts: opts}
	h.check(ctx)
	return h, h.start()
}

// check does one round.
func (h *Health) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	r := &report{ok: true, checks: make(map[string]string, len(h.opts.Checks)), expires: time.Now().Add(2*h.opts.Interval + checkTimeout)}
	before := h.last.Load()
	for name, check := range h.opts.Checks {
		r.checks[name] = "ok"
		if err := check(ctx); err != nil {
			r.ok, r.checks[name] = false, "unavailable"
			h.opts.Logger.Warn("health check failed", slog.String("check", name), slog.Any("error", err))
		} else if before != nil && before.checks[name] != "ok" {
			h.opts.Logger.Info("health check passes again", slog.String("check", name))
		}
	}
	h.last.Store(r)
}

func (h *Health) start() (stop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(h.opts.Interval)
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

// ServeHTTP implements http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r := h.last.Load()
	answer, status := h.opts.Answer, http.StatusOK
	answer.Status, answer.Checks = "ok", r.checks
	if !r.ok || time.Now().After(r.expires) {
		answer.Status, status = "unavailable", http.StatusServiceUnavailable
	}
	x := dialect.Begin()
	defer x.End()
	b, err := json.Marshal(answer)
	if err != nil {
		status = http.StatusInternalServerError
	}
	x.Out = append(x.Out, b...)
	x.Send(w, status)
}
