package kms

import (
	"context"
	"strings"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// aliasPrefix may precede an alias wherever an alias names a key.
const aliasPrefix = "alias/"

// Resolve returns the id of the key with an alias, for an operation that follows; CodeNotFound if the alias does not exist.
// It accepts the alias as it was created, with or without the prefix "alias/". SERVICE/default names the default key of a
// cloud service, which is created when the service first names it.
//
// A refusal is recorded as that of the operation; a success is not recorded, because the operation will be.
func (s *Service) Resolve(ctx context.Context, op policy.Operation, name string) (KeyID, error) {
	r := s.newRequest(ctx, op)
	if len(name) <= len(aliasPrefix)+DefaultLimits.Alias {
		r.target = name
	}
	err := s.admit(ctx, &r)
	var id KeyID
	if err == nil {
		id, err = s.resolve(ctx, &r, name)
	}
	if err != nil {
		return KeyID{}, s.finish(ctx, &r, err)
	}
	return id, nil
}

func (s *Service) resolve(ctx context.Context, r *request, name string) (KeyID, error) {
	bare, prefixed := strings.CutPrefix(name, aliasPrefix)
	if service, ok := strings.CutSuffix(bare, reservedAlias); ok {
		return s.defaultKey(ctx, r, service)
	}
	other := bare
	if !prefixed {
		other = aliasPrefix + name
	}
	alias, err := s.store.Alias(ctx, name)
	if err != nil && AsError(err).Code == CodeNotFound {
		alias, err = s.store.Alias(ctx, other)
	}
	if err != nil {
		return KeyID{}, err
	}
	return alias.KeyID, nil
}

// defaultKey returns the default key of a service.
func (s *Service) defaultKey(ctx context.Context, r *request, service string) (KeyID, error) {
	id, err := s.store.Named(ctx, service+reservedAlias)
	if err == nil || AsError(err).Code != CodeNotFound || service == "" || r.call.Principal.Service != service {
		return id, err
	}
	if err := s.authorize(r, &Key{Service: service}, nil); err != nil {
		return KeyID{}, err
	}
	// One at a time: two concurrent first uses must not generate two keys.
	if err := s.makingDefault.enter(ctx); err != nil {
		return KeyID{}, err
	}
	defer s.makingDefault.leave()
	if id, err = s.store.Named(ctx, service+reservedAlias); err == nil || AsError(err).Code != CodeNotFound {
		return id, err
	}
	return s.makeDefaultKey(ctx, service)
}

// makeDefaultKey creates the default key of a service, with an audit record of its own.
func (s *Service) makeDefaultKey(ctx context.Context, service string) (KeyID, error) {
	r := s.newRequest(ctx, policy.OpCreateKey)
	r.decided, r.decision = true, policy.Decision{Allow: true, By: "first use by service " + service}
	key := &Key{
		ID: uuid.New(), Alias: service + reservedAlias, Spec: AES256, Usage: EncryptDecrypt, Origin: OriginKMS,
		CreatedAt: s.now(), Service: service,
	}
	err := s.makeMaterial(ctx, key)
	if err == nil {
		r.version = key.Current()
		err = s.createKey(ctx, &r, key, r.limits.Keys)
	}
	return key.ID, s.finish(ctx, &r, err)
}
