package cli

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// Prepare makes every command below root treat wrong flags and arguments as misuse (ExitUsage), and makes a group that
// is called without a verb say which verbs it has.
func Prepare(root *cobra.Command) {
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

// needVerb is what a group of commands runs when no command of it was named.
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
