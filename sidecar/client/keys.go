package client

import (
	"context"
	"time"
)

// KeyState is the state of a key.
type KeyState string

// The states of keys.
const (
	Enabled         KeyState = "Enabled"
	Disabled        KeyState = "Disabled"
	PendingImport   KeyState = "PendingImport"
	PendingDeletion KeyState = "PendingDeletion"
	Archived        KeyState = "Archived"    // only decrypts, by Tencent Cloud's API
	Unavailable     KeyState = "Unavailable" // the HSM does not have the key now
)

// The origins of key material.
const (
	OriginKMS      = "kms"      // generated in the HSM
	OriginExternal = "external" // imported
)

// Key is a key.
type Key struct {
	ID              string    `json:"key_id"`
	Alias           string    `json:"alias"` // the key's own name; [Alias] are further ones
	Description     string    `json:"description"`
	Spec            string    `json:"key_spec"`  // AES_256, RSA_2048, EC_P256, …
	Usage           string    `json:"key_usage"` // ENCRYPT_DECRYPT, SIGN_VERIFY, …
	Origin          string    `json:"origin"`
	State           KeyState  `json:"state"`
	Created         time.Time `json:"created_at"`
	Deletion        time.Time `json:"deletion_at,omitzero"`         // zero: no deletion is scheduled
	MaterialExpires time.Time `json:"material_expires_at,omitzero"` // of imported material; zero: never
	RotationEnabled bool      `json:"rotation_enabled"`             // GetKeyRotation returns more
	Protection      string    `json:"protection,omitzero"`          // hsm, module-unenforced or driver; empty without material
	OpenedIn        string    `json:"opened_in,omitzero"`           // where imported material was unwrapped: hsm or driver
	CheckValue      []byte    `json:"check_value,omitempty"`        // 8 bytes that identify imported material, also after it is deleted
	Service         string    `json:"service,omitzero"`             // the cloud service whose default key this is; empty: a customer's key
	Instance        string    `json:"instance,omitzero"`            // the KMS instance that the key belongs to; empty: none
	Protected       bool      `json:"protected,omitzero"`           // against being scheduled for deletion
	ProtectedFor    string    `json:"protected_for,omitzero"`       // why it is protected
	Tags            []Tag     `json:"tags,omitempty"`               // set by FindKeys only

	// Set by DescribeKey only.
	MessagesLeft  *uint64        `json:"messages_left,omitzero"` // that it can still encrypt before it must be rotated; nil: not limited
	WaitsUntil    time.Time      `json:"waits_until,omitzero"`   // when it or its material is destroyed, if that waits because the clock jumped
	NameConflicts []NameConflict `json:"name_conflicts,omitempty"`
}

// NameConflict is a name of a key beside one of another key that means the same. Only databases of earlier versions have such. Rename
// one of the keys, or delete one of the further aliases.
type NameConflict struct {
	Name  string `json:"name"`
	Same  string `json:"same_name"` // of the other key
	KeyID string `json:"other_key_id"`
}

// CreateKeyRequest describes a new key. Everything but Alias is optional.
type CreateKeyRequest struct {
	Alias       string `json:"alias"`
	Description string `json:"description,omitzero"`
	Spec        string `json:"key_spec,omitzero"`  // default AES_256
	Usage       string `json:"key_usage,omitzero"` // default: the first of the spec
	Origin      string `json:"origin,omitzero"`    // default OriginKMS
	Tags        []Tag  `json:"tags,omitzero"`      // if one is refused, no key is created
}

// CreateKey creates a key. Errors: ErrAlreadyExists if the alias is taken, ErrQuotaExceeded, ErrUnsupported.
func (c *Client) CreateKey(ctx context.Context, req CreateKeyRequest) (*Key, error) {
	return call[Key](ctx, c, "create-key", req)
}

// keyRequest names a key by its id or one of its aliases.
type keyRequest struct {
	KeyID string `json:"key_id"`
}

// DescribeKey returns a key.
func (c *Client) DescribeKey(ctx context.Context, keyID string) (*Key, error) {
	return call[Key](ctx, c, "describe-key", keyRequest{keyID})
}

// Page selects a part of a list.
type Page struct {
	Limit  int    `json:"limit,omitzero"`  // zero: the operation's default
	Marker string `json:"marker,omitzero"` // NextMarker of the page before; empty: the first page
}

// ListKeysRequest selects keys. The zero value selects all.
type ListKeysRequest struct {
	Spec  string   `json:"key_spec,omitzero"`
	State KeyState `json:"state,omitzero"`
	Page
}

// KeyPage is a page of keys.
type KeyPage struct {
	Keys       []Key  `json:"keys"`
	Total      int    `json:"total"`                // on all pages
	NextMarker string `json:"next_marker,omitzero"` // empty: this is the last page
}

// Part returns the elements of the page and NextMarker.
func (p *KeyPage) Part() ([]Key, string) { return p.Keys, p.NextMarker }

// ListKeys returns one page of keys in order of creation, by default of up to 2000 keys.
func (c *Client) ListKeys(ctx context.Context, req ListKeysRequest) (*KeyPage, error) {
	return call[KeyPage](ctx, c, "list-keys", req)
}

// KeyStatus is a key after a change of its state.
type KeyStatus struct {
	ID       string    `json:"key_id"`
	State    KeyState  `json:"state"`
	Deletion time.Time `json:"deletion_at,omitzero"` // zero: no deletion is scheduled
}

// EnableKey enables a disabled key.
func (c *Client) EnableKey(ctx context.Context, keyID string) (*KeyStatus, error) {
	return call[KeyStatus](ctx, c, "enable-key", keyRequest{keyID})
}

// DisableKey disables an enabled key.
func (c *Client) DisableKey(ctx context.Context, keyID string) (*KeyStatus, error) {
	return call[KeyStatus](ctx, c, "disable-key", keyRequest{keyID})
}

// ScheduleDeletionRequest schedules the deletion of a key.
type ScheduleDeletionRequest struct {
	KeyID string `json:"key_id"`
	Days  int    `json:"pending_days"` // 7 to 1096
}

// ScheduleKeyDeletion makes a key unusable now and has it destroyed after 7 to 1096 days.
func (c *Client) ScheduleKeyDeletion(ctx context.Context, keyID string, days int) (*KeyStatus, error) {
	return call[KeyStatus](ctx, c, "schedule-key-deletion", ScheduleDeletionRequest{keyID, days})
}

// CancelKeyDeletion cancels the deletion of a key, which is Disabled then, or PendingImport without material.
func (c *Client) CancelKeyDeletion(ctx context.Context, keyID string) (*KeyStatus, error) {
	return call[KeyStatus](ctx, c, "cancel-key-deletion", keyRequest{keyID})
}

// SetDeletionProtectionRequest protects a key against deletion, or ends that.
type SetDeletionProtectionRequest struct {
	KeyID        string `json:"key_id"`
	Protected    bool   `json:"protected"`
	ProtectedFor string `json:"protected_for,omitempty"` // at most 255 characters
}

// SetDeletionProtection protects a key against deletion, or ends that. A key that is protected cannot be scheduled for deletion.
func (c *Client) SetDeletionProtection(ctx context.Context, in SetDeletionProtectionRequest) (*KeyStatus, error) {
	return call[KeyStatus](ctx, c, "set-deletion-protection", in)
}

// CreateKeyVersion gives an asymmetric key a new version, which signs from then on.
func (c *Client) CreateKeyVersion(ctx context.Context, keyID string) (*Key, error) {
	return call[Key](ctx, c, "create-key-version", keyRequest{keyID})
}

// ConfirmDeletions confirms the node's clock after a jump: destructions that wait happen at their dates, those of the past now. It
// returns how the clock was.
func (c *Client) ConfirmDeletions(ctx context.Context) (*ClockState, error) {
	return call[ClockState](ctx, c, "confirm-deletions", none{})
}

// RenameKeyRequest gives a key another alias of its own.
type RenameKeyRequest struct {
	KeyID string `json:"key_id"`
	Alias string `json:"alias"`
}

// RenameKey gives a key another alias of its own. Error: ErrAlreadyExists if it is taken.
func (c *Client) RenameKey(ctx context.Context, keyID, alias string) error {
	return c.do(ctx, "rename-key", RenameKeyRequest{keyID, alias})
}

// SetKeyDescriptionRequest replaces the description of a key.
type SetKeyDescriptionRequest struct {
	KeyID       string `json:"key_id"`
	Description string `json:"description"` // at most 255 characters; may be empty
}

// SetKeyDescription replaces the description of a key, at most 255 characters.
func (c *Client) SetKeyDescription(ctx context.Context, keyID, description string) error {
	return c.do(ctx, "set-key-description", SetKeyDescriptionRequest{keyID, description})
}

// Rotation is the rotation schedule of a key.
type Rotation struct {
	Enabled  bool      `json:"enabled"`
	Interval int       `json:"rotation_interval"`         // days; zero: never set
	Next     time.Time `json:"next_rotation_at,omitzero"` // zero: not enabled
	Last     time.Time `json:"last_rotation_at,omitzero"` // zero: never rotated
	Count    int       `json:"rotations"`
}

// RotationRequest sets the rotation schedule of a key.
type RotationRequest struct {
	KeyID    string `json:"key_id"`
	Interval int    `json:"rotation_interval,omitzero"` // days, 30 to 365; enable-key-rotation has the default 365
}

// EnableKeyRotation has a key rotated every 30 to 365 days; zero: 365. Old versions still decrypt.
func (c *Client) EnableKeyRotation(ctx context.Context, keyID string, days int) error {
	return c.do(ctx, "enable-key-rotation", RotationRequest{keyID, days})
}

// SetKeyRotationInterval has a key whose rotation is enabled rotated every 30 to 365 days, from now on.
func (c *Client) SetKeyRotationInterval(ctx context.Context, keyID string, days int) error {
	return c.do(ctx, "set-key-rotation-interval", RotationRequest{keyID, days})
}

// DisableKeyRotation stops the rotation of a key.
func (c *Client) DisableKeyRotation(ctx context.Context, keyID string) error {
	return c.do(ctx, "disable-key-rotation", keyRequest{keyID})
}

// GetKeyRotation returns the rotation schedule of a key. That of a key that cannot be rotated is not enabled.
func (c *Client) GetKeyRotation(ctx context.Context, keyID string) (*Rotation, error) {
	return call[Rotation](ctx, c, "get-key-rotation", keyRequest{keyID})
}

// KeyCount is the number of keys.
type KeyCount struct {
	Keys int `json:"keys"` // default keys of services not counted
}

// CountKeys returns the number of keys, default keys of services not counted.
func (c *Client) CountKeys(ctx context.Context) (int, error) {
	out, err := value[KeyCount](ctx, c, "count-keys", none{})
	return out.Keys, err
}

// Quota is the use of something limited.
type Quota struct {
	Used  int `json:"used"`
	Limit int `json:"limit"`
}

// Quotas is the use of everything limited.
type Quotas struct {
	Keys         Quota `json:"keys"`           // default keys of services not counted
	GrantsPerKey Quota `json:"grants_per_key"` // Used is that of the key with the most grants
}

// GetQuotas returns the use of everything limited.
func (c *Client) GetQuotas(ctx context.Context) (*Quotas, error) {
	return call[Quotas](ctx, c, "get-quotas", none{})
}
