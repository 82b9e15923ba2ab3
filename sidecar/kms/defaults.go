package kms

import (
	"context"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

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
