package cli

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/dialect"
)

// tree returns the verbs under a root command.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "keyside", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands(nil)...)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	Prepare(root)
	return root
}

// verbs calls yield with every command that is not only a group.
func verbs(root *cobra.Command, yield func(*cobra.Command)) {
	for _, c := range root.Commands() {
		verbs(c, yield)
		if !c.Hidden && (!c.HasSubCommands() || c.Example != "") { // datakey and mac are verbs with verbs
			yield(c)
		}
	}
}

// TestHelp checks that the help of every verb has an example, and a short text that begins with a capital letter and has no
// period. test/testdata/help.txtar runs the examples.
func TestHelp(t *testing.T) {
	verbs(tree(), func(c *cobra.Command) {
		if !unicode.IsUpper(rune(c.Short[0])) || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q is not the form of a short text", c.CommandPath(), c.Short)
		}
		if !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("the help of %s has no example", c.CommandPath())
		}
	})
}

// TestTimeouts checks that a verb that may generate an RSA key waits longer than the sidecar, so that it gets the error.
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
		if makes != (limit > dialect.SlowTimeout) || flag.Value.String() != flag.DefValue {
			t.Errorf("%s waits %s", cmd.CommandPath(), flag.DefValue)
		}
	})
	if found != len(patient) {
		t.Errorf("%d of %d verbs were found", found, len(patient))
	}
}
