package access

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func policyCommand() *cobra.Command {
	return verb.Group(&cobra.Command{Use: "policy", Short: "Validate Cedar policies and print their schema"},
		policyCheck(), policySchema())
}

func policyCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE...", Short: "Validate files of Cedar policies",
		Long: `Validate files of Cedar policies as the sidecar does at start and on SIGHUP: their syntax, and that the operations, roles and
attributes in them exist (keyside policy schema). Every error has a file, line and column.`,
		Example: `  keyside policy check night.cedar`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := sidecar.ReadPolicies(args)
			if err != nil {
				return verb.Explain(verb.Failf(verb.ExitUsage, "%w", err))
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d valid policies\n", p.Len())
			return err
		},
	}
}

func policySchema() *cobra.Command {
	return &cobra.Command{
		Use: "schema", Short: "Print the Cedar schema of policies", Example: `  keyside policy schema`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(cmd.OutOrStdout(), policy.Schema())
			return err
		},
	}
}

func canICommand() *cobra.Command {
	var in client.CanIRequest
	cmd := &cobra.Command{
		Use: "can-i OPERATION [KEY]", Short: "Explain whether an operation would be allowed",
		Long: `Explain whether an operation would be allowed, without doing it: by which role, grant or policy, or what is missing. The exit code
is 3 if it would be refused. It also prints your principal, the selector that matched, and your process data. Administrators and
auditors may ask for other users; rules limited to a source are then ignored.`,
		Example: `  keyside can-i encrypt app
  keyside can-i decrypt-data-key app --as storage --context purpose=backup || test $? = 3`,
		Args: cobra.RangeArgs(1, 2), ValidArgsFunction: completeOperationThenKey,
	}
	cmd.Flags().StringVar(&in.As, "as", "", "`name` of another user (default: you)")
	verb.CompleteUserFlag(cmd, "as")
	cmd.Flags().StringToStringVar(&in.Context, "context", nil, "encryption context of the operation, name=value[,name=value]")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		op, known := policy.ParseOperation(args[0])
		if !known {
			return verb.Failf(verb.ExitUsage, "%q is not an operation%s", args[0], verb.DidYouMean(args[0], allOperations))
		}
		in.Operation = string(op) // the neutral name of look-ups stands for several
		if len(args) > 1 {
			in.Key = args[1]
		}
		d, err := s.CanI(ctx, in)
		if err != nil {
			return err
		}
		if err = s.Print(d, decisionText(d)); err == nil && !d.Allowed {
			err = verb.Failf(verb.ExitRefused, "%s may not %s", d.User, args[0])
		}
		return err
	})
}

// allOperations are the neutral names of all operations.
var allOperations = verb.OperationNames(func(policy.Operation) bool { return true })

// decisionText returns a decision for people.
func decisionText(d *client.Decision) string {
	line := "no: " + d.Reason
	if d.Allowed {
		line = "yes, by " + d.By
	}
	lines := append([]string{line}, d.Hints...)
	if d.Caller != nil {
		lines = append(lines, "you are "+d.User+" by "+d.Caller.By(), "your process: "+callerText(d.Caller))
	}
	for i, line := range lines {
		lines[i] = verb.Harmless(line)
	}
	return strings.Join(lines, "\n  ")
}

// callerText returns the data of a process in one line.
func callerText(c *client.Caller) string {
	words := []string{fmt.Sprintf("uid %d, gid %d, pid %d", c.UID, c.GID, c.PID)}
	for _, gid := range c.Groups {
		words = append(words, fmt.Sprintf("group %d", gid))
	}
	for _, fact := range []struct{ name, value string }{
		{"unit", c.Unit}, {"pod", c.Pod}, {"container", c.Container}, {"exe", c.Exe},
	} {
		if fact.value != "" {
			words = append(words, fact.name+" "+fact.value)
		}
	}
	return strings.Join(words, ", ")
}

// pairs returns an encryption context in one line, in the order of its names.
func pairs(context map[string]string) string {
	words := make([]string, 0, len(context))
	for _, name := range slices.Sorted(maps.Keys(context)) {
		words = append(words, name+"="+context[name])
	}
	return strings.Join(words, ",")
}

func completeOperationThenKey(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return verb.CompleteKeys(2)(cmd, args, toComplete)
	}
	return allOperations, cobra.ShellCompDirectiveNoFileComp
}
