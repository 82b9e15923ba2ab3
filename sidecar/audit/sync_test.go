package audit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSyncer syncs in the background, and plainly once a file cannot be synced so.
func TestSyncer(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := newSyncer()
	defer s.release()
	for range 3 {
		if _, err := f.WriteString("line\n"); err != nil {
			t.Fatal(err)
		}
		if err := s.sync(f, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	_, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pipe.Close() }()
	if err := s.sync(pipe, func() {}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a pipe was synced: %v", err)
	}
	if s.context != 0 {
		t.Error("the background sync is still in use after it failed")
	}
	if err := s.sync(f, func() {}); err != nil {
		t.Errorf("the plain sync: %v", err)
	}
}
