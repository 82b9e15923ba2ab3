package huawei

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// digestHex is what encrypt-datakey wants behind a data key.
func digestHex(plain string) string {
	b, err := hex.DecodeString(plain)
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// broken returns a ciphertext cut short, drawn out, and with a bit changed in every eighth byte. Data keys are
// hexadecimal, and their length is told with them; data are base64.
func broken(text string, dataKey bool) []wrong {
	decode, encode, length := base64.StdEncoding.DecodeString, base64.StdEncoding.EncodeToString, "KMS.2201"
	if dataKey {
		decode, encode, length = hex.DecodeString, hex.EncodeToString, "KMS.2204"
	}
	raw, err := decode(text)
	if err != nil {
		panic(err)
	}
	var out []wrong
	add := func(b []byte, code string) { out = append(out, wrong{`"` + encode(b) + `"`, code}) }
	for n := 1; n < len(raw); n += 13 {
		add(raw[:n], length)
	}
	add(append(bytes.Clone(raw), 0), length)
	for i := 0; i < len(raw); i += 8 {
		b := bytes.Clone(raw)
		b[i] ^= 0x10
		add(b, "KMS.2201")
	}
	return out
}

// context is that of a call by the owner, for calling the core directly.
func (s *server) context() context.Context {
	return kms.WithCall(context.Background(), &kms.Call{Principal: policy.Principal{Name: "owner", Role: policy.Administrator}})
}

// TestForeignCiphertext decrypts what another sidecar made.
func TestForeignCiphertext(t *testing.T) {
	s, other := newServer(t, os.Getuid()), newServer(t, os.Getuid())
	other.create("one", "AES_256")
	key := other.create("two", "AES_256")
	foreign := other.post("encrypt-data", `{"key_id":"`+key+`","plain_text":"x"}`).field(t, "cipher_text")
	own := s.create("one", "AES_256")
	s.create("two", "AES_256")
	if a := s.post("decrypt-data", `{"cipher_text":"`+foreign+`"}`); a.code() != "KMS.2201" {
		t.Errorf("foreign ciphertext: %d %s", a.status, a.body)
	}
	mine := s.post("encrypt-data", `{"key_id":"`+own+`","plain_text":"x"}`).field(t, "cipher_text")
	raw, _ := base64.StdEncoding.DecodeString(mine)
	asKey := `{"key_id":"` + own + `","datakey_cipher_length":"1","cipher_text":"` + hex.EncodeToString(raw) + `"}`
	if a := s.post("decrypt-datakey", asKey); a.code() != "KMS.2201" {
		t.Errorf("data as a data key: %d %s", a.status, a.body)
	}
}

// TestEscapedText checks that limits of texts count characters, of whatever length JSON writes them in.
func TestEscapedText(t *testing.T) {
	s := newServer(t, os.Getuid())
	key := s.create("one", "AES_256")
	encrypt := func(character string, count int) answered {
		return s.post("encrypt-data", `{"key_id":"`+key+`","plain_text":"`+strings.Repeat(`\u0061`, 4096)+
			`","encryption_context":{"a":"`+strings.Repeat(character, count)+`"}}`)
	}
	for _, character := range []string{"a", "\u5bc6", `\u5bc6`, `\ud83d\udd11`} {
		if a := encrypt(character, 8191); a.status != http.StatusOK {
			t.Errorf("8192 characters of %s: %d %s", character, a.status, a.body)
		}
		if a := encrypt(character, 8192); a.code() != "KMS.0208" || !bytes.Contains(a.body, []byte("more than 8192 characters")) {
			t.Errorf("8193 characters of %s: %d %s", character, a.status, a.body)
		}
	}
}

// TestAnonymous checks that callers are refused on a connection without kernel credentials, and as a uid without a principal.
func TestAnonymous(t *testing.T) {
	s := newServer(t, os.Getuid()+1)
	for _, rt := range routes {
		path := address(strings.NewReplacer("{key_id}", "x", "{key}", "y").Replace(rt.Path))
		a := s.send(rt.Method, path, `{"key_id":`)
		if a.status != http.StatusForbidden || a.code() != "KMS.0307" {
			t.Errorf("%s as another uid: %d %s", rt.Operation, a.status, a.body)
		}
		if rec, _ := s.audit.last(); rec.Operation != rt.Operation || rec.Decision != "deny" || rec.Caller.UID != uint32(os.Getuid()) || rec.Caller.PID != int32(os.Getpid()) {
			t.Errorf("%s as another uid is on record as %+v", rt.Operation, rec)
		}
		unknown := s.direct(context.Background(), rt.Method, path, "{}")
		if unknown.status != http.StatusUnauthorized || !strings.HasPrefix(string(unknown.body), `{"error_code":"APIGW.0301","error_msg":"`) {
			t.Errorf("%s as an anonymous caller: %d %s", rt.Operation, unknown.status, unknown.body)
		}
	}
}

// direct calls the handlers without a connection, as the caller that ctx holds.
func (s *server) direct(ctx context.Context, method, path, body string) answered {
	w := newWriter()
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	s.router.ServeHTTP(w, r)
	return answered{w.status, w.header, w.body}
}

// writer is a http.ResponseWriter that keeps the answer.
type writer struct {
	header http.Header
	status int
	body   []byte
}

func newWriter() *writer { return &writer{header: http.Header{}} }

func (w *writer) Header() http.Header    { return w.header }
func (w *writer) WriteHeader(status int) { w.status = status }
func (w *writer) Write(b []byte) (int, error) {
	w.body = append(w.body, b...)
	return len(b), nil
}

const childSocket = "KEYSIDE_TEST_SOCKET"

// TestUnmappedUID connects as a uid outside the user namespace, in a process of its own.
func TestUnmappedUID(t *testing.T) {
	if socket := os.Getenv(childSocket); socket != "" {
		s := &server{t: t, client: &http.Client{Transport: unixTransport(socket)}}
		if a := s.post("list-keys", ""); a.status != http.StatusForbidden || a.code() != "KMS.0307" {
			t.Errorf("as uid %d: %d %s", os.Getuid(), a.status, a.body)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Log("not root: the other uid is this test's own, see TestNobody")
		return
	}
	const nobody = 54321
	s := newServer(t, 0)
	if err := errors.Join(os.Chmod(filepath.Dir(s.socket), 0o755), os.Chmod(s.socket, 0o777)); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(filepath.Dir(s.socket), "child.test")
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(binary, self, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-test.run=^TestUnmappedUID$")
	cmd.Dir = "/"
	cmd.Env = []string{childSocket + "=" + s.socket}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Pdeathsig: syscall.SIGKILL}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as an unmapped uid: %v\n%s", err, out)
	}
	if rec, n := s.audit.last(); n != 1 || rec.Caller.UID != nobody || !rec.Caller.Known || rec.Decision != "deny" {
		t.Errorf("on record: %d, %+v", n, rec)
	}
}

// TestAuditFailure answers an internal error where the record cannot be written, whatever the request was.
func TestAuditFailure(t *testing.T) {
	s := newServer(t, os.Getuid())
	key := s.create("a", "AES_256")
	s.audit.mu.Lock()
	s.audit.fail = errors.New("disk full")
	s.audit.mu.Unlock()
	for _, body := range []string{`{"key_id":"` + key + `","plain_text":"x"}`, `{`, `{"key_id":"x"}`} {
		if a := s.post("encrypt-data", body); a.status != http.StatusInternalServerError || a.code() != "KMS.0103" || strings.Contains(string(a.body), "disk") {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}

// TestHSMFailures answers each failure of the layers below in this cloud's words, with no cause in it.
func TestHSMFailures(t *testing.T) {
	s := newServer(t, os.Getuid())
	key := s.create("a", "AES_256")
	for _, c := range []struct {
		err    error
		status int
		code   string
		retry  string
	}{
		{&kms.Error{Code: kms.CodeBusy, Message: "busy", RetryAfter: 1500e6}, 503, "KMS.0104", "2"},
		{kms.Errorf(kms.CodeKeyUnavailable, "key is unavailable").Because(errors.New("CKR_DEVICE_ERROR")), 503, "KMS.0104", ""},
		{context.DeadlineExceeded, 504, "KMS.0101", ""},
		{errors.New("CKR_GENERAL_ERROR"), 500, "KMS.0103", ""},
	} {
		s.hsm.mu.Lock()
		s.hsm.fail = c.err
		s.hsm.mu.Unlock()
		a := s.post("encrypt-data", `{"key_id":"`+key+`","plain_text":"x"}`)
		if a.status != c.status || a.code() != c.code || a.header.Get("Retry-After") != c.retry || strings.Contains(string(a.body), "CKR") {
			t.Errorf("%v: %d %v %s", c.err, a.status, a.header, a.body)
		}
	}
}

// TestClientGoesAway leaves a body half sent: the refusal is on record and the server carries on.
func TestClientGoesAway(t *testing.T) {
	s := newServer(t, os.Getuid())
	ctx := kms.WithCaller(context.Background(), policy.Caller{UID: uint32(os.Getuid()), Known: true})
	w := newWriter()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost/v1.0/"+testProject+"/kms/gen-random", &halfBody{})
	if err != nil {
		t.Fatal(err)
	}
	s.router.ServeHTTP(w, r)
	if rec, n := s.audit.last(); w.status != http.StatusBadRequest || n != 1 || rec.Outcome != string(kms.CodeInvalidRequest) {
		t.Errorf("answer %d, %d records, last %+v", w.status, n, rec)
	}
}

type halfBody struct{ sent bool }

func (h *halfBody) Read(b []byte) (int, error) {
	if h.sent {
		return 0, errors.New("connection reset by peer")
	}
	h.sent = true
	return copy(b, `{"random_data_`), nil
}

// FuzzRequest sends any body to any target: nothing panics, nothing fails for a reason of its own, every answer is whole,
// and it is a good one of the route's or an error of the tables.
func FuzzRequest(f *testing.F) {
	s := newServer(f, os.Getuid())
	samples := newSamples(s)
	known := map[string]bool{"APIGW.0101": true, "KMS.0215": true, codeURL: true, codeBadJSON: true, codeTooLong: true, codeMissing: true}
	for i := range routes {
		rt := &routes[i]
		sample := samples.of(rt)
		add := func(values map[string]string) {
			q := s.request(rt, values)
			f.Add(q.method, strings.TrimPrefix(q.path, address("")), []byte(q.body))
		}
		add(sample.right)
		for j := range rt.Fields {
			fd := &rt.Fields[j]
			for _, code := range []string{fd.Code, fd.BoundCode, fd.StepCode} {
				known[code] = true
			}
			if fd.In == dialect.Body {
				for _, w := range append(wrongs(rt, fd, ""), sample.wrong[fd.Name]...) {
					add(sample.with(fd.Name, w.value))
				}
			}
		}
	}
	for _, target := range []string{"%2F/tags/%2f", "a/tags/action", "a//tags", "/", "tags?limit=%zz", "aliases?limit=1;marker=2", "{key_id}/tags/{key}", "../../"} {
		f.Add(http.MethodGet, target, []byte(nil))
		f.Add(http.MethodDelete, target, []byte(`{"key_id":"x"}`))
	}
	for _, a := range coreCodes {
		known[a.Code] = true
	}
	for _, ex := range exceptions {
		known[ex.As] = true
	}
	for _, own := range []string{codeOffsetUnwelcome, codePlainDigest, codePlainMismatch, codeCipherMismatch, codeTagKey, codeTagValue, codeMatchKey, codeMatchValue} {
		known[own] = true
	}
	ctx := kms.WithCaller(context.Background(), policy.Caller{UID: uint32(os.Getuid()), Known: true})
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+address("")+target, bytes.NewReader(body))
		if err != nil {
			return
		}
		w := newWriter()
		s.router.ServeHTTP(w, r)
		a := answered{w.status, w.header, w.body}
		var v any
		switch {
		case a.header.Get("X-Request-Id") == "":
			t.Errorf("%s %s: no request id in %v", method, target, a.header)
		case a.status == http.StatusNoContent && len(a.body) == 0:
		case json.Unmarshal(a.body, &v) != nil:
			t.Errorf("%s %s: %d with %q", method, target, a.status, a.body)
		case a.status == http.StatusOK && a.code() == "" || a.status == http.StatusCreated:
		case a.status >= 400 && a.status < 500 && known[a.code()]:
		default:
			t.Errorf("%s %s: %d %s", method, target, a.status, a.body)
		}
	})
}
