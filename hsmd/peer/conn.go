package peer

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
)

// Watch returns a listener that wraps connections on a Unix socket as Conns. Other connections stay as they are.
func Watch(ln net.Listener) net.Listener {
	return &watched{Listener: ln, proc: "/proc", pidfd: peerPidfd}
}

type watched struct {
	net.Listener
	proc  proc
	pidfd func(raw syscall.RawConn, pid int32) (int, error)
}

// Accept implements net.Listener. It makes three short system calls; Conn.Caller does what takes longer.
func (w *watched) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return conn, nil
	}
	c := &Conn{UnixConn: uc, proc: w.proc}
	if err := c.identify(w.pidfd); err != nil {
		_ = uc.Close()
		return nil, &net.OpError{Op: "accept", Net: "unix", Addr: w.Addr(), Err: err} // a temporary one: servers go on
	}
	return c, nil
}

// Conn is a connection on a Unix socket. Its caller is the process that connected, also after that process passed the connection to
// another one, because it could just as well relay requests. When that process has exited, the caller is unknown.
type Conn struct {
	*net.UnixConn
	proc  proc
	peer  policy.Caller // at the time of the connect
	pidfd *os.File      // of the process that connected; nil if the kernel has no pidfds or the process has exited
	once  sync.Once
	now   atomic.Pointer[policy.Caller] // nil until Caller is called
}

// Caller returns the caller now: after its process exited it is not Known. The first call reads the process data; later ones cost an
// atomic load.
func (c *Conn) Caller() policy.Caller {
	now := c.now.Load()
	if now == nil {
		c.once.Do(c.resolve)
		now = c.now.Load()
	}
	return *now
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	err := c.UnixConn.Close()
	if c.pidfd != nil {
		_ = c.pidfd.Close() // ends watch; closing it twice is harmless
	}
	return err
}

// identify reads the credentials of the process that connected and starts watching it. It fails if no descriptor is free. If the
// process cannot be identified, the caller is unknown.
func (c *Conn) identify(pidfd func(syscall.RawConn, int32) (int, error)) error {
	raw, err := c.SyscallConn()
	if err == nil {
		c.peer, err = creds(raw)
	}
	c.peer.Socket = true
	if err != nil {
		c.abandon()
		return nil
	}
	fd, err := pidfd(raw, c.peer.PID)
	switch {
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return os.NewSyscallError("pidfd", err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		return nil // an old kernel, or a filter of system calls
	case errors.Is(err, unix.EINVAL) && c.peer.PID == 0:
		return nil // an old kernel, and a process of another pid namespace
	case err != nil:
		c.abandon()
		return nil
	}
	_ = unix.SetNonblock(fd, true) // so that the runtime polls it; otherwise watch ends at once
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	go c.watch()
	return nil
}

// watch waits until the process exits or the connection closes.
func (c *Conn) watch() {
	c.Caller()
	raw, err := c.pidfd.SyscallConn()
	if err == nil {
		_ = raw.Read(ended) // it returns after either event, and after an error
	}
	c.abandon()
	_ = c.pidfd.Close()
}

// ended reports whether a pidfd's process has exited.
func ended(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 0)
		if err != unix.EINTR {
			return n != 0 || err != nil
		}
	}
}

// abandon makes the caller unknown.
func (c *Conn) abandon() {
	gone := c.peer
	gone.Known, gone.Ended = false, true
	if now := c.now.Load(); now != nil {
		gone.Process = now.Process
	}
	c.now.Store(&gone)
}

// resolve reads the process data of the caller.
func (c *Conn) resolve() {
	caller := c.peer
	if caller.Process = c.process(); caller.Process == nil {
		c.abandon()
		return
	}
	c.now.CompareAndSwap(nil, &caller)
}

// process returns the data of the process that connected, nil if it has exited.
func (c *Conn) process() *policy.Process {
	groups := c.groups()
	if c.pidfd == nil {
		return &policy.Process{Groups: groups} // its number could belong to another process by now
	}
	return c.proc.process(c.peer.PID, groups, c.alive)
}

// alive reports whether the process that connected still runs. Then its number belongs to no other process.
func (c *Conn) alive() bool {
	raw, err := c.pidfd.SyscallConn()
	alive := false
	if err == nil {
		err = raw.Control(func(fd uintptr) { alive = !ended(fd) })
	}
	return err == nil && alive
}

// groups returns the supplementary groups of the process that connected, in ascending order.
func (c *Conn) groups() (groups []uint32) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	_ = raw.Control(func(fd uintptr) { groups = peerGroups(fd) })
	groups = slices.DeleteFunc(groups, func(gid uint32) bool { return gid == OverflowGID() })
	slices.Sort(groups)
	return groups
}

// maxGroups is the highest number of groups of a process; of a process with more groups none is used. Directories give a user at most about a
// thousand. Root of a user namespace can give itself 65,536, and each audit record of its requests would list them all.
const maxGroups = 1024

// peerGroups returns the supplementary groups of the process that connected, nil if it has too many.
func peerGroups(fd uintptr) []uint32 {
	for n := 32; n <= maxGroups; n *= 2 {
		list := make([]uint32, n)
		size := uint32(n * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch errno {
		case 0:
			return list[:size/4]
		case unix.ERANGE:
			continue
		default:
			return nil
		}
	}
	return nil
}

// peerPidfd returns a pidfd of the process that connected. Linux 6.5 and later provide it. On older kernels it is the process that has
// the number now, which can be another one if the first exited between connect and accept.
func peerPidfd(raw syscall.RawConn, pid int32) (fd int, err error) {
	ctlErr := raw.Control(func(conn uintptr) { fd, err = unix.GetsockoptInt(int(conn), unix.SOL_SOCKET, unix.SO_PEERPIDFD) })
	if ctlErr != nil {
		return 0, ctlErr
	}
	if errors.Is(err, unix.ENOPROTOOPT) {
		return unix.PidfdOpen(int(pid), 0)
	}
	return fd, err
}
