package kms

import "context"

// EnableRotation has a key rotated every interval days; 0: the default, 365.
func (s *Service) EnableRotation(ctx context.Context, id KeyID, interval int) (*Key, error) {
	return nil, errPending
}

// UpdateRotation changes the interval, in days, of a key that is rotated. The new period starts now.
func (s *Service) UpdateRotation(ctx context.Context, id KeyID, interval int) (*Key, error) {
	return nil, errPending
}

// DisableRotation ends the rotation of a key. Its versions stay.
func (s *Service) DisableRotation(ctx context.Context, id KeyID) (*Key, error) {
	return nil, errPending
}

// RotationStatus returns a key for its Rotation. A key that cannot be rotated is shown as not rotated.
func (s *Service) RotationStatus(ctx context.Context, id KeyID) (*Key, error) {
	return nil, errPending
}
