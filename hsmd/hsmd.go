// Package hsmd multiplexes HSM drivers. Mux is a Driver made of Drivers: it starts them, replaces the dead, queues fairly
// between tenants and repeats what a death interrupted. Run is the daemon that owns a node's HSMs and serves a Mux per
// driver to the sidecars; Dial is their end.
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

// Backend is what a Mux multiplexes: a driver process, or a connection to the hsmd of the node. It answers every request
// that it took, with Lost if it ends first.
//
// A Backend may also have FromOutside() bool, which says after Done whether it was ended by somebody else and not by a
// fault of its own.
type Backend interface {
	driver.Driver
	driver.Submitter
	// Done is closed when the backend is gone for good.
	Done() <-chan struct{}
	// PID returns the process behind it, for people.
	PID() int
	// Close drains it until ctx ends, then ends it.
	Close(ctx context.Context) error
}

// MuxConfig configures a Mux. Only Members is required.
type MuxConfig struct {
	Name    string
	Members []MemberConfig
	// QueueDepth bounds the operations of one tenant that wait; one more is Busy. Default 4096.
	QueueDepth int
	// QueueBytes bounds their size together. Default 32 MiB.
	QueueBytes int
	// InFlight is how many operations a member is given at once, per worker that it has; half as many where they are slow.
	// The default, 16, keeps the driver's own queue from running empty between two batches.
	InFlight int
	// CanaryInterval is how often each member does one real operation; one that fails twice in a row is replaced. 0: only
	// after an error that blames the device.
	CanaryInterval time.Duration
	// CanaryTimeout bounds one canary. Default 10s.
	CanaryTimeout time.Duration
	// StartTimeout bounds one start of a member. Default 60s.
	StartTimeout time.Duration
	// HangTimeout is how long after its deadline an unanswered operation proves its member hung. Default 10s.
	HangTimeout time.Duration
	// Recorder takes times and spans; nil records nothing.
	Recorder *telemetry.Recorder
	Logger   *slog.Logger
}

// MemberConfig is one backend of a Mux and how to start it. Start is called again after each death.
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
