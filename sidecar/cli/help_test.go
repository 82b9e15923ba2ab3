package cli

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/dialect/huawei"
)

// tree is the commands as a program has them.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "keyside", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands()...)
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
			t.Errorf("keyside %s is no verb, or not so: %v", m[1], err)
		}
		seen[cmd.CommandPath()] = true
	}
	verbs(tree(), func(c *cobra.Command) {
		if path := c.CommandPath(); strings.HasPrefix(path, "keyside key ") && !seen[path] {
			t.Errorf("%s stands for no flow in the README's table", path)
		}
	})
}

// TestTimeouts holds that a verb that may have an RSA key made waits longer than the sidecar does, so that it hears why not.
func TestTimeouts(t *testing.T) {
	patient := []string{"keyside key create", "keyside datakey pair", "keyside import parameters", "keyside import material"}
	found := 0
	verbs(tree(), func(cmd *cobra.Command) {
		flag := cmd.Flags().Lookup("timeout")
		if flag == nil {
			return
		}
		limit, err := time.ParseDuration(flag.DefValue)
		if err != nil {
			t.Errorf("%s: %v", cmd.CommandPath(), err)
		}
		makes := slices.Contains(patient, cmd.CommandPath())
		if makes {
			found++
		}
		if makes != (limit > huawei.KeyTimeout) || flag.Value.String() != flag.DefValue {
			t.Errorf("%s waits %s", cmd.CommandPath(), flag.DefValue)
		}
	})
	if found != len(patient) {
		t.Errorf("%d of %d verbs were found", found, len(patient))
	}
}
