package soft

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/drivertest"
)

const passphrase = "correct horse battery staple"

// configure makes a driver on the key file at path.
func configure(t testing.TB, path, phrase string) (driver.Driver, error) {
	t.Helper()
	return Configure(t.Context(), fmt.Appendf(nil, "file: %s\n", path), []byte(phrase))
}

func newDriver(t testing.TB) driver.Driver {
	t.Helper()
	d, err := configure(t, filepath.Join(t.TempDir(), "soft.keys"), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Config{Driver: newDriver(t), Tenant: "one", OtherTenant: "two", Drain: true})
}
