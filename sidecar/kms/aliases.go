package kms

import (
	"context"

	"github.com/keyside/keyside/policy"
)

// Resolve returns the id of the key that an alias names, for an operation that is about to be asked for: CodeNotFound if
// there is none. A service's default key is made when the service first names it, as SERVICE/default.
func (s *Service) Resolve(ctx context.Context, op policy.Operation, name string) (KeyID, error) {
	return KeyID{}, errPending
}

// CreateAlias gives a key another name.
func (s *Service) CreateAlias(ctx context.Context, id KeyID, name string) (*Alias, error) {
	return nil, errPending
}

// AssociateAlias makes an alias name another key.
func (s *Service) AssociateAlias(ctx context.Context, name string, target KeyID) (*Alias, error) {
	return nil, errPending
}

// DeleteAliases takes names away from a key, all or none.
func (s *Service) DeleteAliases(ctx context.Context, id KeyID, names []string) error {
	return errPending
}

// ListAliasesInput selects a page of aliases in the byte order of their names.
type ListAliasesInput struct {
	KeyID *KeyID // nil: of all keys
	After string // name after which the page begins
	Limit int    // 0: 50; at most 1000
}

// AliasPage is a page of aliases. Next is what to give as After for the next one, empty on the last.
type AliasPage struct {
	Aliases []*Alias
	Next    string
}

// ListAliases returns a page of aliases.
func (s *Service) ListAliases(ctx context.Context, in ListAliasesInput) (*AliasPage, error) {
	return nil, errPending
}
