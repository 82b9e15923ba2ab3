package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// TestExitCodes holds the table of the README.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{failf(ExitUsage, "flag"), 2},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.0205"}, 2},
		{&client.Error{Status: http.StatusForbidden, Code: "KMS.0307"}, 3},
		{&client.Error{Status: http.StatusUnauthorized, Code: "APIGW.0301"}, 3},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.0209"}, 3},
		{&client.Error{Status: http.StatusNotFound, Code: "KMS.0207"}, 4},
		{os.ErrNotExist, 4},
		{&client.Error{Status: http.StatusServiceUnavailable, Code: "KMS.0104"}, 5},
		{&client.Error{Status: http.StatusGatewayTimeout, Code: "KMS.0101"}, 5},
		{&client.ConnectError{Socket: "/s"}, 5}, {fmt.Errorf("%w (request r)", client.ErrCutOff), 5},
		{fmt.Errorf("call: %w", context.DeadlineExceeded), 5},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.2201"}, 6},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.1104"}, 7},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.1105"}, 7},
		{&client.Error{Status: http.StatusInternalServerError, Code: "KMS.0103"}, 1},
	} {
		if got := ExitCode(explain(c.err)); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
		if c.err != nil && !errors.Is(explain(c.err), c.err) {
			t.Errorf("%v: explained away", c.err)
		}
	}
}

// TestOutput goes through both ways of making a file, nameless and under a temporary name.
func TestOutput(t *testing.T) {
	named := func(path string, force bool) (*output, error) {
		f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
		if err != nil {
			return nil, err
		}
		return &output{File: f, path: path, force: force, named: f.Name()}, nil
	}
	for name, create := range map[string]func(string, bool) (*output, error){"nameless": createOutput, "named": named} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out")
			put := func(content string, force bool) error {
				o, err := create(path, force)
				if err != nil {
					return err
				}
				if _, err := io.WriteString(o, content); err != nil {
					return err
				}
				return o.commit()
			}
			if err := put("one", false); err != nil {
				t.Fatal(err)
			}
			if err := put("two", false); ExitCode(err) != ExitExists {
				t.Errorf("second file over the first: %v", err)
			}
			if err := put("three", true); err != nil {
				t.Errorf("with force: %v", err)
			}
			o, err := create(path, true)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.discard(); err != nil {
				t.Error(err)
			}
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil || len(entries) != 1 {
				t.Errorf("left in the folder: %v, %v", entries, err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != "three" {
				t.Errorf("holds %q, %v", got, err)
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
		})
	}
}

// TestOutputThatAppears is the race of two writers without force: the second one loses, whatever it saw at first.
func TestOutputThatAppears(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	o, err := createOutput(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("theirs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := o.commit(); ExitCode(err) != ExitExists {
		t.Errorf("commit over it: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "theirs" {
		t.Errorf("it holds %q", got)
	}
}

func TestPrintable(t *testing.T) {
	for text, want := range map[string]bool{
		"attack at dawn\n": true, "größer\t→": true, "\x1b[2J": false, "\xff": false, "\x00": false, "\u009b": false, "\x7f": false,
	} {
		if got := printable([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestShellQuote asks a shell.
func TestShellQuote(t *testing.T) {
	for _, s := range []string{"", "plain", "/a/b-c_d.e", "with blank", "it's", `back\slash`, "$HOME", "`id`", "new\nline", "~"} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q came back as %q, %v", s, out, err)
		}
	}
}

// TestConfigsOfUp reads what up writes with the strict readers, for folders with names that YAML or a shell might
// trip over.
func TestConfigsOfUp(t *testing.T) {
	for _, name := range []string{"plain", "two words", `quo"te`, "colon: x", "# hash", "ü"} {
		for _, driver := range []string{driverSoft, driverSoftHSM} {
			for _, direct := range []bool{false, true} {
				dir := upDir(filepath.Join(t.TempDir(), name))
				if err := os.Mkdir(string(dir), 0o700); err != nil {
					t.Fatal(err)
				}
				values := upValues{Dir: dir, Driver: driver, Tenant: upTenant, Token: tokenLabel, UID: os.Getuid(), Direct: direct,
					Module: "/usr/lib/m.so", ModuleSHA256: strings.Repeat("ab", 32), Listen: "127.0.0.1:8080"}
				for file, text := range map[string]string{"hsmd.yaml": hsmdYAML, "sidecar.yaml": sidecarYAML} {
					if err := dir.writeConfig(file, text, values); err != nil {
						t.Fatal(err)
					}
					if _, err := checkFile(dir.path(file)); err != nil {
						t.Errorf("%s %s direct %v: %v", name, driver, direct, err)
					}
				}
			}
		}
	}
}

// TestAdaptConfig changes what flags ask for and nothing else.
func TestAdaptConfig(t *testing.T) {
	dir := upDir(t.TempDir())
	values := upValues{Dir: dir, Driver: driverSoft, Tenant: upTenant, UID: os.Getuid()}
	if err := dir.writeConfig("sidecar.yaml", sidecarYAML+"limits: {keys: 20000} # mine\n", values); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		text, err := os.ReadFile(dir.path("sidecar.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	adapt := func(o upOptions) *upSidecar {
		t.Helper()
		values.Direct = o.mode == modeDirect
		got, err := dir.adaptConfig(o, values)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkFile(dir.path("sidecar.yaml")); err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := read()
	if got := adapt(upOptions{mode: modeViaHSMD}); got.HSM.Via == nil || got.Listen != "" || read() != before {
		t.Errorf("no flags: %+v", got)
	}
	if got := adapt(upOptions{mode: modeDirect, modeSet: true, listen: "127.0.0.1:1", listenSet: true}); got.HSM.Via != nil || got.Listen != "127.0.0.1:1" {
		t.Errorf("direct with listen: %+v", got)
	}
	if got := adapt(upOptions{mode: modeViaHSMD}); got.HSM.Via != nil || got.Listen != "127.0.0.1:1" {
		t.Errorf("without flags it stays: %+v", got)
	}
	if got := adapt(upOptions{mode: modeViaHSMD, modeSet: true, listenSet: true}); got.HSM.Via == nil || got.Listen != "" {
		t.Errorf("back again: %+v", got)
	}
	if !strings.Contains(read(), "limits: {keys: 20000} # mine") {
		t.Errorf("the operator's own line is gone:\n%s", read())
	}
}

// TestPrepare makes every command treat misuse alike.
func TestPrepare(t *testing.T) {
	root := tree()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		words := strings.Fields(c.CommandPath())[1:]
		wrongs := [][]string{{"--no-such-flag"}, {"a", "b", "c", "d"}}
		if strings.Contains(c.Use, "...") { // takes any number of arguments but none
			wrongs[1] = nil
		}
		for _, wrong := range wrongs {
			root.SetArgs(append(append([]string{}, words...), wrong...))
			if err := root.Execute(); ExitCode(err) != ExitUsage {
				t.Errorf("%s %q: %v", c.CommandPath(), wrong, err)
			}
		}
	}
	walk(root)
}
