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
)

const (
	// minBackoff and maxBackoff bound the wait before a process that died is started again.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
	// steadyAfter is how long a process must live before its next death counts as the first.
	steadyAfter = 30 * time.Second
	// drainTimeout is how long a process may drain before it is killed: by default hsmd's own drain takes up to 20 s.
	drainTimeout = 25 * time.Second
)

// child is a Keyside process that up keeps running.
type child struct {
	name   string
	args   []string
	stderr io.Writer
	log    *slog.Logger
	ready  <-chan struct{} // closed when the child has once done its work: from then on a death is not final
	done   chan struct{}   // closed when the child is gone for good
	err    error           // why, once done is closed
}

// start runs the child until ctx ends, which asks it to drain.
func (c *child) start(ctx context.Context) {
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		// The kernel sends the parent-death signal when the *thread* that started the child ends, so this goroutine keeps
		// its thread and the thread does nothing else.
		runtime.LockOSThread()
		if err := procattr.CoarseTimers(); err != nil {
			c.log.Warn("coarse timers are not to be had", "error", err)
		}
		c.err = c.keep(ctx)
	}()
}

// keep runs the process over and over. It returns nil once ctx has ended, and an error when the process died before it
// was ever ready: what fails on the first attempt is a mistake to be shown, not to be repeated.
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
			return fmt.Errorf("%s ended before it was ready (%w); its last log lines say why", c.name, orClean(err))
		}
		if time.Since(began) > steadyAfter {
			wait = minBackoff
		}
		c.log.Warn("process ended, starting it again", "process", c.name, "reason", orClean(err).Error(), "after_ms", wait.Milliseconds())
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

// run starts the process once, in a process group of its own so that a terminal's interrupt reaches only up, and waits.
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
