package audit

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// dieAtArrow works with a log and dies at a step of that: open, record, rotate, sign, close. It prints what is acknowledged.
func dieAtArrow(top, key string, last int64) error {
	der, err := os.ReadFile(key)
	if err != nil {
		return err
	}
	private, err := x509.ParseECPrivateKey(der)
	if err != nil {
		return err
	}
	var steps atomic.Int64
	o := Options{
		Dir: filepath.Join(top, "audit"), Sync: true, MaxFileSize: 1500, Tenant: "default", journalSize: 4000,
		Heads: &fileHeads{path: filepath.Join(top, "heads")}, failpoint: func(step string) {
			if steps.Add(1) == last {
				os.Stdout.WriteString("died " + step + "\n")
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		},
	}
	l, err := Open(o)
	if err != nil {
		return err
	}
	k := &auditKey{key: private}
	public, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err == nil {
		err = l.SignCheckpoints(public, k.sign)
	}
	if err != nil {
		return err
	}
	for i := range 8 {
		if err := l.Record(context.Background(), sample(fmt.Sprint("failpoint-", i))); err != nil {
			return err
		}
		os.Stdout.WriteString(fmt.Sprint("said failpoint-", i, "\n"))
		_ = l.checkpoints.signNow(context.Background())
	}
	l.EndCheckpoints(context.Background())
	return l.Close()
}

// TestKilledAtEveryStep kills a process at each step of its work with the log, of a new one and of one that is there, and holds
// that the log is verified as it lies there and after the next start, with all that was acknowledged.
func TestKilledAtEveryStep(t *testing.T) {
	fresh := newWorld(t, 1500)
	if err := os.MkdirAll(fresh.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key")
	der, err := x509.MarshalECPrivateKey(fresh.key.key)
	if err == nil {
		err = os.WriteFile(key, der, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	old := fresh.copy(t)
	old.write(t, 4)
	for name, from := range map[string]*world{"new": fresh, "old": old} {
		seen := map[string]bool{}
		for step := 1; ; step += 1 + step/8 { // later many are alike
			w := from.copy(t)
			cmd := exec.Command(os.Args[0], filepath.Dir(w.Dir), key, fmt.Sprint(step))
			cmd.Env = append(os.Environ(), childVariable+"=failpoint")
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
				t.Fatalf("%s, step %d: %v: %s", name, step, err, out)
			}
			wantSaid(t, w, fmt.Sprintf("%s, step %d", name, step), string(out))
			if err == nil {
				break
			}
			seen[string(out[strings.LastIndex(string(out), "died "):])] = true
		}
		if len(seen) < 7 { // of ten; which step is which differs
			t.Errorf("it died at %d kinds of steps only: %v", len(seen), seen)
		}
	}
}

// wantSaid verifies what a killed process left and holds that all that it said is there once.
func wantSaid(t *testing.T, w *world, name, out string) {
	t.Helper()
	if a, _, _ := w.heads.AuditHead(); a != nil {
		if r, err := Verify(t.Context(), w.source(t)); err != nil || len(r.Findings) > 0 {
			t.Fatalf("%s: %v, %v\n%s", name, err, r.Findings, out)
		}
	}
	w.write(t, 1)
	if r := verify(t, w.source(t)); len(r.Findings) > 0 || r.Signed != r.Records {
		t.Fatalf("%s, after the next start: %+v\n%s", name, r, out)
	}
	times := map[string]int{}
	for _, r := range lines(t, w.Dir) {
		times[r.RequestID]++
	}
	for line := range strings.Lines(out) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "said "); ok && times[id] != 1 {
			t.Errorf("%s: record %s is there %d times", name, id, times[id])
		}
	}
}
