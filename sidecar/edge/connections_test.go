package edge

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// answers is what the handler of these tests does in place of a dialect: it refuses as [dialect.Router] does.
type answers struct{ http.Handler }

func (answers) AnswerUnserved(w http.ResponseWriter, _ *http.Request, c dialect.Condition) {
	if c != dialect.TooManyConnections {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// routed is a router with such a dialect, and GET /healthz.
func routed() http.Handler {
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if kms.CallerFrom(r.Context()).Socket {
			w.Header().Set("Caller", "socket")
		}
	})
	r := dialect.NewRouter()
	r.Handle(http.MethodGet, "/healthz", ok)
	r.Add(answers{ok}, dialect.Marks{Paths: []string{"POST /"}}, dialect.Everywhere)
	return r
}

// connection is a client's.
type connection struct {
	net.Conn
	in *bufio.Reader
	t  *testing.T
}

func dial(t *testing.T, network, address string) *connection {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &connection{conn, bufio.NewReader(conn), t}
}

// ask sends a request and returns the status, 0 if the server closed the connection instead, and whether it closes it now.
func (c *connection) ask(request string) (status int, closes bool) {
	c.t.Helper()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte(request + " HTTP/1.1\r\nHost: localhost\r\n\r\n")); err != nil {
		return 0, true
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return 0, true
	}
	return resp.StatusCode, resp.Close
}

func (c *connection) want(request string, status int, closes bool) {
	c.t.Helper()
	if got, closed := c.ask(request); got != status || closed != closes {
		c.t.Errorf("%s: %d, closes: %t; want %d, %t", request, got, closed, status, closes)
	}
}

// TestConnections has one user hold all connections that it may have: its next ones are refused, probes are answered, the port
// is none the worse, and a connection that ends makes room for another.
func TestConnections(t *testing.T) {
	log := make(logLines, 100)
	figures := new(Figures)
	if len(figures.Connections()) != 0 {
		t.Error("connections before anything is served")
	}
	opts, stop := serve(t, Options{
		Handler: routed(), Listen: freePort(t), Connections: ConnectionsConfig{Socket: 4, Listen: 4, Share: 50}, Figures: figures,
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	for network, address := range map[string]string{"unix": opts.Socket, "tcp": opts.Listen} {
		first, second := dial(t, network, address), dial(t, network, address)
		first.want("POST /", 200, false)
		second.want("POST /", 200, false)
		for range 3 {
			dial(t, network, address).want("POST /", 503, true)
			dial(t, network, address).want("GET /healthz", 200, true)
			dial(t, network, address).want("GET /", 503, true)
		}
		first.want("POST /", 200, false)
		name := map[string]string{"unix": "socket", "tcp": "port"}[network]
		if got := figures.Connections()[name]; got != (Connections{Open: 2, Limit: 4, Refused: 9}) {
			t.Errorf("%s: %+v", name, got)
		}
		_ = first.Close()
		for deadline := time.Now().Add(20 * time.Second); ; {
			if status, _ := dial(t, network, address).ask("POST /"); status == 200 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: no room for another connection after one has ended", network)
			}
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if !log.have("connection limit reached") {
		t.Error("the log does not say so")
	}
}

// TestSilentSpares holds that connections over the limits that send nothing cannot keep a probe out.
func TestSilentSpares(t *testing.T) {
	opts, _ := serve(t, Options{
		Handler: routed(), Connections: ConnectionsConfig{Socket: 2, Listen: 1, Share: 50}, Logger: slog.New(slog.DiscardHandler),
	})
	dial(t, "unix", opts.Socket).want("POST /", 200, false)
	for range 2 * spares {
		dial(t, "unix", opts.Socket)
	}
	dial(t, "unix", opts.Socket).want("GET /healthz", 200, true)
}

// TestShares has another user connect while this one holds all that it may have: until all connections are taken, it is served.
func TestShares(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("needs root to become other users")
	}
	opts, _ := serve(t, Options{
		Handler: routed(), Connections: ConnectionsConfig{Socket: 4, Listen: 1, Share: 50}, Logger: slog.New(slog.DiscardHandler),
	})
	if err := os.Chmod(strings.TrimSuffix(opts.Socket, "/socket"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(opts.Socket, 0o666); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dial(t, "unix", opts.Socket).want("POST /", 200, false)
	}
	dial(t, "unix", opts.Socket).want("POST /", 503, true)
	curl := exec.Command("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "--unix-socket", opts.Socket, "http://localhost/")
	curl.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	if out, err := curl.Output(); err != nil || string(out) != "200" {
		t.Errorf("another user: %s, %v", out, err)
	}
}

func TestFit(t *testing.T) {
	for _, test := range []struct {
		in          ConnectionsConfig
		descriptors int
		port        bool
		socket      int // 0: refused
	}{
		{ConnectionsConfig{Listen: 400}, 1 << 20, true, DefaultSocket},
		{ConnectionsConfig{Listen: 400}, 1024, true, 88},
		{ConnectionsConfig{Listen: 400}, 1024, false, 320},
		{ConnectionsConfig{Socket: 320}, 1024, false, 320},
		{ConnectionsConfig{Socket: 321}, 1024, false, 0},
		{ConnectionsConfig{Listen: 600}, 1024, true, 0},
	} {
		got, err := test.in.Fit(test.descriptors, test.port)
		if (err == nil) != (test.socket != 0) || err == nil && got.Socket != test.socket {
			t.Errorf("%+v with %d descriptors: %d, %v", test.in, test.descriptors, got.Socket, err)
		}
		if err != nil && !strings.Contains(err.Error(), "connections.socket") {
			t.Errorf("%v does not name the key", err)
		}
	}
}
