package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/plugins/procattr"
)

// runner implements go-plugin's runner for a driver's binary. Unlike go-plugin's own runner, it executes an open file descriptor, kills
// the child's whole process group, ties the child's life to this process, and closes exited when the child is reaped.
type runner struct {
	bin       *binary
	env       []string
	extra     *os.File // descriptor 3 of the child; closed here after the start
	socketDir string   // the only directory in which the child may listen

	stdout, stderr *os.File // read ends
	cmd            *exec.Cmd
	exited         chan struct{}

	mu     sync.Mutex
	pid    int // 0 before the start
	reaped bool
	killed bool // by this process, before the child exited
	status syscall.WaitStatus
}

// spawner starts processes on one thread that never exits: the kernel sends the parent-death signal when the *thread* that forked
// exits, and Go may end other threads.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		_ = procattr.CoarseTimers() // only an optimization
		for fn := range work {
			fn()
		}
	}()
	return work
})

// Start implements go-plugin's runner.Runner.
func (r *runner) Start(context.Context) (err error) {
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		return errors.Join(err, outR.Close(), outW.Close())
	}
	r.stdout, r.stderr = outR, errR
	r.cmd = &exec.Cmd{
		Path: r.bin.path(), Args: append([]string{r.bin.name}, r.bin.args...), Env: r.env,
		Stdout: outW, Stderr: errW, ExtraFiles: []*os.File{r.extra},
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	started := make(chan error)
	spawner() <- func() { started <- r.fork() }
	err = errors.Join(<-started, outW.Close(), errW.Close(), r.extra.Close())
	if err != nil {
		if r.cmd.Process != nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
		return errors.Join(fmt.Errorf("start %s: %w", r.bin.name, err), outR.Close(), errR.Close())
	}
	// The driver asks for this itself; here it also holds for one that does not.
	_ = unix.Prlimit(r.pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	go r.reap()
	return nil
}

// fork starts the child, unless Kill was called before.
func (r *runner) fork() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.killed {
		return errors.New("killed before it started")
	}
	if err := r.cmd.Start(); err != nil {
		return err
	}
	r.pid = r.cmd.Process.Pid
	return nil
}

// reap waits for the child, kills the rest of its process group while its PID is still in use, and reaps it.
func (r *runner) reap() {
	for {
		err := unix.Waitid(unix.P_PID, r.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	r.mu.Lock()
	_ = unix.Kill(-r.pid, unix.SIGKILL)
	_ = r.cmd.Wait()
	if st, ok := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ok {
		r.status = st
	}
	r.reaped = true
	r.mu.Unlock()
	// Processes that left the group may keep the pipes open: read their output for one more second.
	_ = r.stdout.SetReadDeadline(time.Now().Add(time.Second))
	_ = r.stderr.SetReadDeadline(time.Now().Add(time.Second))
	close(r.exited)
}

// Kill implements go-plugin's runner. It kills the process group.
func (r *runner) Kill(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reaped {
		return nil
	}
	r.killed = true
	if r.pid == 0 {
		return nil
	}
	if err := unix.Kill(-r.pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// fromOutside reports whether another process killed the child with SIGKILL or SIGTERM.
func (r *runner) fromOutside() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reaped && !r.killed && r.status.Signaled() &&
		(r.status.Signal() == syscall.SIGKILL || r.status.Signal() == syscall.SIGTERM)
}

// end returns how the child exited, for the log.
func (r *runner) end() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.status.Signaled():
		return "signal " + r.status.Signal().String()
	default:
		return "exit status " + strconv.Itoa(r.status.ExitStatus())
	}
}

// Wait implements go-plugin's runner.
func (r *runner) Wait(context.Context) error {
	<-r.exited
	return nil
}

// Stdout implements go-plugin's runner.
func (r *runner) Stdout() io.ReadCloser { return r.stdout }

// Stderr implements go-plugin's runner.
func (r *runner) Stderr() io.ReadCloser { return r.stderr }

// Name implements go-plugin's runner. It returns the binary's path.
func (r *runner) Name() string { return r.bin.name }

// ID implements go-plugin's runner. It returns the process ID.
func (r *runner) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid == 0 {
		return ""
	}
	return strconv.Itoa(r.pid)
}

// Diagnose implements go-plugin's runner.
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost implements go-plugin's runner. It refuses an address that is not a socket in the child's directory.
func (r *runner) PluginToHost(network, address string) (string, string, error) {
	if network != "unix" || filepath.Dir(address) != r.socketDir {
		return "", "", fmt.Errorf("driver listens on %s %s, not in its own directory", network, address)
	}
	return network, address, nil
}

// HostToPlugin implements go-plugin's runner.
func (r *runner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
