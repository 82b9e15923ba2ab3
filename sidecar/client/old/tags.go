package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
)

// Tag is a word with a value that somebody gave a key.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"` // may be empty
}

// TagValues is a tag's key with values: those that there are, or those that a search accepts.
type TagValues struct {
	Key    string   `json:"key"`
	Values []string `json:"values"` // a search without any accepts all
}

// CreateTag gives a key a tag. One with the same key gets the new value.
func (c *Client) CreateTag(ctx context.Context, keyID string, tag Tag) error {
	in := struct {
		Tag Tag `json:"tag"`
	}{tag}
	return c.operate(ctx, http.MethodPost, url.PathEscape(keyID)+"/tags", in, nil)
}

// tagAction is a change of several tags, which happens whole or not at all.
type tagAction struct {
	Action string `json:"action"`
	Tags   []Tag  `json:"tags"`
}

// CreateTags gives a key several tags.
func (c *Client) CreateTags(ctx context.Context, keyID string, tags []Tag) error {
	return c.operate(ctx, http.MethodPost, url.PathEscape(keyID)+"/tags/action", tagAction{"create", tags}, nil)
}

// DeleteTags takes several tags from a key. One that it does not have is no error; values count for nothing.
func (c *Client) DeleteTags(ctx context.Context, keyID string, tags []Tag) error {
	return c.operate(ctx, http.MethodPost, url.PathEscape(keyID)+"/tags/action", tagAction{"delete", tags}, nil)
}

// DeleteTag takes a tag from a key: ErrTagNotFound if it has none of that key.
func (c *Client) DeleteTag(ctx context.Context, keyID, tagKey string) error {
	return c.operate(ctx, http.MethodDelete, url.PathEscape(keyID)+"/tags/"+url.PathEscape(tagKey), nil, nil)
}

// KeyTags returns a key's tags.
func (c *Client) KeyTags(ctx context.Context, keyID string) ([]Tag, error) {
	var out struct {
		Tags []Tag `json:"tags"`
	}
	err := c.operate(ctx, http.MethodGet, url.PathEscape(keyID)+"/tags", nil, &out)
	return out.Tags, err
}

// ListTags returns the tags of all keys.
func (c *Client) ListTags(ctx context.Context) ([]TagValues, error) {
	var out struct {
		Tags []TagValues `json:"tags"`
	}
	err := c.operate(ctx, http.MethodGet, "tags", nil, &out)
	return out.Tags, err
}

// FindKeysRequest selects keys that have all of the tags and the text in their alias. The zero value selects all.
type FindKeysRequest struct {
	Tags   []TagValues
	Alias  string // part of it, in any case
	Limit  int    // 1 to 1000; 0: 10
	Offset int
}

// FoundKey is a key with its tags.
type FoundKey struct {
	Key  Key   `json:"resource_detail"`
	Tags []Tag `json:"tags"`
}

// FoundKeys is a page of them, and how many there are on all pages.
type FoundKeys struct {
	Keys  []FoundKey `json:"resources"`
	Total int        `json:"total_count"`
}

// findKeys is a FindKeysRequest on the wire.
type findKeys struct {
	Action  string      `json:"action"`
	Tags    []TagValues `json:"tags,omitempty"`
	Matches []Tag       `json:"matches,omitempty"`
	Limit   string      `json:"limit,omitempty"`
	Offset  string      `json:"offset,omitempty"`
}

func (r FindKeysRequest) wire(action string) findKeys {
	w := findKeys{Action: action, Tags: r.Tags}
	if r.Alias != "" {
		w.Matches = []Tag{{"resource_name", r.Alias}}
	}
	return w
}

// FindKeys returns one page of the keys that a request selects.
func (c *Client) FindKeys(ctx context.Context, req FindKeysRequest) (*FoundKeys, error) {
	in := req.wire("filter")
	if in.Offset = strconv.Itoa(req.Offset); req.Limit > 0 {
		in.Limit = strconv.Itoa(req.Limit)
	}
	out := new(FoundKeys)
	if err := c.call(ctx, "resource_instances/action", in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// CountFoundKeys returns how many keys a request selects. Limit and Offset count for nothing.
func (c *Client) CountFoundKeys(ctx context.Context, req FindKeysRequest) (int, error) {
	var out struct {
		Total int `json:"total_count"`
	}
	err := c.call(ctx, "resource_instances/action", req.wire("count"), &out)
	return out.Total, err
}
