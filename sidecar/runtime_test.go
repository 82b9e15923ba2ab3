package sidecar

import (
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMemoryIsNobodysToRead holds what keeps plaintext, and a PIN on its way to the driver, from core dumps and debuggers.
func TestMemoryIsNobodysToRead(t *testing.T) {
	tune(&Config{MemoryLimit: 64}, slog.New(slog.DiscardHandler))
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 {
		t.Errorf("core dumps up to %d bytes, %v", limit.Cur, err)
	}
}
