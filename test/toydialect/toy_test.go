package toydialect

import (
	"testing"

	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
)

// TestTables checks the tables of errors and of fields.
func TestTables(t *testing.T) {
	dialecttest.CheckErrors(t, conditions, answers)
	if n := dialecttest.CheckFields(t); n != len(Suite.Routes) {
		t.Errorf("found %d of %d routes", n, len(Suite.Routes))
	}
}
