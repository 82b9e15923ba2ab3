package procattr

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestScheduleAsBatch(t *testing.T) {
	if err := ScheduleAsBatch(); err != nil {
		t.Fatal(err)
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, _ := strconv.Atoi(task.Name())
		if attr, err := unix.SchedGetAttr(tid, 0); err == nil && attr.Policy != unix.SCHED_BATCH {
			t.Errorf("thread %d has policy %d", tid, attr.Policy)
		}
	}
	child := exec.Command("cat")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	attr, err := unix.SchedGetAttr(child.Process.Pid, 0)
	if err != nil || attr.Policy != unix.SCHED_BATCH {
		t.Errorf("a child has policy %v, %v", attr, err)
	}
	_ = in.Close()
	_ = child.Wait()
}

func TestForbidDumps(t *testing.T) {
	if err := ForbidDumps(); err != nil {
		t.Fatal(err)
	}
	if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || dumpable != 0 {
		t.Errorf("dumpable: %d, %v", dumpable, err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 {
		t.Errorf("core dumps up to %d bytes, %v", limit.Cur, err)
	}
}

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
