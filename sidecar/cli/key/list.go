package key

import (
	"context"
	"iter"
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
	"pending-import": client.PendingImport, "archived": client.Archived, "unavailable": client.Unavailable,
}

// filter selects keys. Empty fields select all.
type filter struct {
	spec, state, kind, alias string
	tags                     []string
}

// check checks the words and gives them their own spelling.
func (f *filter) check() (err error) {
	if f.spec, err = verb.Optional("--spec", f.spec, keySpecs); err != nil {
		return err
	}
	if f.state, err = verb.Optional("--state", f.state, verb.Words(stateWords)); err != nil {
		return err
	}
	f.kind, err = verb.Optional("--type", f.kind, []string{kindCustom, kindDefault})
	return err
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
	keys, err := f.keys(ctx, s)
	if err != nil {
		return err
	}
	heading := []string{"KEY ID", "ALIAS", "SPEC", "STATE", "USAGE", "ORIGIN", "TYPE", "CREATED"}
	return verb.ShowAll(s, heading, keys, func(k *client.Key) (*View, []string) {
		v, state := ViewOf(k), string(k.State)
		v.Tags = k.Tags
		if !v.Deletion.IsZero() {
			state += " until " + v.Deletion.Format(time.DateOnly)
		}
		return v, []string{v.ID, v.Alias, v.Spec, state, v.Usage, v.Origin, v.kind(), verb.When(v.Created)}
	})
}

// keys yields the selected keys. The sidecar searches by tag and alias, or else by spec and state.
func (f *filter) keys(ctx context.Context, s *verb.Session) (iter.Seq2[*client.Key, error], error) {
	keys := verb.All(func(marker string) (*client.KeyPage, error) {
		return s.ListKeys(ctx, client.ListKeysRequest{Spec: f.spec, State: stateWords[f.state], Page: client.Page{Marker: marker}})
	})
	if len(f.tags) > 0 || f.alias != "" {
		tags, err := parseConditions(f.tags)
		if err != nil {
			return nil, err
		}
		keys = s.Find(ctx, client.FindKeysRequest{Tags: tags, Alias: f.alias})
	}
	return func(yield func(*client.Key, error) bool) {
		for key, err := range keys {
			if (err != nil || f.accepts(key)) && !yield(key, err) {
				return
			}
		}
	}, nil
}
