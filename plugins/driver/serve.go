package driver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/keyside/keyside/plugins/driverv1"
	"github.com/keyside/keyside/plugins/procattr"
)

// Handshake is go-plugin's handshake between host and driver process. The cookie, which is not secret, makes a driver that a user
// starts by hand exit with an explanation. The protocol number changes with the process protocol, not with driver.v1.
var Handshake = goplugin.HandshakeConfig{
	ProtocolVersion: 1, MagicCookieKey: "KEYSIDE_DRIVER", MagicCookieValue: "driver.v1",
}

// PluginName is the name of the only plugin in the plugin set.
const PluginName = "driver"

// Serve runs the calling process as a driver process and returns when the host has exited. It forbids core dumps, uses standard
// output for the handshake, and runs operations on as many workers as the driver's Description says.
func Serve(configure Configurer) {
	_ = procattr.ForbidDumps() // key material and the PIN are in this process
	p := &process{configurer: configure}
	go exitWithParent(os.Getppid())
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig: Handshake,
		Plugins:         goplugin.PluginSet{PluginName: &serverPlugin{process: p}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return goplugin.DefaultGRPCServer(append(opts, ServerOptions()...))
		},
		Logger: hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, JSONFormat: true, Output: os.Stderr}),
	})
}

// exitWithParent exits when the host has exited. The host also sets the parent-death signal, but a host may not do so, or its thread
// may end before the driver process has started.
func exitWithParent(parent int) {
	for range time.Tick(time.Second) {
		if os.Getppid() != parent {
			os.Exit(3)
		}
	}
}

// process is the state of a driver process. driver is nil until Configure.
type process struct {
	configurer Configurer
	mu         sync.Mutex
	driver     Driver
	workers    *Workers
}

func (p *process) get(context.Context) (Driver, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.driver == nil {
		return nil, Errorf(InvalidArgument, "driver is not configured yet")
	}
	return drainingDriver{p.driver, p.workers}, nil
}

func (p *process) configure(ctx context.Context, req *driverv1.ConfigureRequest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer clear(req.Credential)
	if p.driver != nil {
		return Errorf(InvalidArgument, "already configured")
	}
	if req.GetExecFd() < 3 {
		return Errorf(InvalidArgument, "exec_fd missing")
	}
	conn, err := fdConn(int(req.GetExecFd()))
	if err != nil {
		return err
	}
	d, err := p.configurer(ctx, req.GetSettings(), req.GetCredential())
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	desc, err := d.Describe(ctx)
	if err != nil {
		return errors.Join(err, conn.Close())
	}
	p.driver = d
	p.workers = NewWorkers(d, int(desc.GetFastWorkers()), int(desc.GetSlowWorkers()))
	// Goroutine switches are cheapest with GOMAXPROCS=1. A cgo call keeps its P until the runtime retakes it, which takes as long
	// as a slow operation, so a second P is needed.
	runtime.GOMAXPROCS(2)
	go func() {
		if _, err := AcceptStream(conn, 0); err != nil {
			_ = conn.Close()
			return
		}
		_ = ServeStream(conn, p.workers, nil)
	}()
	return nil
}

func fdConn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "execute-stream")
	if f == nil {
		return nil, Errorf(InvalidArgument, "exec_fd %d is not open", fd)
	}
	defer func() { _ = f.Close() }()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, Errorf(InvalidArgument, "exec_fd %d is no socket", fd)
	}
	return conn, nil
}

// drainingDriver drains the workers before the driver.
type drainingDriver struct {
	Driver
	workers *Workers
}

func (d drainingDriver) Drain(ctx context.Context) error {
	if err := d.workers.Drain(ctx); err != nil {
		return err
	}
	return d.Driver.Drain(ctx)
}

// serverPlugin is the driver process's half of the plugin set.
type serverPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
	process *process
}

func (s *serverPlugin) GRPCServer(_ *goplugin.GRPCBroker, srv *grpc.Server) error {
	driverv1.RegisterDriverServer(srv, &controlServer{get: s.process.get, configure: s.process.configure})
	return nil
}

func (s *serverPlugin) GRPCClient(context.Context, *goplugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("driver processes have no client side")
}

// HostPlugin is the host's half of the plugin set. Dispensing it returns the *grpc.ClientConn.
type HostPlugin struct {
	goplugin.NetRPCUnsupportedPlugin
}

// GRPCServer implements go-plugin's interface and always fails.
func (HostPlugin) GRPCServer(*goplugin.GRPCBroker, *grpc.Server) error {
	return fmt.Errorf("hosts serve no driver")
}

// GRPCClient returns the connection itself.
func (HostPlugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
