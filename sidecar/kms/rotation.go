package kms

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/keyside/keyside/policy"
)

// Days from one rotation of a key to the next (Huawei KMS user guide, section 2.7.2). leastInterval is the shortest that the
// Rules of a dialect allow.
const (
	minInterval     = 30
	maxInterval     = 365
	defaultInterval = 365
	leastInterval   = 7
)

// EnableRotation enables the rotation of a key every interval days; 0 means the default, 365. The first period starts now.
func (s *Service) EnableRotation(ctx context.Context, id KeyID, interval int) (*Key, error) {
	interval = cmp.Or(interval, defaultInterval)
	return s.schedule(ctx, policy.OpEnableRotation, id, interval, func(p *Rotation) error {
		if p.Enabled {
			return errRotationEnabled
		}
		*p = p.every(interval, s.now())
		return nil
	})
}

// UpdateRotation changes the rotation interval of a key, in days. The new period starts now.
func (s *Service) UpdateRotation(ctx context.Context, id KeyID, interval int) (*Key, error) {
	return s.schedule(ctx, policy.OpUpdateRotation, id, interval, func(p *Rotation) error {
		if !p.Enabled {
			return errRotationDisabled
		}
		p.Interval, p.Next = interval, s.now().Add(days(interval))
		return nil
	})
}

// DisableRotation disables the rotation of a key. Its versions and the history in its Rotation stay.
func (s *Service) DisableRotation(ctx context.Context, id KeyID) (*Key, error) {
	return s.schedule(ctx, policy.OpDisableRotation, id, 0, func(p *Rotation) error {
		if !p.Enabled {
			return errRotationDisabled
		}
		p.Enabled, p.Next = false, time.Time{}
		return nil
	})
}

// SetRotation enables the rotation of a key every interval days, changes its interval, or disables it. It requires the
// permission to enable or to disable rotation, and succeeds where the key is rotated so already.
func (s *Service) SetRotation(ctx context.Context, id KeyID, enabled bool, interval int) (*Key, error) {
	if !enabled {
		return s.schedule(ctx, policy.OpDisableRotation, id, 0, func(p *Rotation) error {
			p.Enabled, p.Next = false, time.Time{}
			return nil
		})
	}
	return s.schedule(ctx, policy.OpEnableRotation, id, interval, func(p *Rotation) error {
		*p = p.every(interval, s.now())
		return nil
	})
}

// every returns the schedule with another interval, in days. The first period starts now.
func (p Rotation) every(interval int, now time.Time) Rotation {
	p.Enabled, p.Interval, p.Next = true, interval, now.Add(days(interval))
	return p
}

// done returns the rotation schedule after a rotation. Due times keep their distance; one rotation makes up for several that
// were due during a long absence.
func (p Rotation) done(now time.Time) Rotation {
	interval := days(max(p.Interval, leastInterval))
	p.Last, p.Count, p.Next = now, p.Count+1, p.Next.Add(interval)
	if !p.Next.After(now) {
		p.Next = now.Add(interval)
	}
	return p
}

// clockStep is how far the clock must be set back for the rotation schedules to be checked. No period is that short.
const clockStep = time.Minute

// ahead reports whether a rotation schedule was made while the clock was ahead by more than an interval: the next rotation
// is then further away than any schedule puts it. If the clock was ahead by less, the key is rotated late once.
func (p Rotation) ahead(now time.Time) bool {
	return p.Enabled && p.Next.After(now.Add(2*days(max(p.Interval, leastInterval))))
}

// fixSchedules finds, at start and after the clock was set back, rotation schedules that were made while the clock was
// ahead, and starts their period now. Otherwise the keys would be rotated much too late.
func (s *Service) fixSchedules(ctx context.Context, now time.Time) {
	m := &s.scheduler
	if now.Before(m.looked.Add(-clockStep)) {
		m.right = false
	}
	if m.looked = now; m.right || m.plans.waits(now) {
		return
	}
	ids, err := s.store.DueAfter(ctx, now.Add(2*days(leastInterval)))
	for _, id := range ids {
		if err == nil {
			err = s.setPlanRight(ctx, id, now)
		}
	}
	if err != nil {
		m.plans.backOff(now)
		s.log.LogAttrs(ctx, slog.LevelError, "rotations planned by a clock that was ahead are not planned anew", slog.String("error", err.Error()))
		return
	}
	m.right, m.plans = true, retry{}
}

func (s *Service) setPlanRight(ctx context.Context, id KeyID, now time.Time) error {
	key, err := s.store.Key(ctx, id)
	if err != nil || !key.Rotation.ahead(now) {
		return ignoreNotFound(err)
	}
	was := key.Rotation.Next
	_, err = s.store.UpdateKey(ctx, id, func(k *Key) error {
		if k.Rotation.ahead(now) {
			k.Rotation.Next = now.Add(days(max(k.Rotation.Interval, leastInterval)))
		}
		return nil
	})
	if err == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "rotation was planned by a clock that was ahead, its period begins now",
			slog.String("key_id", id.String()), slog.Time("planned", was))
	}
	return ignoreNotFound(err)
}

// ignoreNotFound returns nil for a key that was destroyed meanwhile.
func ignoreNotFound(err error) error {
	if isNotFound(err) {
		return nil
	}
	return err
}

// schedule performs an operation that changes the rotation schedule of a key. Only symmetric keys with generated material
// have one (Huawei KMS user guide, table 2-12).
func (s *Service) schedule(
	ctx context.Context, op policy.Operation, id KeyID, interval int, set func(*Rotation) error,
) (*Key, error) {
	return s.change(ctx, op, id, func(r *request) error {
		if op == policy.OpDisableRotation {
			return nil
		}
		return r.rules().checkInterval(interval)
	}, func(_ *request, key *Key) error {
		if key.Origin != OriginKMS {
			return errImported
		}
		if err := checkKind(op, key.Spec, key.Usage); err != nil {
			return err
		}
		return set(&key.Rotation)
	})
}

func (u *Rules) checkInterval(interval int) error {
	least, most := cmp.Or(u.MinRotation, minInterval), cmp.Or(u.MaxRotation, maxInterval)
	if interval < least || interval > most {
		return Invalid("rotation_interval", ReasonOutOfRange, "rotation interval must be %d to %d days", least, most)
	}
	return nil
}

// maxVersions is the number of versions up to which callers can make new ones (Alibaba Cloud KMS API, CreateKeyVersion).
const maxVersions = 50

// CreateKeyVersion gives an asymmetric key of origin OriginKMS a new version, which signs from then on and whose public half
// encrypts. The earlier ones stay, for calls that name them.
func (s *Service) CreateKeyVersion(ctx context.Context, id KeyID) (*Key, error) {
	return run(ctx, s, policy.OpCreateKeyVersion, func(ctx context.Context, r *request) (*Key, error) {
		key, err := s.use(ctx, r, id)
		if err != nil {
			return nil, err
		}
		number := r.version.Number + 1
		if err := s.checkNext(r, key, number); err != nil {
			return nil, err
		}
		version, err := s.makeVersion(ctx, key, number)
		if err != nil {
			return nil, err
		}
		return s.store.UpdateKey(s.recorded(ctx, r), id, func(k *Key) error {
			if err := r.rules().checkKey(r.op, k); err != nil {
				return err
			}
			if err := s.checkNext(r, k, number); err != nil {
				return err
			}
			k.Versions = append(slices.Clip(k.Versions), *version)
			r.version = version
			return nil
		})
	})
}

// checkNext checks that a key may get the version with a number now.
func (s *Service) checkNext(r *request, key *Key, number uint32) error {
	current := key.Current()
	switch {
	case key.Origin != OriginKMS:
		return errImported
	case current == nil || current.Number+1 != number:
		return Errorf(CodeBusy, "another version was made meanwhile")
	case len(key.Versions) >= maxVersions:
		return Errorf(CodeQuotaExceeded, "key has %d versions already", maxVersions).In("versions")
	case s.now().Before(current.CreatedAt.Add(days(r.rules().VersionDays))):
		return Errorf(CodeQuotaExceeded, "the newest version is less than %d days old", r.rules().VersionDays).In("versions")
	}
	return nil
}

// rotationPause is the least time between two rotations of which a caller asks for the second.
const rotationPause = 24 * time.Hour

// RotateKey rotates a key with a rotation schedule before it is due. It requires the permission to create key versions.
func (s *Service) RotateKey(ctx context.Context, id KeyID) (*Key, error) {
	return run(ctx, s, policy.OpCreateKeyVersion, func(ctx context.Context, r *request) (*Key, error) {
		key, err := s.inState(ctx, r, id)
		if err != nil {
			return nil, err
		}
		if err := s.checkRotate(key); err != nil {
			return nil, err
		}
		version, err := s.makeVersion(ctx, key, key.Current().Number+1)
		if err != nil {
			return nil, err
		}
		return s.store.UpdateKey(s.recorded(ctx, r), id, func(k *Key) error {
			switch err := cmp.Or(r.rules().checkKey(r.op, k), s.checkRotate(k)); {
			case err != nil:
				return err
			case k.Current().Number+1 != version.Number:
				return Errorf(CodeBusy, "another version was made meanwhile")
			}
			k.Versions = append(slices.Clip(k.Versions), *version)
			k.Rotation = k.Rotation.done(version.CreatedAt)
			r.version = version
			return nil
		})
	})
}

// checkRotate checks that a caller can have a key rotated now.
func (s *Service) checkRotate(key *Key) error {
	switch err := checkKind(policy.OpEnableRotation, key.Spec, key.Usage); {
	case key.Origin != OriginKMS:
		return errImported
	case err != nil:
		return err
	case !key.Rotation.Enabled:
		return errRotationDisabled
	case s.now().Before(key.Rotation.Last.Add(rotationPause)):
		return Errorf(CodeQuotaExceeded, "key was rotated in the last %v", rotationPause).In("versions")
	}
	return nil
}

// RotationStatus returns a key for its Rotation. A key that cannot be rotated is shown as not rotated.
func (s *Service) RotationStatus(ctx context.Context, id KeyID) (*Key, error) {
	return s.look(ctx, policy.OpGetRotation, id)
}
