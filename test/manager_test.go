package test

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
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// manager stands in for systemd: it runs both daemons of a folder of `keyside up` as their units do. The commands systemctl, journalctl
// and sudo of its bin folder talk to it.
type manager struct {
	dir, bin string
	units    map[string]*unit
}

// unit is a daemon that is restarted 200 ms after it ended, unless it was stopped or ended with exit code 2.
type unit struct {
	name  string
	dir   string
	limit string // command that sets limits, unless a drop-in does
	under string // command that runs the daemon, with its arguments; empty: none

	mu       sync.Mutex
	log      bytes.Buffer
	cmd      *exec.Cmd
	wanted   bool
	restarts int
	stopping chan struct{} // closed to end what the last start began
	ended    chan struct{} // closed when that has ended
}

const restartPause = 200 * time.Millisecond

// startManager makes a manager of a folder. Its daemons end with the test.
func startManager(t *testing.T, dir, bin string) *manager {
	t.Helper()
	m := &manager{dir: dir, bin: bin, units: map[string]*unit{}}
	for _, name := range []string{"keyside-hsmd", "keyside-sidecar"} {
		m.units[name] = &unit{name: name, dir: dir, limit: "true"}
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(bin, "manager.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: m, ReadHeaderTimeout: deadline}
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		for _, name := range []string{"keyside-sidecar", "keyside-hsmd"} {
			m.units[name].stop()
		}
	})
	scripts := map[string]string{
		"sudo":    "#!/bin/sh\nif [ \"$1\" = -u ]; then shift 2; fi\nexec \"$@\"\n",
		"keyside": "#!/bin/sh\nexec " + binary + " \"$@\"\n",
	}
	for _, name := range []string{"systemctl", "journalctl"} {
		scripts[name] = "#!/bin/sh\nprintf '%s\\n' \"$@\" | curl --silent --show-error --data-binary @- --unix-socket " + socket +
			" http://manager/" + name + " | { read -r code; cat; exit \"$code\"; }\n"
	}
	for name, text := range scripts {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// ServeHTTP runs a command whose arguments are the lines of the body. The answer is a line with the exit code, and the output.
func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	args := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	run := m.systemctl
	if r.URL.Path == "/journalctl" {
		run = m.journalctl
	}
	out, err := run(args)
	code := 0
	if err != nil {
		code = 1
		out += err.Error() + "\n"
	}
	fmt.Fprintf(w, "%d\n%s", code, out)
}

// option takes an option with its value out of arguments.
func option(args []string, name string) (value string, rest []string) {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1], slices.Delete(slices.Clone(args), i, i+2)
	}
	return "", args
}

func (m *manager) systemctl(args []string) (out string, err error) {
	property, args := option(args, "--property")
	verb, names := args[0], args[1:]
	if verb == "daemon-reload" {
		return "", nil
	}
	for _, name := range names {
		u := m.units[strings.TrimSuffix(name, ".service")]
		if u == nil && strings.HasSuffix(name, ".socket") {
			continue // the daemons have their own here
		}
		if u == nil {
			return out, fmt.Errorf("unit %s does not exist", name)
		}
		switch verb {
		case "start":
			err = errors.Join(err, u.start())
		case "stop":
			u.stop()
		case "restart":
			u.stop()
			err = errors.Join(err, u.start())
		case "is-active":
			out += u.state() + "\n"
		case "show":
			u.mu.Lock()
			out += fmt.Sprintf("%s=%d\n", property, u.restarts)
			u.mu.Unlock()
			if property != "NRestarts" {
				err = errors.Join(err, errors.New("no such property here"))
			}
		default:
			err = errors.Join(err, fmt.Errorf("systemctl %s is not in the runbooks", verb))
		}
	}
	return out, err
}

func (m *manager) journalctl(args []string) (string, error) {
	name, args := option(args, "--unit")
	pattern, args := option(args, "--grep")
	_, args = option(args, "--lines")
	u := m.units[name]
	if u == nil || !slices.Equal(args, []string{"--no-pager"}) {
		return "", fmt.Errorf("journalctl is not called like this in the runbooks: %q", args)
	}
	matches, err := regexp.Compile(pattern)
	if err != nil {
		return "", err
	}
	var out string
	for line := range strings.Lines(u.output()) {
		if matches.MatchString(line) {
			out += line
		}
	}
	return out, nil
}

func (u *unit) output() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.log.String()
}

// tail returns the last lines of the journal.
func (u *unit) tail() string {
	lines := strings.SplitAfter(u.output(), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "")
}

// Write implements io.Writer: the process writes to the journal.
func (u *unit) Write(p []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.log.Write(p)
}

// start starts the unit and waits until it is ready or its process ends.
func (u *unit) start() error {
	u.mu.Lock()
	if u.wanted {
		u.mu.Unlock()
		return nil
	}
	u.wanted, u.restarts, u.stopping, u.ended = true, 0, make(chan struct{}), make(chan struct{})
	stopping, ended := u.stopping, u.ended
	u.mu.Unlock()
	first := make(chan struct{})
	go func() {
		defer close(ended)
		u.keep(first, stopping)
	}()
	for end := time.Now().Add(deadline); ; {
		if u.ready() == nil {
			return nil
		}
		select {
		case <-first:
			return fmt.Errorf("job for %s.service failed because the control process exited with an error", u.name)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(end) {
			return fmt.Errorf("%s is not ready:\n%s", u.name, u.output())
		}
	}
}

// keep runs the process, and runs it again when it has ended. first is closed after the first end.
func (u *unit) keep(first, stopping chan struct{}) {
	runtime.LockOSThread() // the processes end with the thread that started them
	verb := strings.TrimPrefix(u.name, "keyside-")
	for n := 0; ; n++ {
		// LimitNOFILE= of a drop-in is the only setting of units that counts here.
		limit := u.limit
		if text, err := os.ReadFile(filepath.Join(u.dir, "systemd", u.name+".service.d", "limits.conf")); err == nil {
			if m := regexp.MustCompile(`(?m)^LimitNOFILE=(\d+)$`).FindSubmatch(text); m != nil {
				limit = "ulimit -n " + string(m[1]) + " || ulimit -n $(ulimit -H -n)" // raising it needs a right that tests may lack
			}
		}
		cmd := exec.Command("bash", "-c", limit+"; exec "+u.under+" "+binary+" "+verb+" --config "+filepath.Join(u.dir, verb+".yaml"))
		cmd.Stdout, cmd.Stderr = u, u
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		u.mu.Lock()
		if !u.wanted {
			u.mu.Unlock()
			return
		}
		u.restarts, u.cmd = n, cmd
		err := cmd.Start()
		u.mu.Unlock()
		if err == nil {
			err = cmd.Wait()
		}
		if n == 0 {
			close(first)
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 2 {
			u.mu.Lock()
			u.wanted = false
			u.mu.Unlock()
			return
		}
		select {
		case <-stopping:
			return
		case <-time.After(restartPause):
		}
	}
}

// stop ends the process and waits.
func (u *unit) stop() {
	u.mu.Lock()
	if u.wanted {
		close(u.stopping)
	}
	u.wanted = false
	ended := u.ended
	if u.cmd != nil && u.cmd.Process != nil {
		pid := u.cmd.Process.Pid
		if u.under != "" {
			pid = -pid // the daemon is in the group of that command
		}
		_ = syscall.Kill(pid, syscall.SIGTERM)
	}
	u.mu.Unlock()
	if ended != nil {
		<-ended
	}
}

// pid returns the process, 0 if there is none.
func (u *unit) pid() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.cmd == nil || u.cmd.Process == nil {
		return 0
	}
	return u.cmd.Process.Pid
}

// state returns what systemctl is-active prints.
func (u *unit) state() string {
	u.mu.Lock()
	wanted := u.wanted
	u.mu.Unlock()
	switch {
	case !wanted:
		return "inactive"
	case u.ready() != nil:
		return "activating"
	}
	return "active"
}

// ready asks the daemon whether it serves.
func (u *unit) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if u.name == "keyside-hsmd" {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", filepath.Join(u.dir, "hsmd.sock"))
		if err != nil {
			return err
		}
		return conn.Close()
	}
	c := client.New(filepath.Join(u.dir, "kms.sock"))
	defer c.Close()
	_, err := c.Health(ctx)
	return err
}
