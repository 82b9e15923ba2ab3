package test

import (
	"fmt"
	"slices"
	"sync"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// look returns the processes below up and what they are, and remembers them.
func (r *running) look() map[int]string {
	now := map[int]string{}
	var walk func(pid int)
	all := node.Children()
	walk = func(pid int) {
		for _, child := range all[pid] {
			now[child] = node.Role(child)
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
	all := node.Children()
	var out []string
	var walk func(pid int, name string)
	walk = func(pid int, name string) {
		for _, child := range all[pid] {
			out = append(out, name+">"+node.Role(child))
			walk(child, node.Role(child))
		}
	}
	walk(pid, name)
	slices.Sort(out)
	return out
}

// dead is nil when the process is gone; a zombie counts as gone.
func dead(pid int) error {
	if f := node.Stat(pid); len(f) > 0 && f[0] != "Z" {
		return fmt.Errorf("process %d (%s) is still there", pid, node.Role(pid))
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
