package soft

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/drivertest"
)

const passphrase = "correct horse battery staple"

// configure makes a driver on the key file at path, with fewer iterations than settings allow: they take a second each
// under the race detector.
func configure(t testing.TB, path, phrase string) (driver.Driver, error) {
	t.Helper()
	return start(t.Context(), settings{File: path, Iterations: 1000, LiveKeys: 100, Workers: 2}, []byte(phrase))
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
	path := filepath.Join(t.TempDir(), "soft.keys")
	d, err := Configure(t.Context(), fmt.Appendf(nil, "file: %s\n", path), []byte(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Run(t, drivertest.Config{Driver: d, Tenant: "one", OtherTenant: "two", Drain: true})
}
