package sidecar

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// TestAuditRoutes reads the audit log of a running sidecar. It checks that each request to read is recorded once, that a follower gets new
// records, and that following ends with the sidecar.
func TestAuditRoutes(t *testing.T) {
	n := newNode(t)
	c, stop := n.run()
	ctx := t.Context()
	key := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "a"})).ID

	var seen []string
	followed, first := make(chan error, 1), make(chan struct{})
	go func() {
		followed <- c.ReadAuditLog(ctx, client.AuditQuery{KeyID: key, Follow: true}, func(e *client.AuditEntry) error {
			if seen = append(seen, string(e.Entry)); len(seen) == 1 {
				close(first)
			}
			return nil
		})
	}()
	<-first
	must(c.DescribeKey(ctx, key))
	stopped := errors.New("enough")
	err := c.ReadAuditLog(ctx, client.AuditQuery{}, func(e *client.AuditEntry) error { return stopped })
	if !errors.Is(err, stopped) {
		t.Errorf("a reader who has enough: %v", err)
	}
	report := must(c.VerifyAuditLog(ctx, ""))
	if !report.OK() || report.Records < 5 || len(report.Keys) != 1 {
		t.Errorf("report %+v", report)
	}
	if r := must(c.VerifyAuditLog(ctx, report.Keys[0])); !r.OK() {
		t.Errorf("under its own key: %+v", r)
	}
	size := 0
	if err := c.ExportAuditLog(ctx, func(r io.Reader) error {
		b, err := io.ReadAll(r)
		size = len(b)
		return err
	}); err != nil || size < 2000 {
		t.Errorf("exported %d bytes, %v", size, err)
	}
	if err := stop(); err != nil {
		t.Errorf("with a reader who follows: %v", err)
	}
	select {
	case err := <-followed:
		if err != nil {
			t.Errorf("who follows is told %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("who follows is not told of the end")
	}
	if len(seen) != 2 || !strings.Contains(seen[0], "createKey") || !strings.Contains(seen[1], "describeKey") {
		t.Errorf("seen %q", seen)
	}
	for target, want := range map[string]int{"tail key=" + key: 1, "query": 1, "verify": 2, "export": 1} {
		if got := strings.Count(n.audit(), `"target":"`+target+`"`); got != want {
			t.Errorf("%q is on record %d times, want %d", target, got, want)
		}
	}
}

// TestAuditReaderLosesItsRight checks that following the audit log ends soon after the follower's token expired, and that this is
// recorded.
func TestAuditReaderLosesItsRight(t *testing.T) {
	n := newNode(t)
	c, _ := n.run()
	ctx := t.Context()
	made := must(c.CreateCredential(ctx, "eye", "auditor"))
	token := must(c.CreateToken(ctx, "eye", time.Hour))
	caller := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.cfg.Socket)
	}}}
	ask := func(operation, body, media string) io.ReadCloser {
		req := must(http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+client.BasePath+operation, strings.NewReader(body)))
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Auth-Token", token.Token)
		res := must(caller.Do(req))
		if got := res.Header.Get("Content-Type"); res.StatusCode != http.StatusOK || got != media {
			t.Fatalf("%s: status %d, %s, want %s", operation, res.StatusCode, got, media)
		}
		return res.Body
	}
	_ = ask("verify-audit-log", "{}", "application/json").Close()
	follower := ask("read-audit-log", `{"follow":true}`, "application/octet-stream")
	defer func() { _ = follower.Close() }()
	if err := c.DeleteCredential(ctx, made.AccessKey); err != nil {
		t.Fatal(err)
	}
	if err := c.ReadAuditLog(ctx, client.AuditQuery{}, func(*client.AuditEntry) error { return io.ErrUnexpectedEOF }); !errors.Is(err, client.ErrCutOff) ||
		!strings.Contains(err.Error(), "request ") {
		t.Errorf("an answer that is cut off is %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, follower)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("its end looks like a complete answer")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it goes on")
	}
	if !strings.Contains(n.audit(), `"operation":"read-audit-log","trace":"readAuditLog","dialect":"keyside","tenant":"test","principal":"eye"`) ||
		!strings.Contains(n.audit(), `"outcome":"Unauthenticated"`) {
		t.Errorf("the refusal is not on record:\n%s", n.audit())
	}
}

// TestAuditRequests holds that wrong requests about the audit log are refused, with the field at fault, and recorded.
func TestAuditRequests(t *testing.T) {
	n := newNode(t)
	_, _ = n.run()
	caller := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.cfg.Socket)
	}}}
	for _, c := range []struct{ operation, body, field string }{
		{"read-audit-log", `{"since":"yesterday"}`, "since"}, {"read-audit-log", `{"until":1}`, "until"},
		{"read-audit-log", `{"decision":"maybe"}`, "decision"}, {"read-audit-log", `{"last":-1}`, "last"},
		{"read-audit-log", `{"last":100001}`, "last"}, {"read-audit-log", `{"follow":"often"}`, "follow"},
		{"read-audit-log", `{"key_id":"app"}`, "key_id"}, {"read-audit-log", `{"principal":"` + strings.Repeat("p", 65) + `"}`, "principal"},
		{"verify-audit-log", `{"verifier_key":"a+b+c"}`, "verifier_key"}, {"read-audit-log", `[]`, ""}, {"export-audit-log", `nonsense`, ""},
	} {
		res, err := caller.Post("http://localhost"+client.BasePath+c.operation, "application/json", strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(string(answer), c.field) {
			t.Errorf("%s %s: %d %s", c.operation, c.body, res.StatusCode, answer)
		}
		if id := res.Header.Get("X-Request-Id"); id == "" || strings.Count(n.audit(), id) != 1 {
			t.Errorf("%s %s is on record %d times", c.operation, c.body, strings.Count(n.audit(), id))
		}
	}
}
