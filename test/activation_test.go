package test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// TestSocketActivation runs both daemons as the units of deploy/ do: systemd has the sockets, one for metrics among them,
// and starts a daemon at the first connection; the daemon says when it is ready and when it stops; the PIN is a
// credential.
func TestSocketActivation(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	defer cancel()
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm", Mode: "via-hsmd"}
	path := func(name string) string { return filepath.Join(o.Dir, name) }
	err := node.EditFile(ctx, o, "hsmd.yaml", func(config map[string]any) {
		driver := config["drivers"].([]any)[0].(map[string]any)
		driver["credential"] = map[string]any{"systemd": "pin"}
		config["telemetry"] = map[string]any{"prometheus_listen": "unix:" + path("metrics.sock")}
	})
	if err != nil {
		t.Fatal(err)
	}
	credentials := t.TempDir()
	if err := os.Rename(path("pin"), filepath.Join(credentials, "pin")); err != nil {
		t.Fatal(err)
	}
	c := client.New(path("kms.sock"))
	defer c.Close()
	for _, alias := range []string{"first", "second"} { // the second start finds all that the first left
		hsmd := activate(t, "hsmd", path("hsmd.yaml"), credentials, path("hsmd.sock"), path("metrics.sock"))
		sidecar := activate(t, "sidecar", path("sidecar.yaml"), "", path("kms.sock"))
		if hsmd.told("READY=1") || sidecar.told("READY=1") {
			t.Error("a daemon runs before the first connection")
		}
		// This starts the sidecar, which starts hsmd.
		key, err := c.CreateKey(ctx, client.CreateKeyRequest{Alias: alias})
		if err != nil {
			t.Fatalf("%v\n%s\n%s", err, sidecar.log(), hsmd.log())
		}
		if err := roundTrip(ctx, c, key.ID, "activated"); err != nil {
			t.Error(err)
		}
		if text := scrape(t, node.Client(path("metrics.sock"), 1), "http://hsmd"); !strings.Contains(text, "keyside_sessions_open") {
			t.Errorf("metrics:\n%s", text)
		}
		for _, d := range []*activated{sidecar, hsmd} {
			waitFor(t, d.name+" says that it is ready", func() bool { return d.told("READY=1") })
			waitFor(t, d.name+" says that it works", func() bool { return d.told("WATCHDOG=1") })
			if d.told("STOPPING=1") {
				t.Errorf("%s says that it stops", d.name)
			}
			c.Close() // an idle connection is none to wait for
			d.stop(t)
			waitFor(t, d.name+" says that it stops", func() bool { return d.told("STOPPING=1") })
		}
		for _, socket := range []string{"hsmd.sock", "metrics.sock", "kms.sock"} {
			if err := os.Remove(path(socket)); err != nil {
				t.Errorf("a daemon removed a socket of the service manager: %v", err)
			}
		}
	}
}

// TestUnitsFitExamples holds that the example configurations work with the units as they are.
func TestUnitsFitExamples(t *testing.T) {
	h, err := hsmd.LoadConfig("../deploy/hsmd.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s, err := sidecar.LoadConfig("../deploy/sidecar.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	always := slices.Clip([]string{"Type=notify", "KillMode=mixed", "WatchdogSec=30s", "Restart=always", "StartLimitIntervalSec=0", "UMask=0077"})
	for file, lines := range map[string][]string{
		"keyside-hsmd.socket":     {"ListenStream=" + h.Socket},
		"keyside-hsmd.service":    append(always, "Requires=keyside-hsmd.socket", "LoadCredential="+h.Drivers[0].Credential.Systemd+":/etc/keyside/pin"),
		"keyside-sidecar.socket":  {"ListenStream=" + s.Socket},
		"keyside-sidecar.service": append(always, "Requires=keyside-sidecar.socket", "RestartPreventExitStatus=2"),
	} {
		unit, err := os.ReadFile(filepath.Join("../deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			if !regexp.MustCompile("(?m)^" + regexp.QuoteMeta(line) + "$").Match(unit) {
				t.Errorf("%s has no line %s", file, line)
			}
		}
	}
	if s.HSM.Via == nil || s.HSM.Via.Socket != h.Socket {
		t.Errorf("the sidecar looks for hsmd at %+v, not at %s", s.HSM.Via, h.Socket)
	}
}

// activated is a daemon that starts at the first connection, with the service manager's end of its notify socket.
type activated struct {
	name   string
	cmd    *exec.Cmd
	done   chan struct{}
	output bytes.Buffer // read after done

	mu   sync.Mutex
	says string
}

// activate listens on sockets for a daemon, as its .socket unit does, and lets the first connection start it.
func activate(t *testing.T, name, config, credentials string, sockets ...string) *activated {
	t.Helper()
	a := &activated{name: name, done: make(chan struct{})}
	notify := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go a.listen(conn)
	args := []string{"--setenv=NOTIFY_SOCKET=" + notify, "--setenv=CREDENTIALS_DIRECTORY=" + credentials, "--setenv=WATCHDOG_USEC=30000000",
		"--fdname=keyside-" + name + ".socket" + strings.Repeat(":more", len(sockets)-1)}
	for _, socket := range sockets {
		args = append(args, "--listen="+socket)
	}
	a.cmd = exec.Command("systemd-socket-activate", append(args, binary, name, "--config", config)...)
	a.cmd.Stdout, a.cmd.Stderr = &a.output, &a.output
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = a.cmd.Wait()
		close(a.done)
	}()
	t.Cleanup(func() { _ = a.log() })
	for _, socket := range sockets {
		// The flag is the kernel's __SO_ACCEPTCON: it listens.
		listening := regexp.MustCompile("(?m) 00010000 .* " + regexp.QuoteMeta(socket) + "$")
		waitFor(t, socket+" listens", func() bool {
			all, err := os.ReadFile("/proc/net/unix")
			return err == nil && listening.Match(all)
		})
	}
	return a
}

func (a *activated) listen(conn *net.UnixConn) {
	b := make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		a.mu.Lock()
		a.says += string(b[:n]) + "\n"
		a.mu.Unlock()
	}
}

// told reports whether the daemon has told the service manager that.
func (a *activated) told(what string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Contains("\n"+a.says, "\n"+what+"\n")
}

// stop asks the daemon to end, which must drain and end well.
func (a *activated) stop(t *testing.T) {
	t.Helper()
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.done:
	case <-time.After(deadline):
		t.Errorf("%s did not end within %s of SIGTERM", a.name, deadline)
	}
	if text := a.log(); !a.cmd.ProcessState.Success() {
		t.Errorf("%s ended with %s:\n%s", a.name, a.cmd.ProcessState, text)
	}
}

// log ends the daemon if it still runs and returns what it printed.
func (a *activated) log() string {
	_ = a.cmd.Process.Kill()
	<-a.done
	return fmt.Sprintf("%s:\n%s", a.name, &a.output)
}
