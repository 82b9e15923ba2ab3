package store

import (
	"context"
	"errors"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

var errPending = errors.New("not here yet")

// DestroyKeys implements kms.Store.
func (s *Store) DestroyKeys(context.Context, []kms.KeyID, func(*kms.Key) bool) ([]*kms.Key, error) {
	return nil, errPending
}

// DueKeys implements kms.Store.
func (s *Store) DueKeys(context.Context, time.Time, int) ([]kms.KeyID, time.Time, error) {
	return nil, time.Time{}, errPending
}

// ListTags implements kms.Store.
func (s *Store) ListTags(context.Context) ([]kms.TagValues, error) { return nil, errPending }

// Alias implements kms.Store.
func (s *Store) Alias(context.Context, string) (*kms.Alias, error) { return nil, errPending }

// CreateAlias implements kms.Store.
func (s *Store) CreateAlias(context.Context, kms.Alias, int) error { return errPending }

// MoveAlias implements kms.Store.
func (s *Store) MoveAlias(context.Context, string, kms.KeyID, time.Time, int) (*kms.Alias, error) {
	return nil, errPending
}

// DeleteAliases implements kms.Store.
func (s *Store) DeleteAliases(context.Context, kms.KeyID, []string) error { return errPending }

// ListAliases implements kms.Store.
func (s *Store) ListAliases(context.Context, *kms.KeyID, string, int) ([]*kms.Alias, bool, error) {
	return nil, false, errPending
}
