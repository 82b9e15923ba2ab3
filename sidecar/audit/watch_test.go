package audit

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFilesGone removes, replaces and cuts the files of an open log. It acknowledges no record after that, or within a look, says so once,
// and the next start repairs it or refuses it with the file's name.
func TestFilesGone(t *testing.T) {
	const current = "audit-00000001"
	for name, c := range map[string]struct {
		damage  func(dir string) error
		atOnce  bool // found by the next record, else by the next look
		refused string
	}{
		"file removed": {func(dir string) error { return os.Remove(filepath.Join(dir, current+".jsonl")) }, true, current + ".jsonl is missing"},
		"file cut":     {func(dir string) error { return os.Truncate(filepath.Join(dir, current+".jsonl"), 700) }, true, ""}, // the journal has the rest
		"file replaced": {func(dir string) error {
			path := filepath.Join(dir, current+".jsonl")
			return errors.Join(os.Rename(path, path+".away"), os.WriteFile(path, nil, 0o600))
		}, false, ""},
		"leaf hashes removed": {func(dir string) error { return os.Remove(filepath.Join(dir, current+".leaves")) }, false, ""},
		"leaf hashes cut":     {func(dir string) error { return os.Truncate(filepath.Join(dir, current+".leaves"), 32) }, false, ""},
		"journal removed":     {func(dir string) error { return os.Remove(filepath.Join(dir, journalName)) }, false, ""},
		"directory moved":     {func(dir string) error { return os.Rename(dir, dir+".away") }, false, "is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1<<20)
			failed := make(chan error, 2)
			w.watchEvery, w.Failed = 10*time.Millisecond, func(why error) { failed <- why }
			if c.atOnce {
				w.watchEvery = time.Hour
			}
			l := open(t, w.Options)
			for range 5 {
				if err := l.Record(t.Context(), sample("before")); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.storeHead(false); err != nil {
				t.Fatal(err)
			}
			if err := c.damage(w.Dir); err != nil {
				t.Fatal(err)
			}
			if c.atOnce {
				if l.Record(t.Context(), sample("lost")) == nil {
					t.Error("a record was acknowledged")
				}
			}
			select {
			case err := <-failed:
				if !errors.Is(err, errNotInPlace) {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it was not noticed")
			}
			if l.Record(t.Context(), sample("late")) == nil || l.Ready(t.Context()) == nil {
				t.Error("a record was acknowledged")
			}
			_ = l.Close() // it failed
			if len(failed) > 0 {
				t.Error("it was said twice")
			}
			again, err := Open(w.Options)
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "accept-loss") {
					t.Errorf("the next start says %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			if n := len(lines(t, w.Dir)); n < 6 {
				t.Errorf("%d records are left", n)
			}
			wantClean(t, w.source(t))
		})
	}
}

// TestCheck holds that Check finds what Open would refuse, and nothing in a log that was killed.
func TestCheck(t *testing.T) {
	w := newWorld(t, 2500)
	l := open(t, w.Options)
	for range 10 {
		if err := l.Record(t.Context(), sample("r")); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.storeHead(false); err != nil {
		t.Fatal(err)
	}
	killed := w.copy(t)
	check := func() error {
		anchor, head, err := killed.heads.AuditHead()
		if err != nil {
			t.Fatal(err)
		}
		return Check(killed.Dir, anchor, head, 0, nil)
	}
	if err := check(); err != nil {
		t.Errorf("a log that was killed: %v", err)
	}
	numbers, err := list(killed.Dir)
	if err != nil {
		t.Fatal(err)
	}
	path := fileName(killed.Dir, numbers[len(numbers)-1])
	put(t, killed.Dir, filepath.Base(path), nil)
	put(t, killed.Dir, journalName, nil)
	var loss *LossError
	if err := check(); !errors.As(err, &loss) || len(loss.Findings) == 0 || !strings.Contains(err.Error(), filepath.Base(path)) {
		t.Errorf("an emptied file: %v", err)
	}
	if b, err := os.ReadFile(path); err != nil || len(b) > 0 {
		t.Errorf("Check changed the file: %v", err)
	}
}
