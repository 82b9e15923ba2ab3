package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/keyside/keyside/plugins/procattr"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

const (
	// minBackoff and maxBackoff are the limits of the backoff before an exited process is restarted.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// steadyAfter is the run time after which the backoff starts again at minBackoff.
	steadyAfter = 30 * time.Second
	// drainTimeout is the time limit of a process's drain before it is killed. By default hsmd drains for up to 20 s.
	drainTimeout = 25 * time.Second
)

// child is a Keyside process that up keeps running.
type child struct {
	name   string
	args   []string
	stderr io.Writer
	log    *slog.Logger
	ready  <-chan struct{} // closed when the child works for the first time: from then on it is restarted
	done   chan struct{}   // closed when the child exits and is not restarted
	err    error           // the reason, set before done is closed
}

// start runs the child until ctx ends, and then drains it.
func (c *child) start(ctx context.Context) {
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		// The kernel sends the parent-death signal when the thread that started the child ends. So this goroutine keeps its
		// thread.
		runtime.LockOSThread()
		if err := procattr.CoarseTimers(); err != nil {
			c.log.Warn("cannot set coarse timers", "error", err)
		}
		c.err = c.keep(ctx)
	}()
}

// keep runs the process and restarts it when it exits. It returns nil when ctx ends, and an error if the process exits before
// it is ready for the first time, or because of its configuration or PIN: such a failure is reported and not repeated.
func (c *child) keep(ctx context.Context) error {
	wait := minBackoff
	for {
		began := time.Now()
		err := c.run(ctx)
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-c.ready:
		default:
			return fmt.Errorf("%s exited before it was ready (%w); its last log lines show the cause", c.name, orClean(err))
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == verb.ExitUsage {
			return fmt.Errorf("%s is not restarted (%w); its last log lines show what to correct", c.name, err)
		}
		if time.Since(began) > steadyAfter {
			wait = minBackoff
		}
		c.log.Warn("process exited, restarting it", "process", c.name, "reason", orClean(err).Error(), "after_ms", wait.Milliseconds())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, maxBackoff)
	}
}

func orClean(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// run starts the process once and waits for it. It has its own process group, so that only up gets a terminal's interrupt.
func (c *child) run(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe, c.args...)
	cmd.Stdout, cmd.Stderr = c.stderr, c.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = drainTimeout
	if err := cmd.Start(); err != nil {
		return err
	}
	c.log.Info("process started", "process", c.name, "pid", cmd.Process.Pid)
	return cmd.Wait()
}
