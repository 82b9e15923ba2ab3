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

// Watch returns a listener whose connections are Conns where the ones it gets are those of a Unix socket.
func Watch(ln net.Listener) net.Listener {
	return &watched{Listener: ln, proc: "/proc", pidfd: peerPidfd}
}

type watched struct {
	net.Listener
	proc  proc
	pidfd func(raw syscall.RawConn, pid int32) (int, error)
}

// Accept implements net.Listener. It asks the kernel three questions that it answers at once; what takes longer is done
// elsewhere.
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

// Conn is a connection on a Unix socket. It belongs to the process that connected, whoever holds it: it could as well pass on what
// others want. When that process has ended, it belongs to nobody.
type Conn struct {
	*net.UnixConn
	proc  proc
	peer  policy.Caller // as of the connect
	pidfd *os.File      // of the process that connected; nil where the kernel has none or it has ended
	once  sync.Once
	now   atomic.Pointer[policy.Caller] // nil until it was asked for
}

// Caller returns who is at the other end, now. The first call reads what is known of the process; the others cost an
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
		_ = c.pidfd.Close() // ends watch; twice does nothing
	}
	return err
}

// identify finds out who connected, and has it watched. It fails where there is no descriptor left to do it with; a
// connection of which nothing can be found out is nobody's.
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
	_ = unix.SetNonblock(fd, true) // so that the runtime polls it; if it does not, watch ends at once
	c.pidfd = os.NewFile(uintptr(fd), "pidfd")
	go c.watch()
	return nil
}

// watch waits for the end of the process or of the connection.
func (c *Conn) watch() {
	c.Caller()
	raw, err := c.pidfd.SyscallConn()
	if err == nil {
		_ = raw.Read(ended) // whatever wakes it, there is nobody left
	}
	c.abandon()
	_ = c.pidfd.Close()
}

// ended reports whether a pidfd's process has ended.
func ended(fd uintptr) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(poll, 0)
		if err != unix.EINTR {
			return n != 0 || err != nil
		}
	}
}

// abandon makes the connection nobody's.
func (c *Conn) abandon() {
	gone := c.peer
	gone.Known, gone.Ended = false, true
	if now := c.now.Load(); now != nil {
		gone.Process = now.Process
	}
	c.now.Store(&gone)
}

// resolve finds out what is known of the process.
func (c *Conn) resolve() {
	caller := c.peer
	if caller.Process = c.process(); caller.Process == nil {
		c.abandon()
		return
	}
	c.now.CompareAndSwap(nil, &caller)
}

// process returns what is known of the process that connected, nil where it has ended.
func (c *Conn) process() *policy.Process {
	groups := c.groups()
	if c.pidfd == nil {
		return &policy.Process{Groups: groups} // its number could be another's by now
	}
	return c.proc.process(c.peer.PID, groups, c.alive)
}

// alive reports whether the process that connected has not ended: then its number is no other's.
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

// maxGroups is the most groups that are known of a process; of one with more none are. Directories give a user at most about a
// thousand, but root of a user namespace gives itself 65,536, and each record of its requests has them all.
const maxGroups = 1024

// peerGroups returns the supplementary groups of the process that connected, nil where there are too many.
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

// peerPidfd returns a descriptor of the process that connected: the kernel's own word since Linux 6.5. Before, the process that has
// the number now is taken; between connect and accept that can have become another.
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
