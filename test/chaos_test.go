package test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// TestChaosDriverKilledUnderLoad kills the driver process again and again while 16 clients encrypt and decrypt. No
// request may fail: what was in flight is done by the next driver process, what comes meanwhile waits for it.
func TestChaosDriverKilledUnderLoad(t *testing.T) {
	for _, mode := range []string{"via-hsmd", "direct"} {
		t.Run(mode, func(t *testing.T) {
			n := startNode(t, "softhsm", mode)
			killUnderLoad(t, n, "driver", kills)
			pids := node.Descendants(n.PID())
			if err := n.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			for _, pid := range pids {
				waitFor(t, fmt.Sprintf("process %d is gone", pid), func() bool { return dead(pid) == nil })
			}
		})
	}
}

// TestChaosDaemonsKilledUnderLoad does the same to hsmd: the sidecar parks requests until it is back.
func TestChaosDaemonsKilledUnderLoad(t *testing.T) {
	n := startNode(t, "softhsm", "via-hsmd")
	killUnderLoad(t, n, "hsmd", kills/4)
}

// killUnderLoad runs 16 clients and kills the node's process in that role times times, each after the one before is
// replaced and has done some work.
func killUnderLoad(t *testing.T, n *node.Node, role string, times int) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := client.New(n.Socket)
	defer c.Close()
	key, err := c.CreateKey(ctx, client.CreateKeyRequest{Alias: "chaos-" + role})
	if err != nil {
		t.Fatal(err)
	}
	var done, failed atomic.Int64
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := roundTrip(ctx, c, key.ID, fmt.Sprintf("worker %d message %d", worker, i)); err != nil && ctx.Err() == nil {
					failed.Add(1)
					t.Errorf("after %d kills: %v", times, err)
					return
				}
				done.Add(1)
			}
		})
	}
	killed := map[int]bool{}
	for range times {
		before := done.Load()
		more := 50 + rand.Int64N(400)
		waitFor(t, "work between two kills", func() bool { return failed.Load() > 0 || done.Load() > before+more })
		waitFor(t, "a "+role+" to kill", func() bool {
			for _, pid := range n.Processes(role) {
				if !killed[pid] && syscall.Kill(pid, syscall.SIGKILL) == nil {
					killed[pid] = true
					return true
				}
			}
			return false
		})
	}
	before := done.Load()
	waitFor(t, "work after the last kill", func() bool { return failed.Load() > 0 || done.Load() > before+100 })
	stop()
	wg.Wait()
	t.Logf("%s killed %d times: %d round trips, %d failed", role, times, done.Load(), failed.Load())
}

func roundTrip(ctx context.Context, c *client.Client, key, text string) error {
	sealed, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: key, Plaintext: []byte(text)})
	if err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	opened, err := c.Decrypt(ctx, client.DecryptRequest{Ciphertext: sealed.Ciphertext})
	if err != nil {
		return fmt.Errorf("decrypt: %w", err)
	}
	if string(opened.Plaintext) != text {
		return fmt.Errorf("decrypted %q, want %q", opened.Plaintext, text)
	}
	return nil
}

// TestPoisonedRequest sends a request that kills every driver process it reaches, while others work: it alone is refused,
// after it has killed two, and the rest go on.
func TestPoisonedRequest(t *testing.T) {
	dir := t.TempDir()
	command := filepath.Join(dir, "poisondriver")
	if out, err := exec.Command("go", "build", "-o", command, "./poisondriver").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	content, err := os.ReadFile(command)
	if err != nil {
		t.Fatal(err)
	}
	o := node.Options{Binary: binary, Dir: filepath.Join(dir, "node"), Driver: "soft", Mode: "direct"}
	err = node.Edit(t.Context(), o, func(config map[string]any) {
		d := config["hsm"].(map[string]any)["driver"].(map[string]any)
		d["kind"], d["command"], d["sha256"] = "external", command, fmt.Sprintf("%x", sha256.Sum256(content))
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop(context.Background()) })
	c := client.New(n.Socket)
	defer c.Close()
	key, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "poison"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				if err := roundTrip(ctx, c, key.ID, fmt.Sprintf("good %d of %d", i, worker)); err != nil && ctx.Err() == nil {
					t.Errorf("a good request failed: %v", err)
					return
				}
			}
		})
	}
	for range 3 {
		if _, err := c.Encrypt(t.Context(), client.EncryptRequest{KeyID: key.ID, Plaintext: []byte("poison")}); err == nil {
			t.Error("the poisoned request was answered")
		}
		if err := roundTrip(t.Context(), c, key.ID, "after the poison"); err != nil {
			t.Errorf("after the poisoned request: %v", err)
		}
	}
	stop()
	wg.Wait()
}

// startNode starts a node in a folder of the test's own and stops it at the test's end.
func startNode(t *testing.T, driver, mode string, args ...string) *node.Node {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	n, err := node.Start(ctx, node.Options{Binary: binary, Dir: t.TempDir(), Driver: driver, Mode: mode, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		_ = n.Stop(ctx)
	})
	return n
}

// waitFor polls until what is true.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	end := time.Now().Add(deadline)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, deadline)
		}
		<-tick.C
	}
}

// TestCorruptCiphertexts sends 10,000 ciphertexts that do not open: each is refused as such, and no driver process is the
// worse for it.
func TestCorruptCiphertexts(t *testing.T) {
	n := startNode(t, "softhsm", "via-hsmd")
	c := client.New(n.Socket)
	defer c.Close()
	key, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "corrupt"})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := c.Encrypt(t.Context(), client.EncryptRequest{KeyID: key.ID, Plaintext: []byte("a message")})
	if err != nil {
		t.Fatal(err)
	}
	before := n.Processes("driver")
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := worker; i < 10_000; i += 16 {
				bad := slices.Clone(sealed.Ciphertext)
				bad[i%len(bad)] ^= 1 << (i / len(bad) % 8)
				_, err := c.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: bad})
				if refused := new(client.Error); !errors.As(err, &refused) || refused.Code != "InvalidCiphertext" {
					t.Errorf("bit %d of byte %d flipped: %v", i/len(bad)%8, i%len(bad), err)
					return
				}
			}
		})
	}
	wg.Wait()
	if after := n.Processes("driver"); !slices.Equal(before, after) {
		t.Errorf("driver processes were %v and are %v", before, after)
	}
	if err := roundTrip(t.Context(), c, key.ID, "still well"); err != nil {
		t.Error(err)
	}
}
