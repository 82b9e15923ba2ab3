package plugins

import "golang.org/x/sys/unix"

// timerSlack is how late a sleep may end, in nanoseconds; the kernel's default is 50 µs.
const timerSlack = 1_000_000

// CoarseTimers sets the timer slack of the calling thread, and so of the processes that it starts from now on. Go's
// runtime has a thread that looks after the others every 20 µs for as long as the process is at work, and every look costs
// two switches: with four processes on two processors a tenth of all CPU time. Nothing in Keyside times anything closer than
// to a millisecond.
func CoarseTimers() error { return unix.Prctl(unix.PR_SET_TIMERSLACK, timerSlack, 0, 0, 0) }
