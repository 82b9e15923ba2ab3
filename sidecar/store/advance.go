package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// AdvanceMessages implements kms.MessageStore.
func (s *Store) AdvanceMessages(ctx context.Context, n uint64) error {
	counts, err := s.countedVersions()
	if err != nil {
		return err
	}
	batches := slices.Collect(slices.Chunk(counts, releaseBatch))
	if len(batches) == 0 {
		batches = [][][]byte{nil} // for the record
	}
	for i, batch := range batches {
		within := ctx
		if i < len(batches)-1 {
			within = kms.WithPending(ctx, nil)
		}
		err := s.change(within, func(txn *transaction) error {
			for _, key := range batch {
				next, err := readUint64(txn, key)
				if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
					return fmt.Errorf("read message count: %w", err)
				}
				if next+n < next {
					return errors.New("message count overflows")
				}
				if err := txn.Set(key, appendUint64(nil, next+n)); err != nil {
					return err
				}
			}
			return nil
		}, func() {})
		if err != nil {
			return err
		}
	}
	return nil
}

// countedVersions returns the entries of the message counts of all versions of symmetric keys, also of those that encrypted nothing
// yet, and of the first one of keys that wait for their material: it may be what was imported and used before.
func (s *Store) countedVersions() (counts [][]byte, err error) {
	add := func(key *kms.Key) {
		if !key.CountsMessages() {
			return
		}
		for _, v := range key.Versions {
			counts = append(counts, messagesKey(key.ID, v.Number))
		}
		if len(key.Versions) == 0 {
			counts = append(counts, messagesKey(key.ID, 1))
		}
	}
	err = s.db.View(func(txn *badger.Txn) error {
		if key, err := readCredentialKey(txn); err == nil {
			add(key)
		} else if !notFound(err) {
			return err
		}
		for key := range keysFrom(txn, recordPrefix(), nil) {
			id, err := idOf(key)
			if err != nil {
				return err
			}
			r, err := readRecord(txn, id)
			if err != nil {
				return err
			}
			add(r.key)
		}
		return nil
	})
	return counts, err
}
