package verb

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Confirmation is what a verb asks before it does what people regret.
type Confirmation struct {
	Text string // what is going to happen, and how to undo it
	Word string // to type
	// always refuses where there is nobody to ask and no --yes; else a script goes on.
	Always bool
}

// YesFlag is --yes.
type YesFlag bool

func (y *YesFlag) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVar((*bool)(y), "yes", false, "do not ask")
}

// Confirm asks the person at the terminal.
func (y YesFlag) Confirm(cmd *cobra.Command, q Confirmation) error {
	in := cmd.InOrStdin()
	switch {
	case bool(y):
		return nil
	case !IsTerminal(in) && q.Always:
		return Failf(ExitUsage, "there is no terminal to ask at: add --yes to say that you mean it")
	case !IsTerminal(in):
		return nil
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s\nType %s to go on: ", q.Text, q.Word); err != nil {
		return err
	}
	line, _ := bufio.NewReader(Stdin(cmd)).ReadString('\n') // what ends early is not the word
	if strings.TrimSpace(line) == q.Word {
		return nil
	}
	return Failf(ExitFailure, "not confirmed: nothing was changed")
}
