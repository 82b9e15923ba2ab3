package hsmd

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ScheduleAsBatch puts all threads of this process, and so those and the processes that they start, under Linux's
// SCHED_BATCH: woken, they do not push aside what runs. On a processor that is free nothing changes. On a busy one the
// processes of a node stop interrupting each other at every message, and each finds several messages when its turn
// comes; a fifth of the CPU time per operation is saved so (`keyside bench`, concurrency 32, two processors).
func ScheduleAsBatch() error {
	seen := map[int]bool{}
	for {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		fresh := false
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil || seen[tid] {
				continue
			}
			seen[tid], fresh = true, true
			if err := batchThread(tid); err != nil && !errors.Is(err, unix.ESRCH) { // a thread may end meanwhile
				return err
			}
		}
		if !fresh { // a thread that is not yet changed may have started another before its turn came
			return nil
		}
	}
}

// batchThread changes one thread from the ordinary policy. One that an operator chose is left alone.
func batchThread(tid int) error {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return err
	}
	attr.Policy = unix.SCHED_BATCH
	return unix.SchedSetAttr(tid, attr, 0)
}
