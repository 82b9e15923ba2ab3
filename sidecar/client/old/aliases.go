package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Alias is a further name of a key, which can be moved to another key. It is not the key's own alias.
type Alias struct {
	Name    string    `json:"alias"`
	KeyID   string    `json:"key_id"`
	URN     string    `json:"alias_urn"`
	Created time.Time `json:"create_time"`
	Updated time.Time `json:"update_time"`
}

// CreateAlias gives a key a further alias.
func (c *Client) CreateAlias(ctx context.Context, keyID, name string) (*Alias, error) {
	in := struct {
		KeyID string `json:"key_id"`
		Alias string `json:"alias"`
	}{keyID, name}
	out := new(Alias)
	if err := c.call(ctx, "aliases", in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// AssociateAlias makes an alias name another key.
func (c *Client) AssociateAlias(ctx context.Context, name, targetKeyID string) (*Alias, error) {
	in := struct {
		Alias  string `json:"alias"`
		Target string `json:"target_key_id"`
	}{name, targetKeyID}
	out := new(Alias)
	if err := c.call(ctx, "alias/associate", in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// DeleteAliases takes further aliases from a key, all of them or none.
func (c *Client) DeleteAliases(ctx context.Context, keyID string, names []string) error {
	in := struct {
		KeyID   string   `json:"key_id"`
		Aliases []string `json:"aliases"`
	}{keyID, names}
	return c.operate(ctx, http.MethodDelete, "aliases", in, nil)
}

// ListAliasesRequest selects further aliases; the zero value selects those of all keys.
type ListAliasesRequest struct {
	KeyID  string
	Limit  int    // 0: 50
	Marker string // AliasPage.Next of the page before
}

// AliasPage is a page of aliases in the byte order of their names.
type AliasPage struct {
	Aliases []Alias
	Next    string // empty: the last page
}

// ListAliases returns one page of aliases.
func (c *Client) ListAliases(ctx context.Context, req ListAliasesRequest) (*AliasPage, error) {
	query := url.Values{}
	if req.KeyID != "" {
		query.Set("key_id", req.KeyID)
	}
	if req.Limit > 0 {
		query.Set("limit", strconv.Itoa(req.Limit))
	}
	if req.Marker != "" {
		query.Set("marker", req.Marker)
	}
	path := "aliases"
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	var out struct {
		Aliases []Alias `json:"aliases"`
		Page    struct {
			Next string `json:"next_marker"`
		} `json:"page_info"`
	}
	if err := c.operate(ctx, http.MethodGet, path, nil, &out); err != nil {
		return nil, err
	}
	return &AliasPage{Aliases: out.Aliases, Next: out.Page.Next}, nil
}
