package kms_test

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// killer kills this process when it comes by for the nth time.
type killer struct{ left atomic.Int64 }

func (k *killer) point() {
	if k.left.Add(-1) == 0 {
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	}
}

// The ports with a point before and after each call that writes, and inside each transaction.
type (
	mortalStore struct {
		*store.Store
		*killer
	}
	mortalHSM struct {
		*fakeHSM
		*killer
	}
	mortalAudit struct{ *killer }
)

func (m mortalStore) CreateKey(ctx context.Context, key *kms.Key, quota int) error {
	m.point()
	defer m.point()
	return m.Store.CreateKey(ctx, key, quota)
}

func (m mortalStore) UpdateKey(ctx context.Context, id kms.KeyID, change func(*kms.Key) error) (*kms.Key, error) {
	m.point()
	defer m.point()
	return m.Store.UpdateKey(ctx, id, func(key *kms.Key) error {
		defer m.point()
		return change(key)
	})
}

func (m mortalStore) ChangeGrants(
	ctx context.Context, id kms.KeyID, change func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error),
) error {
	m.point()
	defer m.point()
	return m.Store.ChangeGrants(ctx, id, func(key *kms.Key, grants []*policy.Grant) ([]*policy.Grant, error) {
		defer m.point()
		return change(key, grants)
	})
}

func (m mortalStore) DestroyKeys(ctx context.Context, ids []kms.KeyID, doomed func(*kms.Key) bool) ([]*kms.Key, error) {
	m.point()
	defer m.point()
	return m.Store.DestroyKeys(ctx, ids, func(key *kms.Key) bool {
		defer m.point()
		return doomed(key)
	})
}

func (m mortalStore) ReserveMessages(ctx context.Context, id kms.KeyID, version uint32, n uint64) (uint64, error) {
	m.point()
	defer m.point()
	return m.Store.ReserveMessages(ctx, id, version, n)
}

func (m mortalStore) CreatePair(ctx context.Context, p *kms.WrappingPair, limit int) error {
	m.point()
	defer m.point()
	return m.Store.CreatePair(ctx, p, limit)
}

func (m mortalStore) DestroyPairs(ctx context.Context, now time.Time, limit int) ([]*kms.WrappingPair, time.Time, error) {
	gone, next, err := m.Store.DestroyPairs(ctx, now, limit)
	if len(gone) > 0 {
		m.point()
	}
	return gone, next, err
}

func (m mortalHSM) ImportKey(ctx context.Context, ref kms.KeyRef, w kms.WrappedMaterial) (*kms.SealedKey, error) {
	m.point()
	defer m.point()
	return m.fakeHSM.ImportKey(ctx, ref, w)
}

func (m mortalHSM) MakeKey(ctx context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	defer m.point()
	return m.fakeHSM.MakeKey(ctx, ref)
}

func (m mortalHSM) DestroyKey(ctx context.Context, ref kms.KeyRef) error {
	defer m.point()
	return m.fakeHSM.DestroyKey(ctx, ref)
}

func (m mortalAudit) Record(_ context.Context, r *kms.AuditRecord) error {
	m.point()
	for ; r != nil; r = r.Next {
		say("audit %s %s %s", r.Operation, r.Outcome, r.KeyID)
	}
	m.point()
	return nil
}

func (m mortalAudit) Ready(context.Context) error { return nil }

func (m mortalAudit) Line(r *kms.AuditRecord) []byte { return fmt.Appendln(nil, r.Operation, r.KeyID) }
