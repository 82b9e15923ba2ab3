package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli"
)

// cmdHelpExamples runs the examples of the help of every verb, each in a shell. `keyside up` is what runs already.
func cmdHelpExamples(ts *testscript.TestScript, neg bool, _ []string) {
	var run func(*cobra.Command)
	run = func(c *cobra.Command) {
		for line := range strings.Lines(c.Example) {
			if c.Name() == "up" {
				continue
			}
			if err := ts.Exec("bash", "-c", "set -eu -o pipefail; "+line); err != nil {
				ts.Fatalf("%s: %v", strings.TrimSpace(line), err)
			}
		}
		for _, sub := range c.Commands() {
			run(sub)
		}
	}
	for _, c := range cli.Commands(nil) {
		run(c)
	}
}

// TestVerbs checks that the table in docs/cli.md has every command, and that the top-level help has no command without a group.
func TestVerbs(t *testing.T) {
	var b strings.Builder
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" || c.Parent() != nil && c.Parent().Name() == "completion" {
			return
		}
		if c.Runnable() && (!c.HasSubCommands() || c.Example != "") || c.Name() == "completion" {
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimPrefix(c.CommandPath(), "keyside "), c.Short)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	root := commandTree()
	for _, g := range root.Groups() {
		fmt.Fprintf(&b, "\n**%s**\n\n| Command | What it does |\n|---|---|\n", strings.TrimSuffix(g.Title, ":"))
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				walk(c)
			}
		}
	}
	for _, c := range root.Commands() {
		if c.GroupID == "" {
			t.Errorf("%s has no group", c.CommandPath())
		}
	}
	generated(t, "../docs/cli.md", "commands", "TestVerbs", b.String())
}
