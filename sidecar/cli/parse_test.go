package cli

import (
	"context"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

func TestParseTags(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []client.Tag
	}{
		{nil, []client.Tag{}},
		{[]string{"a=b", "c=", "d=e=f", "ü=x y"}, []client.Tag{{Key: "a", Value: "b"}, {Key: "c"}, {Key: "d", Value: "e=f"}, {Key: "ü", Value: "x y"}}},
		{[]string{"a"}, nil},
		{[]string{"=b"}, nil},
		{[]string{""}, nil},
		{[]string{"a=1", "b=1", "a=1"}, nil},
	} {
		got, err := parseTags(c.words)
		if !reflect.DeepEqual(got, c.want) || (c.want == nil) != (ExitCode(err) == ExitUsage) {
			t.Errorf("%q: %v, %v", c.words, got, err)
		}
	}
}

func TestParseConditions(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []client.TagValues
	}{
		{[]string{"a=1", "b", "c="}, []client.TagValues{{Key: "a", Values: []string{"1"}}, {Key: "b", Values: []string{}}, {Key: "c", Values: []string{""}}}},
		{[]string{"a=1", "b=1", "a=2"}, []client.TagValues{{Key: "a", Values: []string{"1", "2"}}, {Key: "b", Values: []string{"1"}}}},
		{[]string{"a=1", "a", "a=2"}, []client.TagValues{{Key: "a", Values: []string{}}}}, // any value is any value
		{[]string{"=1"}, nil},
		{[]string{""}, nil},
	} {
		got, err := parseConditions(c.words)
		if !reflect.DeepEqual(got, c.want) || (c.want == nil) != (ExitCode(err) == ExitUsage) {
			t.Errorf("%q: %v, %v", c.words, got, err)
		}
	}
}

// TestCiphertextForms takes what is binary in each form that people have it in.
func TestCiphertextForms(t *testing.T) {
	raw := string([]byte{0, 1, 0xfe, '\n', 0xff})
	for in, want := range map[string]string{
		"AAH+Cv8=\n": raw, " AAH+\nCv8= ": raw, raw: raw, "": "", "not base64!": "not base64!",
	} {
		if got := string(decodeBase64([]byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	for in, want := range map[string]string{"DEADbeef\n": "DEADbeef", "AAH+Cv8=\n": "AAH+Cv8=", raw: "AAH+Cv8="} {
		if got := ciphertextText([]byte(in)); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// TestReadFiles reads public keys and MACs from files, and says what is in them else.
func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for content, want := range map[string]string{
		"0\x82": "0\x82",
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("der")})): "der",
	} {
		if got, err := readPublicKey(file(content)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	if _, err := readPublicKey(file(string(private))); ExitCode(err) != ExitUsage || strings.Contains(err.Error(), "secret") {
		t.Errorf("a private key: %v", err)
	}
	for arg, want := range map[string]string{"00fF": "\x00\xff", file("00ff\n"): "\x00\xff"} {
		if got, err := readMAC(arg); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", arg, got, err)
		}
	}
	for _, arg := range []string{"", "xyz", file("xyz")} {
		if _, err := readMAC(arg); ExitCode(err) != ExitUsage {
			t.Errorf("%q: %v", arg, err)
		}
	}
}

// TestEach reports on every key, and fails when one does.
func TestEach(t *testing.T) {
	refused, missing := &client.Error{Status: 400, Code: "KMS.1201"}, &client.Error{Status: 404, Code: "KMS.0207"}
	for _, c := range []struct {
		errs []error
		want int
	}{
		{[]error{nil, nil}, ExitOK},
		{[]error{refused}, ExitRefused},
		{[]error{nil, refused}, ExitRefused},
		{[]error{refused, nil, refused}, ExitRefused},
		{[]error{refused, missing}, ExitFailure},
	} {
		for _, asJSON := range []bool{false, true} {
			var keys []named
			for i := range c.errs {
				keys = append(keys, named{string(rune('a' + i)), &client.Key{ID: "id"}})
			}
			cmd := &cobra.Command{}
			var stdout, stderr strings.Builder
			cmd.SetOut(&stdout)
			cmd.SetErr(&stderr)
			i := 0
			err := (&session{json: asJSON}).each(cmd, keys, func(_ named, r *keyResult) error {
				r.State = "Enabled"
				i++
				return c.errs[i-1]
			})
			if ExitCode(err) != c.want {
				t.Errorf("%v: %v", c.errs, err)
			}
			for j, e := range c.errs {
				said := strings.Contains(stderr.String(), keys[j].name+": ")
				if (e != nil && len(c.errs) > 1) != said {
					t.Errorf("%v: standard error is %q", c.errs, stderr.String())
				}
			}
			if asJSON && strings.Count(stdout.String(), `"key":`) != len(c.errs) {
				t.Errorf("%v: %s", c.errs, stdout.String())
			}
		}
	}
}

// answeredCode finds the codes that the dialect's source holds.
var answeredCode = regexp.MustCompile(`"((?:KMS|APIGW)\.\d{4})"`)

// TestAdvices holds that somebody has thought of what to do about every code that the sidecar answers.
func TestAdvices(t *testing.T) {
	files, err := filepath.Glob("../dialect/huawei/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range answeredCode.FindAllStringSubmatch(string(source), -1) {
			a, known := advices[found[1]]
			if isPlain := slices.Contains(plain, found[1]); known == isPlain {
				t.Errorf("%s: %s must be in advices or in plain", file, found[1])
			} else if known && a.next == "" {
				t.Errorf("the advice for %s says nothing", found[1])
			}
		}
	}
}

// tree is the commands as a program has them.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "keyside", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands()...)
	root.AddCommand(DriverCommand())
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	Prepare(root)
	return root
}

// verbs yields every command that does something.
func verbs(root *cobra.Command, yield func(*cobra.Command)) {
	for _, c := range root.Commands() {
		verbs(c, yield)
		if !c.Hidden && (!c.HasSubCommands() || c.Example != "") { // datakey and mac are verbs with verbs
			yield(c)
		}
	}
}

// TestHelp holds that the help of every verb has an example. That they work is held by test/testdata/help.txtar.
func TestHelp(t *testing.T) {
	verbs(tree(), func(c *cobra.Command) {
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("the help of %s has no example", c.CommandPath())
		}
	})
}

// command finds the commands that the README names.
var command = regexp.MustCompile("`keyside ([^`]+)`")

// TestFlows holds that every command in the README's table of the console's flows is there, with its flags and so many
// arguments.
func TestFlows(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## From the console\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !found {
		t.Fatal("README has no section of flows")
	}
	seen := map[string]bool{}
	for _, m := range command.FindAllStringSubmatch(section, -1) {
		cmd, rest, err := tree().Find(strings.Fields(strings.ReplaceAll(m[1], "...", "")))
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateArgs(cmd.Flags().Args())
		}
		if err != nil || cmd.Example == "" {
			t.Errorf("keyside %s: %v", m[1], err)
		}
		seen[cmd.CommandPath()] = true
	}
	verbs(tree(), func(c *cobra.Command) {
		if path := c.CommandPath(); strings.HasPrefix(path, "keyside key ") && !seen[path] {
			t.Errorf("%s stands for no flow in the README's table", path)
		}
	})
}

// TestInterrupt ends a verb that waits for its input, as Ctrl-C does.
func TestInterrupt(t *testing.T) {
	got, err := io.ReadAll(interruptible{t.Context(), strings.NewReader("hello")})
	if err != nil || string(got) != "hello" {
		t.Errorf("undisturbed: %q, %v", got, err)
	}
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := tree()
	root.SetIn(r)
	root.SetArgs([]string{"decrypt"})
	if err := root.ExecuteContext(ctx); ExitCode(err) != ExitFailure || !strings.HasPrefix(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
}
