package pkcs11

import (
	"testing"

	"github.com/keyside/keyside/plugins/drivertest"
)

func TestConformance(t *testing.T) {
	d := tenanted(t, "conform", "")
	drivertest.Run(t, drivertest.Config{Driver: d, Tenant: "conform", OtherTenant: "conform-other", Drain: true})
}
