package hsmd

import (
	"net"
	"runtime"
	"syscall"
)

// listenAs listens on a Unix socket as another uid. It changes the uid of its own thread alone, and lets that thread end
// with it.
func listenAs(path string, uid int, result chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread dies with this goroutine
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
		result <- errno
		return
	}
	_, err := net.Listen("unix", path)
	result <- err
}
