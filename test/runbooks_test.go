package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// operated is a node of the soft driver whose daemons a manager runs, in a state that a runbook is for.
type operated struct {
	*testing.T
	*manager
	*client.Client
	metrics, hsmdMetrics string // addresses
	key                  string
	sealed               []byte // under key, before anything went wrong
}

const plainText = "sealed before anything went wrong"

// operatedImage makes, once, the folder of a node with a key and returns what operated needs of it.
var operatedImage = sync.OnceValues(func() (made operated, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(binary), "image-") // which is removed after all tests
	if err != nil {
		return made, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	n, err := node.Start(ctx, node.Options{Binary: binary, Dir: filepath.Join(dir, "data"), Driver: "soft", Mode: "via-hsmd"})
	if err != nil {
		return made, err
	}
	c := client.New(n.Socket)
	key, err := c.CreateKey(ctx, client.CreateKeyRequest{Alias: "app"})
	if err != nil {
		return made, err
	}
	sealed, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: key.ID, Plaintext: []byte(plainText)})
	if err != nil {
		return made, err
	}
	c.Close()
	return operated{manager: &manager{dir: n.Dir}, key: key.ID, sealed: sealed.Ciphertext}, n.Stop(ctx)
})

// operate starts a copy of the image.
func operate(t *testing.T, r runbook) *operated {
	t.Helper()
	made, err := operatedImage()
	if err != nil {
		t.Fatal(err)
	}
	top, err := os.MkdirTemp("/tmp", "ks-") // short: the path of a socket has at most 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	dir := filepath.Join(top, "n")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if r.volume != "" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+r.volume); err != nil {
			t.Fatalf("mount a volume of %s: %v", r.volume, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	}
	if out, err := exec.Command("cp", "--archive", made.dir+"/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o := &operated{T: t, manager: startManager(t, dir, filepath.Join(top, "bin")), metrics: freePort(t), hsmdMetrics: freePort(t), key: made.key, sealed: made.sealed}
	for _, file := range []string{"sidecar.yaml", "hsmd.yaml"} {
		o.edit(filepath.Join(dir, file), made.dir, dir, func(config map[string]any) {
			if file == "hsmd.yaml" {
				config["telemetry"] = map[string]any{"prometheus_listen": o.hsmdMetrics}
				return
			}
			config["telemetry"] = map[string]any{"prometheus_listen": o.metrics}
			config["hsm"].(map[string]any)["canary"] = "1s"
			if r.config != nil {
				r.config(o, config)
			}
		})
	}
	for _, u := range []string{"keyside-hsmd", "keyside-sidecar"} {
		if err := o.units[u].start(); err != nil {
			t.Fatalf("%v\n%s", err, o.units[u].output())
		}
	}
	o.Client = client.New(filepath.Join(dir, "kms.sock"))
	t.Cleanup(o.Client.Close)
	o.serves()
	return o
}

// edit replaces a path in a configuration and changes it.
func (o *operated) edit(path, from, to string, change func(map[string]any)) {
	o.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		o.Fatal(err)
	}
	config := map[string]any{}
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(text), from, to)), &config); err != nil {
		o.Fatal(err)
	}
	change(config)
	if text, err = yaml.Marshal(config); err != nil {
		o.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		o.Fatal(err)
	}
}

// serves waits until the node decrypts what it encrypted before anything went wrong, and takes a change.
func (o *operated) serves() {
	o.Helper()
	waitFor(o.T, "the node serves", func() bool {
		plain, err := o.Decrypt(o.Context(), client.DecryptRequest{Ciphertext: o.sealed})
		if err == nil && string(plain.Plaintext) != plainText {
			err = fmt.Errorf("decrypted %q", plain.Plaintext)
		}
		if err == nil {
			err = o.SetKeyDescription(o.Context(), o.key, time.Now().String())
		}
		if err == nil {
			var h *client.Health
			if h, err = o.Health(o.Context()); err == nil && !h.OK() {
				err = fmt.Errorf("health: %v", h.Checks)
			}
		}
		return err == nil
	})
}

// places maps the places of an installed node to those of this one.
func (o *operated) places(text string) string {
	return strings.NewReplacer(
		"/etc/systemd/system", o.dir+"/systemd", "/etc/keyside", o.dir, "/run/keyside", o.dir, "/var/lib/keyside", o.dir,
		"/var/backups/keyside", o.dir+"/backups", "/root", o.dir+"/root", "--owner keyside ", "", "127.0.0.1:9464", o.metrics,
	).Replace(text)
}

// step is a command of a runbook with what it prints.
type step struct {
	command, want string
	verify        bool // it is repeated until it prints that
}

// consoleBlock matches a block of commands with their output; section matches a heading.
var (
	consoleBlock = regexp.MustCompile("(?ms)^## (\\w+)$|^ *```console\n(.*?)^ *```$")
	alertName    = regexp.MustCompile(`(?m)^ +- alert: (\w+)$`)
)

// stepsOf returns the commands of a page.
func stepsOf(text string) (steps []step) {
	section := ""
	for _, m := range consoleBlock.FindAllStringSubmatch(text, -1) {
		if m[1] != "" {
			section = m[1]
			continue
		}
		for line := range strings.Lines(m[2]) {
			line = strings.TrimSpace(line)
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				steps = append(steps, step{command: command, verify: section == "Verify"})
			} else if n := len(steps); n > 0 {
				steps[n-1].want += line + "\n"
			}
		}
	}
	return steps
}

// matches reports whether an output is as a page shows it: a line ... stands for any lines, ... in a line for any text.
func matches(want, got string) bool {
	if want == "" {
		return true
	}
	var pattern strings.Builder
	pattern.WriteString(`(?s)\A`)
	for line := range strings.Lines(want) {
		line = strings.TrimSuffix(line, "\n")
		if line == "..." {
			pattern.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		line = regexp.QuoteMeta(line)
		line = strings.ReplaceAll(line, `\.\.\.`, `[^\n]*`)
		pattern.WriteString(` *` + regexp.MustCompile(` +`).ReplaceAllString(line, ` +`) + ` *\n`)
	}
	pattern.WriteString(`\z`)
	return regexp.MustCompile(pattern.String()).MatchString(strings.TrimSuffix(got, "\n") + "\n")
}

// do runs a command as the operator does.
func (o *operated) do(command string) (string, error) {
	ctx, cancel := context.WithTimeout(o.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -o pipefail; "+o.places(command))
	cmd.Dir = o.dir
	cmd.Env = append(os.Environ(), "PATH="+o.bin+":"+os.Getenv("PATH"), "KEYSIDE_SOCKET="+filepath.Join(o.dir, "kms.sock"))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// verifyWithin is how long the commands under Verify are repeated.
const verifyWithin = 20 * time.Second

// follow does what a page says.
func (o *operated) follow(page string) {
	o.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		o.Fatal(err)
	}
	for _, s := range stepsOf(string(text)) {
		want := o.places(s.want)
		out, err := o.do(s.command)
		for end := time.Now().Add(verifyWithin); s.verify && !matches(want, out) && time.Now().Before(end); {
			out, err = o.do(s.command)
		}
		if !matches(want, out) {
			o.Fatalf("$ %s\n%s\nprints\n%s\nand the page says\n%s\nlast lines of the sidecar:\n%s", s.command, o.places(s.command), out, want, o.units["keyside-sidecar"].tail())
		}
		if s.want == "" && err != nil {
			o.Fatalf("$ %s\n%s\n%v: %s", s.command, o.places(s.command), err, out)
		}
	}
}

// TestRunbooks does what each page of docs/runbooks says, on a node in the state that the page is for. Then the node serves again.
func TestRunbooks(t *testing.T) {
	pages, err := filepath.Glob("../docs/runbooks/[A-Za-z]*.md")
	if err != nil {
		t.Fatal(err)
	}
	all := runbooks()
	var running sync.WaitGroup
	free := make(chan struct{}, 6) // most of the time the nodes wait
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		if name == "README" {
			continue
		}
		r, ok := all[name]
		if !ok {
			t.Errorf("%s is tried in no state", page)
			continue
		}
		running.Go(func() {
			free <- struct{}{}
			defer func() { <-free }()
			t.Run(name, func(t *testing.T) {
				o := operate(t, r)
				r.state(o)
				o.follow(page)
				o.serves()
			})
		})
	}
	running.Wait()
}

// sections are those of every page.
var sections = regexp.MustCompile(`(?s)^# \S[^\n]*\n\n.+\n## Check\n.+\n## Fix\n.+\n## Verify\n.+\nEscalate: .+`)

// TestAlertsHaveRunbooks holds that each alert has a page of the common form, and each page a row in the list.
func TestAlertsHaveRunbooks(t *testing.T) {
	rules, err := os.ReadFile("../deploy/prometheus/keyside.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("../docs/runbooks/README.md")
	if err != nil {
		t.Fatal(err)
	}
	all := runbooks()
	for name := range all {
		text, err := os.ReadFile("../docs/runbooks/" + name + ".md")
		if err != nil || !sections.Match(text) || len(stepsOf(string(text))) < 2 {
			t.Errorf("%s.md does not have the form: title, impact, Check, Fix, Verify, Escalate (%v)", name, err)
		}
		if !strings.Contains(string(list), "]("+name+".md)") {
			t.Errorf("README.md lacks %s", name)
		}
	}
	var alerts []string
	for _, m := range alertName.FindAllStringSubmatch(string(rules), -1) {
		alerts = append(alerts, m[1])
		if _, ok := all[m[1]]; !ok || !strings.Contains(string(rules), "runbook: docs/runbooks/"+m[1]+".md\n") {
			t.Errorf("alert %s names no runbook of its own", m[1])
		}
	}
	if len(alerts) < 22 || len(slices.Compact(slices.Sorted(slices.Values(alerts)))) != len(alerts) {
		t.Errorf("alerts: %q", alerts)
	}
}
