package kms

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/keyside/keyside/policy"
)

// Days until a deletion (Huawei KMS user guide, section 2.4.4).
const (
	minWait = 7
	maxWait = 1096
)

// days returns n days of 24 hours, whatever the local calendar says.
func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

// change performs an operation that changes a key. check checks the input alone; the tables of rules are checked inside the
// transaction in which set changes the key.
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
		return s.store.UpdateKey(s.recorded(ctx, r), id, func(key *Key) error {
			if err := s.authorize(r, key, s.store.Grants(id)); err != nil {
				return err
			}
			if err := r.rules().checkKey(op, key); err != nil {
				return err
			}
			if err := set(r, key); err != nil {
				return err
			}
			return r.dry()
		})
	})
}

// setState performs an operation that changes only the state of a key.
func (s *Service) setState(ctx context.Context, op policy.Operation, id KeyID, state KeyState) (*Key, error) {
	return s.change(ctx, op, id, nil, func(_ *request, key *Key) error {
		key.State = state
		return nil
	})
}

// EnableKey enables a disabled or archived key.
func (s *Service) EnableKey(ctx context.Context, id KeyID) (*Key, error) {
	return s.setState(ctx, policy.OpEnableKey, id, Enabled)
}

// DisableKey disables an enabled key.
func (s *Service) DisableKey(ctx context.Context, id KeyID) (*Key, error) {
	return s.setState(ctx, policy.OpDisableKey, id, Disabled)
}

// ArchiveKey lets an enabled key only decrypt. It requires the permission to disable the key; EnableKey undoes it.
func (s *Service) ArchiveKey(ctx context.Context, id KeyID) (*Key, error) {
	return s.setState(ctx, policy.OpDisableKey, id, Archived)
}

// ScheduleKeyDeletion disables a key and schedules its destruction in wait days.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, id KeyID, wait int) (*Key, error) {
	var mark ClockMark
	return s.change(ctx, policy.OpScheduleDeletion, id, func(*request) (err error) {
		if wait < minWait || wait > maxWait {
			return Invalid("pending_days", ReasonOutOfRange, "days until the deletion must be %d to %d", minWait, maxWait)
		}
		mark, err = s.clockMark(ctx)
		return err
	}, func(_ *request, key *Key) error {
		if key.Protected.Enabled {
			return errProtected
		}
		key.State, key.DeletionAt, key.DeletionClock = PendingDeletion, s.now().Add(days(wait)), mark.reading()
		return nil
	})
}

// CancelKeyDeletion cancels the scheduled deletion of a key. The key is then Disabled, in a dialect with other Rules Enabled, or
// PendingImport if it is external without material. A key whose deletion is due can be restored until it is destroyed.
func (s *Service) CancelKeyDeletion(ctx context.Context, id KeyID) (*Key, error) {
	return s.change(ctx, policy.OpCancelDeletion, id, nil, func(r *request, key *Key) error {
		key.State, key.DeletionAt, key.DeletionClock = cmp.Or(r.rules().Restored, Disabled), time.Time{}, ClockReading{}
		if key.Current() == nil {
			key.State = PendingImport
		}
		return nil
	})
}

// SetDeletionProtection protects a key against being scheduled for deletion, or ends that.
func (s *Service) SetDeletionProtection(ctx context.Context, id KeyID, p DeletionProtection) (*Key, error) {
	return s.change(ctx, policy.OpSetDeletionProtection, id, func(r *request) error {
		return r.limits.checkDescription(p.Description)
	}, func(_ *request, key *Key) error {
		if key.Protected = p; !p.Enabled {
			key.Protected.Description = ""
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

// Usage is how much of the limits is used.
type Usage struct {
	Keys      int // default keys not counted
	KeyLimit  int
	MaxGrants int // grants of the key that has the most
	Grants    int // limit per key
}

// Quotas returns how much of the limits is used.
func (s *Service) Quotas(ctx context.Context) (*Usage, error) {
	return run(ctx, s, policy.OpGetQuotas, func(ctx context.Context, r *request) (*Usage, error) {
		n, _, err := s.store.CountKeys(ctx)
		if err != nil {
			return nil, err
		}
		return &Usage{Keys: n, KeyLimit: r.limits.Keys, MaxGrants: s.store.MostGrants(), Grants: r.limits.Grants}, nil
	})
}

// CountKeys returns the number of keys, without default keys.
func (s *Service) CountKeys(ctx context.Context) (int, error) {
	return run(ctx, s, policy.OpGetInstances, func(ctx context.Context, _ *request) (int, error) {
		n, _, err := s.store.CountKeys(ctx)
		return n, err
	})
}

// Instance is a KMS instance with the number of its keys.
type Instance struct {
	Name string
	Keys int
}

// Instances returns the instances that keys belong to, in the byte order of their names.
func (s *Service) Instances(ctx context.Context) ([]Instance, error) {
	return run(ctx, s, policy.OpGetInstances, func(ctx context.Context, r *request) ([]Instance, error) {
		counts := map[string]int{}
		for offset := 0; ; {
			page, err := s.keyPage(ctx, KeyFilter{}, offset, r.limits.Page)
			if err != nil {
				return nil, err
			}
			for _, key := range page.Keys {
				if key.Instance != "" {
					counts[key.Instance]++
				}
			}
			if offset = page.Next; offset == 0 {
				break
			}
		}
		var instances []Instance
		for _, name := range slices.Sorted(maps.Keys(counts)) {
			instances = append(instances, Instance{name, counts[name]})
		}
		return instances, nil
	})
}
