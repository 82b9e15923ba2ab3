package verb

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
)

// completeTimeout is the time limit of a completion, and completeMax the number of aliases to ask for.
const (
	completeTimeout = 2 * time.Second
	completeMax     = 200
)

// Words returns the keys of a table in order.
func Words[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// OperationNames returns the neutral names of the operations for which accept returns true.
func OperationNames(accept func(policy.Operation) bool) (names []string) {
	for _, op := range policy.Operations {
		if accept(op) {
			names = append(names, op.Name())
		}
	}
	return names
}

// CompleteFlag offers words for a flag.
func CompleteFlag(cmd *cobra.Command, flag string, words []string) {
	registerCompletion(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// CompleteKeyFlag offers keys for a flag.
func CompleteKeyFlag(cmd *cobra.Command, flag string) {
	registerCompletion(cmd, flag, CompleteKeys(0))
}

// CompleteUserFlag offers the users of access keys for a flag.
func CompleteUserFlag(cmd *cobra.Command, flag string) {
	registerCompletion(cmd, flag, func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return offers(cmd, typed, usersLike)
	})
}

// CompleteKeyThenGrant offers keys for the first argument and the grants on that key for the second.
func CompleteKeyThenGrant(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return CompleteKeys(1)(cmd, args, typed)
	}
	return offers(cmd, typed, func(ctx context.Context, c *client.Client, _ string) (found []cobra.Completion) {
		key, err := (&Session{Client: c, Cmd: cmd}).Resolve(ctx, args[0])
		if err != nil {
			return nil
		}
		page, err := c.ListGrants(ctx, client.ListGrantsRequest{KeyID: key})
		if err != nil {
			return nil
		}
		for _, g := range page.Grants {
			found = append(found, cobra.CompletionWithDesc(g.ID, "to "+g.Grantee+": "+strings.Join(g.Operations, ",")))
		}
		return found
	})
}

// usersLike offers the users of access keys.
func usersLike(ctx context.Context, c *client.Client, _ string) (found []cobra.Completion) {
	keys, err := c.ListCredentials(ctx)
	if err != nil {
		return nil
	}
	for _, k := range keys {
		if !slices.Contains(found, k.User) {
			found = append(found, k.User)
		}
	}
	return found
}

func registerCompletion(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the flag does not exist or has a completion
	}
}

// CompleteKeys offers keys for the first n arguments; n = 0: for all arguments.
func CompleteKeys(n int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if n > 0 && len(args) >= n {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return offers(cmd, typed, idsLike, keysLike, aliasesLike)
	}
}

// CompleteAliasThenKey offers further aliases for the first argument and keys for the second.
func CompleteAliasThenKey(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return offers(cmd, typed, aliasesLike)
	case 1:
		return offers(cmd, typed, idsLike, keysLike)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// source asks the sidecar for names that may begin with the typed text. It returns nothing if that fails, because a shell
// shows no errors.
type source func(ctx context.Context, c *client.Client, typed string) []cobra.Completion

// offers returns the names of all sources that begin with the typed text.
func offers(cmd *cobra.Command, typed string, sources ...source) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmp.Or(cmd.Context(), context.Background()), completeTimeout)
	defer cancel()
	socket, _ := cmd.Flags().GetString("socket")
	c := client.New(socketPath(socket))
	defer c.Close()
	var all []cobra.Completion
	for _, source := range sources {
		all = append(all, source(ctx, c, typed)...)
	}
	return slices.DeleteFunc(all, func(offer string) bool { return !strings.HasPrefix(offer, typed) }), cobra.ShellCompDirectiveNoFileComp
}

// offerKeys offers a name of each key.
func offerKeys(page *client.KeyPage, err error, name func(*client.Key) string) (found []cobra.Completion) {
	if err != nil {
		return nil
	}
	for i := range page.Keys {
		k := &page.Keys[i]
		found = append(found, cobra.CompletionWithDesc(name(k), k.Spec+" "+string(k.State)))
	}
	return found
}

// idsLike offers ids if the typed text begins like one.
func idsLike(ctx context.Context, c *client.Client, typed string) []cobra.Completion {
	if len(typed) < 4 || strings.Trim(typed, "0123456789abcdef-") != "" {
		return nil
	}
	page, err := c.ListKeys(ctx, client.ListKeysRequest{})
	return offerKeys(page, err, func(k *client.Key) string { return k.ID })
}

// keysLike offers the keys' own aliases.
func keysLike(ctx context.Context, c *client.Client, typed string) []cobra.Completion {
	page, err := c.FindKeys(ctx, client.FindKeysRequest{Alias: typed, Page: client.Page{Limit: completeMax}})
	return offerKeys(page, err, func(k *client.Key) string { return k.Alias })
}

// aliasesLike offers further aliases. In a list, those that begin with the typed text follow it.
func aliasesLike(ctx context.Context, c *client.Client, typed string) (found []cobra.Completion) {
	page, err := c.ListAliases(ctx, client.ListAliasesRequest{Page: client.Page{Limit: completeMax, Marker: typed}})
	if err != nil {
		return nil
	}
	for _, a := range page.Aliases {
		found = append(found, cobra.CompletionWithDesc(a.Name, "further alias of "+a.KeyID))
	}
	return found
}
