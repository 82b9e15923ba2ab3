package kms

import (
	"context"
	"strings"

	"github.com/keyside/keyside/policy"
)

// AliasPrefix may precede an alias wherever an alias names a key.
const AliasPrefix = "alias/"

// SameNames returns the aliases that name the same as an alias: itself, and those that differ from it by one prefix "alias/" alone.
// They are one name space, with the keys' own aliases and further aliases alike: no two keys may have them.
func SameNames(alias string) []string {
	same := []string{alias, AliasPrefix + alias}
	if bare, prefixed := strings.CutPrefix(alias, AliasPrefix); prefixed {
		same = append(same, bare)
	}
	return same
}

// NameConflict is a name of a key that stands for another key, or would without that key. Only databases of earlier versions have
// such names.
type NameConflict struct {
	Name  string
	KeyID KeyID
	Same  string // name of the other key that means the same
	Other KeyID
}

// Resolve returns the id of the key that a name other than an id stands for, for an operation that follows; CodeNotFound if there is
// none. It accepts a key's own alias and its further aliases, each with or without the prefix "alias/". SERVICE/default names the
// default key of a cloud service, which is created when the service first names it.
//
// A refusal is recorded as that of the operation; a success is not recorded, because the operation will be.
func (s *Service) Resolve(ctx context.Context, op policy.Operation, name string) (KeyID, error) {
	r := s.newRequest(ctx, op)
	defer s.release(&r)
	if len(name) <= len(AliasPrefix)+DefaultLimits.Alias {
		r.target = name
	}
	err := s.admit(ctx, &r)
	var id KeyID
	if err == nil {
		if id, err = s.named(ctx, name); isNotFound(err) {
			if service, ok := strings.CutSuffix(strings.TrimPrefix(name, AliasPrefix), reservedAlias); ok {
				id, err = s.defaultKey(ctx, &r, service)
			}
		}
	}
	if err != nil {
		return KeyID{}, s.finish(ctx, &r, err)
	}
	return id, nil
}

// named returns the id of the key that a name stands for, CodeNotFound if there is none. Ids come first. Where a database of an
// earlier version has a name twice, a further alias comes before an own alias, and the name as it is before the other form.
func (s *Service) named(ctx context.Context, name string) (KeyID, error) {
	if id, err := ParseKeyID(name); err == nil {
		return id, nil
	}
	other, prefixed := strings.CutPrefix(name, AliasPrefix)
	if !prefixed {
		other = AliasPrefix + name
	}
	id, absent := s.further(ctx, name)
	if !isNotFound(absent) {
		return id, absent
	}
	if id, err := s.further(ctx, other); !isNotFound(err) {
		return id, err
	}
	if id, err := s.store.Named(ctx, name); !isNotFound(err) {
		return id, err
	}
	if id, err := s.store.Named(ctx, other); !isNotFound(err) {
		return id, err
	}
	return KeyID{}, absent
}

// further returns the id of the key with a further alias.
func (s *Service) further(ctx context.Context, name string) (KeyID, error) {
	alias, err := s.store.Alias(ctx, name)
	if err != nil {
		return KeyID{}, err
	}
	return alias.KeyID, nil
}

func isNotFound(err error) bool { return err != nil && AsError(err).Code == CodeNotFound }
