package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// clockVariable, where it is set, makes the test binary a sidecar whose clock its parent moves: nothing that a user runs
// has such a clock. The first line of standard input, and each that follows, is how far ahead of the system's clock it
// is; an empty line on standard output says that it is.
const clockVariable = "KEYSIDE_TEST_CLOCKED_SIDECAR"

// movedClock is the system's clock, moved.
type movedClock struct{ ahead atomic.Int64 }

func (c *movedClock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// runClocked is the child: a sidecar from the configuration file.
func runClocked(config string) error {
	cfg, err := sidecar.LoadConfig(config)
	if err != nil {
		return err
	}
	clock := new(movedClock)
	cfg.Clock = clock
	if os.Getenv(unauditedVariable) != "" {
		cfg.Auditor = unaudited{}
	}
	moves := bufio.NewScanner(os.Stdin)
	move := func() error {
		if !moves.Scan() {
			return io.ErrUnexpectedEOF
		}
		ahead, err := time.ParseDuration(moves.Text())
		clock.ahead.Store(int64(ahead))
		_, _ = os.Stdout.WriteString("\n")
		return err
	}
	if err := move(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	go func() {
		for move() == nil {
		}
		stop() // the parent is gone
	}()
	return sidecar.Run(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
}

// clocked is a node like that of `keyside up`, but of daemons that the test starts and kills: the real hsmd with its
// driver, and a sidecar under a clock that moves.
type clocked struct {
	*testing.T
	*client.Client
	dir           string
	hsmd, sidecar *daemon
	ahead         time.Duration
}

// startClocked starts a stopped node's folder, which must have run in the mode via-hsmd.
func startClocked(t *testing.T, dir string) *clocked {
	t.Helper()
	return startClockedAt(t, dir, 0)
}

// startClockedAt does so with a clock that is ahead of the system's.
func startClockedAt(t *testing.T, dir string, ahead time.Duration) *clocked {
	t.Helper()
	n := &clocked{T: t, dir: dir, ahead: ahead, Client: client.New(filepath.Join(dir, "kms.sock"))}
	t.Cleanup(n.Client.Close)
	n.start()
	t.Cleanup(n.stop)
	return n
}

// start starts both daemons.
func (n *clocked) start() {
	n.Helper()
	n.hsmd, n.sidecar = n.startHSMD(), n.startSidecar()
}

func (n *clocked) startHSMD() *daemon {
	n.Helper()
	return startDaemon(n.T, exec.Command(binary, "hsmd", "--config", filepath.Join(n.dir, "hsmd.yaml")))
}

func (n *clocked) startSidecar() *daemon {
	n.Helper()
	self, err := os.Executable()
	if err != nil {
		n.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), clockVariable+"="+filepath.Join(n.dir, "sidecar.yaml"))
	d := startDaemon(n.T, cmd)
	if err := d.say(n.ahead.String()); err != nil {
		n.Fatalf("%v\n%s", err, d.end(syscall.SIGKILL))
	}
	waitFor(n.T, "the sidecar serves", func() bool {
		health, err := n.Health(n.Context())
		if err != nil && d.ended() {
			n.Fatalf("the sidecar ended:\n%s", d.end(syscall.SIGKILL))
		}
		return err == nil && health.OK()
	})
	return d
}

// move sets the clock forward, also that of the sidecars that follow.
func (n *clocked) move(by time.Duration) {
	n.Helper()
	n.ahead += by
	if err := n.sidecar.say(n.ahead.String()); err != nil {
		n.Fatal(err)
	}
}

// kill kills -9 a process in that role and starts anew what nothing else does.
func (n *clocked) kill(role string) {
	n.Helper()
	switch role {
	case "sidecar":
		n.sidecar.end(syscall.SIGKILL)
		n.sidecar = n.startSidecar()
	case "hsmd":
		n.hsmd.end(syscall.SIGKILL)
		n.hsmd = n.startHSMD()
	case "driver":
		killOne(n.T, n.hsmd.cmd.Process.Pid, role)
	}
}

// stop ends both daemons as a service manager does.
func (n *clocked) stop() {
	n.Helper()
	for _, d := range []*daemon{n.sidecar, n.hsmd} {
		if d != nil {
			d.end(syscall.SIGTERM)
		}
	}
	n.sidecar, n.hsmd = nil, nil
}

// killOne kills -9 the process in that role below root, waiting for there to be one.
func killOne(t *testing.T, root int, role string) {
	t.Helper()
	waitFor(t, "a "+role+" to kill", func() bool {
		for _, pid := range node.Descendants(root) {
			if node.Role(pid) == role && syscall.Kill(pid, syscall.SIGKILL) == nil {
				return true
			}
		}
		return false
	})
}

// daemon is a process that the test runs, with pipes to it.
type daemon struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	done chan struct{}

	mu  sync.Mutex
	log []byte
}

func startDaemon(t *testing.T, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{cmd: cmd, done: make(chan struct{})}
	var err1, err2 error
	d.in, err1 = cmd.StdinPipe()
	read, write, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	d.out = bufio.NewReader(read)
	cmd.Stdout, cmd.Stderr = write, d
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = write.Close()
	go func() {
		_ = cmd.Wait()
		close(d.done)
	}()
	t.Cleanup(func() {
		d.end(syscall.SIGKILL)
		_ = read.Close()
	})
	return d
}

// Write keeps what the process logs.
func (d *daemon) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.log = append(d.log, p...)
	return len(p), nil
}

// say sends a line and waits for the answer.
func (d *daemon) say(line string) error {
	if _, err := fmt.Fprintln(d.in, line); err != nil {
		return err
	}
	_, err := d.out.ReadString('\n')
	return err
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// end sends a signal, waits for the end of the process, and returns what it logged.
func (d *daemon) end(s syscall.Signal) string {
	_ = d.cmd.Process.Signal(s)
	select {
	case <-d.done:
	case <-time.After(deadline):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return string(d.log)
}
