package procattr

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bootID is the kernel's name of this boot (proc_sys_kernel(5)), empty if it has none: then every process counts as a boot.
var bootID = sync.OnceValue(func() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id))
})

// RunningTime returns for how long the node has been running since its boot, suspension included (CLOCK_BOOTTIME), and the id of that
// boot. No program can set this clock.
func RunningTime() (boot string, up time.Duration) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(err) // Linux has had it since 2.6.39
	}
	return bootID(), time.Duration(now.Nano())
}
