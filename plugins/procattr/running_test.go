package procattr

import (
	"testing"
	"time"
)

// TestRunningTime holds that running time goes on within a boot, as the monotonic clock does, and that the boot has a name.
func TestRunningTime(t *testing.T) {
	start := time.Now()
	boot, up := RunningTime()
	if boot == "" || up <= 0 {
		t.Fatalf("boot %q, up %s", boot, up)
	}
	for deadline := start.Add(5 * time.Second); time.Since(start) < 20*time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatal("time stands still")
		}
	}
	again, later := RunningTime()
	if took := time.Since(start); again != boot || later-up < 15*time.Millisecond || later-up > took+time.Second {
		t.Errorf("after %s: boot %q, up %s after %s", took, again, later, up)
	}
}
