// Package peer serves Unix sockets and identifies the processes that connect to them, as the kernel reports them.
package peer

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
)

// Creds returns the credentials of the process at the other end of a Unix socket, at the time of its connect or, on the connecting
// side, of its listen. On any other connection the Caller is not Known.
func Creds(conn net.Conn) (policy.Caller, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return policy.Caller{}, nil
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return policy.Caller{}, err
	}
	return creds(raw)
}

func creds(raw syscall.RawConn) (policy.Caller, error) {
	var cred *unix.Ucred
	var credErr error
	err := raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return policy.Caller{}, err
	}
	c := policy.Caller{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Known: cred.Uid != OverflowUID()}
	if c.GID == OverflowGID() {
		c.GID = policy.NoID
	}
	return c, nil
}

// OverflowUID returns the uid to which the kernel maps all users without a number in our user namespace. It identifies no user.
func OverflowUID() uint32 { return overflowUID() }

// OverflowGID returns the gid to which the kernel maps all groups without a number in our user namespace.
func OverflowGID() uint32 { return overflowGID() }

var (
	overflowUID = sync.OnceValue(func() uint32 { return overflow("/proc/sys/kernel/overflowuid") })
	overflowGID = sync.OnceValue(func() uint32 { return overflow("/proc/sys/kernel/overflowgid") })
)

// overflow reads an overflow id. If the kernel does not show it, it is the kernel's default.
func overflow(path string) uint32 {
	n, err := strconv.ParseUint(strings.TrimSpace(string(readAtMost(path, 32))), 10, 32)
	if err != nil {
		return 65534
	}
	return uint32(n)
}
