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

func alias() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use:   "alias",
		Short: "Manage further aliases, which can move from key to key",
		Long: `Manage further aliases, which can move from key to key: an application names the alias, and you decide which key that is. A
key has at most 50 further aliases beside its own alias, which key rename changes. Some clients expect the prefix alias/.`,
	}, aliasCreate(), aliasDelete(), aliasMove(), aliasList())
}

// aliasView is a further alias as --json shows it.
type aliasView struct {
	Alias   string    `json:"alias"`
	KeyID   string    `json:"key_id"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"` // when it moved last
}

func aliasOf(a *client.Alias) aliasView { return aliasView{a.Name, a.KeyID, a.Created, a.Updated} }

// aliasDone prints the result of a change of an alias.
func aliasDone(s *verb.Session, a *client.Alias, err error) error {
	if err != nil {
		return err
	}
	return s.Done(aliasOf(a), "%s is an alias of %s now", a.Name, a.KeyID)
}

func aliasCreate() *cobra.Command {
	return verb.OnKey(&cobra.Command{
		Use:     "create KEY ALIAS",
		Short:   "Add a further alias to a key",
		Example: `  keyside key alias create app alias/current`,
		Args:    cobra.ExactArgs(2),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) error {
		a, err := s.CreateAlias(ctx, id, args[1])
		return aliasDone(s, a, err)
	})
}

func aliasMove() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use:   "move ALIAS KEY",
		Short: "Move a further alias to another key",
		Long: `Move a further alias to another key. Callers that encrypt by the alias use the new key from now on. Existing ciphertexts name
their key and stay readable.`,
		Example:           `  keyside key alias move alias/live app`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: verb.CompleteAliasThenKey,
	}, func(ctx context.Context, s *verb.Session, args []string) error {
		id, err := s.Resolve(ctx, args[1])
		if err != nil {
			return err
		}
		a, err := s.MoveAlias(ctx, args[0], id)
		return aliasDone(s, a, err)
	})
}

func aliasDelete() *cobra.Command {
	return verb.Changes(&cobra.Command{
		Use:     "delete KEY ALIAS...",
		Short:   "Delete further aliases of a key, all or none; the key stays",
		Example: `  keyside key alias delete signer alias/old`,
		Args:    cobra.MinimumNArgs(2),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		return "deleted " + strings.Join(args[1:], ", "), s.DeleteAliases(ctx, id, args[1:])
	})
}

func aliasList() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use:   "list [KEY]",
		Short: "List the further aliases of a key, or of all keys",
		Example: `  keyside key alias list
  keyside key alias list signer`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}, func(ctx context.Context, s *verb.Session, args []string) (err error) {
		var id string
		if len(args) > 0 {
			if id, err = s.Resolve(ctx, args[0]); err != nil {
				return err
			}
		}
		return verb.ShowAll(s, []string{"ALIAS", "KEY ID", "CREATED", "UPDATED"}, allAliases(ctx, s, id), func(a *client.Alias) (aliasView, []string) {
			return aliasOf(a), []string{a.Name, a.KeyID, verb.When(a.Created), verb.When(a.Updated)}
		})
	})
}

// allAliases yields the further aliases of a key; empty id: of all keys.
func allAliases(ctx context.Context, s *verb.Session, id string) iter.Seq2[*client.Alias, error] {
	return verb.All(func(marker string) (*client.AliasPage, error) {
		return s.ListAliases(ctx, client.ListAliasesRequest{KeyID: id, Page: client.Page{Marker: marker}})
	})
}
