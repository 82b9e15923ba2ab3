package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/kms"
)

// mortalLog is a log whose process may die before and after each record, and while a change's record is made: that is inside the
// transaction of the change.
type mortalLog struct {
	kms.Auditor
	step func(string)
}

func (m mortalLog) Line(r *kms.AuditRecord) []byte {
	m.step("inside the transaction")
	return m.Auditor.Line(r)
}

func (m mortalLog) Record(ctx context.Context, r *kms.AuditRecord) error {
	m.step("before the record")
	err := m.Auditor.Record(ctx, r)
	m.step("after the record")
	return err
}

// dieChanging creates keys, dies at a step, and prints what was answered.
func dieChanging(dir string, last int64) error {
	var steps atomic.Int64
	step := func(step string) {
		if steps.Add(1) == last {
			os.Stdout.WriteString("died " + step + "\n")
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	n, err := openNode(dir, wallClock{}, step, func(a kms.Auditor) kms.Auditor { return mortalLog{a, step} })
	if err != nil {
		return err
	}
	for i := range 5 {
		key, err := n.CreateKey(call(fmt.Sprint("request-", i)), kms.CreateKeyInput{Alias: uuid.NewString()})
		if err != nil {
			return err
		}
		os.Stdout.WriteString("said " + key.ID.String() + "\n")
		if err := n.log.storeHead(false); err != nil { // which empties the outbox
			return err
		}
	}
	return n.close()
}

// TestKilledBetweenChangeAndRecord kills a process at each step from the change to its record and its removal from the outbox. Before
// and after the next start the files verify; after it, each change has its record once, and what was answered is there.
func TestKilledBetweenChangeAndRecord(t *testing.T) {
	seen := map[string]bool{}
	for step := 1; ; step++ {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], dir, fmt.Sprint(step))
		cmd.Env = append(os.Environ(), childVariable+"=change")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
			t.Fatalf("step %d: %v: %s", step, err, out)
		}
		wantRecorded(t, dir, fmt.Sprintf("step %d", step), string(out))
		if err == nil {
			break
		}
		died, _, _ := strings.Cut(string(out[strings.LastIndex(string(out), "died "):]), "\n")
		seen[died] = true
	}
	for _, step := range []string{"inside the transaction", "before the record", "after the record", "records are written", "records are synced", "before the head is stored", "the head is stored"} {
		if !seen["died "+step] {
			t.Errorf("it never died at the step %q: %v", step, seen)
		}
	}
}

// wantRecorded holds the records in the log against the keys in the database, before and after the next start.
func wantRecorded(t *testing.T, dir, name, out string) {
	t.Helper()
	if src, _, err := stoppedSource(dir); err == nil && len(src.Anchor) > 0 {
		if r, err := Verify(t.Context(), src); err != nil || len(r.Findings) > 0 {
			t.Errorf("%s, as it was left: %v, %v", name, err, r.Findings)
		}
	}
	n, err := openNode(dir, wallClock{}, nil, nil)
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	keys, _, err := n.store.ListKeys(t.Context(), kms.KeyFilter{}, 0, 1<<20)
	if err = errors.Join(err, n.close()); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	records := map[string]int{}
	for _, r := range lines(t, filepath.Join(dir, "audit")) {
		if r.Change > 0 {
			records[r.KeyID]++
		}
	}
	there := map[string]bool{}
	for _, key := range keys {
		there[key.ID.String()] = true
		if records[key.ID.String()] != 1 {
			t.Errorf("%s: the creation of key %s is recorded %d times", name, key.ID, records[key.ID.String()])
		}
	}
	if len(records) != len(keys) {
		t.Errorf("%s: %d keys were recorded, and %d are there", name, len(records), len(keys))
	}
	for line := range strings.Lines(out) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "said "); ok && !there[id] {
			t.Errorf("%s: key %s was answered and does not exist", name, id)
		}
	}
	src, found, err := stoppedSource(dir)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if r := verify(t, src); len(r.Findings) > 0 || len(found.Outbox) > 0 {
		t.Errorf("%s, after the next start: %v, outbox %v", name, r.Findings, found.Outbox)
	}
}
