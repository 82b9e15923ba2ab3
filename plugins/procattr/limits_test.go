package procattr

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPrivateFiles holds that neither this process nor a child creates a file that other users can open.
func TestPrivateFiles(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	PrivateFiles()
	ours, child := filepath.Join(t.TempDir(), "ours"), filepath.Join(t.TempDir(), "child")
	if err := os.WriteFile(ours, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command("touch", child).Run(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{ours, child} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

// TestDescriptors lowers the soft limit, which is then raised again.
func TestDescriptors(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max / 2, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	n, err := Descriptors()
	if err != nil || uint64(n) != min(limit.Max, 1<<30) {
		t.Errorf("%d descriptors of %d, %v", n, limit.Max, err)
	}
}

func TestOpenDescriptors(t *testing.T) {
	before, limit, err := OpenDescriptors()
	if err != nil || before < 3 || limit <= before {
		t.Fatalf("%d of %d descriptors, %v", before, limit, err)
	}
	var files []*os.File
	for range 5 {
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	if after, _, err := OpenDescriptors(); err != nil || after != before+len(files) {
		t.Errorf("%d descriptors after 5 files were opened, %d before, %v", after, before, err)
	}
	for _, f := range files {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCheckDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := CheckDirectory(dir); err != nil {
		t.Errorf("a directory that does not exist: %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o770: false, 0o777: false, 0o702: false} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		err := CheckDirectory(dir)
		if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "chmod 0700 "+dir) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}
