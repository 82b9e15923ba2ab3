//go:build soak

package test

import (
	"crypto/rand"
	"crypto/sha256"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// TestSoakFile encrypts and decrypts a file of 1 GiB: what comes back is what went in, and neither takes memory that
// depends on the size.
func TestSoakFile(t *testing.T) {
	const size, memory = 1 << 30, 128 << 20
	n := startNode(t, "softhsm", "")
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	runKeyside(t, n, memory, "key", "create", "files")
	want := sha256.New()
	plain, err := os.Create(path("plain"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.MultiWriter(plain, want), rand.Reader, size); err != nil {
		t.Fatal(err)
	}
	if err := plain.Close(); err != nil {
		t.Fatal(err)
	}
	runKeyside(t, n, memory, "file", "encrypt", "--key", "files", path("plain"), path("sealed"))
	runKeyside(t, n, memory, "file", "decrypt", path("sealed"), path("again"))
	got := sha256.New()
	again, err := os.Open(path("again"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if _, err := io.Copy(got, again); err != nil {
		t.Fatal(err)
	}
	if string(got.Sum(nil)) != string(want.Sum(nil)) {
		t.Error("what came back is not what went in")
	}
}

// runKeyside runs a verb, which must succeed with at most so many bytes resident.
func runKeyside(t *testing.T, n *node.Node, memory int64, args ...string) {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "KEYSIDE_SOCKET="+n.Socket)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("keyside %q: %v\n%s", args, err, out)
	}
	if peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10; peak > memory {
		t.Errorf("keyside %q had %d MiB resident, more than %d", args, peak>>20, memory>>20)
	}
}
