package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/keyside/keyside/test/node"
)

// look returns the processes below up and what they are, and remembers them.
func (r *running) look() map[int]string {
	now := map[int]string{}
	var walk func(pid int)
	all := children()
	walk = func(pid int) {
		for _, child := range all[pid] {
			now[child] = role(child)
			walk(child)
		}
	}
	walk(r.cmd.Process.Pid)
	for pid, role := range now {
		r.seen[pid] = role
	}
	return now
}

// edges returns the process tree as sorted "parent>child".
func edges(pid int, name string) []string {
	all := children()
	var out []string
	var walk func(pid int, name string)
	walk = func(pid int, name string) {
		for _, child := range all[pid] {
			out = append(out, name+">"+role(child))
			walk(child, role(child))
		}
	}
	walk(pid, name)
	slices.Sort(out)
	return out
}

// children returns every process's children.
func children() map[int][]int {
	out := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if parent, state := stat(pid); state != "" && state != "Z" {
			out[parent] = append(out[parent], pid)
		}
	}
	return out
}

// stat returns a process's parent and state letter; state is empty where there is no such process.
func stat(pid int) (parent int, state string) {
	fields := node.Stat(pid)
	if len(fields) < 2 {
		return 0, ""
	}
	parent, _ = strconv.Atoi(fields[1])
	return parent, fields[0]
}

// role returns which of Keyside's processes it is.
func role(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	args := strings.Split(string(b), "\x00")
	if len(args) < 2 {
		return "unknown"
	}
	return args[1]
}

// dead is nil when the process is gone; a zombie counts as gone.
func dead(pid int) error {
	if _, state := stat(pid); state != "" && state != "Z" {
		return fmt.Errorf("process %d (%s) is still there", pid, role(pid))
	}
	return nil
}

// syncMap is a map for scripts that run at once.
type syncMap[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]V
}

func newSyncMap[K comparable, V any]() *syncMap[K, V] { return &syncMap[K, V]{m: map[K]V{}} }

func (s *syncMap[K, V]) store(k K, v V) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.m[k] = v
}

func (s *syncMap[K, V]) load(k K) (V, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.m[k]
	return v, ok
}
