package verb

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

// Bulk is a change of all keys that a verb's arguments name.
type Bulk struct {
	Check func() error                          // checks the flags before anything else; may be nil
	Ask   func(keys []*client.Key) Confirmation // may be nil
	Do    func(c *client.Client, ctx context.Context, id string) (*client.KeyStatus, error)
}

// result is the outcome for one key of several: a row for people, JSON for programs.
type result struct {
	Key      string `json:"key"` // as the argument names it
	ID       string `json:"key_id"`
	State    string `json:"state,omitempty"`
	Deletion string `json:"deletion,omitempty"` // RFC 3339
	Error    string `json:"error,omitempty"`
}

// Listed shows keys in a question.
func Listed(keys []*client.Key) string {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s  %s  %s  %s\n", k.ID, Harmless(k.Alias), k.Spec, k.State)
	}
	return b.String()
}

// Many makes cmd a verb that changes all keys that its arguments name.
func Many(cmd *cobra.Command, b Bulk) *cobra.Command {
	var yes YesFlag
	cmd.Args, cmd.ValidArgsFunction = cobra.MinimumNArgs(1), CompleteKeys(0)
	if b.Ask != nil {
		yes.Add(cmd)
	}
	return Talks(cmd, func(ctx context.Context, s *Session, args []string) error {
		if b.Check != nil {
			if err := b.Check(); err != nil {
				return err
			}
		}
		keys, names, err := s.lookupAll(ctx, args)
		if err != nil {
			return err
		}
		if b.Ask != nil {
			if err := yes.Confirm(cmd, b.Ask(keys)); err != nil {
				return err
			}
		}
		return s.each(keys, names, func(id string) (*client.KeyStatus, error) { return b.Do(s.Client, ctx, id) })
	})
}

// lookupAll returns the keys with the given names, each key once, and the name of each. If one does not exist, none is
// returned: a mistyped list changes nothing.
func (s *Session) lookupAll(ctx context.Context, args []string) (keys []*client.Key, names []string, err error) {
	missing := 0
	seen := map[string]bool{}
	for _, name := range args {
		key, err := s.Lookup(ctx, name)
		switch err = Explain(err); {
		case err != nil && (len(args) == 1 || ExitCode(err) != ExitNotFound):
			return nil, nil, err
		case err != nil:
			missing++
			s.Cmd.PrintErrf("%s: %v\n", name, err)
		case !seen[key.ID]:
			seen[key.ID] = true
			keys, names = append(keys, key), append(names, name)
		}
	}
	if missing > 0 {
		return nil, nil, Failf(ExitNotFound, "%d of %d keys do not exist: nothing was changed", missing, len(args))
	}
	return keys, names, nil
}

// each changes keys one by one and reports on each. The error is that of the only key, or says how many failed.
func (s *Session) each(keys []*client.Key, names []string, do func(id string) (*client.KeyStatus, error)) error {
	results := make([]result, len(keys))
	rows := [][]string{{"KEY", "KEY ID", "STATE"}}
	var failed []error
	for i, k := range keys {
		r := result{Key: names[i], ID: k.ID}
		status, err := do(k.ID)
		if err = Explain(err); err != nil {
			failed = append(failed, err)
			r.Error = err.Error()
			if len(keys) > 1 {
				s.Cmd.PrintErrf("%s: %v\n", r.Key, err)
			}
		} else {
			r.State = string(status.State)
			shown := r.State
			if !status.Deletion.IsZero() {
				r.Deletion = When(status.Deletion)
				shown += " until " + r.Deletion
			}
			rows = append(rows, []string{r.Key, r.ID, shown})
		}
		results[i] = r
	}
	var err error
	if s.JSON || len(rows) > 1 {
		err = s.Show(results, rows)
	}
	switch {
	case len(failed) == 0 || err != nil:
		return err
	case len(keys) == 1:
		return failed[0]
	}
	return Failf(common(failed), "%d of %d keys failed", len(failed), len(keys))
}

// common returns the exit code that all errors have, or ExitFailure.
func common(errs []error) int {
	code := ExitCode(errs[0])
	for _, err := range errs[1:] {
		if ExitCode(err) != code {
			return ExitFailure
		}
	}
	return code
}
