package kms

import "context"

// ScheduleKeyDeletion makes a key unusable and has it destroyed after so many days.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, id KeyID, days int) (*Key, error) {
	return nil, errPending
}

// CancelKeyDeletion takes a key back that waits for its deletion. It is Disabled then, or PendingImport if it is external
// and has no material.
func (s *Service) CancelKeyDeletion(ctx context.Context, id KeyID) (*Key, error) {
	return nil, errPending
}

// UpdateAlias renames a key.
func (s *Service) UpdateAlias(ctx context.Context, id KeyID, alias string) (*Key, error) {
	return nil, errPending
}

// UpdateDescription replaces a key's description, which may be empty.
func (s *Service) UpdateDescription(ctx context.Context, id KeyID, description string) (*Key, error) {
	return nil, errPending
}

// Usage is how much there is of what is limited.
type Usage struct {
	Keys      int // default keys not counted
	KeyLimit  int
	MaxGrants int // most grants that any one key has
	Grants    int // limit per key
}

// Quotas returns how much there is of what is limited. op is OpGetQuotas or OpGetInstances.
func (s *Service) Quotas(ctx context.Context) (*Usage, error) { return nil, errPending }

// CountKeys returns how many keys there are, default keys not counted.
func (s *Service) CountKeys(ctx context.Context) (int, error) { return 0, errPending }

var errPending = Errorf(CodeInternal, "internal error")
