package sidecar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/soft"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/edge"
)

// TestMain lets the test binary be the driver process that plugins starts for kind soft.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "driver" && os.Args[2] == "soft" {
		driver.Serve(soft.Configure)
		return
	}
	if path, ok := os.LookupEnv(passer); ok {
		if err := passConnection(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// node is a folder with a sidecar's configuration and state.
type node struct {
	t   testing.TB
	dir string
	cfg Config
	log lockedBuffer
}

// lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newNode(t testing.TB) *node {
	dir, err := os.MkdirTemp("", "sc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &node{t: t, dir: dir}
	if err := os.WriteFile(filepath.Join(dir, "pin"), []byte("correct horse battery"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.cfg, err = ParseConfig(fmt.Appendf(nil, `
socket: %[1]s/kms.sock
socket_mode: "0600"
data: %[1]s/db
audit: {dir: %[1]s/audit, sync: false}
tenant: test
owner: %[2]d
hsm:
  init: true
  canary: 1s
  driver: {name: soft, kind: soft, settings: {file: %[1]s/keys}, credential: {file: %[1]s/pin}}
drain_timeout: 5s
`, dir, os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	n.cfg.Create = true
	return n
}

// run runs the sidecar until stop is called, which returns what Run did. It waits until the sidecar serves.
func (n *node) run() (c *client.Client, stop func() error) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, n.cfg, n.logger()) }()
	c = client.New(n.cfg.Socket)
	n.t.Cleanup(c.Close)
	deadline := time.Now().Add(20 * time.Second)
	for {
		if h, err := c.Health(ctx); err == nil && h.OK() {
			break
		}
		select {
		case err := <-ended:
			n.t.Fatalf("sidecar ended: %v\n%s", err, n.log.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("sidecar does not serve\n%s", n.log.String())
		}
	}
	var once sync.Once
	var err error
	stop = func() error {
		once.Do(func() {
			cancel()
			err = <-ended
		})
		return err
	}
	n.t.Cleanup(func() { _ = stop() })
	return c, stop
}

func (n *node) logger() *slog.Logger { return slog.New(slog.NewTextHandler(&n.log, nil)) }

// refusesToStart runs the sidecar and expects it to say why not.
func (n *node) refusesToStart(want ...string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := Run(ctx, n.cfg, n.logger())
	if err == nil {
		n.t.Fatal("it started")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			n.t.Errorf("it says %q, which lacks %q", err, w)
		}
	}
}

// says calls a function when a log says something.
type says struct {
	*lockedBuffer
	what string
	then func()
}

func (s *says) Write(p []byte) (int, error) {
	n, err := s.lockedBuffer.Write(p)
	if strings.Contains(string(p), s.what) {
		s.then()
	}
	return n, err
}

// TestHangup holds that a SIGHUP before the sidecar serves, and one when it has ended serving, end nothing: the first reloads
// the policies as soon as there are any.
func TestHangup(t *testing.T) {
	for at, reloads := range map[string]int{"hsm ready": 1, "draining": 0} {
		n := newNode(t)
		ctx, cancel := context.WithCancel(t.Context())
		out := &says{&n.log, at, func() {
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Error(err)
			}
		}}
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, n.cfg, slog.New(slog.NewTextHandler(out, nil))) }()
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if text := n.log.String(); strings.Contains(text, "serving") && strings.Count(text, "policies reloaded") == reloads {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("at %s: it does not serve, or reload\n%s", at, n.log.String())
			}
		}
		cancel()
		if err := <-ended; err != nil || !strings.Contains(n.log.String(), at) {
			t.Errorf("at %s: %v\n%s", at, err, n.log.String())
		}
	}
}

// TestEveryOperation goes through client, socket, dialect, core, database, audit log, driver process and back, and does it
// again with what the first sidecar left behind.
func TestEveryOperation(t *testing.T) {
	n := newNode(t)
	c, stop := n.run()
	ctx := t.Context()
	aes := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "aes", Description: "for tests"})).ID
	ec := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "ec", Spec: "EC_P256"})).ID
	bound := client.Bound{Context: map[string]string{"app": "test"}, AAD: []byte("row 7")}
	text := must(c.Encrypt(ctx, client.EncryptRequest{KeyID: aes, Plaintext: []byte("héllo"), Bound: bound})).Ciphertext
	dataKey := must(c.GenerateDataKey(ctx, client.DataKeyRequest{KeyID: aes, Length: 32, Bound: bound}))
	blind := must(c.GenerateDataKeyWithoutPlaintext(ctx, client.DataKeyRequest{KeyID: aes, Length: 16}))
	own := must(c.EncryptDataKey(ctx, client.EncryptDataKeyRequest{KeyID: aes, Plaintext: []byte("my own key")})).Ciphertext
	digest := sha256.Sum256([]byte("message"))
	sign := client.SignRequest{KeyID: ec, Algorithm: "ECDSA_SHA_256", Message: []byte("message")}
	signature := must(c.Sign(ctx, sign))
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	c, stop = n.run()
	if got := must(c.Decrypt(ctx, client.DecryptRequest{Ciphertext: text, Bound: bound})); string(got.Plaintext) != "héllo" || got.KeyID != aes {
		t.Errorf("decrypted %+v", got)
	}
	if _, err := c.Decrypt(ctx, client.DecryptRequest{Ciphertext: text}); !errors.Is(err, client.ErrInvalidCiphertext) {
		t.Errorf("decrypted without its context: %v", err)
	}
	open := client.DecryptDataKeyRequest{KeyID: aes, Ciphertext: dataKey.Ciphertext, Bound: bound}
	if got := must(c.DecryptDataKey(ctx, open)).Plaintext; !bytes.Equal(got, dataKey.Plaintext) || len(got) != 32 {
		t.Errorf("data key %x is not %x", got, dataKey.Plaintext)
	}
	open = client.DecryptDataKeyRequest{KeyID: aes, Ciphertext: blind.Ciphertext}
	if got := must(c.DecryptDataKey(ctx, open)).Plaintext; len(got) != 16 {
		t.Errorf("data key without plaintext: %x", got)
	}
	open = client.DecryptDataKeyRequest{KeyID: aes, Ciphertext: own}
	if got := must(c.DecryptDataKey(ctx, open)).Plaintext; string(got) != "my own key" {
		t.Errorf("own data key: %q", got)
	}
	sign.Message, sign.Digest = digest[:], true
	if !must(c.Verify(ctx, sign, signature)) {
		t.Error("signature does not verify")
	}
	if signature[len(signature)-1] ^= 1; must(c.Verify(ctx, sign, signature)) {
		t.Error("a changed signature verifies")
	}
	if key := must(c.GetPublicKey(ctx, ec)); key.Spec != "EC_P256" || len(key.DER) != 91 {
		t.Errorf("public key %+v", key)
	}
	if got := must(c.GenerateRandom(ctx, 100)); len(got) != 100 {
		t.Errorf("%d random bytes", len(got))
	}
	if _, err := c.DisableKey(ctx, aes); err != nil {
		t.Error(err)
	}
	if _, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: aes, Plaintext: []byte("x")}); !errors.Is(err, client.ErrKeyDisabled) {
		t.Errorf("encrypt with a disabled key: %v", err)
	}
	key := must(c.DescribeKey(ctx, aes))
	if key.State != client.Disabled || key.Description != "for tests" || key.Protection != "driver" || time.Since(key.Created) > time.Hour {
		t.Errorf("described as %+v", key)
	}
	if _, err := c.EnableKey(ctx, aes); err != nil {
		t.Error(err)
	}
	page := must(c.ListKeys(ctx, client.ListKeysRequest{Page: client.Page{Limit: 1}}))
	next := must(c.ListKeys(ctx, client.ListKeysRequest{Page: client.Page{Limit: 1, Marker: page.NextMarker}}))
	if page.Total != 2 || len(page.Keys) != 1 || len(next.Keys) != 1 || next.Keys[0].ID != ec || next.NextMarker != "" {
		t.Errorf("pages %+v, %+v", page, next)
	}
	status := must(c.GetHSMStatus(ctx))
	if status.Driver != "soft" || len(status.Layers) != 1 || status.Layers[0].Members[0].State != "ready" || status.Layers[0].Members[0].PID == 0 {
		t.Errorf("status %+v", status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, secret := range []string{"héllo", "my own key", "correct horse"} {
		if strings.Contains(n.log.String()+n.audit(), secret) {
			t.Errorf("%q is in a log", secret)
		}
	}
	if records := strings.Count(n.audit(), `"operation"`); records < 20 {
		t.Errorf("%d audit records", records)
	}
}

// audit returns the text of the audit log.
func (n *node) audit() string { return n.files("audit") }

// files returns what is in the files of one of the node's folders.
func (n *node) files(folder string) string {
	files, err := filepath.Glob(filepath.Join(n.dir, folder, "*"))
	if err != nil {
		n.t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			n.t.Fatal(err)
		}
		text.Write(b)
	}
	return text.String()
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestRefusesToStart says what to do about each thing that keeps a sidecar from serving.
func TestRefusesToStart(t *testing.T) {
	t.Run("no root keys and no leave to make them", func(t *testing.T) {
		n := newNode(t)
		n.cfg.HSM.Init = false
		n.refusesToStart("keyside root init --generate", "hsm.init")
	})
	t.Run("root keys gone", func(t *testing.T) {
		n := newNode(t)
		c, stop := n.run()
		must(c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "a"}))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(n.dir, "keys")); err != nil {
			t.Fatal(err)
		}
		n.refusesToStart("holds 1 keys", "restore")
	})
	t.Run("root keys of access keys gone", func(t *testing.T) {
		n := newNode(t)
		c, stop := n.run()
		must(c.CreateCredential(t.Context(), "a", client.RoleNone))
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(n.dir, "keys")); err != nil {
			t.Fatal(err)
		}
		n.refusesToStart("holds 1 keys", "restore")
	})
	t.Run("wrong pin", func(t *testing.T) {
		n := newNode(t)
		_, stop := n.run()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(n.dir, "pin"), []byte("wrong"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.refusesToStart("refused the PIN", "will not be tried again", "hsm.driver.credential")
	})
	t.Run("second process", func(t *testing.T) {
		n := newNode(t)
		n.run()
		second := &node{t: t, dir: n.dir, cfg: n.cfg}
		second.cfg.Socket += "2"
		second.refusesToStart("in use by another process")
		second.cfg.Data += "2"
		second.refusesToStart("says that there was one")
	})
	t.Run("socket served", func(t *testing.T) {
		n := newNode(t)
		n.run()
		second := newNode(t)
		second.cfg.Socket = n.cfg.Socket
		second.refusesToStart("another process is serving this socket")
	})
	t.Run("bad configuration", func(t *testing.T) {
		n := newNode(t)
		n.cfg.Owner = unset
		n.refusesToStart("owner:")
	})
}

// TestDrain lets a request that has begun finish after the end was asked for.
func TestDrain(t *testing.T) {
	n := newNode(t)
	_, stop := n.run()
	conn, err := net.Dial("unix", n.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	body := `{"random_data_length":"8"}`
	head := fmt.Sprintf("POST /v1.0/keyside/kms/gen-random HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	// The handler has begun once it asks for the body.
	begun := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	if _, err := io.ReadFull(conn, begun); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(n.log.String(), "draining"); {
		if time.Now().After(deadline) {
			t.Fatal("it does not drain")
		}
		time.Sleep(time.Millisecond)
	}
	if _, err := io.WriteString(conn, body); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.Contains(string(answer), "200 OK") || !strings.Contains(string(answer), `"random_data":"`) {
		t.Errorf("answer %q, %v", answer, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(n.cfg.Socket); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// freePort returns an address of the loopback that is not in use.
func freePort(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = free.Close() }()
	return free.Addr().String()
}

// TestLoopback serves no unsigned request on a port but healthz, and nothing at all that a web page may have sent.
func TestLoopback(t *testing.T) {
	n := newNode(t)
	n.cfg.Listen = freePort(t)
	n.run()
	_, port, _ := net.SplitHostPort(n.cfg.Listen)
	for _, c := range []struct {
		method, path, host, origin string
		status                     int
		body                       string
	}{
		{"GET", "/healthz", "", "", 200, `"status":"ok"`},
		{"GET", "/healthz", "localhost:" + port, "", 200, `"status":"ok"`},
		{"GET", "/healthz", "[::1]", "", 200, `"status":"ok"`},
		{"GET", "/healthz", "keys.example.com", "", 403, `"APIGW.0304","error_msg":"requests of web pages are refused","request_id":"`},
		{"GET", "/healthz", "127.0.0.1.example.com", "", 403, "APIGW.0304"},
		{"GET", "/healthz", "", "http://localhost", 403, "APIGW.0304"},
		{"POST", "/v1.0/keyside/kms/list-keys", "", "", 401, "APIGW.0301"},
		{"POST", "/v1.0/keyside/kms/create-key", "evil", "", 403, "APIGW.0304"},
		{"POST", "/keyside/v1/get-hsm-status", "", "", 401, `"code":"Unauthenticated"`},
		{"GET", "/v3/projects", "", "", 401, "APIGW.0301"},
		{"GET", "/v3/auth/domains", "", "", 401, "APIGW.0301"},
		{"GET", "/metrics", "", "", 404, "APIGW.0101"},
	} {
		req, err := http.NewRequest(c.method, "http://"+n.cfg.Listen+c.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		if c.origin != "" {
			req.Header.Set("Origin", c.origin)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != c.status || !strings.Contains(string(b), c.body) {
			t.Errorf("%s %s as %q from %q: %d %s", c.method, c.path, c.host, c.origin, res.StatusCode, b)
		}
	}
}

// TestLoopbackTLS holds the port with TLS to the same guard and the same need for credentials as without.
func TestLoopbackTLS(t *testing.T) {
	n := newNode(t)
	n.cfg.Listen = freePort(t)
	n.cfg.TLS = edge.TLSConfig{Certificate: filepath.Join(n.dir, "crt"), Key: filepath.Join(n.dir, "key")}
	other := httptest.NewTLSServer(http.NotFoundHandler()) // whose certificate is for 127.0.0.1, too
	defer other.Close()
	pair := other.TLS.Certificates[0]
	key := must(x509.MarshalPKCS8PrivateKey(pair.PrivateKey))
	for path, block := range map[string]*pem.Block{
		n.cfg.TLS.Certificate: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, n.cfg.TLS.Key: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := n.run()
	token := must(c.CreateToken(t.Context(), "", 0)).Token
	for _, want := range []struct {
		host, origin, token string
		status              int
	}{
		{"", "", token, 200}, {"", "", "", 401}, {"evil.example.com", "", token, 403}, {"", "https://evil.example.com", token, 403},
	} {
		req, err := http.NewRequest(http.MethodPost, "https://"+n.cfg.Listen+"/v1.0/keyside/kms/list-keys", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = want.host
		for name, value := range map[string]string{"Origin": want.origin, "X-Auth-Token": want.token} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		res, err := other.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want.status {
			t.Errorf("%+v: %d", want, res.StatusCode)
		}
	}
}

// TestUnserved: a request of a web page, and one for what nothing serves, is refused and on record.
func TestUnserved(t *testing.T) {
	n := newNode(t)
	n.cfg.Listen = freePort(t)
	_, stop := n.run()
	want := map[string]string{}
	for _, c := range []struct {
		method, path, origin string
		status               int
		dialect              string // in the record
	}{
		{http.MethodPost, "/v1.0/keyside/kms/list-keys", "https://evil.example.com", 403, ""}, {http.MethodGet, "/admin", "", 404, "huawei"},
		{http.MethodPost, "/v1.0/keyside/kms/create-everything", "", 404, "huawei"},
		{http.MethodDelete, "/v1.0/keyside/kms/list-keys", "", 405, "huawei"}, {http.MethodPost, "/keyside/v1/nothing", "", 404, "keyside"},
	} {
		r, err := http.NewRequest(c.method, "http://"+n.cfg.Listen+c.path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, res.StatusCode, c.status)
		}
		want[c.path+c.method] = `"request_id":"` + res.Header.Get("X-Request-Id") + `","operation":"unserved","trace":"unserved","dialect":"` + c.dialect + `"`
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	records := n.audit()
	for path, record := range want {
		if !strings.Contains(records, record) {
			t.Errorf("%s is not on record as %s:\n%s", path, record, records)
		}
	}
}
