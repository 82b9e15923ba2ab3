package plugins

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/plugins/driver"
)

func TestConfigFaultsNameTheirKey(t *testing.T) {
	const good = "name: softhsm\nkind: pkcs11\nsettings: {module: /m.so}\ncredential: {file: /pin}\nenv: {A: b}\ndrain_timeout: 5s\n"
	for _, tc := range []struct{ old, new, want string }{
		{"", "", ""},
		{"name: softhsm", "name: Soft_HSM", "name:"},
		{"kind: pkcs11", "kind: tpm", "kind:"},
		{"kind: pkcs11", "kind: soft\ncommand: /bin/x", "command: only for kind external"},
		{"kind: pkcs11", "kind: external\ncommand: driver", "command: an absolute path"},
		{"kind: pkcs11", "kind: external\ncommand: /driver", "sha256: required"},
		{"kind: pkcs11", "kind: soft\nsha256: abc", "sha256: not 64"},
		{"{module: /m.so}", "[module]", "settings: not a mapping"},
		{"{file: /pin}", "{file: /pin, systemd: pin}", "credential: only one of file, systemd"},
		{"{file: /pin}", "{systemd: ../pin}", "credential.systemd:"},
		{"{file: /pin}", "{command: [pin-helper]}", "credential.command:"},
		{"{A: b}", "{'A=B': b}", "env:"},
		{"{A: b}", "{PLUGIN_CLIENT_CERT: b}", "env: PLUGIN_CLIENT_CERT is reserved for the handshake"},
		{"5s", "-5s", "drain_timeout:"},
		{"env:", "environment:", "environment"},
	} {
		text := strings.Replace(good, tc.old, tc.new, 1)
		var cfg Config
		dec := yaml.NewDecoder(strings.NewReader(text))
		dec.KnownFields(true)
		err := dec.Decode(&cfg)
		if err == nil {
			err = cfg.Validate()
		}
		if tc.want == "" {
			if err != nil {
				t.Errorf("the good one: %v", err)
			}
			if b, err := cfg.SettingsText(); err != nil || string(b) != "{module: /m.so}\n" {
				t.Errorf("settings %q, %v", b, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.new, err, tc.want)
		}
	}
}

func TestCredentialSources(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(content), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	write("by-systemd", "4321\r\n", 0o640)
	for _, tc := range []struct {
		name string
		from Credential
		want string // or what the error says
		ok   bool
	}{
		{"none", Credential{}, "", true},
		{"file", Credential{File: write("good", "12 34\n\n", 0o600)}, "12 34\n", true},
		{"group-readable", Credential{File: write("open", "1234", 0o640)}, "chmod 600", false},
		{"empty", Credential{File: write("empty", "\n", 0o600)}, "is empty", false},
		{"too long", Credential{File: write("long", strings.Repeat("x", maxCredential+1), 0o600)}, "longer than", false},
		{"missing", Credential{File: filepath.Join(dir, "none")}, "no such file", false},
		{"directory", Credential{File: dir}, "not a regular file", false},
		{"systemd", Credential{Systemd: "by-systemd"}, "4321", true},
		{"helper", Credential{Command: []string{"/bin/sh", "-c", `printf '%s' "$HOME$0" ; echo 99`, "pin"}}, "pin99", true},
		{"helper that fails", Credential{Command: []string{"/bin/sh", "-c", "echo 1234; exit 3"}}, "exit status 3", false},
		{"no helper", Credential{Command: []string{"/no/such/helper"}}, "no such file", false},
	} {
		got, err := tc.from.Load(t.Context())
		switch {
		case tc.ok && (err != nil || string(got) != tc.want):
			t.Errorf("%s: %q, %v", tc.name, got, err)
		case !tc.ok && (err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "1234")):
			t.Errorf("%s: %q, %v", tc.name, got, err)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := (&Credential{Systemd: "x"}).Load(t.Context()); err == nil || !strings.Contains(err.Error(), "LoadCredential=x") {
		t.Errorf("outside of a unit: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := (&Credential{Command: []string{"/bin/sleep", "100"}}).Load(ctx); err == nil {
		t.Error("a helper outlives its context")
	}
}

// TestHelperWithAChild has a helper whose child keeps the pipe open.
func TestHelperWithAChild(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := (&Credential{Command: []string{"/bin/sh", "-c", "sleep 5 & echo 1234"}}).Load(ctx); err == nil || time.Since(began) > 4*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// TestHelperThatFailsMayWorkLater distinguishes a helper that failed from one that does not exist: only the latter is a fault of
// the configuration, after which the start is not retried.
func TestHelperThatFailsMayWorkLater(t *testing.T) {
	for code, command := range map[driver.Code][]string{
		driver.Device: {"/bin/sh", "-c", "exit 1"}, driver.InvalidArgument: {"/no/such/helper"},
	} {
		_, err := start(t, Config{Name: "fake", Kind: KindSoft, Credential: Credential{Command: command}})
		if driver.CodeOf(err) != code {
			t.Errorf("%q: %v", command, err)
		}
	}
}

func TestDriverOutputIsBounded(t *testing.T) {
	var out bytes.Buffer
	l := &lineLog{log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	write := func(s string) {
		for _, b := range []byte(s) { // in the smallest pieces
			if _, err := l.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(`{"@level":"error","@message":"it broke","@timestamp":"now","slot":3}` + "\n\n")
	write(strings.Repeat("x", 5000) + "\n")
	write("{not json\x1b[31m\n")
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], `text="it broke"`) || !strings.Contains(lines[0], "slot") {
		t.Fatalf("%q", lines)
	}
	if n := len(lines[1]); n < maxLogLine || n > maxLogLine+200 {
		t.Errorf("a long line became %d bytes", n)
	}
	if strings.Contains(lines[2], "\x1b") {
		t.Error("a control character reached the log")
	}
	out.Reset()
	if _, err := l.Write([]byte(strings.Repeat("again\n", 10*maxLogLines))); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n"); n > 2*maxLogLines+1 {
		t.Errorf("%d lines of a driver that prints without end", n)
	}
}
