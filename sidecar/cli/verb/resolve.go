package verb

import (
	"context"
	"errors"
	"regexp"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// keyID is the form of a key's id.
var keyID = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// findPage is how many keys the sidecar finds at once, at most.
const findPage = 1000

// Resolve returns the id of a key that is named by its id, its alias or a further alias.
func (s *Session) Resolve(ctx context.Context, c *client.Client, name string) (string, error) {
	if keyID.MatchString(name) {
		return name, nil
	}
	key, err := s.Lookup(ctx, c, name)
	if err != nil {
		return "", err
	}
	return key.ID, nil
}

// Lookup returns a key that is named by its id, its alias or a further alias. An own alias goes before a further one.
func (s *Session) Lookup(ctx context.Context, c *client.Client, name string) (*client.Key, error) {
	if name == "" {
		return nil, Failf(ExitUsage, "--key is missing: give a key's id or alias (keyside key list shows them)")
	}
	if !keyID.MatchString(name) {
		for found, err := range s.Find(ctx, c, client.FindKeysRequest{Alias: name}) {
			if errors.Is(err, client.ErrDenied) {
				break // who may not search may still name a key that he may use
			}
			if err != nil {
				return nil, err
			}
			if found.Key.Alias == name {
				return &found.Key, nil
			}
		}
	}
	ctx, cancel := s.Request(ctx)
	defer cancel()
	key, err := c.DescribeKey(ctx, name)
	if !keyID.MatchString(name) && (errors.Is(err, client.ErrNotFound) || errors.Is(err, client.ErrInvalidKeyID)) {
		return nil, Failf(ExitNotFound, "no key is called %q; keyside key list shows the keys that there are", name)
	}
	return key, err
}

// Find yields all keys that a search finds, page by page.
func (s *Session) Find(ctx context.Context, c *client.Client, req client.FindKeysRequest) func(func(*client.FoundKey, error) bool) {
	return func(yield func(*client.FoundKey, error) bool) {
		for req.Limit = findPage; ; {
			callCtx, cancel := s.Request(ctx)
			page, err := c.FindKeys(callCtx, req)
			cancel()
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Keys {
				if !yield(&page.Keys[i], nil) {
					return
				}
			}
			if req.Offset += len(page.Keys); len(page.Keys) == 0 || req.Offset >= page.Total {
				return
			}
		}
	}
}
