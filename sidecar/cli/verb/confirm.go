package verb

import (
	"bufio"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Confirmation is the question that a verb asks before an action that cannot be undone, or that stops others. Without a terminal,
// scripts must pass --yes.
type Confirmation struct {
	Text string // what will happen, and how to undo it
	Word string // the word to type
}

// YesFlag is --yes.
type YesFlag bool

// Add adds the flag to cmd.
func (y *YesFlag) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVar((*bool)(y), "yes", false, "do not ask for confirmation")
}

// Confirm asks at the terminal. It returns an error unless the answer is the word.
func (y YesFlag) Confirm(cmd *cobra.Command, q Confirmation) error {
	in := cmd.InOrStdin()
	switch {
	case bool(y):
		return nil
	case !IsTerminal(in):
		return Failf(ExitUsage, "no terminal to ask for confirmation: add --yes to confirm")
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s\nType %s to continue: ", q.Text, q.Word); err != nil {
		return err
	}
	line, _ := bufio.NewReader(in).ReadString('\n') // an answer that ends early is not the word
	if strings.TrimSpace(line) == q.Word {
		return nil
	}
	return Failf(ExitFailure, "not confirmed: nothing was changed")
}
