package driver

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/keyside/keyside/plugins/driverv1"
)

// Configurer returns a Driver for the settings and the credential that the host sends. settings is the driver's section of the
// configuration as YAML, which must be decoded strictly; credential is a PIN or passphrase and is cleared after Configurer returns.
type Configurer func(ctx context.Context, settings, credential []byte) (Driver, error)

// RegisterServer serves the control calls of d on s, a server created with ServerOptions. It refuses Configure, because d is already
// configured.
func RegisterServer(s grpc.ServiceRegistrar, d Driver) {
	RegisterServerFunc(s, func(context.Context) (Driver, error) { return d, nil })
}

// RegisterServerFunc is RegisterServer with a driver that get selects for each call by its context.
func RegisterServerFunc(s grpc.ServiceRegistrar, get func(context.Context) (Driver, error)) {
	driverv1.RegisterDriverServer(s, &controlServer{get: get})
}

// controlServer serves a Driver over gRPC.
type controlServer struct {
	driverv1.UnimplementedDriverServer
	get       func(context.Context) (Driver, error)
	configure func(context.Context, *driverv1.ConfigureRequest) error
}

func (s *controlServer) Configure(ctx context.Context, req *driverv1.ConfigureRequest) (*driverv1.ConfigureResponse, error) {
	if s.configure == nil {
		return nil, ToStatus(Errorf(InvalidArgument, "already configured"))
	}
	if err := s.configure(ctx, req); err != nil {
		return nil, ToStatus(err)
	}
	return &driverv1.ConfigureResponse{}, nil
}

// control runs a control call on the driver that get returns.
func control[T any](ctx context.Context, s *controlServer, fn func(Driver) (T, error)) (T, error) {
	var zero T
	d, err := s.get(ctx)
	if err != nil {
		return zero, ToStatus(err)
	}
	res, err := fn(d)
	if err != nil {
		return zero, ToStatus(err)
	}
	return res, nil
}

func (s *controlServer) Describe(ctx context.Context, _ *driverv1.DescribeRequest) (*Description, error) {
	return control(ctx, s, func(d Driver) (*Description, error) { return d.Describe(ctx) })
}

func (s *controlServer) InitTenant(ctx context.Context, req *InitTenantRequest) (*Tenant, error) {
	return controlTenant(ctx, s, req, Driver.InitTenant)
}

func (s *controlServer) DescribeTenant(ctx context.Context, req *DescribeTenantRequest) (*Tenant, error) {
	return controlTenant(ctx, s, req, Driver.DescribeTenant)
}

// ofTenant is a request about a tenant, and keyed is one about a key of a tenant.
type (
	ofTenant interface{ GetTenant() string }
	keyed    interface {
		ofTenant
		GetKey() *KeyIdentity
	}
)

// controlTenant is control for calls about a tenant, whose name it checks first.
func controlTenant[R ofTenant, T any](ctx context.Context, s *controlServer, req R, call func(Driver, context.Context, R) (T, error)) (T, error) {
	return control(ctx, s, func(d Driver) (T, error) {
		if err := CheckTenant(req.GetTenant()); err != nil {
			var zero T
			return zero, err
		}
		return call(d, ctx, req)
	})
}

// controlKey is controlTenant for calls about a key, whose identity it checks as well.
func controlKey[R keyed, T any](ctx context.Context, s *controlServer, req R, call func(Driver, context.Context, R) (T, error)) (T, error) {
	return controlTenant(ctx, s, req, func(d Driver, ctx context.Context, req R) (T, error) {
		if err := CheckIdentity(req.GetKey()); err != nil {
			var zero T
			return zero, err
		}
		return call(d, ctx, req)
	})
}

func (s *controlServer) MakeKey(ctx context.Context, req *MakeKeyRequest) (*SealedKey, error) {
	return controlKey(ctx, s, req, Driver.MakeKey)
}

func (s *controlServer) MakeWrappingKey(ctx context.Context, req *MakeWrappingKeyRequest) (*SealedKey, error) {
	return controlKey(ctx, s, req, Driver.MakeWrappingKey)
}

func (s *controlServer) ImportKey(ctx context.Context, req *ImportKeyRequest) (*SealedKey, error) {
	return controlKey(ctx, s, req, Driver.ImportKey)
}

func (s *controlServer) Reseal(ctx context.Context, req *ResealRequest) (*SealedKey, error) {
	return controlKey(ctx, s, req, Driver.Reseal)
}

func (s *controlServer) DestroyKey(ctx context.Context, req *DestroyKeyRequest) (*driverv1.DestroyKeyResponse, error) {
	return controlKey(ctx, s, req, func(d Driver, ctx context.Context, req *DestroyKeyRequest) (*driverv1.DestroyKeyResponse, error) {
		return &driverv1.DestroyKeyResponse{}, d.DestroyKey(ctx, req)
	})
}

func (s *controlServer) Status(ctx context.Context, _ *driverv1.StatusRequest) (*driverv1.StatusResponse, error) {
	return control(ctx, s, func(d Driver) (*driverv1.StatusResponse, error) {
		members, err := d.Status(ctx)
		return &driverv1.StatusResponse{Members: members}, err
	})
}

func (s *controlServer) Health(ctx context.Context, req *driverv1.HealthRequest) (*driverv1.HealthResponse, error) {
	return control(ctx, s, func(d Driver) (*driverv1.HealthResponse, error) {
		start := time.Now()
		if err := d.Health(ctx, req.GetTenant()); err != nil {
			return &driverv1.HealthResponse{Error: AsError(err).Proto()}, nil
		}
		return &driverv1.HealthResponse{Ok: true, CanaryUs: uint32(time.Since(start).Microseconds())}, nil
	})
}

func (s *controlServer) Watch(_ *driverv1.WatchRequest, stream grpc.ServerStreamingServer[Event]) error {
	d, err := s.get(stream.Context())
	if err != nil {
		return ToStatus(err)
	}
	var sending sync.Mutex // drivers may send events from several goroutines, but Send is not safe for concurrent use
	return ToStatus(d.Watch(stream.Context(), func(e *Event) {
		sending.Lock()
		defer sending.Unlock()
		_ = stream.Send(e) // fails only if the caller has left, and then the context ends
	}))
}

func (s *controlServer) Drain(ctx context.Context, _ *driverv1.DrainRequest) (*driverv1.DrainResponse, error) {
	return control(ctx, s, func(d Driver) (*driverv1.DrainResponse, error) {
		return &driverv1.DrainResponse{}, d.Drain(ctx)
	})
}
