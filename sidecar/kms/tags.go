package kms

import "context"

// SetTags gives a key tags; one whose key it has already gets the new value.
func (s *Service) SetTags(ctx context.Context, id KeyID, tags []Tag) (*Key, error) {
	return nil, errPending
}

// DeleteTags takes tags away from a key. With strict, one that it does not have is CodeTagNotFound and nothing changes.
func (s *Service) DeleteTags(ctx context.Context, id KeyID, keys []string, strict bool) (*Key, error) {
	return nil, errPending
}

// KeyTags returns a key for its Tags.
func (s *Service) KeyTags(ctx context.Context, id KeyID) (*Key, error) { return nil, errPending }

// ListTags returns the tags of all keys.
func (s *Service) ListTags(ctx context.Context) ([]TagValues, error) { return nil, errPending }

// FindKeysInput selects keys by their tags and names. CountOnly leaves the keys out.
type FindKeysInput struct {
	Tags      []TagValues
	Name      string
	Offset    int
	Limit     int // 0: 10; at most 1000
	CountOnly bool
}

// FindKeys returns the keys that have all of the tags.
func (s *Service) FindKeys(ctx context.Context, in FindKeysInput) (*KeyPage, error) {
	return nil, errPending
}
