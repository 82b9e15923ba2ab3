package client

import (
	"context"
	"strconv"
	"time"
)

// Key is a key as describe-key and list-keys show it.
type Key struct {
	ID          string    `json:"key_id"`
	Alias       string    `json:"key_alias"`
	Description string    `json:"key_description"`
	Spec        string    `json:"key_spec"`   // AES_256, RSA_2048, EC_P256, …
	Usage       string    `json:"key_usage"`  // ENCRYPT_DECRYPT or SIGN_VERIFY
	Origin      string    `json:"origin"`     // kms or external
	State       KeyState  `json:"key_state"`  // a number as text
	Protection  string    `json:"protection"` // hsm, module-unenforced or driver
	Created     Timestamp `json:"creation_date"`
	Realm       string    `json:"realm"`
	DomainID    string    `json:"domain_id"`
}

// KeyState is a key's state as the dialect numbers it.
type KeyState string

// The states.
const (
	Enabled         KeyState = "2"
	Disabled        KeyState = "3"
	PendingDeletion KeyState = "4"
	PendingImport   KeyState = "5"
	Unavailable     KeyState = "7"
)

// String returns the state's name.
func (s KeyState) String() string {
	switch s {
	case Enabled:
		return "Enabled"
	case Disabled:
		return "Disabled"
	case PendingDeletion:
		return "PendingDeletion"
	case PendingImport:
		return "PendingImport"
	case Unavailable:
		return "Unavailable"
	}
	return "State" + string(s)
}

// Timestamp is milliseconds since 1970 as text.
type Timestamp string

// Time returns the time, zero where the timestamp is empty.
func (t Timestamp) Time() time.Time {
	ms, err := strconv.ParseInt(string(t), 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// CreateKeyRequest says what key to make. All but Alias may be empty.
type CreateKeyRequest struct {
	Alias       string `json:"key_alias"`
	Description string `json:"key_description,omitempty"`
	Spec        string `json:"key_spec,omitempty"`  // default AES_256
	Usage       string `json:"key_usage,omitempty"` // default by spec
	Origin      string `json:"origin,omitempty"`    // default kms
}

// CreateKey makes a key and returns its id.
func (c *Client) CreateKey(ctx context.Context, req CreateKeyRequest) (id string, err error) {
	var out struct {
		Info struct {
			ID string `json:"key_id"`
		} `json:"key_info"`
	}
	err = c.call(ctx, "create-key", req, &out)
	return out.Info.ID, err
}

// keyRequest names a key.
type keyRequest struct {
	KeyID string `json:"key_id"`
}

// DescribeKey returns a key.
func (c *Client) DescribeKey(ctx context.Context, id string) (*Key, error) {
	var out struct {
		Info Key `json:"key_info"`
	}
	if err := c.call(ctx, "describe-key", keyRequest{id}, &out); err != nil {
		return nil, err
	}
	return &out.Info, nil
}

// ListKeysRequest selects keys; the zero value selects all.
type ListKeysRequest struct {
	Spec   string `json:"key_spec,omitempty"`
	State  string `json:"key_state,omitempty"` // a KeyState
	Limit  int    `json:"limit,omitzero"`
	Marker string `json:"marker,omitempty"` // KeyPage.Next of the page before
}

// KeyPage is a page of keys.
type KeyPage struct {
	Keys  []Key  `json:"key_details"`
	Total int    `json:"total"`
	Next  string `json:"next_marker"` // empty: the last page
}

// ListKeys returns one page of keys, in order of creation.
func (c *Client) ListKeys(ctx context.Context, req ListKeysRequest) (*KeyPage, error) {
	if req.Spec == "" {
		req.Spec = "ALL"
	}
	out := new(KeyPage)
	if err := c.call(ctx, "list-keys", req, out); err != nil {
		return nil, err
	}
	return out, nil
}

// EnableKey enables a disabled key.
func (c *Client) EnableKey(ctx context.Context, id string) error {
	return c.call(ctx, "enable-key", keyRequest{id}, new(struct{}))
}

// DisableKey disables an enabled key.
func (c *Client) DisableKey(ctx context.Context, id string) error {
	return c.call(ctx, "disable-key", keyRequest{id}, new(struct{}))
}

// PublicKey returns the public half of an asymmetric key as PEM.
func (c *Client) PublicKey(ctx context.Context, id string) (string, error) {
	var out struct {
		PublicKey string `json:"public_key"`
	}
	err := c.call(ctx, "get-publickey", keyRequest{id}, &out)
	return out.PublicKey, err
}
