package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// Prepare assigns the verbs of root to groups and makes every command below root return ExitUsage for wrong flags and
// arguments. A command that needs a subcommand lists its subcommands if it is called without one.
func Prepare(root *cobra.Command) {
	addGroups(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return verb.Failf(verb.ExitUsage, "%w (see %s --help)", err, cmd.CommandPath())
	})
	prepare(root)
}

func prepare(cmd *cobra.Command) {
	check := cmd.Args
	switch {
	case cmd.HasSubCommands() && !cmd.Runnable():
		cmd.Args, cmd.RunE = cobra.ArbitraryArgs, needVerb
	case check == nil:
		check = cobra.NoArgs
		fallthrough
	default:
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(check(cmd, args), cmd.ValidateFlagGroups()); err != nil {
				return verb.Failf(verb.ExitUsage, "%w (see %s --help)", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		prepare(sub)
	}
}

// needVerb runs for a command that needs a subcommand.
func needVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 && cmd.Parent() == nil {
		return cmd.Help()
	}
	var verbs []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			verbs = append(verbs, sub.Name())
		}
	}
	if len(args) == 0 {
		return verb.Failf(verb.ExitUsage, "%s needs one of: %s", cmd.CommandPath(), strings.Join(verbs, ", "))
	}
	return verb.Failf(verb.ExitUsage, "unknown command %q for %s; it has: %s", args[0], cmd.CommandPath(), strings.Join(verbs, ", "))
}
