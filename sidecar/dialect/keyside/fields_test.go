package keyside

import (
	"testing"

	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
)

// TestFieldsAreListed checks that no handler reads a field that its route does not list.
func TestFieldsAreListed(t *testing.T) {
	if n := dialecttest.CheckFields(t); n < 40 {
		t.Errorf("found %d of %d routes", n, len(table))
	}
}
