package key

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// The values of --type.
const (
	kindCustom  = "custom"
	kindDefault = "default"
)

// stateWords are the values of --state.
var stateWords = map[string]client.KeyState{
	"enabled": client.Enabled, "disabled": client.Disabled, "pending-deletion": client.PendingDeletion,
	"pending-import": client.PendingImport, "unavailable": client.Unavailable,
}

// filter selects keys. Empty fields select all.
type filter struct {
	spec, state, kind, alias string
	tags                     []string
}

func (f *filter) check() error {
	if _, known := stateWords[f.state]; f.state != "" && !known {
		return verb.Failf(verb.ExitUsage, "--state %q is none of: %s", f.state, strings.Join(verb.Words(stateWords), ", "))
	}
	if f.kind != "" && f.kind != kindCustom && f.kind != kindDefault {
		return verb.Failf(verb.ExitUsage, "--type %q is neither %s nor %s", f.kind, kindCustom, kindDefault)
	}
	return nil
}

func (f *filter) accepts(k *client.Key) bool {
	return (f.spec == "" || f.spec == k.Spec) && (f.state == "" || stateWords[f.state] == k.State) &&
		(f.kind == "" || (f.kind == kindDefault) == (k.Service != ""))
}

func list() *cobra.Command {
	var f filter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List keys in order of creation; filters are combined",
		Example: `  keyside key list
  keyside key list --state pending-deletion
  keyside key list --spec RSA_2048 --tag team=shop --alias app --json`,
	}
	fl := cmd.Flags()
	fl.StringVar(&f.spec, "spec", "", "only keys of this spec")
	fl.StringVar(&f.state, "state", "", "only keys in this state: "+strings.Join(verb.Words(stateWords), ", "))
	fl.StringVar(&f.kind, "type", "", "only "+kindCustom+" keys, or only the "+kindDefault+" keys of services")
	fl.StringVar(&f.alias, "alias", "", "only keys whose alias contains this text, ignoring case")
	fl.StringArrayVar(&f.tags, "tag", nil, "only keys with the tag NAME=VALUE, or NAME with any value; may be repeated")
	verb.CompleteFlag(cmd, "spec", keySpecs)
	verb.CompleteFlag(cmd, "state", verb.Words(stateWords))
	verb.CompleteFlag(cmd, "type", []string{kindCustom, kindDefault})
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error { return f.print(ctx, s) })
}

// print prints the selected keys.
func (f *filter) print(ctx context.Context, s *verb.Session) error {
	if err := f.check(); err != nil {
		return err
	}
	views, err := f.views(ctx, s)
	if err != nil {
		return err
	}
	rows := [][]string{{"KEY ID", "ALIAS", "SPEC", "STATE", "USAGE", "ORIGIN", "TYPE", "CREATED"}}
	for _, v := range views {
		state := string(v.State)
		if !v.Deletion.IsZero() {
			state += " until " + v.Deletion.Format(time.DateOnly)
		}
		rows = append(rows, []string{v.ID, v.Alias, v.Spec, state, v.Usage, v.Origin, v.kind(), verb.When(v.Created)})
	}
	return s.Show(views, rows)
}

// views returns the selected keys. The sidecar searches by tag and alias, or else by spec and state.
func (f *filter) views(ctx context.Context, s *verb.Session) ([]*View, error) {
	keys := verb.All(func(marker string) ([]client.Key, string, error) {
		page, err := s.ListKeys(ctx, client.ListKeysRequest{Spec: f.spec, State: stateWords[f.state], Page: client.Page{Marker: marker}})
		if err != nil {
			return nil, "", err
		}
		return page.Keys, page.NextMarker, nil
	})
	if len(f.tags) > 0 || f.alias != "" {
		tags, err := parseConditions(f.tags)
		if err != nil {
			return nil, err
		}
		keys = s.Find(ctx, client.FindKeysRequest{Tags: tags, Alias: f.alias})
	}
	views := []*View{}
	for key, err := range keys {
		if err != nil {
			return nil, err
		}
		if f.accepts(key) {
			v := ViewOf(key)
			v.Tags = key.Tags
			views = append(views, v)
		}
	}
	return views, nil
}
