package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// TestWatch removes, replaces and moves files of an open database, and holds that it takes no more changes within seconds.
func TestWatch(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string){
		"MANIFEST removed": func(t *testing.T, dir string) { remove(t, dir, manifest) },
		"MANIFEST replaced": func(t *testing.T, dir string) {
			remove(t, dir, manifest)
			if err := os.WriteFile(filepath.Join(dir, manifest), []byte("other"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"MANIFEST cut":    func(t *testing.T, dir string) { alter(t, dir, manifest, func(b []byte) []byte { return b[:len(b)/2] }) },
		"bit of MANIFEST": func(t *testing.T, dir string) { alter(t, dir, manifest, flipMiddle) },
		"bit of a table":  func(t *testing.T, dir string) { alter(t, dir, "*"+tableExt, flipMiddle) },
		"tables removed":  func(t *testing.T, dir string) { remove(t, dir, "*"+tableExt) },
		"log removed":     func(t *testing.T, dir string) { remove(t, dir, "*"+logExt) },
		"directory moved": func(t *testing.T, dir string) { rename(t, dir, dir+".away") },
		"directory replaced": func(t *testing.T, dir string) {
			rename(t, dir, dir+".away")
			copyFiles(t, dir+".away", dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failed := make(chan error, 1)
			dir := filepath.Join(t.TempDir(), "db")
			s := open(t, Options{Dir: dir, unsynced: true})
			fillTables(t, s, 20)
			s.Close()
			s = open(t, Options{Dir: dir, Failed: func(err error) { failed <- err }})
			damage(t, dir)
			select {
			case err := <-failed:
				if err := s.CreateKey(ctx, newKey("late"), 1000); err == nil {
					t.Error("a change was acknowledged")
				}
				t.Log(err)
			case <-time.After(20 * time.Second):
				t.Error("it was not noticed")
			}
		})
	}
}

func remove(t *testing.T, dir, pattern string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

// alter changes the first file of a pattern in its place.
func alter(t *testing.T, dir, pattern string, change func([]byte) []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files[0], change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

func flipMiddle(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// fillTables creates keys that are so large that n of them take n/13 tables.
func fillTables(t *testing.T, s *Store, n int) {
	t.Helper()
	for range n {
		k := newKey(uuid.NewString())
		k.Versions[0].Sealed = bytes.Repeat([]byte{7}, 300<<10)
		create(t, s, k)
	}
}

// TestCreation holds that a database is created only when that is asked for, and only where there was none.
func TestCreation(t *testing.T) {
	dir, anchor := filepath.Join(t.TempDir(), "db"), filepath.Join(t.TempDir(), "anchor")
	o := Options{Dir: dir, Anchor: anchor, Tenant: "default"}
	refuse := func(o Options, words ...string) {
		t.Helper()
		if s, err := Open(o); err == nil {
			s.Close()
			t.Error("a database was opened")
		} else {
			for _, w := range words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("message %q lacks %q", err, w)
				}
			}
		}
	}
	refuse(o, "--create")
	if _, err := os.Stat(dir); err == nil {
		t.Error("a refused start created the directory")
	}
	open(t, o).Close()
	rename(t, dir, dir+".away")
	created := o
	created.Create = true
	refuse(created, "says that there was one", anchor)
	if err := os.Mkdir(dir, 0o700); err != nil { // a volume that is not mounted
		t.Fatal(err)
	}
	refuse(created, "says that there was one")
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	rename(t, dir+".away", dir)
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// TestAnchor holds that the anchor names what was cut or replaced, notices an older database and another one's, and that a lost or
// corrupt anchor is made anew.
func TestAnchor(t *testing.T) {
	dir, anchor := filepath.Join(t.TempDir(), "db"), filepath.Join(t.TempDir(), "anchor")
	o := Options{Dir: dir, Anchor: anchor, Tenant: "default"}
	s := open(t, o)
	fillTables(t, s, 15)
	s.Close()
	old := t.TempDir()
	copyFiles(t, dir, old)
	s = open(t, o)
	fillTables(t, s, 15)
	s.Close()
	restore := func(from string) {
		t.Helper()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		copyFiles(t, from, dir)
	}
	whole := t.TempDir()
	copyFiles(t, dir, whole)
	refuse := func(what string, words ...string) {
		t.Helper()
		if s, err := Open(o); err == nil {
			s.Close()
			t.Errorf("%s: was opened", what)
		} else {
			for _, w := range words {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%s: message %q lacks %q", what, err, w)
				}
			}
		}
	}
	cut(t, filepath.Join(dir, manifest), 3)
	refuse("MANIFEST cut", "ends at change", "MANIFEST has")
	restore(whole)
	remove(t, dir, "000001"+tableExt)
	refuse("table removed", "000001.sst")
	restore(old)
	refuse("old copy", "ends at change", "acknowledged changes are lost")
	restore(whole)
	other := filepath.Join(t.TempDir(), "db")
	open(t, Options{Dir: other}).Close()
	restore(other)
	refuse("another node's", "is not the database of this audit log")
	restore(whole)
	for _, damage := range []func(){func() { remove(t, filepath.Dir(anchor), "anchor") }, func() { cut(t, anchor, 1) }} {
		damage()
		open(t, o).Close()
		if a, err := readAnchor(anchor); a == nil || err != nil {
			t.Errorf("anchor was not made anew: %v", err)
		}
	}
}

// cut removes the last bytes of a file.
func cut(t *testing.T, path string, n int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()-n)
	}
	if err != nil {
		t.Fatal(err)
	}
}
