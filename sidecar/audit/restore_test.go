package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/keyside/keyside/policy"
)

// restored is a log whose database was replaced by one of before, since when retention has removed the file of that database's head.
func restored(t *testing.T) (w *world, had uint64) {
	t.Helper()
	w, l, _ := rotated(t, Keep{Files: 2}, nil)
	if err := l.storeHead(false); err != nil {
		t.Fatal(err)
	}
	backup, err := os.ReadFile(w.heads.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := l.Record(t.Context(), w.heads.commit(t, fmt.Sprint("later ", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.checkpoints.signNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.retain(); err != nil {
		t.Fatal(err)
	}
	l.EndCheckpoints(t.Context())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	had = w.heads.LastRecorded()
	if err := os.WriteFile(w.heads.path, backup, 0o600); err != nil {
		t.Fatal(err)
	}
	numbers, _ := list(w.Dir)
	if a, _ := w.heads.head(t); numbers[0] <= a.File {
		t.Fatalf("file %d of the head is among %v", a.File, numbers)
	}
	w.Keep, w.MaxFileSize = Keep{}, 1<<20
	return w, had
}

// TestSkipRemoved has a log continue with a database from a backup whose head is in a file that retention has removed.
func TestSkipRemoved(t *testing.T) {
	w, had := restored(t)
	if err := SkipRemoved(t.Context(), w.Dir, w.heads); err != nil {
		t.Fatal(err)
	}
	a, h := w.heads.head(t)
	numbers, _ := list(w.Dir)
	if a.File != numbers[0] || h.File != a.File || h.Size != a.Size || h.Size == 0 {
		t.Errorf("the head is %+v of file %d, and the files are %v", h, a.File, numbers)
	}
	r, err := AcceptLoss(t.Context(), w.Options, 0, had, policy.Caller{UID: 7, Known: true})
	if err != nil || r.OK() {
		t.Fatalf("%+v (%v)", r, err)
	}
	w.write(t, 3)
	src, err := databaseSource(w.Dir, w.heads)
	if err != nil {
		t.Fatal(err)
	}
	if after := verify(t, src); !after.OK() || after.Signed != after.Records || after.Removed == 0 {
		t.Errorf("after it: %+v", after)
	}
	if err := SkipRemoved(t.Context(), w.Dir, w.heads); err != nil {
		t.Error(err)
	}
	if again, _ := w.heads.head(t); again.Size < a.Size {
		t.Errorf("a second time it goes back to %+v", again)
	}
}

// TestSkipRemovedNeedsCheckpoint refuses to continue where no signature says what was before the first file.
func TestSkipRemovedNeedsCheckpoint(t *testing.T) {
	w, _ := restored(t)
	numbers, _ := list(w.Dir)
	name := filepath.Join(w.Dir, fmt.Sprintf(checkpointOfFile, numbers[0]-1))
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	bad := append([]byte(nil), good...)
	bad[len(bad)-10] ^= 1
	for what, content := range map[string][]byte{"missing": nil, "changed": bad} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := SkipRemoved(t.Context(), w.Dir, w.heads); err == nil {
			t.Errorf("the checkpoint is %s, and it continues", what)
		}
	}
}
