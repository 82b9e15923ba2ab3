package plugins

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// TestCoarseTimers asks a child that the thread started.
func TestCoarseTimers(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := CoarseTimers(); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("cat", "/proc/self/timerslack_ns").Output()
	if err != nil || strings.TrimSpace(string(out)) != "1000000" {
		t.Errorf("a child's timer slack is %q, %v", out, err)
	}
}
