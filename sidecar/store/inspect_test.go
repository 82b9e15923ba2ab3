package store

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestInspectFindsEveryLoss damages each file of a database in each way, in a closed database and in what a crash leaves, and
// holds that Inspect finds the damage, or everything that was acknowledged, or an earlier state of the database as a whole, whose change
// number says so; and that it changes nothing.
func TestInspectFindsEveryLoss(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, unsynced: true})
	fill := func(n int) {
		for range n {
			k := newKey(uuid.NewString())
			k.Versions[0].Sealed = bytes.Repeat([]byte{7}, 300<<10)
			create(t, s, k)
		}
	}
	fill(20) // several tables
	old := t.TempDir()
	copyFiles(t, dir, old)
	fill(12)
	crashed := t.TempDir()
	copyFiles(t, dir, crashed)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for name, image := range map[string]string{"crashed": crashed, "closed": dir} {
		whole, err := Inspect(image)
		if err != nil || whole.Change < 32 || whole.Tenant != "default" {
			t.Fatalf("%s: whole database: %+v, %v", name, whole, err)
		}
		files, err := databaseFiles(image)
		if err != nil {
			t.Fatal(err)
		}
		found, earlier, harmless := 0, 0, 0
		for _, file := range files {
			for damage, apply := range damages(t, filepath.Join(image, file), filepath.Join(old, file)) {
				broken := t.TempDir()
				copyFiles(t, image, broken)
				apply(filepath.Join(broken, file))
				before := digestOf(t, broken)
				state, err := Inspect(broken)
				switch {
				case err == nil && reflect.DeepEqual(state, whole):
					harmless++
				case err == nil && state.Change >= whole.Change:
					t.Errorf("%s: %s %s: %+v is taken for %+v", name, file, damage, state, whole)
				case err == nil:
					earlier++
				default:
					found++
				}
				if digestOf(t, broken) != before {
					t.Errorf("%s: %s %s: Inspect changed the directory", name, file, damage)
				}
				if err := os.RemoveAll(broken); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Logf("%s: %d files, %d found, %d earlier states, %d harmless", name, len(files), found, earlier, harmless)
	}
	if _, err := Inspect(t.TempDir()); !errors.Is(err, ErrAbsent) {
		t.Errorf("empty directory: %v", err)
	}
}

// TestInspectUnfinishedTransaction holds that a database is whole of which a crash left a transaction without its end.
func TestInspectUnfinishedTransaction(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	create(t, s, newKey("a"), newKey("b"))
	crashed := t.TempDir()
	copyFiles(t, dir, crashed)
	whole, err := Inspect(crashed)
	if err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(crashed, "*"+logExt))
	if err != nil || len(logs) != 1 {
		t.Fatal(logs, err)
	}
	b, err := os.ReadFile(logs[0])
	if err != nil {
		t.Fatal(err)
	}
	end, _, _ := logEnd(b)
	clear(b[bytes.LastIndex(b[:end], endKey)-endHeader:])
	if err := os.WriteFile(logs[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	if found, err := Inspect(crashed); err != nil || found.Change != whole.Change-1 {
		t.Errorf("found %+v, %v; want change %d", found, err, whole.Change-1)
	}
}

// damages returns ways to damage a file within its used bytes.
func damages(t *testing.T, path, old string) map[string]func(string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00")) // none in a log that badger has only just made
	tail := min(used/50+1, used)
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(b []byte) func(string) {
		return func(path string) { must(os.WriteFile(path, b, 0o600)) }
	}
	ways := map[string]func(string){
		"deleted":     func(path string) { must(os.Remove(path)) },
		"emptied":     write(nil),
		"tail zeroed": write(append(bytes.Clone(b[:used-tail]), make([]byte, len(b)-used+tail)...)),
	}
	for i := range min(8, used) {
		at := used * i / 8
		flipped := bytes.Clone(b)
		flipped[at] ^= 1 << i
		ways[fmt.Sprintf("bit %d of byte %d flipped", i, at)] = write(flipped)
		ways[fmt.Sprintf("cut at byte %d", at)] = write(b[:at])
	}
	if o, err := os.ReadFile(old); err == nil && !bytes.Equal(o, b) {
		ways["replaced by an old copy"] = write(o)
	}
	return ways
}

// copyFiles copies a database, which may be in use: badger removes a log once its table is written.
func copyFiles(t *testing.T, from, to string) {
	t.Helper()
	for {
		err := os.CopyFS(to, os.DirFS(from))
		if err == nil {
			return
		}
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
	}
}

// digestOf is a digest of the names, sizes and contents of the files in a directory.
func digestOf(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s %x\n", e.Name(), sha256.Sum256(b))
	}
	return all.String()
}
