package verb

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestOutput writes files both ways: without a name, and under a temporary name.
func TestOutput(t *testing.T) {
	named := func(path string, force bool) (*Output, error) {
		f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
		if err != nil {
			return nil, err
		}
		return &Output{File: f, path: path, force: force, named: f.Name()}, nil
	}
	for name, create := range map[string]func(string, bool) (*Output, error){"nameless": CreateOutput, "named": named} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out")
			put := func(content string, force bool) error {
				o, err := create(path, force)
				if err != nil {
					return err
				}
				if _, err := io.WriteString(o, content); err != nil {
					return err
				}
				return o.Commit()
			}
			if err := put("one", false); err != nil {
				t.Fatal(err)
			}
			if err := put("two", false); ExitCode(err) != ExitExists {
				t.Errorf("second file over the first: %v", err)
			}
			if err := put("three", true); err != nil {
				t.Errorf("with force: %v", err)
			}
			o, err := create(path, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Discard(); err != nil {
				t.Error(err)
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(entries) != 1 {
				t.Errorf("left in the folder: %v, %v", entries, err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != "three" {
				t.Errorf("holds %q, %v", got, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

// TestOutputThatAppears checks that without force the second of two concurrent writers fails.
func TestOutputThatAppears(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	o, err := CreateOutput(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.Commit(); ExitCode(err) != ExitExists {
		t.Errorf("commit over it: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "theirs" {
		t.Errorf("it holds %q", got)
	}
}
