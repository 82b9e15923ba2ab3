// Command poisondriver is the soft driver with a fault for the tests: an operation whose data is "poison" ends its
// process, as a vendor's library may on data that it cannot stand.
package main

import (
	"context"
	"os"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/soft"
)

type poisoned struct{ driver.Driver }

func (p poisoned) Execute(ctx context.Context, tenant string, op *driver.Op) (*driver.Result, error) {
	if string(op.GetData()) == "poison" {
		os.Exit(9)
	}
	return p.Driver.Execute(ctx, tenant, op)
}

func main() {
	driver.Serve(func(ctx context.Context, settings, credential []byte) (driver.Driver, error) {
		d, err := soft.Configure(ctx, settings, credential)
		if err != nil {
			return nil, err
		}
		return poisoned{d}, nil
	})
}
