// Package test holds the whole-system tests: scripts in testdata that run the built binary as a user does, on the soft
// driver and on a real SoftHSM, and kill its processes.
package test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// binary is the keyside that all tests run, built once.
var binary string

func TestMain(m *testing.M) {
	if config := os.Getenv(clockVariable); config != "" {
		if err := runClocked(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "keyside-test-")
	if err != nil {
		panic(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "keyside")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-X main.version=test", "-o", binary, "..")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build keyside:", err)
		return 1
	}
	return m.Run()
}

// TestScripts runs testdata/*.txtar. Beside testscript's own commands they have those of the functions below.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(binary)+":"+env.Getenv("PATH"))
			env.Setenv("KEYSIDE", binary)
			testdata, err := filepath.Abs("testdata")
			env.Setenv("TESTDATA", testdata)
			return err
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"up": cmdUp, "down": cmdDown, "kill9": cmdKill9, "tree": cmdTree, "noorphans": cmdNoOrphans,
			"exit": cmdExit, "poll": cmdPoll, "set": cmdSet, "examples": cmdExamples, "swapseals": cmdSwapSeals, "helpexamples": cmdHelpExamples,
			"request": cmdRequest, "alibaba": cmdAlibaba, "opens": cmdOpens, "console": cmdConsole,
		},
	})
}

// deadline is how long any wait in a script may take.
const deadline = 60 * time.Second

// poll calls works until it succeeds.
func poll(ts *testscript.TestScript, what string, works func() error) {
	end := time.Now().Add(deadline)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := works()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s: not within %s: %v", what, deadline, err)
		}
		<-tick.C
	}
}

// running is a `keyside up` that a script started.
type running struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	seen map[int]string // every process below it that a command has looked at
}

// ups are the running ones by script and folder.
type upKey struct {
	script *testscript.TestScript
	dir    string
}

var ups = newSyncMap[upKey, *running]()

// cmdUp runs `keyside up --dir DIR FLAGS...`, waits until it is up, and exports KEYSIDE_SOCKET. Its standard output is in
// DIR.out and its log in DIR.log.
func cmdUp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: up DIR FLAG...")
	}
	dir := ts.MkAbs(args[0])
	stdout, err := os.Create(dir + ".out")
	ts.Check(err)
	stderr, err := os.OpenFile(dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	r := &running{cmd: exec.Command(binary, append([]string{"up", "--dir", dir}, args[1:]...)...), log: dir + ".log", done: make(chan struct{}), seen: map[int]string{}}
	r.cmd.Stdout, r.cmd.Stderr = stdout, stderr
	ts.Check(r.cmd.Start())
	_, _ = stdout.Close(), stderr.Close()
	go func() {
		_ = r.cmd.Wait()
		close(r.done)
	}()
	ups.store(upKey{ts, dir}, r)
	ts.Defer(func() {
		_ = r.cmd.Process.Signal(syscall.SIGTERM)
		<-r.done
	})
	ts.Setenv("KEYSIDE_SOCKET", filepath.Join(dir, "kms.sock"))
	poll(ts, "up", func() error {
		select {
		case <-r.done:
			ts.Fatalf("up ended: %v\n%s", r.cmd.ProcessState, ts.ReadFile(r.log))
		default:
		}
		out, err := os.ReadFile(dir + ".out")
		if err == nil && !bytes.Contains(out, []byte("keyside is up")) {
			err = errors.New("no banner yet\n" + ts.ReadFile(r.log))
		}
		return err
	})
	r.look()
}

func upOf(ts *testscript.TestScript, dir string) *running {
	r, ok := ups.load(upKey{ts, ts.MkAbs(dir)})
	if !ok {
		ts.Fatalf("no up on %s", dir)
	}
	return r
}

// cmdDown sends SIGTERM to the up on DIR, which must drain and end with 0.
func cmdDown(ts *testscript.TestScript, neg bool, args []string) {
	r := upOf(ts, args[0])
	r.look()
	ts.Check(r.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-r.done:
	case <-time.After(deadline):
		ts.Fatalf("up did not end within %s of SIGTERM", deadline)
	}
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		ts.Fatalf("up ended with %d\n%s", code, ts.ReadFile(r.log))
	}
}

// cmdKill9 kills -9 one process of the up on DIR: up itself, or its sidecar, hsmd or driver.
func cmdKill9(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: kill9 DIR up|sidecar|hsmd|driver")
	}
	r := upOf(ts, args[0])
	r.look()
	pid := 0
	if args[1] == "up" {
		pid = r.cmd.Process.Pid
	} else {
		poll(ts, "find "+args[1], func() error {
			for p, role := range r.look() {
				if role == args[1] {
					pid = p
					return nil
				}
			}
			return errors.New("no such process")
		})
	}
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	poll(ts, "death of "+args[1], func() error { return dead(pid) })
}

// cmdTree compares the process tree below the up on DIR with the rest of the arguments, "parent>child" each.
func cmdTree(ts *testscript.TestScript, neg bool, args []string) {
	r := upOf(ts, args[0])
	want := strings.Join(args[1:], " ")
	poll(ts, "process tree", func() error {
		if got := strings.Join(edges(r.cmd.Process.Pid, "up"), " "); got != want {
			return fmt.Errorf("got %s, want %s", got, want)
		}
		return nil
	})
}

// cmdNoOrphans waits until every process that was ever seen below the up on DIR is gone, up itself included.
func cmdNoOrphans(ts *testscript.TestScript, neg bool, args []string) {
	r := upOf(ts, args[0])
	poll(ts, "end of all processes", func() error {
		err := dead(r.cmd.Process.Pid)
		for pid := range r.seen {
			err = errors.Join(err, dead(pid))
		}
		return err
	})
}

// cmdExit runs a program that must end with the exit code, and in time.
func cmdExit(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var ended *exec.ExitError
	limited := append([]string{"--signal=TERM", strconv.Itoa(int(deadline.Seconds()))}, args[1:]...)
	if err := ts.Exec("timeout", limited...); errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%s ended with %d, not %d", args[1], got, want)
	}
}

// cmdPoll runs a program again and again until it succeeds.
func cmdPoll(ts *testscript.TestScript, neg bool, args []string) {
	poll(ts, args[0], func() error { return ts.Exec(args[0], args[1:]...) })
}

// cmdSet sets a variable to what the last program printed: `set NAME`.
func cmdSet(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// cmdExamples runs the commands that up printed, those lines of DIR.out that are indented, each in a shell of its own in
// another folder than up's, as a person would paste them.
func cmdExamples(ts *testscript.TestScript, neg bool, args []string) {
	n := 0
	for line := range strings.Lines(ts.ReadFile(args[0] + ".out")) {
		command, ok := strings.CutPrefix(line, "  ")
		if !ok {
			continue
		}
		n++
		if err := ts.Exec("bash", "-c", "set -o pipefail; cd / && "+command); err != nil {
			ts.Fatalf("%s%v", command, err)
		}
		ts.Logf("%s%s", command, ts.ReadFile("stdout"))
	}
	if n != 3 {
		ts.Fatalf("up printed %d examples, not 3", n)
	}
}
