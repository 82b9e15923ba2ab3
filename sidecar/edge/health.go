package edge

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
)

// checkTimeout bounds one round of checks.
const checkTimeout = 3 * time.Second

// Health runs checks of the parts that operations need and answers from the last results: as a handler GET /healthz, for which
// all checks count; Live and Ready are the others. Anyone who can connect may ask, also over a limit of connections: the
// answers have no secret, and the causes of failures go to the log only.
type Health struct {
	opts HealthOptions
	last atomic.Pointer[report]
}

// HealthOptions says what to check, and how often.
type HealthOptions struct {
	Interval time.Duration
	Checks   map[string]func(context.Context) error
	Use      []string                 // checks of what every use of a key needs
	Change   []string                 // checks of what a change needs besides
	Answer   client.Health            // what every answer says besides its status, its checks and the clock
	Clock    func() client.ClockState // nil: none
	Logger   *slog.Logger
}

// report is the result of one round: "ok" or "unavailable" for each check.
type report struct {
	checks  map[string]string
	expires time.Time // after it all checks count as failed, because they no longer run
}

// passes reports whether all of the named checks passed.
func (r *report) passes(names []string) bool {
	return !time.Now().After(r.expires) && !slices.ContainsFunc(names, func(name string) bool { return r.checks[name] != "ok" })
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
	r := &report{checks: make(map[string]string, len(h.opts.Checks)), expires: time.Now().Add(2*h.opts.Interval + checkTimeout)}
	before := h.last.Load()
	for name, check := range h.opts.Checks {
		r.checks[name] = "ok"
		if err := check(ctx); err != nil {
			r.checks[name] = "unavailable"
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

// Checks returns whether each check passed last.
func (h *Health) Checks() map[string]bool {
	r := h.last.Load()
	passed := make(map[string]bool, len(r.checks))
	for name := range r.checks {
		passed[name] = r.passes([]string{name})
	}
	return passed
}

// ServeHTTP implements http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	h.answer(w, slices.Collect(maps.Keys(h.opts.Checks)))
}

// Ready answers 200 while keys can be used, and with ?need=change only while changes are possible, too.
func (h *Health) Ready() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch need := r.URL.RawQuery; need {
		case "":
			h.answer(w, h.opts.Use)
		case "need=change":
			h.answer(w, slices.Concat(h.opts.Use, h.opts.Change))
		default:
			send(w, http.StatusBadRequest, struct {
				Status string `json:"status"`
			}{"the only query is need=change"})
		}
	})
}

// Live answers 200: a process that answers lives. A restart would not help against what the checks find.
func (h *Health) Live() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		send(w, http.StatusOK, struct {
			Status string `json:"status"`
		}{"ok"})
	})
}

// answer sends the last results, with 200 if the named checks passed.
func (h *Health) answer(w http.ResponseWriter, names []string) {
	r := h.last.Load()
	answer, status := h.opts.Answer, http.StatusOK
	answer.Status, answer.Checks = "ok", r.checks
	if h.opts.Clock != nil {
		answer.Clock = h.opts.Clock()
	}
	if !r.passes(names) {
		answer.Status, status = "unavailable", http.StatusServiceUnavailable
	}
	send(w, status, answer)
}

func send(w http.ResponseWriter, status int, answer any) {
	x := dialect.Begin()
	defer x.End()
	if err := x.JSON(answer); err != nil {
		status = http.StatusInternalServerError
	}
	x.Send(w, status)
}
