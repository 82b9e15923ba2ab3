package key

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

func keyTag() *cobra.Command {
	group := &cobra.Command{
		Use:   "tag",
		Short: "words with values by which keys are sorted and found",
		Long: `Words with values by which keys are sorted and found, at most 20 on a key. A name has at most 36 characters, a value at most
43 or none, and neither has any of * < > \ = or a comma. Default keys have no tags.`,
	}
	group.AddCommand(tagAdd(), tagRemove(), tagList(), tagSearch())
	return group
}

// parseTag reads NAME=VALUE. The first = separates.
func parseTag(word string) (client.Tag, error) {
	name, value, ok := strings.Cut(word, "=")
	if !ok || name == "" {
		return client.Tag{}, verb.Failf(verb.ExitUsage, "tag %q is not NAME=VALUE (NAME= for an empty value)", word)
	}
	return client.Tag{Key: name, Value: value}, nil
}

// parseTags reads several, no name twice: a key has one value for each.
func parseTags(words []string) ([]client.Tag, error) {
	tags := make([]client.Tag, 0, len(words))
	for _, word := range words {
		tag, err := parseTag(word)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(tags, func(t client.Tag) bool { return t.Key == tag.Key }) {
			return nil, verb.Failf(verb.ExitUsage, "tag %q is given twice, and a key has one value for each", tag.Key)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// parseConditions reads what a search is for: NAME=VALUE, or NAME for any value. Values of one name are alternatives.
func parseConditions(words []string) ([]client.TagValues, error) {
	var conditions []client.TagValues
	for _, word := range words {
		name, value, valued := strings.Cut(word, "=")
		if name == "" {
			return nil, verb.Failf(verb.ExitUsage, "tag %q is neither NAME nor NAME=VALUE", word)
		}
		i := slices.IndexFunc(conditions, func(c client.TagValues) bool { return c.Key == name })
		switch {
		case i < 0 && valued:
			conditions = append(conditions, client.TagValues{Key: name, Values: []string{value}})
		case i < 0:
			conditions = append(conditions, client.TagValues{Key: name, Values: []string{}})
		case valued && len(conditions[i].Values) > 0:
			conditions[i].Values = append(conditions[i].Values, value)
		default: // any value is enough for one of them
			conditions[i].Values = []string{}
		}
	}
	return conditions, nil
}

func tagWords(tags []client.Tag) string {
	words := make([]string, len(tags))
	for i, t := range tags {
		words[i] = t.Key + "=" + t.Value
	}
	return strings.Join(words, " ")
}

// setTags gives a key tags, all or none.
func setTags(s *verb.Session, ctx context.Context, c *client.Client, id string, tags []client.Tag) error {
	ctx, cancel := s.Request(ctx)
	defer cancel()
	if len(tags) == 1 {
		return c.CreateTag(ctx, id, tags[0])
	}
	return c.CreateTags(ctx, id, tags)
}

func tagAdd() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "add KEY NAME=VALUE...",
		Short:             "give a key tags, all or none; one that it has gets the new value",
		Example:           `  keyside key tag add app team=shop stage=live`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		tags, err := parseTags(args[1:])
		if err != nil {
			return err
		}
		id, err := s.Resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		if err := setTags(s, ctx, c, id, tags); err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), map[string]any{"key_id": id, "tags": tags})
		}
		return nil
	})
}

func tagRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "remove KEY NAME...",
		Short:             "take tags from a key, all or none",
		Example:           `  keyside key tag remove tagged stage`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		id, err := s.Resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		has, err := verb.Once(ctx, s, func(ctx context.Context) ([]client.Tag, error) { return c.KeyTags(ctx, id) })
		if err != nil {
			return err
		}
		var tags []client.Tag
		for _, name := range args[1:] {
			if !slices.ContainsFunc(has, func(t client.Tag) bool { return t.Key == name }) {
				return verb.Failf(verb.ExitNotFound, "%s has no tag %q; keyside key tag list %s shows those that it has", args[0], name, args[0])
			}
			tags = append(tags, client.Tag{Key: name})
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		if len(tags) == 1 {
			err = c.DeleteTag(ctx, id, tags[0].Key)
		} else {
			err = c.DeleteTags(ctx, id, tags)
		}
		if err != nil || !s.JSON {
			return err
		}
		return verb.PrintJSON(cmd.OutOrStdout(), map[string]string{"key_id": id})
	})
}

func tagList() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "list KEY",
		Short:             "a key's tags",
		Example:           `  keyside key tag list tagged`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		id, err := s.Resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		tags, err := verb.Once(ctx, s, func(ctx context.Context) ([]client.Tag, error) { return c.KeyTags(ctx, id) })
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), append([]client.Tag{}, tags...))
		}
		rows := [][]string{{"TAG", "VALUE"}}
		for _, t := range tags {
			rows = append(rows, []string{t.Key, verb.Dash(t.Value)})
		}
		return verb.Table(cmd.OutOrStdout(), rows)
	})
}

func tagSearch() *cobra.Command {
	var f keyFilter
	var count bool
	cmd := &cobra.Command{
		Use:   "search NAME[=VALUE]...",
		Short: "list the keys that have all of the tags",
		Long: `List the keys that have all of the tags, at most 20. NAME alone accepts any value; several values of one name are
alternatives. key list --tag does the same beside its other filters.`,
		Example: `  keyside key tag search team=shop stage
  keyside key tag search team=shop team=office --count`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&count, "count", false, "print how many there are")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		if f.tags = args; !count {
			return list(s, ctx, c, cmd, &f)
		}
		conditions, err := parseConditions(args)
		if err != nil {
			return err
		}
		n, err := verb.Once(ctx, s, func(ctx context.Context) (int, error) {
			return c.CountFoundKeys(ctx, client.FindKeysRequest{Tags: conditions})
		})
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), map[string]int{"count": n})
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), n)
		return err
	})
}

func tagsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tags",
		Short:   "the tags that there are on any key, with their values",
		Example: `  keyside tags`,
		Args:    cobra.NoArgs,
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		tags, err := verb.Once(ctx, s, c.ListTags)
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), append([]client.TagValues{}, tags...))
		}
		rows := [][]string{{"TAG", "VALUES"}}
		for _, t := range tags {
			values := make([]string, len(t.Values))
			for i, v := range t.Values {
				values[i] = verb.Dash(v)
			}
			rows = append(rows, []string{t.Key, strings.Join(values, ", ")})
		}
		return verb.Table(cmd.OutOrStdout(), rows)
	})
}
