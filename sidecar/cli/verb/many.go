package verb

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// Result is what became of one key of several, for people as a row and for programs as JSON.
type Result struct {
	Key   string `json:"key"` // as it was named
	ID    string `json:"key_id"`
	State string `json:"state,omitempty"`
	When  string `json:"deletion,omitempty"` // RFC 3339
	Error string `json:"error,omitempty"`
}

// Named is a key with the name that it was called by.
type Named struct {
	name string
	*client.Key
}

// Listed shows keys in a question.
func Listed(keys []Named) string {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s  %s  %s  %s\n", k.ID, k.Alias, k.Spec, k.State)
	}
	return b.String()
}

// lookupAll finds all keys by their names, each once. Names that fit none fail all: a mistyped list changes nothing.
func (s *Session) lookupAll(ctx context.Context, c *client.Client, cmd *cobra.Command, names []string) ([]Named, error) {
	var keys []Named
	missing := 0
	seen := map[string]bool{}
	for _, name := range names {
		key, err := s.Lookup(ctx, c, name)
		switch err = Explain(err); {
		case err != nil && (len(names) == 1 || ExitCode(err) != ExitNotFound):
			return nil, err
		case err != nil:
			missing++
			cmd.PrintErrf("%s: %v\n", name, err)
		case !seen[key.ID]:
			seen[key.ID] = true
			keys = append(keys, Named{name, key})
		}
	}
	if missing > 0 {
		return nil, Failf(ExitNotFound, "%d of %d keys cannot be found: nothing was changed", missing, len(names))
	}
	return keys, nil
}

// each does the same to several keys and reports on each of them. The error is that of the only key, or says how many failed.
func (s *Session) each(cmd *cobra.Command, keys []Named, do func(Named, *Result) error) error {
	results := make([]Result, 0, len(keys))
	rows := [][]string{{"KEY", "KEY ID", "STATE"}}
	var failed []error
	for _, k := range keys {
		r := Result{Key: k.name, ID: k.ID}
		if err := Explain(do(k, &r)); err != nil {
			failed = append(failed, err)
			r.Error = err.Error()
			if len(keys) > 1 {
				cmd.PrintErrf("%s: %v\n", k.name, err)
			}
		} else {
			rows = append(rows, []string{k.name, k.ID, r.String()})
		}
		results = append(results, r)
	}
	var err error
	switch {
	case s.JSON:
		err = PrintJSON(cmd.OutOrStdout(), results)
	case len(rows) > 1:
		err = Table(cmd.OutOrStdout(), rows)
	}
	switch {
	case len(failed) == 0 || err != nil:
		return err
	case len(keys) == 1:
		return failed[0]
	}
	return Failf(common(failed), "%d of %d keys failed", len(failed), len(keys))
}

// String is the state, with the time of the deletion where there is one.
func (r *Result) String() string {
	if r.When == "" {
		return r.State
	}
	return r.State + " until " + r.When
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

// Once does one request, which ends with the verb's timeout.
func Once[T any](ctx context.Context, s *Session, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := s.Request(ctx)
	defer cancel()
	return do(ctx)
}

// Changes makes cmd a verb that changes one thing of the key that its first argument names, and that prints nothing but
// its id for programs.
func Changes(cmd *cobra.Command, change func(ctx context.Context, c *client.Client, id string, args []string) error) *cobra.Command {
	return Talks(cmd, func(ctx context.Context, c *client.Client, s *Session, cmd *cobra.Command, args []string) error {
		id, err := s.Resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		if err := change(ctx, c, id, args); err != nil {
			return err
		}
		if s.JSON {
			return PrintJSON(cmd.OutOrStdout(), map[string]string{"key_id": id})
		}
		return nil
	})
}

// Bulk is a change of all keys that a verb's arguments name.
type Bulk struct {
	Check func() error                    // of the flags, before anything else; may be nil
	Ask   func(keys []Named) Confirmation // may be nil
	Do    func(ctx context.Context, c *client.Client, id string) (client.KeyState, error)
	After func(*client.Key, *Result) // gets the changed key where it can be had; may be nil
}

// Many makes cmd a verb that changes all keys that its arguments name.
func Many(cmd *cobra.Command, b Bulk) *cobra.Command {
	var yes YesFlag
	cmd.Args, cmd.ValidArgsFunction = cobra.MinimumNArgs(1), CompleteKeys(0)
	if b.Ask != nil {
		yes.Add(cmd)
	}
	return Talks(cmd, func(ctx context.Context, c *client.Client, s *Session, cmd *cobra.Command, args []string) error {
		if b.Check != nil {
			if err := b.Check(); err != nil {
				return err
			}
		}
		keys, err := s.lookupAll(ctx, c, cmd, args)
		if err != nil {
			return err
		}
		if b.Ask != nil {
			if err := yes.Confirm(cmd, b.Ask(keys)); err != nil {
				return err
			}
		}
		return s.each(cmd, keys, func(k Named, r *Result) error { return s.change(ctx, c, b, k, r) })
	})
}

// change changes one key.
func (s *Session) change(ctx context.Context, c *client.Client, b Bulk, k Named, r *Result) error {
	state, err := Once(ctx, s, func(ctx context.Context) (client.KeyState, error) { return b.Do(ctx, c, k.ID) })
	if err != nil {
		return err
	}
	r.State = state.String()
	if b.After != nil {
		key, err := Once(ctx, s, func(ctx context.Context) (*client.Key, error) { return c.DescribeKey(ctx, k.ID) })
		if err == nil { // changed it is, whatever becomes of the question
			b.After(key, r)
		}
	}
	return nil
}
