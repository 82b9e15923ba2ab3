package verb

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// put writes a file through CreateOutput.
func put(path, content string, force bool) error {
	o, err := CreateOutput(path, force)
	if err != nil {
		return err
	}
	return o.finish([]byte(content))
}

// TestOutputThrough writes to what is no regular file: nothing is replaced, with and without force.
func TestOutputThrough(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	descriptor := fmt.Sprintf("/dev/fd/%d", w.Fd())
	if err := os.Symlink(descriptor, link); err != nil {
		t.Fatal(err)
	}
	for _, force := range []bool{false, true} {
		for _, path := range []string{descriptor, fmt.Sprintf("/proc/self/fd/%d", w.Fd()), link} {
			if err := put(path, "hello", force); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			got := make([]byte, 5)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != "hello" {
				t.Errorf("%s: %q, %v", path, got, err)
			}
		}
		done := make(chan string)
		go func() {
			got, err := os.ReadFile(fifo)
			done <- fmt.Sprint(string(got), err)
		}()
		if err := put(fifo, "hello", force); err != nil {
			t.Error(err)
		}
		if got := <-done; got != "hello<nil>" {
			t.Errorf("the pipe gave %s", got)
		}
		if err := put("/dev/null", "hello", force); err != nil {
			t.Error(err)
		}
	}
	for path, mode := range map[string]os.FileMode{fifo: os.ModeNamedPipe, "/dev/null": os.ModeCharDevice} {
		if info, err := os.Stat(path); err != nil || info.Mode()&mode == 0 {
			t.Errorf("%s is %v now, %v", path, info.Mode(), err)
		}
	}
	if err := put("/dev/full", "hello", false); err == nil {
		t.Error("a full device took everything")
	}
	// What a descriptor was appended to stays in front.
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = log.WriteString("one ")
	if err := put(fmt.Sprintf("/dev/fd/%d", log.Fd()), "two", false); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(log.Name()); string(got) != "one two" {
		t.Errorf("the log holds %q", got)
	}
}

// TestOutputNames checks the names that cannot be outputs, before any work, and those that can although they are long or links.
func TestOutputNames(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(dir, strings.Repeat("n", 255))
	for _, force := range []bool{false, true} {
		if err := put(long, "hello", force); err != nil {
			t.Errorf("a long name: %v", err)
		}
	}
	for path, exit := range map[string]int{
		"": ExitUsage, dir: ExitUsage, dir + "/no/": ExitNotFound, dir + "/no/no": ExitNotFound, long + "n": ExitFailure, long + "/x": ExitFailure,
	} {
		if _, err := CreateOutput(path, true); ExitCode(Explain(err)) != exit {
			t.Errorf("%q: %v", path, err)
		} else if strings.Contains(err.Error(), ".keyside-tmp") {
			t.Errorf("%q: the message has a name that the user did not give: %v", path, err)
		}
	}
	link, target := filepath.Join(dir, "link"), filepath.Join(dir, "target")
	if err := os.Symlink("target", link); err != nil {
		t.Fatal(err)
	}
	if err := put(link, "hello", false); ExitCode(err) != ExitExists {
		t.Errorf("over a link: %v", err)
	}
	if err := os.WriteFile(target, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := put(link, "hello", true); err != nil {
		t.Error(err)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "hello" {
		t.Errorf("the target of the link holds %q, %v", got, err)
	}
	if to, err := os.Readlink(link); err != nil || to != "target" {
		t.Errorf("the link is %q now, %v", to, err)
	}
}

// TestRemoveTemporary removes what an interrupted process would leave.
func TestRemoveTemporary(t *testing.T) {
	dir := t.TempDir()
	name := temporaryName(dir)
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	temporaries.Store(name, nil)
	RemoveTemporary()
	temporaries.Delete(name)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
