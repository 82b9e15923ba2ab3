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

// runner runs a driver's binary for go-plugin, which gives it the environment of the handshake. It differs from
// go-plugin's own in that the child executes an open descriptor, has a process group of its own that dies as a whole,
// dies with this process, and is known to be gone when exited is closed.
type runner struct {
	bin       *binary
	env       []string
	extra     *os.File // becomes descriptor 3; closed here once the child has it
	socketDir string   // the only directory in which the child may listen

	stdout, stderr *os.File // read ends
	cmd            *exec.Cmd
	exited         chan struct{}

	mu     sync.Mutex
	pid    int // 0 before the start
	reaped bool
	killed bool // by us, before it ended by itself
	status syscall.WaitStatus
}

// spawner starts processes on one thread that lives as long as this process does: the kernel sends the parent-death
// signal when the *thread* that forked ends, and Go ends threads.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		_ = procattr.CoarseTimers() // without it a driver costs more and works as well
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

// fork starts the child, unless it was killed before it was born.
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

// reap waits for the process, kills what is left of its group while its number is still taken, and collects it.
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
	// Whoever escaped the group may hold the pipes; their last words get a second.
	_ = r.stdout.SetReadDeadline(time.Now().Add(time.Second))
	_ = r.stderr.SetReadDeadline(time.Now().Add(time.Second))
	close(r.exited)
}

// Kill implements go-plugin's runner: it kills the process group.
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

// fromOutside reports whether the process was ended by a signal that somebody else sent on purpose.
func (r *runner) fromOutside() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reaped && !r.killed && r.status.Signaled() &&
		(r.status.Signal() == syscall.SIGKILL || r.status.Signal() == syscall.SIGTERM)
}

// end says how the process ended, for the log.
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

// Stdout, Stderr, Name, ID and Diagnose implement go-plugin's runner.
func (r *runner) Stdout() io.ReadCloser { return r.stdout }

// Stderr is what the driver prints beside its log.
func (r *runner) Stderr() io.ReadCloser { return r.stderr }

// Name is the binary's path.
func (r *runner) Name() string { return r.bin.name }

// ID is the process id.
func (r *runner) ID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid == 0 {
		return ""
	}
	return strconv.Itoa(r.pid)
}

// Diagnose has nothing to add.
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost refuses an address that is not a socket in the directory that the child was given.
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
