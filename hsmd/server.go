package hsmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/driverv1"
	"github.com/keyside/keyside/policy"
)

const (
	// sniffTimeout limits the wait for a connection's first bytes.
	sniffTimeout = 5 * time.Second
	// A tenant may have up to maxConns connections, or fewer if the process may have too few descriptors, but minConns at
	// least. A sidecar needs two.
	maxConns, minConns = 256, 8
	// reserveFDs and driverFDs are the descriptors that hsmd needs besides, in all and for each driver process.
	reserveFDs, driverFDs = 64, 16
)

// connections returns how many connections each tenant may have in a process that may have so many descriptors.
func (c *Config) connections(descriptors int) (int, error) {
	taken := reserveFDs + driverFDs*len(c.Drivers)
	each := min((descriptors-taken)/max(len(c.Tenants), 1), maxConns)
	if each < minConns {
		return 0, fmt.Errorf("the process may have %d file descriptors and needs %d: %d for drivers and reserve, %d for each of %d tenants; "+
			"raise the limit (LimitNOFILE= of the unit, ulimit -Hn)", descriptors, taken+minConns*len(c.Tenants), taken, minConns, len(c.Tenants))
	}
	return each, nil
}

// server serves Muxes to peers. gRPC and execute streams share one socket; their first bytes tell them apart.
type server struct {
	muxes   map[string]*Mux
	tenants *tenantMap
	most    int // connections of a tenant
	log     *slog.Logger
	rpc     *grpc.Server
	rpcs    *handover

	mu    sync.Mutex
	conns map[*peerConn]struct{}
	count map[string]int // by tenant
	wg    sync.WaitGroup
}

func newServer(cfg Config, muxes map[string]*Mux, most int, log *slog.Logger) (*server, error) {
	tenants, err := newTenantMap(cfg.Tenants)
	if err != nil {
		return nil, err
	}
	s := &server{muxes: muxes, tenants: tenants, most: most, log: log, conns: map[*peerConn]struct{}{}, count: map[string]int{}}
	s.rpcs = &handover{conns: make(chan net.Conn), closed: make(chan struct{})}
	opts := append(driver.ServerOptions(), grpc.Creds(kernelCreds{}), grpc.MaxConcurrentStreams(256),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream))
	s.rpc = grpc.NewServer(opts...)
	driver.RegisterServerFunc(s.rpc, func(ctx context.Context) (driver.Driver, error) {
		x, ok := ctx.Value(muxKey{}).(*Mux)
		if !ok {
			return nil, driver.Errorf(driver.Internal, "call was not admitted")
		}
		return x, nil
	})
	s.wg.Go(func() { _ = s.rpc.Serve(s.rpcs) })
	return s, nil
}

// serve accepts connections until the listener closes.
func (s *server) serve(ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // no descriptor is free, or the peer has closed already
			s.log.Error("accept failed", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s.wg.Go(func() { s.handle(conn) })
	}
}

// handle admits one connection and serves it, or hands it to gRPC.
func (s *server) handle(raw net.Conn) {
	caller, err := peer.Creds(raw)
	tenant, known := s.tenants.of(caller)
	if err != nil || !known {
		s.log.Warn("peer refused: no tenant has its uid or gid", "uid", caller.UID, "gid", caller.GID, "pid", caller.PID, "error", err)
		_ = raw.Close()
		return
	}
	conn := &peerConn{Conn: raw, caller: caller, tenant: tenant}
	if !s.enter(conn) {
		s.log.Warn("peer refused: too many connections", "tenant", tenant, "uid", caller.UID, "pid", caller.PID)
		_ = raw.Close()
		return
	}
	conn.leave = func() { s.leave(conn) }
	head := make([]byte, len(driver.StreamPreface))
	_ = raw.SetReadDeadline(time.Now().Add(sniffTimeout))
	if _, err := io.ReadFull(raw, head); err != nil {
		_ = conn.Close()
		return
	}
	_ = raw.SetReadDeadline(time.Time{})
	if string(head) != driver.StreamPreface {
		conn.head = head
		s.rpcs.give(conn)
		return
	}
	defer func() { _ = conn.Close() }()
	if err := s.execute(conn); err != nil {
		s.log.Warn("execute stream ended", "tenant", tenant, "pid", caller.PID, "error", err)
	}
}

// execute serves an execute stream whose preface has been read.
func (s *server) execute(conn *peerConn) error {
	name, err := driver.AcceptStream(conn.Conn, len(driver.StreamPreface))
	if err != nil {
		return err
	}
	x, err := s.mux(name)
	if err != nil {
		return err
	}
	return driver.ServeStream(conn.Conn, x, func(req *driver.Request) error {
		if req.Tenant != "" && req.Tenant != conn.tenant {
			return driver.Errorf(driver.TenantUnknown, "peer is tenant %s, not the one it names", conn.tenant)
		}
		req.Tenant = conn.tenant
		return nil
	})
}

// mux returns the Mux of a name; the empty name stands for the only one.
func (s *server) mux(name string) (*Mux, error) {
	if x := s.muxes[name]; x != nil {
		return x, nil
	}
	if name == "" && len(s.muxes) == 1 {
		for _, x := range s.muxes {
			return x, nil
		}
	}
	return nil, driver.Errorf(driver.InvalidArgument, "no driver is named %q here", name)
}

func (s *server) enter(c *peerConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || s.count[c.tenant] >= s.most {
		return false
	}
	s.conns[c] = struct{}{}
	s.count[c.tenant]++
	return true
}

func (s *server) leave(c *peerConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.count[c.tenant]--
}

// close ends every connection.
func (s *server) close() {
	s.rpc.Stop()
	s.mu.Lock()
	open := slices.Collect(maps.Keys(s.conns))
	s.conns = nil
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	s.wg.Wait()
}

// peerConn is a connection with the caller and the tenant of its peer.
type peerConn struct {
	net.Conn
	caller policy.Caller
	tenant string
	head   []byte // read already
	leave  func()
	once   sync.Once
}

func (c *peerConn) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

func (c *peerConn) Close() error {
	c.once.Do(c.leave)
	return c.Conn.Close()
}

// handover is the listener through which the gRPC server gets its connections.
type handover struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (h *handover) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *handover) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *handover) Addr() net.Addr { return &net.UnixAddr{Name: "hsmd", Net: "unix"} }

// kernelCreds are the transport credentials of a connection whose peer the kernel identifies.
type kernelCreds struct{}

// peerInfo is what a call learns about its peer from kernelCreds.
type peerInfo struct {
	credentials.CommonAuthInfo
	tenant string
}

// AuthType implements credentials.AuthInfo.
func (peerInfo) AuthType() string { return "unix-peer" }

// ServerHandshake takes the tenant from the connection; one that did not come through server.handle is refused.
func (kernelCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := conn.(*peerConn)
	if !ok {
		return nil, nil, errors.New("connection without peer credentials")
	}
	return conn, peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, tenant: c.tenant}, nil
}

// ClientHandshake implements credentials.TransportCredentials; it serves only.
func (kernelCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials")
}

// Info implements credentials.TransportCredentials.
func (kernelCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

// Clone implements credentials.TransportCredentials.
func (c kernelCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName implements credentials.TransportCredentials.
func (kernelCreds) OverrideServerName(string) error { return nil }

// open are the calls that a peer may make. Configure and Drain are not among them because they would stop the driver for other tenants.
var open = map[string]bool{
	driverv1.Driver_Describe_FullMethodName:        true,
	driverv1.Driver_InitTenant_FullMethodName:      true,
	driverv1.Driver_DescribeTenant_FullMethodName:  true,
	driverv1.Driver_MakeKey_FullMethodName:         true,
	driverv1.Driver_MakeWrappingKey_FullMethodName: true,
	driverv1.Driver_ImportKey_FullMethodName:       true,
	driverv1.Driver_Reseal_FullMethodName:          true,
	driverv1.Driver_DestroyKey_FullMethodName:      true,
	driverv1.Driver_Status_FullMethodName:          true,
	driverv1.Driver_Health_FullMethodName:          true,
	driverv1.Driver_Watch_FullMethodName:           true,
}

// unary admits a control call: it must be open, and its tenant empty or the peer's own.
func (s *server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, tenant, err := s.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, driver.ToStatus(err)
	}
	if err := setTenant(req, tenant); err != nil {
		return nil, driver.ToStatus(err)
	}
	return handler(ctx, req)
}

func (s *server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, _, err := s.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return driver.ToStatus(err)
	}
	return handler(srv, &streamWithContext{ServerStream: stream, ctx: ctx})
}

type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

func (s *streamWithContext) Context() context.Context { return s.ctx }

type muxKey struct{}

// admit returns the caller's tenant, and a context with the Mux that the call names.
func (s *server) admit(ctx context.Context, method string) (context.Context, string, error) {
	if !open[method] {
		return nil, "", driver.Errorf(driver.Unsupported, "%s is not for peers of hsmd", method)
	}
	p, _ := grpcpeer.FromContext(ctx)
	info, ok := p.AuthInfo.(peerInfo)
	if !ok {
		return nil, "", driver.Errorf(driver.TenantUnknown, "no peer credentials")
	}
	name := ""
	if values := metadata.ValueFromIncomingContext(ctx, driverKey); len(values) > 0 {
		name = values[0]
	}
	x, err := s.mux(name)
	if err != nil {
		return nil, "", err
	}
	if values := metadata.ValueFromIncomingContext(ctx, traceKey); len(values) > 0 {
		ctx = driver.WithTrace(ctx, []byte(values[0]))
	}
	return context.WithValue(ctx, muxKey{}, x), info.tenant, nil
}

// setTenant sets a request's tenant to its peer's. It finds the field by its name, so that it covers messages added later.
func setTenant(req any, tenant string) error {
	m, ok := req.(proto.Message)
	if !ok {
		return driver.Errorf(driver.Internal, "request of type %T", req)
	}
	r := m.ProtoReflect()
	field := r.Descriptor().Fields().ByName("tenant")
	if field == nil {
		return nil
	}
	if named := r.Get(field).String(); named != "" && named != tenant {
		return driver.Errorf(driver.TenantUnknown, "peer is tenant %s, not the one it names", tenant)
	}
	r.Set(field, protoreflect.ValueOfString(tenant))
	return nil
}
