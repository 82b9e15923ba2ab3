package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// drains are the verbs that end their own processes in order when they are interrupted.
var drains = []string{"up", "sidecar", "hsmd", "bench", "root", "driver"}

// grace is how long other verbs may take to end when they are interrupted.
const grace = 100 * time.Millisecond

// Prepare assigns the verbs of root to groups and makes every command below root return ExitUsage for wrong flags and
// arguments, and end soon after an interruption. A command that needs a subcommand lists its subcommands if it is called without one.
func Prepare(root *cobra.Command) {
	addGroups(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return verb.Failf(verb.ExitUsage, "%w%s (see %s --help)", err, nearestFlag(cmd, err), cmd.CommandPath())
	})
	prepare(root)
	for _, cmd := range root.Commands() {
		if !slices.Contains(drains, cmd.Name()) {
			endOnInterrupt(cmd)
		}
	}
}

// endOnInterrupt makes cmd and its subcommands return when their context ends, even while they wait for a file, pipe or terminal.
func endOnInterrupt(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			done := make(chan error, 1)
			go func() { done <- run(cmd, args) }()
			select {
			case err := <-done:
				return err
			case <-cmd.Context().Done():
			}
			select {
			case err := <-done:
				return err
			case <-time.After(grace):
				verb.RemoveTemporary()
				return verb.Failf(verb.ExitFailure, "interrupted")
			}
		}
	}
	for _, sub := range cmd.Commands() {
		endOnInterrupt(sub)
	}
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
			err := check(cmd, args)
			if err != nil {
				err = argumentsError(cmd, args, err)
			}
			if err = errors.Join(err, cmd.ValidateFlagGroups()); err != nil {
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
	if meant := verb.DidYouMean(args[0], verbs); meant != "" {
		return verb.Failf(verb.ExitUsage, "unknown command %q for %s%s", args[0], cmd.CommandPath(), meant)
	}
	return verb.Failf(verb.ExitUsage, "unknown command %q for %s; it has: %s", args[0], cmd.CommandPath(), strings.Join(verbs, ", "))
}

// nearestFlag returns the flags that are most like the one that does not exist.
func nearestFlag(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
	return verb.DidYouMean("--"+unknown.GetSpecifiedName(), names)
}

// argumentsError names the missing arguments, or the first one that is too many.
func argumentsError(cmd *cobra.Command, args []string, err error) error {
	needed, most := arguments(cmd)
	switch {
	case len(args) < len(needed):
		missing, are := needed[len(args):], "is"
		if len(missing) > 1 {
			are = "are"
		}
		return fmt.Errorf("%s %s missing: %s", strings.Join(missing, " and "), are, usage(cmd))
	case most >= 0 && len(args) > most:
		return fmt.Errorf("%q is an argument too many: %s", args[most], usage(cmd))
	}
	return err
}

// usage returns the form of a command.
func usage(cmd *cobra.Command) string {
	_, form, _ := strings.Cut(cmd.Use, " ")
	return strings.TrimSpace(cmd.CommandPath() + " " + form)
}

// arguments returns the names of the arguments that the form of a command requires, and the most that it allows; -1: any number.
// Words in brackets are optional, and a word after a flag is its value.
func arguments(cmd *cobra.Command) (needed []string, most int) {
	value := false
	for _, word := range strings.Fields(cmd.Use)[1:] {
		switch {
		case word == "|":
			continue
		case strings.HasPrefix(word, "--"):
			flag := cmd.Flags().Lookup(word[2:])
			value = flag != nil && flag.NoOptDefVal == "" // true or false needs no value
			continue
		case value:
			value = false
			continue
		case strings.Contains(word, "..."):
			most = -1
		case most >= 0:
			most++
		}
		if !strings.HasPrefix(word, "[") {
			needed = append(needed, strings.TrimSuffix(word, "..."))
		}
	}
	return needed, most
}
