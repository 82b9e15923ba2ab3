package kms

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/keyside/keyside/policy"
)

// CreateAlias creates a further alias of a key. An alias is no part of the record of its key, so a key whose deletion is
// scheduled concurrently may still get one; it is removed with the key.
func (s *Service) CreateAlias(ctx context.Context, id KeyID, name string) (*Alias, error) {
	return run(ctx, s, policy.OpCreateAlias, func(ctx context.Context, r *request) (*Alias, error) {
		r.keyID = &id
		if err := r.limits.checkAlias(name); err != nil {
			return nil, err
		}
		r.target = name
		if _, err := s.inState(ctx, r, id); err != nil {
			return nil, err
		}
		now := s.now()
		alias := &Alias{Name: name, KeyID: id, CreatedAt: now, UpdatedAt: now}
		if err := s.store.CreateAlias(s.recorded(ctx, r), *alias, r.limits.Aliases); err != nil {
			return nil, err
		}
		return alias, nil
	})
}

// AssociateAlias moves an alias to another key.
func (s *Service) AssociateAlias(ctx context.Context, name string, target KeyID) (*Alias, error) {
	return run(ctx, s, policy.OpAssociateAlias, func(ctx context.Context, r *request) (*Alias, error) {
		r.keyID = &target
		if err := DefaultLimits.checkAlias(name); err != nil { // aliases created under a higher limit can be moved, too
			return nil, err
		}
		r.target = name
		if _, err := s.inState(ctx, r, target); err != nil {
			return nil, err
		}
		if err := s.aliasSource(ctx, r, name); err != nil {
			return nil, err
		}
		return s.store.MoveAlias(s.recorded(ctx, r), name, target, s.now(), r.limits.Aliases)
	})
}

// DeleteAliases deletes aliases of a key, all or none.
func (s *Service) DeleteAliases(ctx context.Context, id KeyID, names []string) error {
	return doWithout(ctx, s, policy.OpDeleteAlias, func(ctx context.Context, r *request) error {
		r.keyID = &id
		names = slices.Compact(slices.Sorted(slices.Values(names)))
		if most := max(DefaultLimits.Aliases, r.limits.Aliases); len(names) == 0 || len(names) > most {
			return Invalid("aliases", ReasonOutOfRange, "1 to %d aliases must be given", most)
		}
		for _, name := range names {
			if err := DefaultLimits.checkAlias(name); err != nil { // aliases created under a higher limit can be deleted, too
				return err
			}
		}
		r.target = strings.Join(names, " ")
		if _, err := s.inState(ctx, r, id); err != nil {
			return err
		}
		return s.store.DeleteAliases(s.recorded(ctx, r), id, names)
	})
}

// aliasSource checks that an alias may be taken from its key.
func (s *Service) aliasSource(ctx context.Context, r *request, name string) error {
	alias, err := s.store.Alias(ctx, name)
	if err != nil {
		return err
	}
	key, err := s.store.Key(ctx, alias.KeyID)
	if err != nil {
		return err
	}
	return s.authorizeAlso(r, r.op, key)
}

// ListAliasesInput selects a page of aliases in the byte order of their names.
type ListAliasesInput struct {
	KeyID *KeyID // nil means all keys
	After string // the page starts after this name
	Limit int    // at most 1000; 0 means 50
}

// Aliases on one page.
const (
	defaultAliases = 50
	maxAliases     = 1000
)

// AliasPage is a page of aliases. Next is the After of the next page, empty on the last.
type AliasPage struct {
	Aliases []*Alias
	Next    string
}

// ListAliases returns a page of aliases.
func (s *Service) ListAliases(ctx context.Context, in ListAliasesInput) (*AliasPage, error) {
	return run(ctx, s, policy.OpListAliases, func(ctx context.Context, r *request) (*AliasPage, error) {
		limit := cmp.Or(in.Limit, defaultAliases)
		if err := checkPage(0, limit, maxAliases); err != nil {
			return nil, err
		}
		if in.KeyID != nil {
			r.keyID = in.KeyID
			if _, err := s.store.Key(ctx, *in.KeyID); err != nil {
				return nil, err
			}
		}
		aliases, more, err := s.store.ListAliases(ctx, in.KeyID, in.After, limit)
		if err != nil {
			return nil, err
		}
		page := &AliasPage{Aliases: aliases}
		if n := len(aliases); more && n > 0 {
			page.Next = aliases[n-1].Name
		}
		return page, nil
	})
}
