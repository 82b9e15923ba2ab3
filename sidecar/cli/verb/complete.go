package verb

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// What completion may cost a person who types: so much time, and so many names.
const (
	completeTimeout = 2 * time.Second
	completeMax     = 200
)

// Words returns the keys of a table in order.
func Words[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// CompleteFlag offers words for a flag. That a flag is not there, or has words already, is a mistake in this package.
func CompleteFlag(cmd *cobra.Command, flag string, words []string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// CompleteKeyFlag offers keys for a flag.
func CompleteKeyFlag(cmd *cobra.Command, flag string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, CompleteKeys(0)); err != nil {
		panic(err)
	}
}

// CompleteKeys offers keys for the first n arguments, for all with 0.
func CompleteKeys(n int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if n > 0 && len(args) >= n {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return offers(cmd, typed, idsLike, keysLike, aliasesLike)
	}
}

// CompleteAliasThenKey offers what key alias move takes.
func CompleteAliasThenKey(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return offers(cmd, typed, aliasesLike)
	case 1:
		return offers(cmd, typed, idsLike, keysLike)
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// source asks the sidecar for names that may begin with what is typed.
type source func(ctx context.Context, c *client.Client, typed string) ([]cobra.Completion, error)

// offers collects from sources. Where one fails there is nothing to offer: a shell has no place for errors.
func offers(cmd *cobra.Command, typed string, sources ...source) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	socket, _ := cmd.Flags().GetString("socket")
	c := client.New(socketPath(socket))
	defer c.Close()
	var all []cobra.Completion
	for _, source := range sources {
		found, err := source(ctx, c, typed)
		if err != nil {
			continue
		}
		for _, offer := range found {
			if strings.HasPrefix(offer, typed) {
				all = append(all, offer)
			}
		}
	}
	return all, cobra.ShellCompDirectiveNoFileComp
}

func offerOf(word string, k *client.Key) cobra.Completion {
	return cobra.CompletionWithDesc(word, k.Spec+" "+k.State.String())
}

// idsLike offers ids where what is typed begins like one: nobody types them from memory.
func idsLike(ctx context.Context, c *client.Client, typed string) ([]cobra.Completion, error) {
	if len(typed) < 4 || strings.Trim(typed, "0123456789abcdef-") != "" {
		return nil, nil
	}
	page, err := c.ListKeys(ctx, client.ListKeysRequest{})
	if err != nil {
		return nil, err
	}
	found := make([]cobra.Completion, len(page.Keys))
	for i := range page.Keys {
		found[i] = offerOf(page.Keys[i].ID, &page.Keys[i])
	}
	return found, nil
}

// keysLike offers the keys' own aliases.
func keysLike(ctx context.Context, c *client.Client, typed string) ([]cobra.Completion, error) {
	page, err := c.FindKeys(ctx, client.FindKeysRequest{Alias: typed, Limit: completeMax})
	if err != nil {
		return nil, err
	}
	found := make([]cobra.Completion, len(page.Keys))
	for i := range page.Keys {
		found[i] = offerOf(page.Keys[i].Key.Alias, &page.Keys[i].Key)
	}
	return found, nil
}

// aliasesLike offers further aliases. Those that begin with what is typed come next after it.
func aliasesLike(ctx context.Context, c *client.Client, typed string) ([]cobra.Completion, error) {
	page, err := c.ListAliases(ctx, client.ListAliasesRequest{Limit: completeMax, Marker: typed})
	if err != nil {
		return nil, err
	}
	found := make([]cobra.Completion, len(page.Aliases))
	for i, a := range page.Aliases {
		found[i] = cobra.CompletionWithDesc(a.Name, "further alias of "+a.KeyID)
	}
	return found, nil
}
