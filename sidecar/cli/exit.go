package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes of every verb. Scripts rely on them: a number never changes its meaning.
const (
	ExitOK          = 0
	ExitFailure     = 1 // anything not below
	ExitUsage       = 2 // a flag, an argument or a configuration file is wrong
	ExitRefused     = 3 // not allowed, or not in the key's present state
	ExitNotFound    = 4 // no such key or file
	ExitUnavailable = 5 // Keyside or its HSM cannot answer now; the same command may work later
	ExitBadData     = 6 // a ciphertext, file or signature does not verify
	ExitExists      = 7 // the name or the output file is taken, or the quota is used up
)

// Error is a failure with an exit code of its own.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the failure itself.
func (e *Error) Unwrap() error { return e.Err }

// failf makes an Error as fmt.Errorf would.
func failf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// ExitCode returns the exit code that an error of a verb stands for.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ExitFailure
}

// Prepare makes every command below root treat wrong flags and arguments as misuse (ExitUsage), and makes a group that
// is called without a verb say which verbs it has.
func Prepare(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return failf(ExitUsage, "%w (see %s --help)", err, cmd.CommandPath())
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
				return failf(ExitUsage, "%w (see %s --help)", err, cmd.CommandPath())
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
		return failf(ExitUsage, "%s needs one of: %s", cmd.CommandPath(), strings.Join(verbs, ", "))
	}
	return failf(ExitUsage, "unknown command %q for %s; it has: %s", args[0], cmd.CommandPath(), strings.Join(verbs, ", "))
}
