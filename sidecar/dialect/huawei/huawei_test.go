package huawei

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// server is the dialect behind net/http on a Unix socket, with the kernel telling who calls, as in the sidecar.
type server struct {
	t      testing.TB
	socket string
	client *http.Client
	hsm    *fakeHSM
	audit  *memoryAudit
	clock  *testClock
	owner  policy.Principal // of the owner's uid
	core   *kms.Service
	router *dialect.Router
}

const (
	testProject = "0d2a"
	testKeys    = 10000 // the limit
)

// newServer serves with uid as the owner.
func newServer(t testing.TB, owner int) *server {
	s := &server{t: t, hsm: newFakeHSM(t), audit: &memoryAudit{}, clock: newClock(), socket: filepath.Join(shortDir(t), "kms.sock")}
	uuid.SetRand(rand.NewChaCha8([32]byte{1}))
	t.Cleanup(func() { uuid.SetRand(nil) })
	s.owner = policy.Principal{Name: "owner", Role: policy.Administrator}
	var err error
	s.core, err = kms.New(kms.Config{
		Refusals: 1_000_000, // tests look for each on record
		Store:    newStore(t), HSM: s.hsm, Auditor: s.audit, Tenant: "test", Clock: s.clock, Limits: kms.Limits{Keys: testKeys}, Account: "dom",
		Principals: func(name string) (policy.Principal, bool) {
			p, ok := map[string]policy.Principal{"owner": s.owner, "app": {Name: "app"}, "other": {Name: "other"}}[name]
			return p, ok
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	d := New(Config{
		Core: s.core, Region: "local", ProjectID: testProject, DomainID: "dom", Host: dialect.Host{
			Principal: func(c policy.Caller) policy.Principal { return owners(owner, s.owner).Principal(c) }, Timeout: 10 * time.Second,
		},
	})
	s.router = dialect.NewRouter()
	s.router.Add(d, Marks, dialect.Everywhere)
	ln, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: s.router, ConnContext: func(ctx context.Context, c net.Conn) context.Context {
		return kms.WithCallerNow(ctx, c.(*peer.Conn).Caller)
	}}
	go func() { _ = srv.Serve(peer.Watch(ln)) }()
	transport := unixTransport(s.socket)
	s.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = srv.Close()
	})
	return s
}

// owners gives the processes of one uid a principal.
func owners(uid int, who policy.Principal) *policy.Users {
	return policy.NewUsers(policy.User{Source: policy.Source(fmt.Sprintf("uid:%d", uid)), Principal: who})
}

func unixTransport(socket string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
}

// shortDir is t.TempDir with a name that a socket's path has room for.
func shortDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "hw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// answered is an answer as it came.
type answered struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request as it is and checks what every answer must have.
func (s *server) send(method, path, body string) answered {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := s.client.Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	kind, length := "application/json", fmt.Sprint(len(b))
	if res.StatusCode == http.StatusNoContent {
		kind, length = "", ""
	}
	if h := res.Header; len(h.Get("X-Request-Id")) != 32 || h.Get("Content-Type") != kind || h.Get("Content-Length") != length {
		s.t.Errorf("%s %s: answer of %d bytes has headers %v", method, path, len(b), h)
	}
	return answered{res.StatusCode, res.Header, b}
}

// post does an operation.
func (s *server) post(path, body string) answered {
	s.t.Helper()
	return s.send(http.MethodPost, address(path), body)
}

// code returns an error answer's code in either form.
func (a answered) code() string {
	for _, prefix := range []string{`{"error":{"error_code":"`, `{"error_code":"`} {
		if rest, ok := bytes.CutPrefix(a.body, []byte(prefix)); ok {
			code, _, _ := bytes.Cut(rest, []byte(`"`))
			return string(code)
		}
	}
	return ""
}

// field returns a string member of the answer, wherever it is.
func (a answered) field(t testing.TB, name string) string {
	t.Helper()
	_, rest, ok := strings.Cut(string(a.body), `"`+name+`":"`)
	if !ok {
		t.Fatalf("no %s in %d %s", name, a.status, a.body)
	}
	v, _, _ := strings.Cut(rest, `"`)
	return v
}

// create makes a key and returns its id.
func (s *server) create(alias, spec string) string {
	s.t.Helper()
	return s.post("create-key", `{"key_alias":"`+alias+`","key_spec":"`+spec+`"}`).field(s.t, "key_id")
}

// routes are those of every server.
var routes = new(Dialect).routes()
