package client

import (
	"context"
	"io"
)

// CreateBackup calls read with a backup of the sidecar's database, which it reads to the end. Error: ErrCutOff if the response ended
// early.
func (c *Client) CreateBackup(ctx context.Context, read func(io.Reader) error) error {
	return c.stream(ctx, "create-backup", none{}, read)
}
