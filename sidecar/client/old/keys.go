package client

import (
	"context"
	"strconv"
	"time"
)

// Key is a key as describe-key, list-keys and FindKeys show it.
type Key struct {
	ID          string    `json:"key_id"`
	Alias       string    `json:"key_alias"` // its own; further ones are Aliases
	Description string    `json:"key_description"`
	Spec        string    `json:"key_spec"`   // AES_256, RSA_2048, EC_P256, …
	Usage       string    `json:"key_usage"`  // ENCRYPT_DECRYPT, SIGN_VERIFY, …
	Origin      string    `json:"origin"`     // kms or external
	State       KeyState  `json:"key_state"`  // a number as text
	Protection  string    `json:"protection"` // hsm, module-unenforced or driver
	Created     Timestamp `json:"creation_date"`
	Deletion    Timestamp `json:"scheduled_deletion_date"` // empty: none is scheduled
	Expiration  Timestamp `json:"expiration_time"`         // of imported material; empty: never
	Default     Flag      `json:"default_key_flag"`        // "1": a service's default master key
	CheckValue  string    `json:"check_value"`             // of imported material, also after that is gone: 16 hex digits
	OpenedIn    string    `json:"opened_in"`               // where imported material was unwrapped: hsm or driver
	Rotates     string    `json:"key_rotation_enabled"`    // "true" or "false"; RotationStatus says more
	Realm       string    `json:"realm"`
	DomainID    string    `json:"domain_id"`
}

// Flag is "1" or "0".
type Flag string

// Set reports whether the flag is "1".
func (f Flag) Set() bool { return f == "1" }

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
	var out keyInfo
	err = c.call(ctx, "create-key", req, &out)
	return out.Info.ID, err
}

// keyRequest names a key.
type keyRequest struct {
	KeyID string `json:"key_id"`
}

// keyInfo is the answer of operations that change a key: what they changed of it, and its id.
type keyInfo struct {
	Info Key `json:"key_info"`
}

// DescribeKey returns a key.
func (c *Client) DescribeKey(ctx context.Context, id string) (*Key, error) {
	var out keyInfo
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

// EnableKey enables a disabled key and returns its state.
func (c *Client) EnableKey(ctx context.Context, id string) (KeyState, error) {
	var out keyInfo
	err := c.call(ctx, "enable-key", keyRequest{id}, &out)
	return out.Info.State, err
}

// DisableKey disables an enabled key and returns its state.
func (c *Client) DisableKey(ctx context.Context, id string) (KeyState, error) {
	var out keyInfo
	err := c.call(ctx, "disable-key", keyRequest{id}, &out)
	return out.Info.State, err
}

// ScheduleKeyDeletion has a key destroyed after so many days, 7 to 1096, and returns its state. It cannot be used
// meanwhile.
func (c *Client) ScheduleKeyDeletion(ctx context.Context, id string, days int) (KeyState, error) {
	in := struct {
		KeyID string `json:"key_id"`
		Days  string `json:"pending_days"`
	}{id, strconv.Itoa(days)}
	var out struct {
		State KeyState `json:"key_state"`
	}
	err := c.call(ctx, "schedule-key-deletion", in, &out)
	return out.State, err
}

// CancelKeyDeletion takes a key back from its deletion and returns its state: Disabled, or PendingImport.
func (c *Client) CancelKeyDeletion(ctx context.Context, id string) (KeyState, error) {
	var out struct {
		State KeyState `json:"key_state"`
	}
	err := c.call(ctx, "cancel-key-deletion", keyRequest{id}, &out)
	return out.State, err
}

// UpdateKeyAlias gives a key another alias of its own.
func (c *Client) UpdateKeyAlias(ctx context.Context, id, alias string) error {
	in := struct {
		KeyID string `json:"key_id"`
		Alias string `json:"key_alias"`
	}{id, alias}
	return c.call(ctx, "update-key-alias", in, nil)
}

// UpdateKeyDescription gives a key another description, of at most 255 characters.
func (c *Client) UpdateKeyDescription(ctx context.Context, id, description string) error {
	in := struct {
		KeyID       string `json:"key_id"`
		Description string `json:"key_description"`
	}{id, description}
	return c.call(ctx, "update-key-description", in, nil)
}

// PublicKey returns the public half of an asymmetric key as PEM.
func (c *Client) PublicKey(ctx context.Context, id string) (string, error) {
	var out struct {
		PublicKey string `json:"public_key"`
	}
	err := c.call(ctx, "get-publickey", keyRequest{id}, &out)
	return out.PublicKey, err
}
