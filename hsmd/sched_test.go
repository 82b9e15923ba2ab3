package hsmd

import (
	"os"
	"os/exec"
	"strconv"
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
