package hsmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/driverv1"
)

// TestMain makes the test binary a driver process where hsmd starts it, and a peer of another uid for the tests of
// credentials.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(driver.Handshake.MagicCookieKey) != "":
		driver.Serve(func(context.Context, []byte, []byte) (driver.Driver, error) { return echo{}, nil })
	case os.Getenv("KEYSIDE_TEST_PEER") != "":
		fmt.Println(peerMain(os.Getenv("KEYSIDE_TEST_PEER")))
	default:
		os.Exit(m.Run())
	}
}

// echo is a driver that answers each operation with its tenant and data.
type echo struct{ driver.Driver }

func (echo) Describe(context.Context) (*driver.Description, error) {
	return &driver.Description{Name: "echo", FastWorkers: 2, SlowWorkers: 1}, nil
}

func (echo) Execute(_ context.Context, tenant string, op *driver.Op) (*driver.Result, error) {
	if string(op.GetData()) == "crash" {
		os.Exit(5)
	}
	return &driver.Result{Data: []byte(tenant + ":" + string(op.GetData()))}, nil
}

func (echo) MakeKey(_ context.Context, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
	return &driver.SealedKey{Sealed: []byte(req.GetTenant())}, nil
}

func (echo) Health(_ context.Context, tenant string) error {
	switch {
	case tenant == "wrong-pin":
		return driver.Errorf(driver.PINIncorrect, "wrong pin")
	case tenant != "" && tenant != "us":
		return driver.Errorf(driver.TenantUnknown, "health of tenant %q", tenant)
	}
	return nil
}

func (echo) Status(context.Context) ([]*driver.Member, error) {
	return []*driver.Member{{Name: "echo", Pid: uint32(os.Getpid())}}, nil
}
func (echo) Drain(context.Context) error { return nil }
func (echo) Watch(ctx context.Context, _ func(*driver.Event)) error {
	<-ctx.Done()
	return ctx.Err()
}

func ask(ctx context.Context, d driver.Driver, tenant, data string) (string, error) {
	res, err := d.Execute(ctx, tenant, &driver.Op{Kind: driver.Encrypt, Data: []byte(data)})
	return string(res.GetData()), err
}

// peerMain dials hsmd and says in one line how that went.
func peerMain(socket string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := Dial(ctx, socket, "", -1)
	if err != nil {
		return "refused: " + err.Error()
	}
	got, err := ask(ctx, b, "", "hello")
	return fmt.Sprint(got, " ", err)
}

// otherUID is a uid that is not ours.
const otherUID = 23456

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// runDaemon runs hsmd with the echo driver for tenants and returns its socket, its log and what stops it.
func runDaemon(t testing.TB, tenants []TenantConfig, drivers ...string) (socket string, log *lockedBuffer, stop func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Socket: filepath.Join(dir, "hsmd.sock"), SocketMode: 0o666, Tenants: tenants, Procs: 2}
	for _, name := range drivers {
		cfg.Drivers = append(cfg.Drivers, DriverConfig{Config: plugins.Config{Name: name, Kind: plugins.KindSoft}})
	}
	log = new(lockedBuffer)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, cfg, slog.New(slog.NewTextHandler(log, nil))) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("unix", cfg.Socket)
		if err == nil {
			_ = conn.Close()
			return cfg.Socket, log, stop
		}
		if time.Now().After(end) {
			t.Fatalf("hsmd does not serve: %v\n%s", err, log)
		}
	}
}

func us() uint32 { return uint32(os.Geteuid()) }

func TestDaemonServesItsTenants(t *testing.T) {
	socket, log, stop := runDaemon(t, []TenantConfig{{Name: "us", UIDs: []uint32{us()}}}, "echo")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := Dial(ctx, socket, "echo", os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range []string{"", "us"} {
		if got, err := ask(ctx, b, tenant, "hello"); err != nil || got != "us:hello" {
			t.Errorf("as tenant %q: %q, %v", tenant, got, err)
		}
	}
	if _, err := ask(ctx, b, "them", "hello"); driver.CodeOf(err) != driver.TenantUnknown {
		t.Errorf("operation as another tenant: %v", err)
	}
	id := &driver.KeyIdentity{KeyId: make([]byte, 16), Version: 1, Spec: driver.AES256, Usage: driver.EncryptDecrypt}
	if res, err := b.MakeKey(ctx, &driver.MakeKeyRequest{Key: id}); err != nil || string(res.GetSealed()) != "us" {
		t.Errorf("control call without a tenant: %v, %v", res, err)
	}
	if _, err := b.MakeKey(ctx, &driver.MakeKeyRequest{Tenant: "them", Key: id}); driver.CodeOf(err) != driver.TenantUnknown {
		t.Errorf("control call as another tenant: %v", err)
	}
	if err := b.Health(ctx, ""); err != nil {
		t.Errorf("health: %v", err)
	}
	if status, err := b.Status(ctx); err != nil || len(status) != 1 || status[0].GetState() != stateReady || status[0].GetPid() == 0 {
		t.Errorf("status: %v, %v", status, err)
	}
	if _, err := Dial(ctx, socket, "nosuch", -1); driver.CodeOf(err) != driver.KeyUnavailable || !strings.Contains(err.Error(), `no driver is named "nosuch"`) {
		t.Errorf("unknown driver: %v", err)
	}
	if os.Geteuid() == 0 {
		t.Log("root serves; a wanted uid is checked in TestDialChecksWhoServes")
	}
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	select {
	case <-b.Done():
	case <-ctx.Done():
		t.Error("the connection outlived hsmd")
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log:\n%s", log)
	}
}

// A sidecar that took hsmd's wrong PIN for its own would never come back when hsmd's is put right.
func TestWrongPINOfTheDaemonIsNotThePeers(t *testing.T) {
	socket, _, _ := runDaemon(t, []TenantConfig{{Name: "wrong-pin", UIDs: []uint32{us()}}}, "echo")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := Dial(ctx, socket, "echo", os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Health(ctx, ""); driver.CodeOf(err) != driver.KeyUnavailable || driver.AsError(err).RetryClass() != driver.RetryLater {
		t.Errorf("health: %v", err)
	}
}

// A driver process that dies is no business of the peers: their requests are answered by the next.
func TestDaemonReplacesDrivers(t *testing.T) {
	socket, _, _ := runDaemon(t, []TenantConfig{{Name: "us", UIDs: []uint32{us()}}}, "echo")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	x, err := NewMux(MuxConfig{Name: "sidecar", Members: []MemberConfig{{Name: "hsmd", Start: func(ctx context.Context) (Backend, error) {
		return Dial(ctx, socket, "", -1)
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = x.Close(ctx) }()
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if got, err := ask(ctx, x, "", "hello"); err != nil || got != "us:hello" {
					t.Errorf("%q, %v", got, err)
					return
				}
			}
		})
	}
	last := uint32(0)
	for range 5 {
		pid := uint32(0)
		for end := time.Now().Add(10 * time.Second); pid == 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			status, err := x.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if p := status[0].GetPid(); p != last && p != uint32(os.Getpid()) && status[0].GetState() == stateReady {
				pid = p
			}
		}
		if pid == 0 || syscall.Kill(int(pid), syscall.SIGKILL) != nil {
			t.Fatalf("no driver process to kill (%d)", pid)
		}
		last = pid
	}
	close(done)
	wg.Wait()
	if _, err := ask(ctx, x, "", "crash"); driver.CodeOf(err) != driver.Poison {
		t.Errorf("request that kills its driver, through hsmd: %v", err)
	}
	if got, err := ask(ctx, x, "", "hello"); err != nil || got != "us:hello" {
		t.Errorf("after it: %q, %v", got, err)
	}
}

func TestDaemonKeepsItsDriversFromPeers(t *testing.T) {
	socket, _, _ := runDaemon(t, []TenantConfig{{Name: "us", UIDs: []uint32{us()}}}, "echo")
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := driverv1.NewDriverClient(conn)
	if _, err := c.Drain(t.Context(), &driverv1.DrainRequest{}); driver.CodeOf(driver.FromStatus(err)) != driver.Unsupported {
		t.Errorf("drain by a peer: %v", err)
	}
	if err := driver.Configure(t.Context(), conn, nil, nil, 3); driver.CodeOf(err) != driver.Unsupported {
		t.Errorf("configure by a peer: %v", err)
	}
}

func TestEveryCallIsOpenOrClosedOnPurpose(t *testing.T) {
	closed := map[string]bool{"Configure": true, "Drain": true}
	service := driverv1.Driver_ServiceDesc
	var names []string
	for _, m := range service.Methods {
		names = append(names, m.MethodName)
	}
	for _, m := range service.Streams {
		names = append(names, m.StreamName)
	}
	for _, name := range names {
		if open["/"+service.ServiceName+"/"+name] == closed[name] {
			t.Errorf("%s: decide whether peers may call it", name)
		}
	}
}

func TestPeersAreToldApartByUID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can play two peers; the mapping itself is in TestTenantMap")
		return
	}
	socket, log, _ := runDaemon(t, []TenantConfig{{Name: "us", UIDs: []uint32{0}}, {Name: "them", GIDs: []uint32{otherUID + 1}}}, "echo")
	binary := filepath.Join(filepath.Dir(socket), "peer")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(binary, self, 0o700), os.Chmod(binary, 0o755)); err != nil { // the daemon's umask applies here
		t.Fatal(err)
	}
	as := func(uid, gid uint32) string {
		cmd := exec.Command(binary)
		cmd.Env = []string{"KEYSIDE_TEST_PEER=" + socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("peer: %v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	if got := as(0, 0); got != "us:hello <nil>" {
		t.Errorf("uid 0: %s", got)
	}
	if got := as(otherUID, otherUID+1); got != "them:hello <nil>" {
		t.Errorf("mapped gid: %s", got)
	}
	if got := as(otherUID, otherUID); !strings.Contains(got, "refused") || !strings.Contains(got, "is our uid listed under tenants") {
		t.Errorf("unmapped peer: %s", got)
	}
	if !strings.Contains(log.String(), fmt.Sprintf("uid=%d", otherUID)) {
		t.Errorf("the refusal is not in the log:\n%s", log)
	}
}

func TestDialChecksWhoServes(t *testing.T) {
	if os.Geteuid() == 0 {
		// A socket of root is trusted by definition, so the fake server runs as another user.
		socket := filepath.Join(otherUIDServer(t), "s")
		_, err := Dial(t.Context(), socket, "", 4242)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("served by uid %d, not by uid 4242", otherUID)) {
			t.Errorf("wrong server: %v", err)
		}
		return
	}
	socket, _, _ := runDaemon(t, []TenantConfig{{Name: "us", UIDs: []uint32{us()}}}, "echo")
	if _, err := Dial(t.Context(), socket, "", os.Geteuid()+1); err == nil || !strings.Contains(err.Error(), "served by uid") {
		t.Errorf("wrong server: %v", err)
	}
}

// otherUIDServer makes a directory with a socket s that a thread of another uid listens on: peer credentials are those of
// the task that called listen.
func otherUIDServer(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "ks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go listenAs(filepath.Join(dir, "s"), otherUID, result)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSecondDaemonSaysWhy(t *testing.T) {
	socket, _, _ := runDaemon(t, []TenantConfig{{Name: "us", UIDs: []uint32{us()}}}, "echo")
	cfg := Config{Socket: socket, Tenants: []TenantConfig{{Name: "us", UIDs: []uint32{us()}}}, Procs: 2,
		Drivers: []DriverConfig{{Config: plugins.Config{Name: "echo", Kind: plugins.KindSoft}}}}
	err := Run(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "another process is serving this socket: is hsmd running already?") {
		t.Errorf("second hsmd: %v", err)
	}
}

func TestDaemonSurvivesGarbage(t *testing.T) {
	socket, _, _ := runDaemon(t, []TenantConfig{{Name: "us", UIDs: []uint32{us()}}}, "echo")
	for _, garbage := range []string{"x", "GET / HTTP/1.1\r\n\r\n", driver.StreamPreface + "\xff", driver.StreamPreface + "\x00\xff\xff\xff\xff", "KSEXEC2\n\x00", strings.Repeat("\x00", 1000)} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(garbage))
		if u, ok := conn.(*net.UnixConn); ok {
			_ = u.CloseWrite()
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%q: the connection was not closed: %v", garbage, err)
		}
		_ = conn.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b, err := Dial(ctx, socket, "", -1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(ctx, b, "", "hello"); err != nil || got != "us:hello" {
		t.Errorf("after the garbage: %q, %v", got, err)
	}
	_ = b.Close(ctx)
}
