package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// keyResult is what became of one key of several, for people as a row and for programs as JSON.
type keyResult struct {
	Key   string `json:"key"` // as it was named
	ID    string `json:"key_id"`
	State string `json:"state,omitempty"`
	When  string `json:"deletion,omitempty"` // RFC 3339
	Error string `json:"error,omitempty"`
}

// named is a key with the name that it was called by.
type named struct {
	name string
	*client.Key
}

// listed shows keys in a question.
func listed(keys []named) string {
	var b strings.Builder
	for _, k := range keys {
		fmt.Fprintf(&b, "  %s  %s  %s  %s\n", k.ID, k.Alias, k.Spec, k.State)
	}
	return b.String()
}

// lookupAll finds all keys by their names, each once. Names that fit none fail all: a mistyped list changes nothing.
func (s *session) lookupAll(ctx context.Context, c *client.Client, cmd *cobra.Command, names []string) ([]named, error) {
	var keys []named
	missing := 0
	seen := map[string]bool{}
	for _, name := range names {
		key, err := s.lookup(ctx, c, name)
		switch err = explain(err); {
		case err != nil && (len(names) == 1 || ExitCode(err) != ExitNotFound):
			return nil, err
		case err != nil:
			missing++
			cmd.PrintErrf("%s: %v\n", name, err)
		case !seen[key.ID]:
			seen[key.ID] = true
			keys = append(keys, named{name, key})
		}
	}
	if missing > 0 {
		return nil, failf(ExitNotFound, "%d of %d keys cannot be found: nothing was changed", missing, len(names))
	}
	return keys, nil
}

// each does the same to several keys and reports on each of them. The error is that of the only key, or says how many failed.
func (s *session) each(cmd *cobra.Command, keys []named, do func(named, *keyResult) error) error {
	results := make([]keyResult, 0, len(keys))
	rows := [][]string{{"KEY", "KEY ID", "STATE"}}
	var failed []error
	for _, k := range keys {
		r := keyResult{Key: k.name, ID: k.ID}
		if err := explain(do(k, &r)); err != nil {
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
	case s.json:
		err = printJSON(cmd.OutOrStdout(), results)
	case len(rows) > 1:
		err = table(cmd.OutOrStdout(), rows)
	}
	switch {
	case len(failed) == 0 || err != nil:
		return err
	case len(keys) == 1:
		return failed[0]
	}
	return failf(common(failed), "%d of %d keys failed", len(failed), len(keys))
}

// String is the state, with the time of the deletion where there is one.
func (r *keyResult) String() string {
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

// once does one request, which ends with the verb's timeout.
func once[T any](ctx context.Context, s *session, do func(context.Context) (T, error)) (T, error) {
	ctx, cancel := s.request(ctx)
	defer cancel()
	return do(ctx)
}
