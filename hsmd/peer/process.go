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

// proc is the path of the proc file system.
type proc string

// maxCgroup limits the text of a process's cgroups, in bytes. The kernel writes less: one path for each hierarchy.
const maxCgroup = 128 << 10

// process reads the data of a process. Afterwards alive reports whether the process still runs. If it does not, its number may have
// belonged to another process meanwhile, and process returns nil.
func (p proc) process(pid int32, groups []uint32, alive func() bool) *policy.Process {
	if pid <= 0 { // in another pid namespace
		return &policy.Process{Groups: groups}
	}
	dir := filepath.Join(string(p), strconv.Itoa(int(pid)))
	at := placeOf(readAtMost(filepath.Join(dir, "cgroup"), maxCgroup))
	exe := filepath.Join(dir, "exe")
	path, err := os.Readlink(exe) // needs CAP_SYS_PTRACE for processes of other users
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

// readAtMost returns the content of a file, or nil if it cannot be read or has limit bytes or more.
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
