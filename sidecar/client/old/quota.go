package client

import (
	"context"
	"net/http"
)

// Quota is how much there is of something that is limited. The kinds are CMK, keys that are not default ones, and
// grant_per_CMK, the most grants that any one key has.
type Quota struct {
	Kind  string `json:"type"`
	Used  int    `json:"used"`
	Limit int    `json:"quota"`
}

// Quotas returns what is limited.
func (c *Client) Quotas(ctx context.Context) ([]Quota, error) {
	var out struct {
		Quotas struct {
			Resources []Quota `json:"resources"`
		} `json:"quotas"`
	}
	err := c.operate(ctx, http.MethodGet, "user-quotas", nil, &out)
	return out.Quotas.Resources, err
}

// CountKeys returns how many keys there are, default ones not counted.
func (c *Client) CountKeys(ctx context.Context) (int, error) {
	var out struct {
		Count int `json:"instance_num"`
	}
	err := c.operate(ctx, http.MethodGet, "user-instances", nil, &out)
	return out.Count, err
}

// Version is a version of the dialect's API.
type Version struct {
	ID      string `json:"id"` // v1.0
	Status  string `json:"status"`
	Updated string `json:"updated"` // UTC
}

// Versions returns the versions of the API. Anybody may ask.
func (c *Client) Versions(ctx context.Context) ([]Version, error) {
	var out struct {
		Versions []Version `json:"versions"`
	}
	err := c.do(ctx, http.MethodGet, "/", nil, &out)
	return out.Versions, err
}

// Version returns one version of the API by its id.
func (c *Client) Version(ctx context.Context, id string) (*Version, error) {
	var out struct {
		Version Version `json:"version"`
	}
	if err := c.do(ctx, http.MethodGet, "/"+id, nil, &out); err != nil {
		return nil, err
	}
	return &out.Version, nil
}
