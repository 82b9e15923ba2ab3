package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// acknowledgedKey is a key that was acknowledged before a backup began, with a ciphertext under it.
type acknowledgedKey struct {
	id     string
	sealed []byte
}

// TestSoakKilledInBackups kills -9 the sidecar, hsmd, the driver and the verb itself while backups are written and keys change. What is
// left is refused, or it verifies and restores in another folder, with the same token, to a node that has everything that was
// acknowledged before the backup began.
func TestSoakKilledInBackups(t *testing.T) {
	t.Parallel()
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm", Mode: "via-hsmd"}
	if err := node.Edit(t.Context(), o, func(config map[string]any) { config["limits"] = map[string]any{"keys": 10_000} }); err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Stop(context.WithoutCancel(t.Context())) }()
	c := client.New(n.Socket)
	defer c.Close()
	enlarge(t, c)
	began := time.Now()
	if out, code := runVerb(t, n, "backup", "create", "--out", filepath.Join(t.TempDir(), "whole")); code != 0 {
		t.Fatal(out)
	}
	whole := time.Since(began)
	var keys []acknowledgedKey
	outcomes := map[string]int{}
	for i := range backupKills {
		keys = append(keys, makeAcknowledged(t, c, i))
		file := filepath.Join(t.TempDir(), "backup")
		l := newLedger(2 * workers)
		for _, s := range l.slots { // those of earlier rounds are uncertain
			s.alias = fmt.Sprintf("%s-of-%d", s.alias, i)
		}
		role := []string{"sidecar", "hsmd", "driver", "backup"}[i%4]
		l.round(t, c, rand.Int64N(20), func() { killInBackup(t, n, role, file, i%2 == 0, whole) })
		if err := n.WaitHealthy(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			outcomes["no file"]++
			continue
		}
		out, code := runVerb(t, n, "backup", "verify", file, "--dir", n.Dir)
		switch {
		case code == 0:
			outcomes["restored"]++
			checkRestored(t, n, file, keys)
		case code == 6 && (strings.Contains(out, "is damaged") || strings.Contains(out, "not a file made by")):
			outcomes["refused"]++
		default:
			t.Fatalf("a backup while the %s was killed: exit code %d: %s", role, code, out)
		}
	}
	t.Logf("%d kills: %v", backupKills, outcomes)
	if outcomes["restored"] == 0 || outcomes["refused"]+outcomes["no file"] == 0 {
		t.Errorf("nothing was tested: %v", outcomes)
	}
}

func makeAcknowledged(t *testing.T, c *client.Client, i int) acknowledgedKey {
	t.Helper()
	k, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: fmt.Sprintf("known-%d", i)})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := c.Encrypt(t.Context(), client.EncryptRequest{KeyID: k.ID, Plaintext: []byte(k.ID)})
	if err != nil {
		t.Fatal(err)
	}
	return acknowledgedKey{k.ID, sealed.Ciphertext}
}

// enlarge makes a database of some MiB, so that a backup takes some time.
func enlarge(t *testing.T, c *client.Client) {
	t.Helper()
	for i := range 3 {
		k, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: fmt.Sprintf("large-%d", i)})
		for j := 0; err == nil && j < 100; j++ {
			_, err = c.CreateGrant(t.Context(), client.CreateGrantRequest{
				KeyID: k.ID, Name: fmt.Sprint(j), Grantee: "owner", Operations: []string{"encrypt"},
				Constraints: client.Constraints{Context: map[string]string{"pad": strings.Repeat("x", 8000)}},
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// killInBackup writes a backup to a file, as its output or by name, and kills a process at a random moment of the time that it takes.
func killInBackup(t *testing.T, n *node.Node, role, file string, piped bool, whole time.Duration) {
	t.Helper()
	name := file
	if piped {
		name = "-"
	}
	cmd := exec.Command(binary, "backup", "create", "--socket", n.Socket, "--out", name)
	if piped {
		out, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = out.Close() }()
		cmd.Stdout = out
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.NewTimer(time.Duration(rand.Int64N(int64(whole))))
	<-timer.C
	if role == "backup" {
		_ = cmd.Process.Kill()
	} else {
		killOne(t, n.PID(), role)
	}
	_ = cmd.Wait()
}

// runVerb runs a verb and returns its output and exit code.
func runVerb(t *testing.T, n *node.Node, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(), "KEYSIDE_SOCKET="+n.Socket)
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// checkRestored restores a backup into another folder and starts a sidecar there, on the HSM of the node.
func checkRestored(t *testing.T, n *node.Node, file string, keys []acknowledgedKey) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(n.Dir, "sidecar.yaml")
	if out, code := runVerb(t, n, "backup", "restore", file, "--dir", dir, "--config", config); code != 0 {
		t.Fatalf("restore: %s", out)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.NewReplacer(
		filepath.Join(n.Dir, "kms.sock"), filepath.Join(dir, "kms.sock"), filepath.Join(n.Dir, "db"), filepath.Join(dir, "db"),
		filepath.Join(n.Dir, "audit"), filepath.Join(dir, "audit")).Replace(string(text)))
	if err := os.WriteFile(filepath.Join(dir, "sidecar.yaml"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, exec.Command(binary, "sidecar", "--config", filepath.Join(dir, "sidecar.yaml")))
	c := client.New(filepath.Join(dir, "kms.sock"))
	defer c.Close()
	waitFor(t, "the restored node serves", func() bool {
		h, err := c.Health(t.Context())
		if err != nil && d.ended() {
			t.Fatalf("it ended:\n%s", d.end(syscall.SIGKILL))
		}
		return err == nil && h.OK()
	})
	for _, k := range keys {
		got, err := c.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: k.sealed})
		if err != nil || string(got.Plaintext) != k.id {
			t.Errorf("key %s of before the backup: %v", k.id, err)
		}
	}
	if report, err := c.VerifyAuditLog(context.WithoutCancel(t.Context()), ""); err != nil || !report.OK() {
		t.Errorf("its audit log: %+v (%v)", report, err)
	}
	d.end(syscall.SIGTERM)
}
