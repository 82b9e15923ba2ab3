package verb

import (
	"context"
	"errors"
	"iter"
	"regexp"

	"github.com/keyside/keyside/sidecar/client"
)

// keyID is the form of a key's id.
var keyID = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// findPage is the largest page of find-keys.
const findPage = 1000

// Resolve returns the id of a key that is named by its id, its alias or a further alias.
func (s *Session) Resolve(ctx context.Context, name string) (string, error) {
	if keyID.MatchString(name) {
		return name, nil
	}
	key, err := s.Lookup(ctx, name)
	if err != nil {
		return "", err
	}
	return key.ID, nil
}

// Lookup returns a key that is named by its id, its alias or a further alias. A key's own alias takes precedence.
func (s *Session) Lookup(ctx context.Context, name string) (*client.Key, error) {
	if name == "" {
		return nil, Failf(ExitUsage, "--key is missing: give a key's id or alias (keyside key list shows them)")
	}
	if !keyID.MatchString(name) {
		for key, err := range s.Find(ctx, client.FindKeysRequest{Alias: name}) {
			if errors.Is(err, client.ErrDenied) {
				break // a caller that may not search may still use the key
			}
			if err != nil {
				return nil, err
			}
			if key.Alias == name {
				return key, nil
			}
		}
	}
	key, err := s.DescribeKey(ctx, name)
	if !keyID.MatchString(name) && (errors.Is(err, client.ErrNotFound) || errors.Is(err, client.ErrInvalidRequest)) {
		return nil, Failf(ExitNotFound, "no key has the alias %q; keyside key list shows all keys", name)
	}
	return key, err
}

// Find yields the keys that a search selects.
func (s *Session) Find(ctx context.Context, req client.FindKeysRequest) iter.Seq2[*client.Key, error] {
	req.Limit = findPage
	return All(func(marker string) ([]client.Key, string, error) {
		req.Marker = marker
		page, err := s.FindKeys(ctx, req)
		if err != nil {
			return nil, "", err
		}
		return page.Keys, page.NextMarker, nil
	})
}

// All yields the elements of all pages. list returns a page and the marker of the next one, empty after the last.
func All[T any](list func(marker string) ([]T, string, error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for marker := ""; ; {
			page, next, err := list(marker)
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page {
				if !yield(&page[i], nil) {
					return
				}
			}
			if marker = next; marker == "" {
				return
			}
		}
	}
}
