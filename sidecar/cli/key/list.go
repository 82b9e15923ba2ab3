package key

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// The console's two tabs.
const (
	kindCustom  = "custom"
	kindDefault = "default"
)

// stateWords are the values of --state.
var stateWords = map[string]client.KeyState{
	"enabled": client.Enabled, "disabled": client.Disabled, "pending-deletion": client.PendingDeletion,
	"pending-import": client.PendingImport, "unavailable": client.Unavailable,
}

// keyFilter says which keys to list. Empty fields accept all.
type keyFilter struct {
	spec, state, kind, alias string
	tags                     []string
}

func (f *keyFilter) check() error {
	if _, known := stateWords[f.state]; f.state != "" && !known {
		return verb.Failf(verb.ExitUsage, "--state %q is none of: %s", f.state, strings.Join(verb.Words(stateWords), ", "))
	}
	if f.kind != "" && f.kind != kindCustom && f.kind != kindDefault {
		return verb.Failf(verb.ExitUsage, "--type %q is neither %s nor %s", f.kind, kindCustom, kindDefault)
	}
	return nil
}

func (f *keyFilter) accepts(k *client.Key) bool {
	return (f.spec == "" || f.spec == k.Spec) && (f.state == "" || stateWords[f.state] == k.State) &&
		(f.kind == "" || (f.kind == kindDefault) == k.Default.Set())
}

func keyList() *cobra.Command {
	var f keyFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "list keys in order of creation; all filters must fit",
		Example: `  keyside key list
  keyside key list --state pending-deletion
  keyside key list --spec RSA_2048 --tag team=shop --alias app --json`,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.spec, "spec", "", "only keys of this spec")
	fl.StringVar(&f.state, "state", "", "only keys in this state: "+strings.Join(verb.Words(stateWords), ", "))
	fl.StringVar(&f.kind, "type", "", "only "+kindCustom+" keys, or only the services' "+kindDefault+" keys")
	fl.StringVar(&f.alias, "alias", "", "only keys with this text in their alias, in upper or lower case")
	fl.StringArrayVar(&f.tags, "tag", nil, "only keys with this tag: NAME=VALUE, or NAME for any value; may be given several times")
	verb.CompleteFlag(cmd, "spec", keySpecs)
	verb.CompleteFlag(cmd, "state", verb.Words(stateWords))
	verb.CompleteFlag(cmd, "type", []string{kindCustom, kindDefault})
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		return list(s, ctx, c, cmd, &f)
	})
}

// list prints the keys that a filter accepts.
func list(s *verb.Session, ctx context.Context, c *client.Client, cmd *cobra.Command, f *keyFilter) error {
	if err := f.check(); err != nil {
		return err
	}
	views, err := collect(s, ctx, c, f)
	if err != nil {
		return err
	}
	if s.JSON {
		return verb.PrintJSON(cmd.OutOrStdout(), views)
	}
	rows := [][]string{{"KEY ID", "ALIAS", "SPEC", "STATE", "USAGE", "ORIGIN", "TYPE", "CREATED"}}
	for _, v := range views {
		state := v.State
		if !v.Deletion.IsZero() {
			state += " until " + v.Deletion.Format(time.DateOnly)
		}
		rows = append(rows, []string{v.ID, v.Alias, v.Spec, state, v.Usage, v.Origin, v.kind(), verb.When(v.Created)})
	}
	return verb.Table(cmd.OutOrStdout(), rows)
}

// collect collects the keys that a filter accepts. The sidecar searches where it can: by tag and alias, or else by spec and state.
func collect(s *verb.Session, ctx context.Context, c *client.Client, f *keyFilter) ([]keyView, error) {
	views := []keyView{}
	if len(f.tags) > 0 || f.alias != "" {
		tags, err := parseConditions(f.tags)
		if err != nil {
			return nil, err
		}
		for found, err := range s.Find(ctx, c, client.FindKeysRequest{Tags: tags, Alias: f.alias}) {
			if err != nil {
				return nil, err
			}
			if f.accepts(&found.Key) {
				v := ViewOf(&found.Key)
				v.Tags = found.Tags
				views = append(views, v)
			}
		}
		return views, nil
	}
	req := client.ListKeysRequest{Spec: f.spec}
	if state := stateWords[f.state]; state != client.Unavailable { // list-keys knows no keys of that state
		req.State = string(state)
	}
	for key, err := range allKeys(s, ctx, c, req) {
		if err != nil {
			return nil, err
		}
		if f.accepts(key) {
			views = append(views, ViewOf(key))
		}
	}
	return views, nil
}

// allKeys yields all keys of a listing, page by page.
func allKeys(s *verb.Session, ctx context.Context, c *client.Client, req client.ListKeysRequest) func(func(*client.Key, error) bool) {
	return func(yield func(*client.Key, error) bool) {
		for {
			callCtx, cancel := s.Request(ctx)
			page, err := c.ListKeys(callCtx, req)
			cancel()
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Keys {
				if !yield(&page.Keys[i], nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			req.Marker = page.Next
		}
	}
}
