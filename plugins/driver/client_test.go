package driver

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
)

// waiting answers no control call before its context ends.
type waiting struct {
	Driver
	entered chan struct{}
}

func (w waiting) DescribeTenant(ctx context.Context, _ *DescribeTenantRequest) (*Tenant, error) {
	w.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

func (waiting) Health(context.Context, string) error { return Errorf(KeyUnavailable, "token is gone") }

// overGRPC returns a Client of d over gRPC, and how to end either side.
func overGRPC(t *testing.T, d Driver) (c *Client, closeConn func() error, stopServer func()) {
	t.Helper()
	ln := bufconn.Listen(1 << 16)
	srv := grpc.NewServer(ServerOptions()...)
	RegisterServer(srv, d)
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return NewClient(conn, nil), conn.Close, srv.Stop
}

func TestControlCallsThatEndEarly(t *testing.T) {
	call := func(ctx context.Context, c *Client) error {
		_, err := c.DescribeTenant(ctx, &DescribeTenantRequest{Tenant: "t"})
		return err
	}
	t.Run("deadline", func(t *testing.T) {
		w := waiting{entered: make(chan struct{}, 1)}
		c, _, _ := overGRPC(t, w)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := call(ctx, c); CodeOf(err) != Deadline {
			t.Errorf("%v", err)
		}
	})
	t.Run("server gone", func(t *testing.T) {
		w := waiting{entered: make(chan struct{}, 1)}
		c, _, stop := overGRPC(t, w)
		go func() { <-w.entered; stop() }()
		if err := call(t.Context(), c); CodeOf(err) != Lost {
			t.Errorf("%v (%s)", err, CodeOf(err))
		}
	})
	t.Run("connection closed here", func(t *testing.T) {
		w := waiting{entered: make(chan struct{}, 1)}
		c, closeConn, _ := overGRPC(t, w)
		go func() { <-w.entered; _ = closeConn() }()
		if err := call(t.Context(), c); CodeOf(err) != Lost {
			t.Errorf("%v (%s)", err, CodeOf(err))
		}
		if err := call(t.Context(), c); CodeOf(err) != Lost {
			t.Errorf("afterwards: %v (%s)", err, CodeOf(err))
		}
	})
}

func TestControlArguments(t *testing.T) {
	c, _, _ := overGRPC(t, waiting{})
	if err := c.Health(t.Context(), "t"); CodeOf(err) != KeyUnavailable || err.Error() != "token is gone" {
		t.Errorf("health: %v", err)
	}
	if _, err := c.InitTenant(t.Context(), &InitTenantRequest{Tenant: "../t"}); CodeOf(err) != InvalidArgument {
		t.Errorf("tenant: %v", err)
	}
	if _, err := c.MakeKey(t.Context(), &MakeKeyRequest{Tenant: "t"}); CodeOf(err) != InvalidArgument {
		t.Errorf("identity: %v", err)
	}
}
