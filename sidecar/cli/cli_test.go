package cli

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// TestPrepare checks that every command returns ExitUsage for wrong flags and arguments.
func TestPrepare(t *testing.T) {
	root := tree()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		words := strings.Fields(c.CommandPath())[1:]
		wrongs := [][]string{{"--no-such-flag"}, {"a", "b", "c", "d"}}
		if strings.Contains(c.Use, "...") { // takes one or more arguments
			wrongs[1] = nil
		}
		for _, wrong := range wrongs {
			root.SetArgs(append(append([]string{}, words...), wrong...))
			if err := root.Execute(); verb.ExitCode(err) != verb.ExitUsage {
				t.Errorf("%s %q: %v", c.CommandPath(), wrong, err)
			}
		}
	}
	walk(root)
}

// TestInterrupt ends a verb that waits for its input, as Ctrl-C does.
func TestInterrupt(t *testing.T) {
	r, w := io.Pipe()
	defer func() { _ = w.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	root := tree()
	root.SetIn(r)
	root.SetArgs([]string{"decrypt"})
	if err := root.ExecuteContext(ctx); verb.ExitCode(err) != verb.ExitFailure || !strings.HasPrefix(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
}
