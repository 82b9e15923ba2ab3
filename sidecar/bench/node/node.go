// Package node runs a whole Keyside node, hsmd, sidecar and driver processes, in a folder of its own. The benchmark and
// the system tests stand on it.
package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"
)

// Options say which node to run.
type Options struct {
	Binary string   // the keyside binary; empty: the running program
	Dir    string   // all state
	Driver string   // "soft" or "softhsm"
	Mode   string   // "via-hsmd" or "direct"; empty: up's default
	Args   []string // more arguments of `keyside up`
	UID    uint32   // whom to run as, who must be able to reach Binary and Dir; 0: as this process
}

// Node is a running `keyside up`.
type Node struct {
	Dir    string
	Socket string
	cmd    *exec.Cmd
	output *tail
	exited chan struct{}
	err    error // of the process; read after exited
}

// Start runs `keyside up` and waits until its /healthz answers 200 or the context ends.
func Start(ctx context.Context, o Options) (*Node, error) {
	if o.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		o.Binary = self
	}
	args := []string{"up", "--dir", o.Dir, "--driver", o.Driver}
	if o.Mode != "" {
		args = append(args, "--mode", o.Mode)
	}
	n := &Node{Dir: o.Dir, Socket: filepath.Join(o.Dir, "kms.sock"), output: &tail{}, exited: make(chan struct{})}
	n.cmd = exec.Command(o.Binary, append(args, o.Args...)...)
	n.cmd.Stdout, n.cmd.Stderr = n.output, n.output
	if o.UID != 0 {
		n.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: o.UID, Gid: o.UID}}
	}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		n.err = n.cmd.Wait()
		close(n.exited)
	}()
	if err := n.WaitHealthy(ctx); err != nil {
		return nil, errors.Join(err, n.Stop(context.WithoutCancel(ctx)))
	}
	return n, nil
}

// Edit changes sidecar.yaml of a node that is not running; a first run writes the file where there is none yet.
func Edit(ctx context.Context, o Options, change func(config map[string]any)) error {
	return EditFile(ctx, o, "sidecar.yaml", change)
}

// EditFile is Edit of the named configuration: sidecar.yaml or hsmd.yaml.
func EditFile(ctx context.Context, o Options, name string, change func(config map[string]any)) error {
	path := filepath.Join(o.Dir, name)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		n, err := Start(ctx, o)
		if err != nil {
			return err
		}
		if err := n.Stop(ctx); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	config := map[string]any{}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return err
	}
	change(config)
	if text, err = yaml.Marshal(config); err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// poll is the pause between two looks at a condition.
const poll = 10 * time.Millisecond

// WaitHealthy waits until /healthz answers 200.
func (n *Node) WaitHealthy(ctx context.Context) error {
	client := Client(n.Socket, 1)
	defer client.CloseIdleConnections()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://keyside/healthz", nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-n.exited:
			return fmt.Errorf("keyside up ended (%v):\n%s", n.err, n.output)
		case <-ctx.Done():
			return fmt.Errorf("not healthy: %w:\n%s", ctx.Err(), n.output)
		case <-tick.C:
		}
	}
}

// Stop asks the node to end, and waits; after the context's end it kills it.
func (n *Node) Stop(ctx context.Context) error {
	_ = n.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.exited:
		return nil
	case <-ctx.Done():
		_ = n.cmd.Process.Kill()
		<-n.exited
		return fmt.Errorf("keyside up did not end in time:\n%s", n.output)
	}
}

// PID returns the process of `keyside up` itself.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// Output returns the last of what the node printed.
func (n *Node) Output() string { return n.output.String() }

// Processes returns the node's processes in one role: "hsmd", "sidecar" or "driver".
func (n *Node) Processes(role string) []int {
	var found []int
	for _, pid := range Descendants(n.PID()) {
		if Role(pid) == role {
			found = append(found, pid)
		}
	}
	return found
}

// Role returns which of Keyside's processes one is: the verb that it was started with.
func Role(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(string(b), "\x00")
	if len(words) < 2 {
		return "unknown"
	}
	return words[1]
}

// Client is Go's standard HTTP client on a Unix socket with up to n connections kept open.
func Client(socket string, n int) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConns: n, MaxIdleConnsPerHost: n, DisableCompression: true,
	}}
}

// Stat returns the fields of /proc/PID/stat from the state on, proc(5)'s field 3.
func Stat(pid int) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// Children returns the children of every process, without those that are dead and only not yet waited for.
func Children() map[int][]int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if f := Stat(pid); len(f) > 1 && f[0] != "Z" {
			parent, _ := strconv.Atoi(f[1])
			children[parent] = append(children[parent], pid)
		}
	}
	return children
}

// Descendants returns root and all processes below it.
func Descendants(root int) []int {
	children := Children()
	found := []int{root}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

// RSSAnon returns a process's anonymous resident memory in bytes, 0 if it is gone.
func RSSAnon(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// tail keeps the last of what is written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 64 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
