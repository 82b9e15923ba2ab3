package driver

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Client implements Driver and Submitter for a driver in another process: control calls over gRPC, operations over an execute
// stream.
type Client struct {
	rpc    driverv1.DriverClient
	stream *Stream
}

var (
	_ Driver    = (*Client)(nil)
	_ Submitter = (*Client)(nil)
)

// NewClient returns a Client of a gRPC connection and a stream. The caller must close both.
func NewClient(conn grpc.ClientConnInterface, stream *Stream) *Client {
	return &Client{rpc: driverv1.NewDriverClient(conn), stream: stream}
}

// Configure sends settings and credential to a driver process that is not configured yet.
func Configure(ctx context.Context, conn grpc.ClientConnInterface, settings, credential []byte, execFD int) error {
	_, err := driverv1.NewDriverClient(conn).Configure(ctx, &driverv1.ConfigureRequest{
		Settings: settings, Credential: credential, ExecFd: int32(execFD),
	})
	return fromCall(ctx, err)
}

// fromCall is FromStatus for a client. A call that was canceled although its context did not end means that the connection was closed.
func fromCall(ctx context.Context, err error) error {
	if status.Code(err) == codes.Canceled && ctx.Err() == nil {
		return &Error{Code: Lost, Message: "connection to the driver closed", cause: err}
	}
	return FromStatus(err)
}

// invoke makes one control call.
func invoke[R, T any](ctx context.Context, req R, call func(context.Context, R, ...grpc.CallOption) (T, error)) (T, error) {
	res, err := call(ctx, req)
	return res, fromCall(ctx, err)
}

// Submit implements Submitter.
func (c *Client) Submit(req *Request, done func(*Response)) { c.stream.Submit(req, done) }

// Execute implements Driver.
func (c *Client) Execute(ctx context.Context, tenant string, op *Op) (*Result, error) {
	return Do(ctx, c.stream, tenant, op)
}

// Describe implements Driver.
func (c *Client) Describe(ctx context.Context) (*Description, error) {
	return invoke(ctx, &driverv1.DescribeRequest{}, c.rpc.Describe)
}

// InitTenant implements Driver.
func (c *Client) InitTenant(ctx context.Context, req *InitTenantRequest) (*Tenant, error) {
	return invoke(ctx, req, c.rpc.InitTenant)
}

// DescribeTenant implements Driver.
func (c *Client) DescribeTenant(ctx context.Context, req *DescribeTenantRequest) (*Tenant, error) {
	return invoke(ctx, req, c.rpc.DescribeTenant)
}

// MakeKey implements Driver.
func (c *Client) MakeKey(ctx context.Context, req *MakeKeyRequest) (*SealedKey, error) {
	return invoke(ctx, req, c.rpc.MakeKey)
}

// MakeWrappingKey implements Driver.
func (c *Client) MakeWrappingKey(ctx context.Context, req *MakeWrappingKeyRequest) (*SealedKey, error) {
	return invoke(ctx, req, c.rpc.MakeWrappingKey)
}

// ImportKey implements Driver.
func (c *Client) ImportKey(ctx context.Context, req *ImportKeyRequest) (*SealedKey, error) {
	return invoke(ctx, req, c.rpc.ImportKey)
}

// Reseal implements Driver.
func (c *Client) Reseal(ctx context.Context, req *ResealRequest) (*SealedKey, error) {
	return invoke(ctx, req, c.rpc.Reseal)
}

// DestroyKey implements Driver.
func (c *Client) DestroyKey(ctx context.Context, req *DestroyKeyRequest) error {
	_, err := c.rpc.DestroyKey(ctx, req)
	return fromCall(ctx, err)
}

// Status implements Driver.
func (c *Client) Status(ctx context.Context) ([]*Member, error) {
	res, err := c.rpc.Status(ctx, &driverv1.StatusRequest{})
	return res.GetMembers(), fromCall(ctx, err)
}

// Health implements Driver.
func (c *Client) Health(ctx context.Context, tenant string) error {
	res, err := c.rpc.Health(ctx, &driverv1.HealthRequest{Tenant: tenant})
	if err != nil {
		return fromCall(ctx, err)
	}
	if !res.GetOk() {
		return FromProto(res.GetError())
	}
	return nil
}

// Watch implements Driver.
func (c *Client) Watch(ctx context.Context, fn func(*Event)) error {
	stream, err := c.rpc.Watch(ctx, &driverv1.WatchRequest{})
	if err != nil {
		return fromCall(ctx, err)
	}
	for {
		e, err := stream.Recv()
		if err != nil {
			return fromCall(ctx, err)
		}
		fn(e)
	}
}

// Drain implements Driver.
func (c *Client) Drain(ctx context.Context) error {
	_, err := c.rpc.Drain(ctx, &driverv1.DrainRequest{})
	return fromCall(ctx, err)
}
