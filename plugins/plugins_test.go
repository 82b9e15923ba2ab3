package plugins

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/plugins/driver"
)

// TestMain makes the test binary a driver process where the host's handshake says so, and a host for the orphan test.
func TestMain(m *testing.M) {
	switch {
	case os.Getenv(driver.Handshake.MagicCookieKey) != "":
		driver.Serve(configureFake)
	case os.Getenv("KEYSIDE_TEST_HOST") != "":
		hostUntilKilled()
	default:
		os.Exit(m.Run())
	}
}

// fake is a driver that does nothing but what the tests ask of it through the data of an operation.
type fake struct{ driver.Driver }

type fakeSettings struct {
	PIN      string `yaml:"pin"`
	Attempts string `yaml:"attempts"` // a file that gets one line per login
	Crash    bool   `yaml:"crash"`
}

func configureFake(_ context.Context, settings, credential []byte) (driver.Driver, error) {
	var s fakeSettings
	if err := yaml.Unmarshal(settings, &s); err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "settings: %w", err)
	}
	if s.Crash {
		os.Exit(9)
	}
	if s.Attempts != "" {
		f, err := os.OpenFile(s.Attempts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintln(f, "attempt")
		_ = f.Close()
	}
	if s.PIN != "" && s.PIN != string(credential) {
		return nil, driver.Errorf(driver.PINIncorrect, "wrong pin")
	}
	fmt.Fprintln(os.Stderr, `{"level":"info","msg":"fake is up","detail":1}`)
	return &fake{}, nil
}

func (f *fake) Describe(context.Context) (*driver.Description, error) {
	return &driver.Description{Name: "fake", FastWorkers: 2, SlowWorkers: 1}, nil
}

func (f *fake) Drain(context.Context) error { return nil }

func (f *fake) Execute(ctx context.Context, _ string, op *driver.Op) (*driver.Result, error) {
	switch string(op.GetData()) {
	case "environment":
		return &driver.Result{Data: []byte(strings.Join(os.Environ(), "\n"))}, nil
	case "group":
		return &driver.Result{Data: []byte(strconv.Itoa(syscall.Getpgrp()))}, nil
	case "abort":
		os.Exit(7)
	case "child": // a helper process in the driver's group
		cmd := exec.Command("/bin/sleep", "1000")
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return &driver.Result{Data: []byte(strconv.Itoa(cmd.Process.Pid))}, nil
	case "slow":
		<-ctx.Done()
	}
	return &driver.Result{Data: op.GetData()}, nil
}

func settings(t *testing.T, v any) yaml.Node {
	t.Helper()
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		t.Fatal(err)
	}
	return n
}

func start(t *testing.T, cfg Config) (*Process, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p, err := Start(ctx, cfg, slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	if err == nil {
		t.Cleanup(func() {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_ = p.Close(ctx)
		})
	}
	return p, err
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	_, _ = w.t.Output().Write(p)
	return len(p), nil
}

func ask(t *testing.T, p *Process, data string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	res, err := p.Execute(ctx, "t", &driver.Op{Kind: driver.Encrypt, Data: []byte(data)})
	return string(res.GetData()), err
}

func mustAsk(t *testing.T, p *Process, data string) string {
	t.Helper()
	got, err := ask(t, p, data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	return got
}

func TestStartServesAndCloses(t *testing.T) {
	t.Setenv("SECRET_OF_THE_HOST", "x")
	p, err := start(t, Config{Name: "fake", Kind: KindSoft, Env: map[string]string{"FAKE_CONF": "/etc/fake"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := mustAsk(t, p, "hello"); got != "hello" {
		t.Errorf("answer %q", got)
	}
	var names []string
	for _, kv := range strings.Split(mustAsk(t, p, "environment"), "\n") {
		// A certificate spans lines; only its first names a variable.
		if name, _, ok := strings.Cut(kv, "="); ok && name == strings.ToUpper(name) && !strings.ContainsAny(name, "/+ ") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	want := []string{"FAKE_CONF", "KEYSIDE_DRIVER", "PLUGIN_CLIENT_CERT", "PLUGIN_MAX_PORT", "PLUGIN_MIN_PORT", "PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_UNIX_SOCKET_DIR"}
	if !slices.Equal(names, want) {
		t.Errorf("environment of the driver: %v, want %v", names, want)
	}
	if got := mustAsk(t, p, "group"); got != strconv.Itoa(p.PID()) {
		t.Errorf("process group %s of process %d", got, p.PID())
	}
	helper, _ := strconv.Atoi(mustAsk(t, p, "child"))
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{p.PID(), helper} {
		waitGone(t, pid)
	}
	if p.FromOutside() {
		t.Error("our own kill counts as one from outside")
	}
	if _, err := ask(t, p, "hello"); driver.CodeOf(err) != driver.Lost {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseWaitsForOperationsInFlight(t *testing.T) {
	p, err := start(t, Config{Name: "fake", Kind: KindSoft})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		body := &driver.Op{Kind: driver.Encrypt, Data: []byte("slow")}
		_, err := p.Execute(ctx, "t", body)
		got <- err
	}()
	if err := p.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-got; driver.CodeOf(err) == driver.Internal {
		t.Errorf("operation in flight at Close: %v", err)
	}
}

func TestDeathIsNoticedAndAttributed(t *testing.T) {
	for _, tc := range []struct {
		name    string
		kill    func(*Process)
		outside bool
	}{
		{"kill -9 by another process", func(p *Process) { _ = syscall.Kill(p.PID(), syscall.SIGKILL) }, true},
		{"exit of its own", func(p *Process) { _, _ = ask(t, p, "abort") }, false},
		{"segmentation fault", func(p *Process) { _ = syscall.Kill(p.PID(), syscall.SIGSEGV) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := start(t, Config{Name: "fake", Kind: KindSoft})
			if err != nil {
				t.Fatal(err)
			}
			helper, _ := strconv.Atoi(mustAsk(t, p, "child"))
			lost := make(chan error, 1)
			go func() {
				_, err := p.Execute(context.Background(), "t", &driver.Op{Kind: driver.Encrypt, Data: []byte("slow")})
				lost <- err
			}()
			tc.kill(p)
			select {
			case <-p.Done():
			case <-time.After(10 * time.Second):
				t.Fatal("exit not noticed")
			}
			if err := <-lost; driver.CodeOf(err) != driver.Lost {
				t.Errorf("operation in flight: %v", err)
			}
			if p.FromOutside() != tc.outside {
				t.Errorf("from outside: %v, want %v", p.FromOutside(), tc.outside)
			}
			waitGone(t, p.PID())
			waitGone(t, helper)
		})
	}
}

func TestWrongPINIsTriedOnce(t *testing.T) {
	dir := t.TempDir()
	pin, attempts := filepath.Join(dir, "pin"), filepath.Join(dir, "attempts")
	if err := os.WriteFile(pin, []byte("1234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Name: "fake", Kind: KindSoft, Credential: Credential{File: pin}, Settings: settings(t, fakeSettings{PIN: "9999", Attempts: attempts})}
	_, err := start(t, cfg)
	if driver.CodeOf(err) != driver.PINIncorrect {
		t.Fatalf("wrong pin: %v", err)
	}
	if b, _ := os.ReadFile(attempts); string(b) != "attempt\n" {
		t.Errorf("attempts: %q", b)
	}
	cfg.Settings = settings(t, fakeSettings{PIN: "1234"})
	if _, err := start(t, cfg); err != nil {
		t.Errorf("right pin, newline trimmed: %v", err)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "ks-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	t.Setenv("TMPDIR", tmp)
	_, err = start(t, Config{Name: "fake", Kind: KindSoft, Settings: settings(t, fakeSettings{Crash: true})})
	if c := driver.CodeOf(err); c != driver.Lost && c != driver.Device {
		t.Errorf("driver that exits in Configure: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, Config{Name: "fake", Kind: KindSoft}, slog.New(slog.DiscardHandler)); driver.CodeOf(err) != driver.Deadline {
		t.Errorf("context that ended: %v", err)
	}
	p, err := start(t, Config{Name: "fake", Kind: KindSoft})
	if err != nil {
		t.Fatal(err)
	}
	mustAsk(t, p, "x")
	if left, _ := filepath.Glob(filepath.Join(tmp, "*")); len(left) != 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

// externalDriver copies the test binary to a directory of its own.
func externalDriver(t *testing.T) Config {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fake-driver")
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	return Config{Name: "fake", Kind: KindExternal, Command: path, SHA256: fmt.Sprintf("%x", sha256.Sum256(self))}
}

func TestExternalBinaryIsVerified(t *testing.T) {
	cfg := externalDriver(t)
	if p, err := start(t, cfg); err != nil {
		t.Fatal(err)
	} else if got := mustAsk(t, p, "hello"); got != "hello" {
		t.Errorf("answer %q", got)
	} else {
		_ = p.Close(t.Context()) // a file that runs cannot be written to
	}
	chmod := func(path string, mode os.FileMode) func() {
		return func() {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		name    string
		prepare func()
		want    string
	}{
		{"world-writable file", chmod(cfg.Command, 0o757), "writable by others"},
		{"group-writable file", chmod(cfg.Command, 0o775), "writable by others"},
		{"world-writable directory", func() { chmod(cfg.Command, 0o755)(); chmod(filepath.Dir(cfg.Command), 0o777)() }, "writable by others"},
		{"another owner", func() {
			chmod(filepath.Dir(cfg.Command), 0o755)()
			if err := os.Chown(cfg.Command, 12345, 12345); err != nil && os.Geteuid() == 0 {
				t.Fatal(err)
			}
		}, "uid 12345"},
		{"changed content", func() {
			if err := errors.Join(os.Chown(cfg.Command, os.Geteuid(), -1), os.WriteFile(cfg.Command, []byte("\x7fELFsomething else"), 0o755)); err != nil {
				t.Fatal(err)
			}
		}, "not the pinned sha256"},
		{"script", func() {
			if err := os.WriteFile(cfg.Command, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not an ELF executable"},
	} {
		if tc.name == "another owner" && os.Geteuid() != 0 {
			continue // only root can give files away
		}
		tc.prepare()
		_, err := start(t, cfg)
		if driver.CodeOf(err) != driver.InvalidArgument || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// The path may be swapped at any time after the check: what runs is the file that was verified.
func TestExecutesTheVerifiedDescriptor(t *testing.T) {
	cfg := externalDriver(t)
	bin, err := openBinary(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bin.close() }()
	if err := os.Remove(cfg.Command); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cfg.Command, []byte("#!/bin/false"), 0o755); err != nil {
		t.Fatal(err)
	}
	p, err := launch(t.Context(), &cfg, bin, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if got := mustAsk(t, p, "hello"); got != "hello" {
		t.Errorf("answer %q", got)
	}
	_ = p.Close(t.Context())
}

// hostUntilKilled starts a driver, prints its pid and waits to be killed.
func hostUntilKilled() {
	p, err := Start(context.Background(), Config{Name: "fake", Kind: KindSoft}, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println("error:", err)
		return
	}
	fmt.Println(p.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestNoOrphanWhenTheHostIsKilled(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "KEYSIDE_TEST_HOST=1", "TMPDIR="+t.TempDir())
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("host says %q", line)
	}
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("driver %d is not running: %v", pid, err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	waitGone(t, pid)
}

// waitGone waits until a process is dead; a zombie that waits for init counts as dead.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d is still there", pid)
}
