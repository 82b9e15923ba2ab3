package kms

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyside/keyside/policy"
)

// SetTags adds tags to a key. A tag that the key already has gets the new value. Of two tags with one key, the last counts.
func (s *Service) SetTags(ctx context.Context, id KeyID, tags []Tag) (*Key, error) {
	return s.change(ctx, policy.OpTagKey, id, func(r *request) error {
		return r.limits.checkTags(tags)
	}, func(r *request, key *Key) error {
		merged := merge(key.Tags, tags)
		if len(merged) > r.limits.Tags {
			return Errorf(CodeQuotaExceeded, "key would have more than %d tags", r.limits.Tags).In("tags")
		}
		key.Tags = merged
		return nil
	})
}

// merge returns old with the tags of more, in the byte order of their keys.
func merge(old, more []Tag) []Tag {
	values := make(map[string]string, len(old)+len(more))
	for _, t := range slices.Concat(old, more) {
		values[t.Key] = t.Value
	}
	merged := make([]Tag, 0, len(values))
	for key, value := range values {
		merged = append(merged, Tag{Key: key, Value: value})
	}
	slices.SortFunc(merged, func(a, b Tag) int { return cmp.Compare(a.Key, b.Key) })
	return merged
}

// DeleteTags removes tags from a key. With strict, a tag that the key does not have is CodeNotFound, and nothing changes.
func (s *Service) DeleteTags(ctx context.Context, id KeyID, keys []string, strict bool) (*Key, error) {
	return s.change(ctx, policy.OpUntagKey, id, func(*request) error {
		if len(keys) == 0 {
			return Invalid("tags", ReasonMissing, "no tags are given")
		}
		return nil
	}, func(_ *request, key *Key) error {
		for _, k := range keys {
			if strict && !slices.ContainsFunc(key.Tags, func(t Tag) bool { return t.Key == k }) {
				return Errorf(CodeNotFound, "key has no such tag").In("tags")
			}
		}
		key.Tags = slices.DeleteFunc(slices.Clone(key.Tags), func(t Tag) bool { return slices.Contains(keys, t.Key) })
		return nil
	})
}

// KeyTags returns a key for its Tags.
func (s *Service) KeyTags(ctx context.Context, id KeyID) (*Key, error) {
	return s.look(ctx, policy.OpListKeyTags, id)
}

// ListTags returns the tags of all keys.
func (s *Service) ListTags(ctx context.Context) ([]TagValues, error) {
	return run(ctx, s, policy.OpListTags, func(ctx context.Context, _ *request) ([]TagValues, error) {
		return s.store.ListTags(ctx)
	})
}

// FindKeysInput selects keys by tags and name. With CountOnly, no keys are returned.
type FindKeysInput struct {
	Tags      []TagValues
	Name      string
	Offset    int
	Limit     int // at most 1000; 0 means 10
	CountOnly bool
}

// Keys on one page of FindKeys.
const (
	defaultFound = 10
	maxFound     = 1000
)

// FindKeys returns the keys that have all of the tags.
func (s *Service) FindKeys(ctx context.Context, in FindKeysInput) (*KeyPage, error) {
	return run(ctx, s, policy.OpFindKeys, func(ctx context.Context, r *request) (*KeyPage, error) {
		limit := cmp.Or(in.Limit, defaultFound)
		if err := cmp.Or(checkPage(in.Offset, limit, maxFound), r.limits.checkSearch(in.Tags)); err != nil {
			return nil, err
		}
		if in.CountOnly {
			in.Offset, limit = 0, 0
		}
		return s.keyPage(ctx, KeyFilter{Tags: in.Tags, Name: in.Name}, in.Offset, limit)
	})
}

// checkSearch checks the conditions of a search by tag. A value that no tag can have matches nothing.
func (l Limits) checkSearch(tags []TagValues) error {
	if len(tags) > l.Tags {
		return Invalid("tags", ReasonTooMany, "search has more than %d tags", l.Tags)
	}
	for _, t := range tags {
		if len(t.Values) > l.Tags {
			return Invalid("values", ReasonTooMany, "tag of a search has more than %d values", l.Tags)
		}
		if err := l.checkTagKey(t.Key); err != nil {
			return err
		}
	}
	return nil
}

func (l Limits) checkTags(tags []Tag) error {
	if len(tags) == 0 {
		return Invalid("tags", ReasonMissing, "no tags are given")
	}
	for _, t := range tags {
		if err := l.checkTagKey(t.Key); err != nil {
			return err
		}
		switch {
		case utf8.RuneCountInString(t.Value) > l.TagValue:
			return Invalid("value", ReasonLength, "value of a tag has more than %d characters", l.TagValue)
		case !isTagText(t.Value):
			return Invalid("value", ReasonMalformed, "value of a tag has characters that are not allowed")
		}
	}
	return nil
}

func (l Limits) checkTagKey(key string) error {
	switch n := utf8.RuneCountInString(key); {
	case n < 1 || n > l.TagKey:
		return Invalid("key", ReasonLength, "key of a tag must have 1 to %d characters", l.TagKey)
	case !isTagText(key):
		return Invalid("key", ReasonMalformed, "key of a tag has characters that are not allowed")
	}
	return nil
}

// notInTags are the printable characters that the cloud's API forbids in tags.
const notInTags = `*<>\=,`

// isTagText reports whether the key or value of a tag is printable text without forbidden characters. Spaces inside are
// allowed.
func isTagText(s string) bool {
	return utf8.ValidString(s) && s == strings.TrimSpace(s) && !strings.ContainsAny(s, notInTags) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}
