package cli

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// confirmation is what a verb asks before it does what people regret.
type confirmation struct {
	text string // what is going to happen, and how to undo it
	word string // to type
	// always refuses where there is nobody to ask and no --yes; else a script goes on.
	always bool
}

// yesFlag is --yes.
type yesFlag bool

func (y *yesFlag) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar((*bool)(y), "yes", false, "do not ask")
}

// confirm asks the person at the terminal.
func (y yesFlag) confirm(cmd *cobra.Command, q confirmation) error {
	in := cmd.InOrStdin()
	switch {
	case bool(y):
		return nil
	case !isTerminal(in) && q.always:
		return failf(ExitUsage, "there is no terminal to ask at: add --yes to say that you mean it")
	case !isTerminal(in):
		return nil
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s\nType %s to go on: ", q.text, q.word); err != nil {
		return err
	}
	line, _ := bufio.NewReader(stdin(cmd)).ReadString('\n') // what ends early is not the word
	if strings.TrimSpace(line) == q.word {
		return nil
	}
	return failf(ExitFailure, "not confirmed: nothing was changed")
}
