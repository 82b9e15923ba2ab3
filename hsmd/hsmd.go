// Package hsmd multiplexes HSM drivers: Mux is a Driver made of Drivers, and Run is the daemon around it.
package hsmd

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// Backend is what a Mux multiplexes: a driver process, or a connection to the hsmd of the node.
type Backend interface {
	driver.Driver
	driver.Submitter
	// Done is closed when the backend is gone for good.
	Done() <-chan struct{}
	// PID returns the process behind it, for people.
	PID() int
	// Close drains it and ends it.
	Close(ctx context.Context) error
}

// MuxConfig configures a Mux. The zero value of every field but Members is usable.
type MuxConfig struct {
	Name    string
	Members []MemberConfig
	// QueueDepth bounds the requests of one tenant that wait; one more is Busy. Default 4096.
	QueueDepth int
	// CanaryInterval is how often each member does one real operation; a member that fails twice is replaced. 0: never.
	CanaryInterval time.Duration
	Logger         *slog.Logger
}

// MemberConfig is one backend of a Mux and how to start it.
type MemberConfig struct {
	Name  string
	Start func(ctx context.Context) (Backend, error)
}
