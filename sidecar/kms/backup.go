package kms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// ScheduledBackup makes a backup on behalf of the scheduler and records it with its outcome. do makes it and returns what the record
// says about it.
func (s *Service) ScheduledBackup(ctx context.Context, do func(context.Context) (target string, err error)) error {
	r := s.scheduled(ctx, policy.OpCreateBackup, KeyID{})
	r.keyID = nil
	if err := s.ready(ctx); err != nil {
		return err
	}
	var err error
	r.target, err = do(ctx)
	return s.finish(ctx, &r, err)
}

// Restored says what a database was restored from.
type Restored struct {
	Caller  policy.Caller // who did it
	Backup  string        // which backup, for the record
	Warning string        // what is lost
	Numbers uint64        // message numbers of each key version that may have been used since the backup
}

// RecordRestore makes no message number be used again that may have been used since a backup was made, and records the restore in
// the same transaction. The database is that of a node that does not run.
func (s *Service) RecordRestore(ctx context.Context, in Restored) error {
	r := s.newRequest(WithCall(ctx, &Call{RequestID: uuid.NewString(), Caller: in.Caller, Principal: policy.Principal{Name: restorer}}), policy.OpRestoreBackup)
	r.decided, r.decision, r.target, r.warning = true, policy.Decision{Allow: true, By: "files"}, in.Backup, in.Warning
	if err := s.ready(ctx); err != nil {
		return err
	}
	return s.finish(ctx, &r, s.store.AdvanceMessages(s.recorded(ctx, &r), in.Numbers))
}

// restorer is the principal in the records of a restore.
const restorer = "restore"

// Lost is a change that was made after a backup, as its audit record names it.
type Lost struct {
	Operation policy.Operation
	KeyID     string
	Target    string
}

// Reapplied reports whether Reapply makes changes of an operation again: those after which a caller could do less.
func Reapplied(op policy.Operation) bool { return reapply[op] != nil }

// reapply has the changes that a restore makes again. What does not exist in the backup needs nothing.
var reapply = map[policy.Operation]func(*Service, context.Context, Lost) error{
	policy.OpRevokeGrant: (*Service).reapplyRevocation,
	policy.OpRetireGrant: (*Service).reapplyRevocation,
	policy.OpDeleteCredential: func(s *Service, ctx context.Context, l Lost) error {
		return s.DeleteCredential(ctx, l.Target)
	},
	policy.OpDisableKey:       (*Service).reapplyDisabling,
	policy.OpScheduleDeletion: (*Service).reapplyDisabling, // its record has no date
	policy.OpCancelDeletion:   (*Service).reapplyDisabling, // after it a key is disabled
	policy.OpDeleteMaterial:   (*Service).reapplyMaterialLoss,
	policy.OpExpireMaterial:   (*Service).reapplyMaterialLoss,
	policy.OpDestroyKey:       (*Service).reapplyDestruction,
}

// Reapply makes changes again that were made after a backup, in their order, on behalf of the user who restores it. A key that was
// enabled again in the end is not disabled.
func (s *Service) Reapply(ctx context.Context, by policy.Caller, lost []Lost) error {
	ctx = WithCall(ctx, &Call{
		RequestID: uuid.NewString(), Caller: by, Principal: policy.Principal{Name: restorer, Role: policy.Administrator},
	})
	last := map[string]policy.Operation{} // that changed whether a key is enabled
	for _, l := range lost {
		if slices.Contains(changesOfState, l.Operation) {
			last[l.KeyID] = l.Operation
		}
	}
	for _, l := range lost {
		again := reapply[l.Operation]
		if again == nil || slices.Contains(changesOfState, l.Operation) && last[l.KeyID] == policy.OpEnableKey {
			continue
		}
		if err := again(s, ctx, l); err != nil && AsError(err).Code != CodeNotFound {
			return err
		}
	}
	return nil
}

// changesOfState are the operations that enable or disable a key.
var changesOfState = []policy.Operation{policy.OpEnableKey, policy.OpDisableKey, policy.OpScheduleDeletion, policy.OpCancelDeletion}

func (s *Service) reapplyRevocation(ctx context.Context, l Lost) error {
	id, err := ParseKeyID(l.KeyID)
	if err != nil {
		return err
	}
	grant, _, _ := strings.Cut(l.Target, " ")
	if !slices.ContainsFunc(s.store.Grants(id), func(g *policy.Grant) bool { return g.ID == grant }) {
		return nil // and no record of a refusal
	}
	return s.RevokeGrant(ctx, id, grant)
}

func (s *Service) reapplyDisabling(ctx context.Context, l Lost) error {
	key, err := s.keyNamed(ctx, l)
	if err == nil && key.State == Archived { // from which there is no other way
		key, err = s.EnableKey(ctx, key.ID)
	}
	if err != nil || key.State != Enabled {
		return err
	}
	_, err = s.DisableKey(ctx, key.ID)
	return err
}

func (s *Service) keyNamed(ctx context.Context, l Lost) (*Key, error) {
	id, err := ParseKeyID(l.KeyID)
	if err != nil {
		return nil, err
	}
	return s.store.Key(ctx, id)
}

// anyKey is the check of a change that is made whatever the key's state is.
func anyKey(*Key) error { return nil }

func (s *Service) reapplyMaterialLoss(ctx context.Context, l Lost) error {
	key, err := s.keyNamed(ctx, l)
	if err != nil || key.Current() == nil {
		return err
	}
	return doWithout(ctx, s, policy.OpDeleteMaterial, func(ctx context.Context, r *request) error {
		r.keyID = &key.ID
		if err := s.authorize(r, key, nil); err != nil {
			return err
		}
		if err := s.recordBegun(ctx, r); err != nil {
			return err
		}
		_, err := s.dropMaterial(s.recorded(ctx, r), key.ID, anyKey)
		return err
	})
}

// reapplyDestruction makes the deletion of a key due, and then destroys it as the scheduler does.
func (s *Service) reapplyDestruction(ctx context.Context, l Lost) error {
	key, err := s.keyNamed(ctx, l)
	if err != nil {
		return err
	}
	err = doWithout(ctx, s, policy.OpScheduleDeletion, func(ctx context.Context, r *request) (err error) {
		r.keyID = &key.ID
		if err := s.authorize(r, key, nil); err != nil {
			return err
		}
		key, err = s.store.UpdateKey(s.recorded(ctx, r), key.ID, func(k *Key) error {
			k.State, k.DeletionAt = PendingDeletion, r.start.UTC().Truncate(time.Millisecond)
			return nil
		})
		return err
	})
	if err != nil {
		return err
	}
	s.destroyDue(ctx, []*Key{key})
	if _, err := s.store.Key(ctx, key.ID); err == nil || AsError(err).Code != CodeNotFound {
		return errors.Join(errors.New("key "+key.ID.String()+" could not be destroyed again"), err)
	}
	return nil
}

// CheckCredentials returns an error if the HSM does not open the secret of an access key, as CheckGrants does for grants.
func (s *Service) CheckCredentials(ctx context.Context) error {
	if err := s.identities.ready(); err != nil {
		return err
	}
	list, err := s.identities.store.ListCredentials(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		secret, err := s.unseal(ctx, c.Sealed, c.bound())
		clear(secret)
		if err != nil {
			return fmt.Errorf("access key %s: %w", c.AccessKey, err)
		}
	}
	return nil
}
