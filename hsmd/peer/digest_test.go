package peer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestDigests holds that a digest is that of what the file has now, kept or not, and that only so many are kept.
func TestDigests(t *testing.T) {
	for _, of := range []struct {
		name  string
		since time.Duration // the last change, as the cache has it
		texts []string
		kept  int
	}{
		{"fresh", 0, []string{"one", "two"}, 0}, // as long, and written in one tick of the file system's clock
		{"settled", time.Hour, []string{"one", "three", ""}, 3},
	} {
		c := digestCache{now: func() time.Time { return time.Now().Add(of.since) }, known: map[version]*digest{}}
		path := filepath.Join(t.TempDir(), "f")
		for _, text := range of.texts {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte(text))
			for range 2 {
				if got := c.of(path); got != hex.EncodeToString(sum[:]) {
					t.Errorf("%s, %q: %s", of.name, text, got)
				}
			}
		}
		if len(c.known) != of.kept {
			t.Errorf("%s: %d digests are kept", of.name, len(c.known))
		}
	}
	c := digestCache{now: func() time.Time { return time.Now().Add(time.Hour) }, known: map[version]*digest{}}
	dir := t.TempDir()
	for i := range 2*maxDigests + 10 {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if c.of(path) == "" || len(c.known) > maxDigests {
			t.Fatalf("%d digests are kept", len(c.known))
		}
	}
}

// TestNoDigest has what is not read: nothing, what is no file, and more than an executable has.
func TestNoDigest(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, maxExecutable+1)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{large, filepath.Dir(large), large + "-not", "/dev/zero"} {
		if got := digests.of(path); got != "" {
			t.Errorf("%s: %s", path, got)
		}
	}
}
