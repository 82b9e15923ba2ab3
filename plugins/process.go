package plugins

import (
	"context"
	"log/slog"

	"github.com/keyside/keyside/plugins/driver"
)

// Process is a running driver process. It is a Driver and a Submitter.
type Process struct {
	*driver.Client
	done chan struct{}
	pid  int
}

// Start starts a driver process, configures it and returns it ready for work.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*Process, error) {
	return nil, driver.Errorf(driver.Unsupported, "not built yet")
}

// Done is closed when the process is gone and reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID returns the process's id.
func (p *Process) PID() int { return p.pid }

// Close drains the driver, then kills its process group.
func (p *Process) Close(ctx context.Context) error { return nil }
