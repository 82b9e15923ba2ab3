// Package procattr sets attributes that the Linux kernel keeps for the calling process. The sidecar, hsmd and driver processes
// share it, so it imports nothing of Keyside.
package procattr

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// ForbidDumps makes the process not dumpable, so that neither a core dump nor a debugger of the same user shows plaintext, key
// material or PINs. It also sets the limit on core dumps to 0, which the processes that it starts inherit. The limit alone
// is not enough: it does not apply where the kernel pipes core dumps to a program (core(5)).
func ForbidDumps() error {
	return errors.Join(unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0), unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
}

// timerSlack is how late a sleep may end, in nanoseconds; the kernel's default is 50 µs.
const timerSlack = 1_000_000

// CoarseTimers sets the timer slack of the calling thread, and so of the processes that it starts from now on. Go's
// runtime has a thread that checks the others every 20 µs while the process works, and every check costs two context
// switches: a tenth of all CPU time with four processes on two processors. Keyside measures no time more finely than
// milliseconds.
func CoarseTimers() error { return unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) }

// ScheduleAsBatch puts all threads of this process, and so the threads and processes that they start, under Linux's
// SCHED_BATCH: a thread that wakes up does not preempt a running one. On an idle processor nothing changes. On a busy one the
// processes of a node no longer interrupt each other at every message, and each finds several messages when it runs, which
// saves a fifth of the CPU time per operation (`keyside bench`, concurrency 32, two processors).
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
		if !fresh { // a thread that was not changed yet may have started another
			return nil
		}
	}
}

// batchThread changes one thread from the ordinary policy. It leaves a policy that an operator chose.
func batchThread(tid int) error {
	attr, err := unix.SchedGetAttr(tid, 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		return err
	}
	attr.Policy = unix.SCHED_BATCH
	return unix.SchedSetAttr(tid, attr, 0)
}
