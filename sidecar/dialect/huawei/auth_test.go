package huawei

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// setClock is set by tests.
type setClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *setClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *setClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// gate is the dialect with access keys in front of the core.
type gate struct {
	t       testing.TB
	clock   *setClock
	hsm     *fakeHSM
	audit   *memoryAudit
	core    *kms.Service
	dialect *Dialect
	router  *dialect.Router
}

var (
	ownerCall = kms.WithCall(context.Background(), &kms.Call{Principal: policy.Principal{Name: "owner", Role: policy.Administrator}})
	// Who the kernel says is calling.
	stranger = policy.Caller{}
	owner    = policy.Caller{UID: 5, Known: true}
	other    = policy.Caller{UID: 6, Known: true}
)

func newGate(t testing.TB) *gate {
	g := &gate{t: t, clock: &setClock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}, hsm: newFakeHSM(t), audit: &memoryAudit{}}
	store := newStore(t)
	var err error
	g.core, err = kms.New(kms.Config{
		Refusals: 1_000_000,
		Store:    store, HSM: g.hsm, Auditor: g.audit, Tenant: "test", Clock: g.clock, Credentials: store,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.dialect = New(Config{
		Core: g.core, Region: "local", ProjectID: testProject, DomainID: "dom", Host: dialect.Host{
			Timeout: 10 * time.Second, Clock: g.clock,
			Principal: owners(int(owner.UID), policy.Principal{Name: "owner", Role: policy.Administrator}).Principal,
		},
	})
	g.router = dialect.NewRouter()
	g.router.Add(g.dialect, Marks, dialect.Everywhere)
	return g
}

func (g *gate) credential(in kms.CreateCredentialInput) *kms.NewCredential {
	g.t.Helper()
	n, err := g.core.CreateCredential(ownerCall, in)
	if err != nil {
		g.t.Fatal(err)
	}
	return n
}

// ask sends a request as a caller.
func (g *gate) ask(caller policy.Caller, r *http.Request) answered {
	g.t.Helper()
	w := httptest.NewRecorder()
	g.router.ServeHTTP(w, r.WithContext(kms.WithCaller(context.Background(), caller)))
	if len(w.Header().Get("X-Request-Id")) != 32 {
		g.t.Errorf("%s: no request id", r.URL)
	}
	return answered{w.Code, w.Header(), w.Body.Bytes()}
}

// bare is an operation that every administrator may do, with headers in pairs.
func bare(headers ...string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8011/v1.0/"+testProject+"/kms/gen-random",
		strings.NewReader(requestBody))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// sign signs a request as the cloud's guide says (not as our kernel does): every header that it has, and the host.
func sign(r *http.Request, body, accessKey string, secret []byte, at time.Time) *http.Request {
	date := at.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Sdk-Date", date)
	values := map[string]string{"host": r.Host}
	for name := range r.Header {
		values[strings.ToLower(name)] = r.Header.Get(name)
	}
	var names []string
	for name := range values {
		names = append(names, name)
	}
	sort.Strings(names)
	var canonical strings.Builder
	canonical.WriteString(r.Method + "\n" + r.URL.Path + "/\n" + r.URL.RawQuery + "\n")
	for _, name := range names {
		canonical.WriteString(name + ":" + strings.TrimSpace(values[name]) + "\n")
	}
	canonical.WriteString("\n" + strings.Join(names, ";") + "\n" + hexSHA256(body))
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("SDK-HMAC-SHA256\n" + date + "\n" + hexSHA256(canonical.String())))
	r.Header.Set("Authorization", "SDK-HMAC-SHA256 Access="+accessKey+", SignedHeaders="+strings.Join(names, ";")+
		", Signature="+hex.EncodeToString(mac.Sum(nil)))
	return r
}

const requestBody = `{"random_data_length":"64"}` + "\n"

// TestAuthenticate walks who calls and what the request has to show for it.
func TestAuthenticate(t *testing.T) {
	g := newGate(t)
	admin := g.credential(kms.CreateCredentialInput{User: "terraform", Role: policy.Administrator})
	none := g.credential(kms.CreateCredentialInput{User: "guest"})
	token, err := g.core.CreateToken(ownerCall, kms.CreateTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	now := g.clock.Now()
	signed := func(headers ...string) *http.Request {
		return sign(bare(headers...), requestBody, admin.AccessKey, admin.Secret, now)
	}
	after := func(r *http.Request, change func(*http.Request)) *http.Request {
		change(r)
		return r
	}
	unsigned := `{"error_code":"APIGW.0301","error_msg":"`
	for _, c := range []struct {
		name      string
		caller    policy.Caller
		r         *http.Request
		status    int
		body      string
		principal string // on record
		accessKey string
	}{
		{"kernel's owner", owner, bare(), 200, "random_data", "owner", ""},
		{"kernel's other", other, bare(), 403, "KMS.0307", "", ""},
		{"anonymous", stranger, bare(), 401, unsigned + "request has no signature", "", ""},
		{"signed", stranger, signed(), 200, "random_data", "terraform", admin.AccessKey},
		{"signed, on the socket", other, signed(), 200, "random_data", "terraform", admin.AccessKey},
		{"signed, as the owner", owner, signed(), 200, "random_data", "terraform", admin.AccessKey},
		{"signed with more headers", stranger, signed("X-Project-Id", testProject, "Content-Type", "application/json", "User-Agent", "a  b"), 200, "random_data", "terraform", admin.AccessKey},
		{"without rights", stranger, sign(bare(), requestBody, none.AccessKey, none.Secret, now), 403, "KMS.0307", "guest", none.AccessKey},
		{"wrong, on the socket, as the owner", owner, after(signed(), func(r *http.Request) { r.Host = "x" }), 401, unsigned + "signature or token is not valid", "", admin.AccessKey},
		{"another's secret", stranger, sign(bare(), requestBody, admin.AccessKey, none.Secret, now), 401, unsigned + "signature or token is not valid", "", admin.AccessKey},
		{"access key that does not exist", stranger, sign(bare(), requestBody, "AAAAAAAAAAAAAAAAAAAA", none.Secret, now), 401, unsigned + "signature or token is not valid", "", "AAAAAAAAAAAAAAAAAAAA"},
		{"access key that never was", stranger, sign(bare(), requestBody, "A", none.Secret, now), 401, unsigned + "signature or token is not valid", "", "A"},
		{"another body", stranger, sign(bare(), requestBody+" ", admin.AccessKey, admin.Secret, now), 401, unsigned + "signature or token is not valid", "", admin.AccessKey},
		{"too old", stranger, sign(bare(), requestBody, admin.AccessKey, admin.Secret, now.Add(-16*time.Minute)), 401, unsigned + "X-Sdk-Date is not within", "", admin.AccessKey},
		{"too new", stranger, sign(bare(), requestBody, admin.AccessKey, admin.Secret, now.Add(16*time.Minute)), 401, unsigned + "X-Sdk-Date is not within", "", admin.AccessKey},
		{"another algorithm", stranger, bare("Authorization", "SDK-HMAC-SM3 Access=A"), 401, unsigned + "signing algorithm", "", ""},
		{"garbage", stranger, bare("Authorization", "SDK-HMAC-SHA256 Access=<A>"), 401, unsigned + "authorization or request is malformed", "", ""},
		{"two signatures", stranger, after(signed(), func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }), 401, unsigned + "request has more than one", "", ""},
		{"signature and token", stranger, after(signed(), func(r *http.Request) { r.Header.Add("X-Auth-Token", string(token.Text)) }), 401, unsigned + "request has more than one", "", ""},
		{"unsigned payload", stranger, sign(bare("X-Sdk-Content-Sha256", "UNSIGNED-PAYLOAD"), requestBody, admin.AccessKey, admin.Secret, now), 401, unsigned + "X-Sdk-Content-Sha256 must", "", admin.AccessKey},

		{"token", stranger, bare("X-Auth-Token", string(token.Text)), 200, "random_data", "owner", ""},
		{"token, on the socket", other, bare("X-Auth-Token", string(token.Text)), 200, "random_data", "owner", ""},
		{"empty token", owner, bare("X-Auth-Token", ""), 403, `{"error":{"error_code":"KMS.0301"`, "", ""},
		{"another token", owner, bare("X-Auth-Token", strings.Repeat("A", 43)), 403, `{"error":{"error_code":"KMS.0302"`, "", ""},
		{"token with a letter too many", stranger, bare("X-Auth-Token", string(token.Text)+"A"), 403, `{"error":{"error_code":"KMS.0302"`, "", ""},

		{"another project", stranger, signed("X-Project-Id", "ffff"), 403, `{"error":{"error_code":"KMS.0321"`, "terraform", admin.AccessKey},
		{"another project, on the socket", owner, bare("X-Project-Id", "ffff"), 403, `{"error":{"error_code":"KMS.0321"`, "owner", ""},
		{"project added after signing", stranger, after(signed(), func(r *http.Request) { r.Header.Set("X-Project-Id", testProject) }), 200, "random_data", "terraform", admin.AccessKey},
		{"another path", stranger, after(signed(), func(r *http.Request) { r.URL.Path = strings.Replace(r.URL.Path, testProject, "ffff", 1) }), 401, unsigned + "signature or token is not valid", "", admin.AccessKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, before := g.audit.last()
			a := g.ask(c.caller, c.r)
			if a.status != c.status || !strings.Contains(string(a.body), c.body) {
				t.Errorf("%d %s, want %d %s", a.status, a.body, c.status, c.body)
			}
			rec, n := g.audit.last()
			if n != before+1 || rec.Principal != c.principal || rec.AccessKey != c.accessKey || rec.Operation != policy.OpGenRandom ||
				(rec.Decision == "allow") != (c.status == 200) || rec.Caller != c.caller {
				t.Errorf("%d records, the last one %+v", n-before, rec)
			}
			for _, secret := range [][]byte{admin.Secret, token.Text} {
				if bytes.Contains(a.body, secret) {
					t.Error("a secret is in the answer")
				}
			}
		})
	}
}

// TestSocket checks that a process that has ended matches no principal, whatever it sent, and that signatures and tokens are
// refused on the Unix socket if the configuration says so, while the port accepts them.
func TestSocket(t *testing.T) {
	g := newGate(t)
	admin := g.credential(kms.CreateCredentialInput{User: "terraform", Role: policy.Administrator})
	token, err := g.core.CreateToken(ownerCall, kms.CreateTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	signed := func() *http.Request { return sign(bare(), requestBody, admin.AccessKey, admin.Secret, g.clock.Now()) }
	shown := func() *http.Request { return bare("X-Auth-Token", string(token.Text)) }
	on := func(c policy.Caller) policy.Caller { c.Socket = true; return c }
	unmapped, ended := on(policy.Caller{UID: owner.UID}), on(policy.Caller{UID: owner.UID, Ended: true})
	const refused, over, allowed = "signatures and tokens are not accepted", "has ended: connect again", "random_data"
	for _, c := range []struct {
		name     string
		unsigned bool
		caller   policy.Caller
		r        *http.Request
		status   int
		body     string
	}{
		{"owner", true, on(owner), bare(), 200, allowed}, {"no number", false, unmapped, bare(), 403, "KMS.0307"},
		{"no number, signed", false, unmapped, signed(), 200, allowed}, {"no number, signed, off", true, unmapped, signed(), 401, refused},
		{"signed", false, on(other), signed(), 200, allowed}, {"token", false, on(other), shown(), 200, allowed},
		{"signed, off", true, on(other), signed(), 401, refused}, {"token, off", true, on(other), shown(), 401, refused},
		{"owner, signed, off", true, on(owner), signed(), 401, refused}, {"owner, empty token, off", true, on(owner), bare("X-Auth-Token", ""), 401, refused},
		{"port, signed, off", true, stranger, signed(), 200, allowed}, {"port, token, off", true, stranger, shown(), 200, allowed},
		{"ended", false, ended, bare(), 403, over}, {"ended, signed", false, ended, signed(), 403, over}, {"ended, token", false, ended, shown(), 403, over},
	} {
		g.dialect.config.Unsigned = c.unsigned
		g.dialect.Server = dialect.NewServer(g.dialect.config)
		_, before := g.audit.last()
		a := g.ask(c.caller, c.r)
		if a.status != c.status || !strings.Contains(string(a.body), c.body) {
			t.Errorf("%s: %d %s, want %d %s", c.name, a.status, a.body, c.status, c.body)
		}
		rec, n := g.audit.last()
		if n != before+1 || (rec.Decision == "allow") != (c.status == 200) || (rec.Principal != "") != (c.status == 200) || rec.Caller != c.caller {
			t.Errorf("%s: %d records, the last one %+v", c.name, n-before, rec)
		}
	}
}

// TestTokenExpires checks that an expired token is refused, with that reason.
func TestTokenExpires(t *testing.T) {
	g := newGate(t)
	token, err := g.core.CreateToken(ownerCall, kms.CreateTokenInput{TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	r := func() *http.Request { return bare("X-Auth-Token", string(token.Text)) }
	g.clock.add(time.Minute - time.Millisecond)
	if a := g.ask(stranger, r()); a.status != 200 {
		t.Errorf("a moment before its end: %d %s", a.status, a.body)
	}
	g.clock.add(time.Millisecond)
	if a := g.ask(stranger, r()); a.status != 403 || a.code() != "KMS.0303" {
		t.Errorf("at its end: %d %s", a.status, a.body)
	}
}

// TestCredentialsAndTheHSM holds that an HSM that is away is not taken for a wrong signature.
func TestCredentialsAndTheHSM(t *testing.T) {
	g := newGate(t)
	n := g.credential(kms.CreateCredentialInput{User: "terraform", Role: policy.Administrator})
	r := func() *http.Request { return sign(bare(), requestBody, n.AccessKey, n.Secret, g.clock.Now()) }
	g.hsm.fail = kms.Errorf(kms.CodeKeyUnavailable, "away")
	if a := g.ask(stranger, r()); a.status != 503 || a.code() != "KMS.0104" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if rec, _ := g.audit.last(); rec.Outcome != "KeyUnavailable" || rec.AccessKey != n.AccessKey || rec.Principal != "" {
		t.Errorf("audited as %+v", rec)
	}
	g.hsm.fail = nil
	if a := g.ask(stranger, r()); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if err := g.core.DeleteCredential(ownerCall, n.AccessKey); err != nil {
		t.Fatal(err)
	}
	if a := g.ask(stranger, r()); a.status != 401 {
		t.Errorf("after its deletion: %d %s", a.status, a.body)
	}
}

// TestLookUps holds what a client that knows only its region and its access key is told, and that it must sign to ask.
func TestLookUps(t *testing.T) {
	g := newGate(t)
	n := g.credential(kms.CreateCredentialInput{User: "obs", Service: "obs"})
	get := func(target string) *http.Request {
		return httptest.NewRequest(http.MethodGet, "http://127.0.0.1"+target, nil)
	}
	for target, want := range map[string]string{
		"/v3/projects?name=cn-north-4": `{"projects":[{"id":"` + testProject + `","name":"cn-north-4"}]}`,
		"/v3/projects":                 `{"projects":[{"id":"` + testProject + `","name":"local"}]}`,
		"/v3/auth/domains":             `{"domains":[{"id":"dom","name":"dom"}]}`,
	} {
		if a := g.ask(stranger, sign(get(target), "", n.AccessKey, n.Secret, g.clock.Now())); a.status != 200 || string(a.body) != want {
			t.Errorf("%s: %d %s", target, a.status, a.body)
		}
		rec, _ := g.audit.last()
		if rec.Decision != "allow" || rec.Principal != "obs" || rec.AccessKey != n.AccessKey {
			t.Errorf("%s is audited as %+v", target, rec)
		}
		if a := g.ask(stranger, get(target)); a.status != 401 || a.code() != "APIGW.0301" {
			t.Errorf("%s unsigned: %d %s", target, a.status, a.body)
		}
		if rec, _ = g.audit.last(); rec.Decision != "deny" || rec.Outcome != "Unauthenticated" {
			t.Errorf("%s unsigned is audited as %+v", target, rec)
		}
		if a := g.ask(owner, get(target)); a.status != 200 {
			t.Errorf("%s on the socket: %d %s", target, a.status, a.body)
		}
	}
}
