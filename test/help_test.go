package test

import (
	"strings"

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
