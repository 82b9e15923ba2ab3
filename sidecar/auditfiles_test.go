package sidecar

import (
	"os"
	"strings"
	"testing"
)

// TestOthersAuditFiles checks that another user cannot leave files among the sidecar's.
func TestOthersAuditFiles(t *testing.T) {
	f := AuditFiles{Audit: t.TempDir(), Data: t.TempDir()}
	if err := f.belongTo(os.Geteuid()); err != nil {
		t.Error(err)
	}
	if err := f.belongTo(os.Geteuid() + 1); err == nil || !strings.Contains(err.Error(), "run this as that user") {
		t.Error(err)
	}
}
