// Package peer serves Unix sockets whose other end the kernel vouches for.
package peer

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
)

// Creds returns what the kernel says of the process at the other end of a Unix socket, as of its connect (or, on the
// connecting side, as of the other's listen). On any other connection the Caller is not Known.
func Creds(conn net.Conn) (policy.Caller, error) {
	if _, ok := conn.(*net.UnixConn); !ok {
		return policy.Caller{}, nil
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return policy.Caller{}, errors.New("connection has no descriptor")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return policy.Caller{}, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return policy.Caller{}, err
	}
	return policy.Caller{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid, Known: true}, nil
}

type callerKey struct{}

// ConnContext is an http.Server's ConnContext: it puts the connection's Caller in the context.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	caller, err := Creds(conn)
	if err != nil {
		caller = policy.Caller{} // nobody
	}
	return context.WithValue(ctx, callerKey{}, caller)
}

// FromContext returns the Caller that ConnContext found; the zero Caller, nobody, where there is none.
func FromContext(ctx context.Context) policy.Caller {
	caller, _ := ctx.Value(callerKey{}).(policy.Caller)
	return caller
}
