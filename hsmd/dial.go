package hsmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/plugins/driver"
)

// driverKey is the gRPC metadata that names the driver a control call is for.
const driverKey = "keyside-driver"

// traceKey is the gRPC metadata that carries a control call's traceparent.
const traceKey = "traceparent"

// outgoing is the context of a control call to hsmd.
func outgoing(ctx context.Context, driverName string) context.Context {
	pairs := []string{driverKey, driverName}
	if trace := driver.TraceFrom(ctx); len(trace) > 0 {
		pairs = append(pairs, traceKey, string(trace))
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// remote is a connection to hsmd: an execute stream and a gRPC connection over the same socket.
type remote struct {
	*driver.Client
	stream *driver.Stream
	rpc    *grpc.ClientConn
	pid    int
	done   chan struct{}
	once   sync.Once
}

// Dial connects to the node's hsmd. driverName may be empty if hsmd has one driver. The process that listens on socket must run
// as wantUID or as root (a socket that systemd listens on is root's); -1 accepts any. A retry may succeed after every error,
// also if hsmd's own driver is down, because a retry costs no attempt at the PIN.
func Dial(ctx context.Context, socket, driverName string, wantUID int) (Backend, error) {
	r, err := dial(ctx, socket, driverName, wantUID)
	if err != nil {
		e := *driver.AsError(err)
		if e.Code != driver.Deadline {
			e.Code, e.Retry = driver.KeyUnavailable, driver.RetryLater
		}
		e.Message = fmt.Sprintf("hsmd at %s: %s", socket, e.Message)
		return nil, &e
	}
	return r, nil
}

func dial(ctx context.Context, socket, driverName string, wantUID int) (*remote, error) {
	conn, pid, err := connect(ctx, socket, wantUID)
	if err != nil {
		return nil, err
	}
	rpc, err := grpc.NewClient("passthrough:///hsmd",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the kernel identifies both ends
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, _, err := connect(ctx, socket, wantUID)
			return c, err
		}),
		grpc.WithNoProxy(), grpc.WithIdleTimeout(0),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(outgoing(ctx, driverName), method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(outgoing(ctx, driverName), desc, cc, method, opts...)
		}),
	)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	// A control call comes first because hsmd can answer it with an error text; a stream it can only close.
	if _, err := driver.NewClient(rpc, nil).Describe(ctx); err != nil {
		if driver.CodeOf(err) == driver.Lost {
			err = driver.Errorf(driver.Lost, "it closed the connection; is our uid listed under tenants in its configuration?")
		}
		return nil, errors.Join(err, rpc.Close(), conn.Close())
	}
	stream, err := driver.DialStream(conn, driverName)
	if err != nil {
		return nil, errors.Join(err, rpc.Close())
	}
	r := &remote{Client: driver.NewClient(rpc, stream), stream: stream, rpc: rpc, pid: pid, done: make(chan struct{})}
	go func() {
		<-stream.Done()
		_ = r.Close(ctx)
	}()
	return r, nil
}

// connect opens a connection and checks who serves it, before a byte is sent.
func connect(ctx context.Context, socket string, wantUID int) (net.Conn, int, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, 0, err
	}
	server, err := peer.Creds(conn)
	if err == nil && wantUID >= 0 && (!server.Known || server.UID != 0 && int(server.UID) != wantUID) {
		err = fmt.Errorf("the socket is served by uid %d, not by uid %d", server.UID, wantUID)
	}
	if err != nil {
		return nil, 0, errors.Join(err, conn.Close())
	}
	return conn, int(server.PID), nil
}

// Done is closed when the connection has ended.
func (r *remote) Done() <-chan struct{} { return r.done }

// PID returns hsmd's process id, or that of the service manager that listens for it.
func (r *remote) PID() int { return r.pid }

// Health does one real operation on hsmd's driver. A refused PIN becomes KeyUnavailable, which may be retried: hsmd itself handles
// the PIN, and another connection would not help.
func (r *remote) Health(ctx context.Context, tenant string) error {
	err := r.Client.Health(ctx, tenant)
	if refusesPIN(err) {
		e := *driver.AsError(err)
		e.Code, e.Retry = driver.KeyUnavailable, driver.RetryLater
		return &e
	}
	return err
}

// FromOutside is true because hsmd runs no vendor code, so that no request crashes it.
func (r *remote) FromOutside() bool { return true }

// Close ends the connection. It drains nothing, because hsmd's drivers also serve other sidecars.
func (r *remote) Close(context.Context) error {
	r.once.Do(func() {
		_ = r.stream.Close()
		_ = r.rpc.Close()
		close(r.done)
	})
	return nil
}

// Drain does nothing, as in Close.
func (r *remote) Drain(context.Context) error { return nil }
