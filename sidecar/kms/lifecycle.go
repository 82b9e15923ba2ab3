package kms

import (
	"context"
	"time"

	"github.com/keyside/keyside/policy"
)

// Days for which a deletion is put off (user guide, 2.4.4).
const (
	minWait = 7
	maxWait = 1096
)

// days is n days of 24 hours, whatever the local calendar makes of them.
func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// change does an operation that changes a key. check is about the input alone; what the tables say of the key is checked
// in the transaction in which set changes it.
func (s *Service) change(
	ctx context.Context, op policy.Operation, id KeyID, check func(*request) error, set func(*request, *Key) error,
) (*Key, error) {
	return run(ctx, s, op, func(ctx context.Context, r *request) (*Key, error) {
		r.keyID = &id
		if check != nil {
			if err := check(r); err != nil {
				return nil, err
			}
		}
		return s.store.UpdateKey(ctx, id, func(key *Key) error {
			if err := s.authorize(r, key, s.store.Grants(id)); err != nil {
				return err
			}
			if err := checkKey(op, key); err != nil {
				return err
			}
			return set(r, key)
		})
	})
}

// setState does an operation that makes nothing but a new state.
func (s *Service) setState(ctx context.Context, op policy.Operation, id KeyID, state KeyState) (*Key, error) {
	return s.change(ctx, op, id, nil, func(_ *request, key *Key) error {
		key.State = state
		return nil
	})
}

// EnableKey makes a disabled key usable again.
func (s *Service) EnableKey(ctx context.Context, id KeyID) (*Key, error) {
	return s.setState(ctx, policy.OpEnableKey, id, Enabled)
}

// DisableKey makes an enabled key unusable until it is enabled again.
func (s *Service) DisableKey(ctx context.Context, id KeyID) (*Key, error) {
	return s.setState(ctx, policy.OpDisableKey, id, Disabled)
}

// ScheduleKeyDeletion makes a key unusable and has it destroyed after so many days.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, id KeyID, wait int) (*Key, error) {
	return s.change(ctx, policy.OpScheduleDeletion, id, func(*request) error {
		if wait < minWait || wait > maxWait {
			return Invalid("pending_days", ReasonOutOfRange, "days until the deletion must be %d to %d", minWait, maxWait)
		}
		return nil
	}, func(_ *request, key *Key) error {
		key.State, key.DeletionAt = PendingDeletion, s.now().Add(days(wait))
		return nil
	})
}

// CancelKeyDeletion takes a key back that waits for its deletion. It is Disabled then, or PendingImport if it is external
// and has no material. A key whose time has come can be taken back for as long as it is still there.
func (s *Service) CancelKeyDeletion(ctx context.Context, id KeyID) (*Key, error) {
	return s.change(ctx, policy.OpCancelDeletion, id, nil, func(_ *request, key *Key) error {
		key.State, key.DeletionAt = Disabled, time.Time{}
		if key.Current() == nil {
			key.State = PendingImport
		}
		return nil
	})
}

// UpdateAlias renames a key.
func (s *Service) UpdateAlias(ctx context.Context, id KeyID, alias string) (*Key, error) {
	return s.change(ctx, policy.OpUpdateAlias, id, func(r *request) error {
		return r.limits.checkAlias(alias)
	}, func(_ *request, key *Key) error {
		key.Alias = alias
		return nil
	})
}

// UpdateDescription replaces a key's description, which may be empty.
func (s *Service) UpdateDescription(ctx context.Context, id KeyID, description string) (*Key, error) {
	return s.change(ctx, policy.OpUpdateDescription, id, func(r *request) error {
		return r.limits.checkDescription(description)
	}, func(_ *request, key *Key) error {
		key.Description = description
		return nil
	})
}

// Usage is how much there is of what is limited.
type Usage struct {
	Keys      int // default keys not counted
	KeyLimit  int
	MaxGrants int // most grants that any one key has
	Grants    int // limit per key
}

// Quotas returns how much there is of what is limited.
func (s *Service) Quotas(ctx context.Context) (*Usage, error) {
	return run(ctx, s, policy.OpGetQuotas, func(ctx context.Context, r *request) (*Usage, error) {
		n, _, err := s.store.CountKeys(ctx)
		if err != nil {
			return nil, err
		}
		return &Usage{Keys: n, KeyLimit: r.limits.Keys, MaxGrants: s.store.MostGrants(), Grants: r.limits.Grants}, nil
	})
}

// CountKeys returns how many keys there are, default keys not counted.
func (s *Service) CountKeys(ctx context.Context) (int, error) {
	return run(ctx, s, policy.OpGetInstances, func(ctx context.Context, _ *request) (int, error) {
		n, _, err := s.store.CountKeys(ctx)
		return n, err
	})
}
