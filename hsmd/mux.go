package hsmd

import (
	"context"

	"github.com/keyside/keyside/plugins/driver"
)

// Mux is a Driver made of Drivers.
type Mux struct{ driver.Driver }

// NewMux starts the members and returns at once.
func NewMux(cfg MuxConfig) (*Mux, error) {
	return nil, driver.Errorf(driver.Unsupported, "not built yet")
}

// Submit implements driver.Submitter.
func (x *Mux) Submit(req *driver.Request, done func(*driver.Response)) {
	done(driver.ErrorResponse(driver.Errorf(driver.Unsupported, "not built yet")))
}

// Close drains the members and ends them.
func (x *Mux) Close(ctx context.Context) error { return nil }
