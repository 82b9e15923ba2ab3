package key

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

func keyAlias() *cobra.Command {
	group := &cobra.Command{
		Use:   "alias",
		Short: "further aliases, which can be moved from key to key",
		Long: `Further aliases, which can be moved from key to key: an application names the alias, and you decide which key that is. A key
has at most 50 beside its own alias, which key rename changes. Some clients want them to begin with alias/.`,
	}
	group.AddCommand(aliasCreate(), aliasDelete(), aliasMove(), aliasList())
	return group
}

// aliasView is a further alias as --json shows it.
type aliasView struct {
	Alias   string    `json:"alias"`
	KeyID   string    `json:"key_id"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"` // when it was moved last
}

func aliasOf(a *client.Alias) aliasView { return aliasView{a.Name, a.KeyID, a.Created, a.Updated} }

func aliasCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "create KEY ALIAS",
		Short:             "give a key a further alias",
		Example:           `  keyside key alias create app alias/current`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		return pointAlias(s, ctx, cmd, c, args[0], func(ctx context.Context, id string) (*client.Alias, error) {
			return c.CreateAlias(ctx, id, args[1])
		})
	})
}

func aliasMove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "move ALIAS KEY",
		Short: "make a further alias name another key",
		Long: `Make a further alias name another key. Who encrypts by the alias uses the new key from now on; what is encrypted names its
key itself and stays readable.`,
		Example:           `  keyside key alias move alias/live app`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: verb.CompleteAliasThenKey,
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		return pointAlias(s, ctx, cmd, c, args[1], func(ctx context.Context, id string) (*client.Alias, error) {
			return c.AssociateAlias(ctx, args[0], id)
		})
	})
}

// pointAlias makes an alias name a key, in whichever way point does it.
func pointAlias(s *verb.Session, ctx context.Context, cmd *cobra.Command, c *client.Client, key string, point func(context.Context, string) (*client.Alias, error)) error {
	id, err := s.Resolve(ctx, c, key)
	if err != nil {
		return err
	}
	a, err := verb.Once(ctx, s, func(ctx context.Context) (*client.Alias, error) { return point(ctx, id) })
	if err != nil || !s.JSON {
		return err
	}
	return verb.PrintJSON(cmd.OutOrStdout(), aliasOf(a))
}

func aliasDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "delete KEY ALIAS...",
		Short:             "take further aliases from a key, all or none; the key stays",
		Example:           `  keyside key alias delete signer alias/old`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Changes(cmd, func(ctx context.Context, c *client.Client, id string, args []string) error {
		return c.DeleteAliases(ctx, id, args[1:])
	})
}

func aliasList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list [KEY]",
		Short: "the further aliases of a key, or of all keys",
		Example: `  keyside key alias list
  keyside key alias list signer`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) (err error) {
		var id string
		if len(args) > 0 {
			if id, err = s.Resolve(ctx, c, args[0]); err != nil {
				return err
			}
		}
		views := []aliasView{}
		for a, err := range allAliases(s, ctx, c, id) {
			if err != nil {
				return err
			}
			views = append(views, aliasOf(a))
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), views)
		}
		rows := [][]string{{"ALIAS", "KEY ID", "CREATED", "UPDATED"}}
		for _, v := range views {
			rows = append(rows, []string{v.Alias, v.KeyID, verb.When(v.Created), verb.When(v.Updated)})
		}
		return verb.Table(cmd.OutOrStdout(), rows)
	})
}

// allAliases yields the further aliases of a key, or of all keys, page by page.
func allAliases(s *verb.Session, ctx context.Context, c *client.Client, id string) func(func(*client.Alias, error) bool) {
	return func(yield func(*client.Alias, error) bool) {
		req := client.ListAliasesRequest{KeyID: id}
		for {
			page, err := verb.Once(ctx, s, func(ctx context.Context) (*client.AliasPage, error) { return c.ListAliases(ctx, req) })
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Aliases {
				if !yield(&page.Aliases[i], nil) {
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
