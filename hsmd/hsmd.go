// Package hsmd multiplexes HSM drivers. A Mux combines several Drivers into one: it starts them, restarts crashed ones, queues
// fairly per tenant and replays interrupted calls. Run is the daemon that serves one Mux per driver name to the sidecars; Dial
// is its client.
package hsmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins/driver"
)

// Backend is what a Mux multiplexes: a driver process, or a connection to the node's hsmd. It answers every request that it
// accepted, with Lost if it ends first.
//
// A Backend may also have FromOutside() bool, which reports after Done whether another process ended it, and not a fault of
// its own.
type Backend interface {
	driver.Driver
	driver.Submitter
	// Done is closed when the backend has ended.
	Done() <-chan struct{}
	// PID returns the id of its process, for logs and status.
	PID() int
	// Close drains it until ctx ends, then ends it.
	Close(ctx context.Context) error
}

// MuxConfig configures a Mux. Only Members is required; zero fields take the defaults.
type MuxConfig struct {
	Name    string
	Members []MemberConfig
	// QueueDepth is how many operations of one tenant may wait; a further one is Busy. Default 4096.
	QueueDepth int
	// QueueBytes limits their size in bytes, together. Default 32 MiB.
	QueueBytes int
	// InFlight is how many operations a member gets at once for each of its workers, and half as many slow ones.
	// The default, 16, keeps the driver's own queue from running empty between two batches.
	InFlight int
	// FailedImports limits the imports of one tenant that fail. Zero means no limit: a sidecar that runs its own drivers has a limit for
	// each key.
	FailedImports ImportsConfig
	// CanaryInterval is how often each member does one real operation. A member that fails it twice in a row is replaced. Zero
	// means only after an error of the device.
	CanaryInterval time.Duration
	// CanaryTimeout limits one canary. Default 10s.
	CanaryTimeout time.Duration
	// StartTimeout limits one start of a member. Default 60s.
	StartTimeout time.Duration
	// HangTimeout is how long after its deadline an unanswered operation shows that its member hangs. Default 10s.
	HangTimeout time.Duration
	// Recorder records times and spans; nil records nothing.
	Recorder *telemetry.Recorder
	Logger   *slog.Logger
}

// MemberConfig is one member of a Mux and how to start it. Start is called again whenever the member has ended.
type MemberConfig struct {
	Name  string
	Start func(ctx context.Context) (Backend, error)
}

func (c *MuxConfig) complete() error {
	if len(c.Members) == 0 {
		return errors.New("a mux needs a member")
	}
	seen := map[string]bool{}
	for _, m := range c.Members {
		if m.Start == nil || seen[m.Name] {
			return fmt.Errorf("member %q: without Start, or named twice", m.Name)
		}
		seen[m.Name] = true
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	defaults := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	defaults(&c.QueueDepth, 4096)
	defaults(&c.QueueBytes, 32<<20)
	defaults(&c.InFlight, 16)
	for v, d := range map[*time.Duration]time.Duration{
		&c.CanaryTimeout: 10 * time.Second, &c.StartTimeout: time.Minute, &c.HangTimeout: 10 * time.Second,
	} {
		if *v <= 0 {
			*v = d
		}
	}
	return nil
}
