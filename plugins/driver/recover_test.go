package driver

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/keyside/keyside/plugins/driverv1"
)

type panicking struct{ Driver }

func (panicking) Describe(context.Context) (*Description, error) { panic("secret") }
func (panicking) Watch(context.Context, func(*Event)) error      { panic("secret") }
func (panicking) Health(context.Context, string) error           { return nil }

func TestPanicsInControlCallsAreAnswered(t *testing.T) {
	ln := bufconn.Listen(1 << 16)
	srv := grpc.NewServer(ServerOptions()...)
	RegisterServer(srv, panicking{})
	go func() { _ = srv.Serve(ln) }()
	defer srv.Stop()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return ln.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := &Client{rpc: driverv1.NewDriverClient(conn)}
	if _, err := c.Describe(t.Context()); CodeOf(err) != Internal || err.Error() != "driver panicked: string" {
		t.Errorf("unary: %v", err)
	}
	if err := c.Watch(t.Context(), func(*Event) {}); CodeOf(err) != Internal {
		t.Errorf("stream: %v", err)
	}
	if err := c.Health(t.Context(), "t"); err != nil {
		t.Errorf("after the panics: %v", err)
	}
}
