package verb

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"os"
	"regexp"

	"github.com/keyside/keyside/sidecar/client"
)

// keyID is the form of a key's id.
var keyID = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// keyVariable names the key of verbs that are given none.
const keyVariable = "KEYSIDE_KEY"

// findPage is the largest page of find-keys.
const findPage = 1000

// Resolve returns the id of a key that is named by its id, its alias or a further alias. To a caller that may not describe the key it
// returns the name, by which the sidecar finds the key for every operation.
func (s *Session) Resolve(ctx context.Context, name string) (string, error) {
	if keyID.MatchString(name) {
		return name, nil
	}
	key, err := s.Lookup(ctx, name)
	if errors.Is(err, client.ErrDenied) {
		return name, nil
	}
	if err != nil {
		return "", err
	}
	return key.ID, nil
}

// Lookup returns a key that is named by its id, its alias or a further alias.
func (s *Session) Lookup(ctx context.Context, name string) (*client.Key, error) {
	if name = cmp.Or(name, os.Getenv(keyVariable)); name == "" {
		return nil, Failf(ExitUsage, "--key is missing: give a key's id or alias (keyside key list shows them), or set $"+keyVariable)
	}
	key, err := s.DescribeKey(ctx, name)
	if !keyID.MatchString(name) && (errors.Is(err, client.ErrNotFound) || errors.Is(err, client.ErrInvalidRequest)) {
		return nil, Failf(ExitNotFound, "no key has the alias %q%s", name, s.nearestKeys(ctx, name))
	}
	return key, err
}

// nearestKeys returns the end of an error: the keys whose aliases are most like a mistyped one, or how to list all.
func (s *Session) nearestKeys(ctx context.Context, name string) string {
	var aliases []string
	if page, err := s.FindKeys(ctx, client.FindKeysRequest{Page: client.Page{Limit: findPage}}); err == nil {
		for i := range page.Keys {
			aliases = append(aliases, page.Keys[i].Alias)
		}
	}
	return cmp.Or(DidYouMean(name, aliases), "; keyside key list shows all keys")
}

// Find yields the keys that a search selects.
func (s *Session) Find(ctx context.Context, req client.FindKeysRequest) iter.Seq2[*client.Key, error] {
	req.Limit = findPage
	return All(func(marker string) (*client.KeyPage, error) {
		req.Marker = marker
		return s.FindKeys(ctx, req)
	})
}

// All yields the elements of all pages. list returns the page at a marker.
func All[P interface{ Part() ([]T, string) }, T any](list func(marker string) (P, error)) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for marker := ""; ; {
			page, err := list(marker)
			if err != nil {
				yield(nil, err)
				return
			}
			elements, next := page.Part()
			for i := range elements {
				if !yield(&elements[i], nil) {
					return
				}
			}
			if marker = next; marker == "" {
				return
			}
		}
	}
}

// whole is a list that has one page.
type whole[T any] []T

// Part returns the whole list.
func (w whole[T]) Part() ([]T, string) { return w, "" }

// Whole yields the elements of a list that has one page, or the error of asking for it.
func Whole[T any](list []T, err error) iter.Seq2[*T, error] {
	return All(func(string) (whole[T], error) { return list, err })
}
