package peer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/keyside/keyside/policy"
)

// proc is where the kernel shows processes.
type proc string

// maxCgroup is more than the kernel ever shows of a process's cgroups: a path for each hierarchy, bytes.
const maxCgroup = 128 << 10

// process reads what is known of a process. alive says afterwards whether it lives: then its number was no other's, and
// else what was read is worth nothing and nil is returned.
func (p proc) process(pid int32, groups []uint32, alive func() bool) *policy.Process {
	if pid <= 0 { // of another pid namespace
		return &policy.Process{Groups: groups}
	}
	dir := filepath.Join(string(p), strconv.Itoa(int(pid)))
	at := placeOf(readAtMost(filepath.Join(dir, "cgroup"), maxCgroup))
	exe := filepath.Join(dir, "exe")
	path, err := os.Readlink(exe) // needs rights over processes of other users
	if err != nil {
		path = ""
	}
	if !alive() {
		return nil
	}
	known := &policy.Process{Exe: path, Unit: at.unit, Pod: at.pod, Container: at.container, Groups: groups}
	if path != "" {
		known.Digest = sync.OnceValue(func() string {
			sum := digests.of(exe)
			if now, err := os.Readlink(exe); err != nil || now != path || !alive() {
				return ""
			}
			return sum
		})
	}
	return known
}

// readAtMost returns the content of a file, nothing where it cannot be read or has as many bytes as the limit.
func readAtMost(path string, limit int64) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(f, limit))
	if err := errors.Join(err, f.Close()); err != nil || int64(len(text)) == limit {
		return nil
	}
	return text
}
