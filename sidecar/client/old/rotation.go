package client

import "context"

// Rotation is how a key is rotated.
type Rotation struct {
	Enabled  bool      `json:"key_rotation_enabled"`
	Interval int       `json:"rotation_interval"`  // days; 0: never was set
	Last     Timestamp `json:"last_rotation_time"` // empty: it never was rotated
	Count    int       `json:"number_of_rotations"`
}

// EnableKeyRotation has a key get new material every 365 days. Old versions still decrypt.
func (c *Client) EnableKeyRotation(ctx context.Context, id string) error {
	return c.call(ctx, "enable-key-rotation", keyRequest{id}, nil)
}

// UpdateKeyRotationInterval sets how often a key whose rotation is on is rotated: every 30 to 365 days, from now on.
func (c *Client) UpdateKeyRotationInterval(ctx context.Context, id string, days int) error {
	in := struct {
		KeyID    string `json:"key_id"`
		Interval int    `json:"rotation_interval"`
	}{id, days}
	return c.call(ctx, "update-key-rotation-interval", in, nil)
}

// DisableKeyRotation ends a key's rotation.
func (c *Client) DisableKeyRotation(ctx context.Context, id string) error {
	return c.call(ctx, "disable-key-rotation", keyRequest{id}, nil)
}

// RotationStatus returns how a key is rotated. A key that cannot be rotated is shown as one whose rotation is off.
func (c *Client) RotationStatus(ctx context.Context, id string) (*Rotation, error) {
	out := new(Rotation)
	if err := c.call(ctx, "get-key-rotation-status", keyRequest{id}, out); err != nil {
		return nil, err
	}
	return out, nil
}
