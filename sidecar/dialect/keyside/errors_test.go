package keyside

import (
	"testing"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestStatuses checks that the table has a row for each code of the core, and no others.
func TestStatuses(t *testing.T) {
	for _, code := range kms.Codes {
		if status := statuses[code]; status < 400 || status > 599 {
			t.Errorf("%s has status %d", code, status)
		}
	}
	if len(statuses) != len(kms.Codes) {
		t.Errorf("the table has %d rows, the core %d codes", len(statuses), len(kms.Codes))
	}
}
