package hsmd

import (
	"context"

	"github.com/keyside/keyside/plugins/driver"
)

// Dial connects to the hsmd of the node. driverName may be empty where hsmd has one driver. The process that listens on
// socket must run as wantUID or as root; -1 accepts any.
func Dial(ctx context.Context, socket, driverName string, wantUID int) (Backend, error) {
	return nil, driver.Errorf(driver.Unsupported, "not built yet")
}
