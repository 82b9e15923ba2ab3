package client

import (
	"context"
	"time"
)

// Alias is a further name of a key, which can be moved to another key. It is not the key's own alias.
type Alias struct {
	Name    string    `json:"alias"`
	KeyID   string    `json:"key_id"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

// AliasRequest names a key and an alias.
type AliasRequest struct {
	Name  string `json:"alias"`
	KeyID string `json:"key_id"`
}

// CreateAlias gives a key a further alias. Errors: ErrAlreadyExists, ErrQuotaExceeded.
func (c *Client) CreateAlias(ctx context.Context, keyID, name string) (*Alias, error) {
	return call[Alias](ctx, c, "create-alias", AliasRequest{name, keyID})
}

// MoveAlias makes a further alias one of another key.
func (c *Client) MoveAlias(ctx context.Context, name, targetKeyID string) (*Alias, error) {
	return call[Alias](ctx, c, "move-alias", AliasRequest{name, targetKeyID})
}

// DeleteAliasesRequest names further aliases of a key.
type DeleteAliasesRequest struct {
	KeyID   string   `json:"key_id"`
	Aliases []string `json:"aliases"`
}

// DeleteAliases deletes further aliases of a key, all of them or none.
func (c *Client) DeleteAliases(ctx context.Context, keyID string, names []string) error {
	return c.do(ctx, "delete-alias", DeleteAliasesRequest{keyID, names})
}

// ListAliasesRequest selects further aliases. The zero value selects those of all keys.
type ListAliasesRequest struct {
	KeyID string `json:"key_id,omitzero"`
	Page
}

// AliasPage is a page of aliases in the byte order of their names.
type AliasPage struct {
	Aliases    []Alias `json:"aliases"`
	NextMarker string  `json:"next_marker,omitzero"` // empty: this is the last page
}

// Part returns the elements of the page and NextMarker.
func (p *AliasPage) Part() ([]Alias, string) { return p.Aliases, p.NextMarker }

// ListAliases returns one page of aliases: up to 1000, by default 50.
func (c *Client) ListAliases(ctx context.Context, req ListAliasesRequest) (*AliasPage, error) {
	return call[AliasPage](ctx, c, "list-aliases", req)
}

// Tag is a tag of a key.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"` // may be empty
}

// TagValues is a tag's key with some values.
type TagValues struct {
	Key    string   `json:"key"`
	Values []string `json:"values"` // a search without values accepts all
}

// TagKeyRequest gives a key tags.
type TagKeyRequest struct {
	KeyID string `json:"key_id"`
	Tags  []Tag  `json:"tags"`
}

// TagKey gives a key tags, all of them or none. A tag with the same key gets the new value.
func (c *Client) TagKey(ctx context.Context, keyID string, tags ...Tag) error {
	return c.do(ctx, "tag-key", TagKeyRequest{keyID, tags})
}

// UntagKeyRequest removes tags from a key.
type UntagKeyRequest struct {
	KeyID         string   `json:"key_id"`
	TagKeys       []string `json:"tag_keys"`
	IgnoreMissing bool     `json:"ignore_missing,omitzero"` // else a tag that the key does not have is ErrNotFound
}

// UntagKey removes tags from a key, all of them or none.
func (c *Client) UntagKey(ctx context.Context, req UntagKeyRequest) error {
	return c.do(ctx, "untag-key", req)
}

// Tags is the tags of a key.
type Tags struct {
	Tags []Tag `json:"tags"`
}

// ListKeyTags returns the tags of a key.
func (c *Client) ListKeyTags(ctx context.Context, keyID string) ([]Tag, error) {
	out, err := value[Tags](ctx, c, "list-key-tags", keyRequest{keyID})
	return out.Tags, err
}

// AllTags is the tags of all keys.
type AllTags struct {
	Tags []TagValues `json:"tags"`
}

// ListTags returns the tags of all keys.
func (c *Client) ListTags(ctx context.Context) ([]TagValues, error) {
	out, err := value[AllTags](ctx, c, "list-tags", none{})
	return out.Tags, err
}

// FindKeysRequest selects keys that have all of the tags and the text in their alias. The zero value selects all.
type FindKeysRequest struct {
	Tags  []TagValues `json:"tags,omitempty"`
	Alias string      `json:"alias,omitzero"` // a part of it, in any case
	Page
	CountOnly bool `json:"count_only,omitzero"` // return Total only
}

// FindKeys returns one page of the selected keys, with their tags: up to 1000, by default 10.
func (c *Client) FindKeys(ctx context.Context, req FindKeysRequest) (*KeyPage, error) {
	return call[KeyPage](ctx, c, "find-keys", req)
}
