package key

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func tag() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use:   "tag",
		Short: "Add, remove and list tags, and find keys by them",
		Long: `Add, remove and list tags, and find keys by them. A tag is a name with a value. A key has at most 20 tags. A name has 1 to 36
characters, a value at most 43, and neither has any of * < > \ = or a comma. Default keys have no tags.`,
	}, tagAdd(), tagRemove(), tagList(), tagSearch())
}

// parseTag parses NAME=VALUE. The first = separates.
func parseTag(word string) (client.Tag, error) {
	name, value, ok := strings.Cut(word, "=")
	if !ok || name == "" {
		return client.Tag{}, verb.Failf(verb.ExitUsage, "tag %q is not NAME=VALUE (NAME= for an empty value)", word)
	}
	return client.Tag{Key: name, Value: value}, nil
}

// parseTags parses several tags. It refuses a name that occurs twice, because a key has one value for each name.
func parseTags(words []string) ([]client.Tag, error) {
	if len(words) == 0 {
		return nil, nil
	}
	tags := make([]client.Tag, 0, len(words))
	for _, word := range words {
		tag, err := parseTag(word)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(tags, func(t client.Tag) bool { return t.Key == tag.Key }) {
			return nil, verb.Failf(verb.ExitUsage, "tag %q is given twice, but a key has one value for each name", tag.Key)
		}
		tags = append(tags, tag)
	}
	return tags, nil
}

// parseConditions parses search conditions: NAME=VALUE, or NAME for any value. Several values of a name are alternatives.
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
		default: // one of the alternatives is any value
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

func tagAdd() *cobra.Command {
	return verb.OnKey(&cobra.Command{
		Use:     "add KEY NAME=VALUE...",
		Short:   "Add tags to a key, all or none; an existing tag gets the new value",
		Example: `  keyside key tag add app team=shop stage=live`,
		Args:    cobra.MinimumNArgs(2),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) error {
		tags, err := parseTags(args[1:])
		if err != nil {
			return err
		}
		if err := s.TagKey(ctx, id, tags...); err != nil {
			return err
		}
		return s.Done(map[string]any{"key_id": id, "tags": tags}, "tagged %s: %s", args[0], tagWords(tags))
	})
}

func tagRemove() *cobra.Command {
	return verb.Changes(&cobra.Command{
		Use:     "remove KEY NAME...",
		Short:   "Remove tags from a key, all or none",
		Example: `  keyside key tag remove tagged stage`,
		Args:    cobra.MinimumNArgs(2),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		return fmt.Sprintf("%s has no longer the tags %s", args[0], strings.Join(args[1:], ", ")), s.UntagKey(ctx, client.UntagKeyRequest{KeyID: id, TagKeys: args[1:]})
	})
}

func tagList() *cobra.Command {
	return verb.OnKey(&cobra.Command{
		Use:     "list KEY",
		Short:   "List a key's tags",
		Example: `  keyside key tag list tagged`,
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, s *verb.Session, id string, _ []string) error {
		return verb.ShowAll(s, []string{"TAG", "VALUE"}, verb.Whole(s.ListKeyTags(ctx, id)), func(t *client.Tag) (client.Tag, []string) {
			return *t, []string{t.Key, verb.Dash(t.Value)}
		})
	})
}

func tagSearch() *cobra.Command {
	var f filter
	var count bool
	cmd := &cobra.Command{
		Use:   "search NAME[=VALUE]...",
		Short: "List the keys that have all of the tags",
		Long: `List the keys that have all of the tags, at most 20 tags. NAME alone accepts any value; several values of one name are
alternatives. key list --tag combines the same search with other filters.`,
		Example: `  keyside key tag search team=shop stage
  keyside key tag search team=shop team=office --count`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().BoolVar(&count, "count", false, "print the number of keys only")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		if f.tags = args; !count {
			return f.print(ctx, s)
		}
		conditions, err := parseConditions(args)
		if err != nil {
			return err
		}
		found, err := s.FindKeys(ctx, client.FindKeysRequest{Tags: conditions, CountOnly: true})
		if err != nil {
			return err
		}
		return s.Print(map[string]int{"count": found.Total}, found.Total)
	})
}

func tagsCommand() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use:     "tags",
		Short:   "List all tags of all keys with their values",
		Example: `  keyside tags`,
	}, func(ctx context.Context, s *verb.Session, _ []string) error {
		return verb.ShowAll(s, []string{"TAG", "VALUES"}, verb.Whole(s.ListTags(ctx)), func(t *client.TagValues) (client.TagValues, []string) {
			values := make([]string, len(t.Values))
			for i, v := range t.Values {
				values[i] = verb.Dash(v)
			}
			return *t, []string{t.Key, strings.Join(values, ", ")}
		})
	})
}
