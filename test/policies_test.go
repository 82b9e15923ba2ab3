package test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// TestPoliciesReloaded starts a node with a faulty policy, which it refuses, and sends a running one good and faulty ones: those
// count from the next request of an open connection on, these change nothing, and the log says where the fault is.
func TestPoliciesReloaded(t *testing.T) {
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "soft", Mode: "direct"}
	policies := t.TempDir()
	if err := node.Edit(t.Context(), o, func(config map[string]any) { config["policy"] = map[string]any{"dir": policies} }); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(policies, "site.cedar")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const (
		none   = "// nothing is forbidden\n"
		forbid = "// no random bytes for the owner\nforbid (principal == User::\"owner\", action == Action::\"gen-random\", resource);\n"
		faulty = "permit (principal, action, resource);\npermit (principal,\n  action == Action::\"gen-rndom\", resource);\n"
		broken = "permit (principal, action, resource)\n"
	)
	for _, c := range []struct{ text, position string }{{faulty, file + ":2:1: "}, {broken, file + ":2:1"}} {
		write(c.text)
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		n, err := node.Start(ctx, o)
		if err == nil {
			_ = n.Stop(ctx)
		}
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.position) {
			t.Errorf("start with a faulty policy: %v, want %s", err, c.position)
		}
	}
	write(none)
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop(context.Background()) })
	client, connections := oneConnection(n.Socket)
	defer client.CloseIdleConnections()
	random := func(want int) {
		t.Helper()
		resp, err := client.Post("http://keyside/v1.0/keyside/kms/gen-random", "application/json", strings.NewReader(`{"random_data_length":"64"}`))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("gen-random: %d, want %d", resp.StatusCode, want)
		}
	}
	reload := func(text, says string) {
		t.Helper()
		write(text)
		before := strings.Count(n.Output(), says)
		for _, pid := range n.Processes("sidecar") {
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, says, func() bool { return strings.Count(n.Output(), says) > before })
	}
	random(http.StatusOK)
	reload(forbid, "policies reloaded")
	random(http.StatusForbidden)
	reload(faulty, file+":2:1: ")
	random(http.StatusForbidden)
	reload(broken, file+":2:1")
	random(http.StatusForbidden)
	reload(none, "policies reloaded")
	random(http.StatusOK)
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	reload(forbid, "not be writable by others")
	random(http.StatusOK)
	if connections.Load() != 1 {
		t.Errorf("%d connections, want one", connections.Load())
	}
}

// oneConnection is a client that keeps its connection, and counts those that it makes.
func oneConnection(socket string) (*http.Client, *atomic.Int64) {
	made := new(atomic.Int64)
	return &http.Client{Transport: &http.Transport{
		MaxConnsPerHost: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			made.Add(1)
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}, made
}
