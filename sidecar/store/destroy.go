package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// destroyBatch is how many entries one transaction removes at least, far below what badger takes in one.
const destroyBatch = 1000

// DestroyKeys implements kms.Store.
func (s *Store) DestroyKeys(ctx context.Context, ids []kms.KeyID, doomed func(*kms.Key) bool) (gone []*kms.Key, err error) {
	for len(ids) > 0 {
		var batch []record
		var done int
		err := s.change(ctx, func(txn *badger.Txn) error {
			batch, done, err = removeKeys(txn, ids, doomed)
			keys, defaults := s.index.count()
			return errors.Join(err, txn.Set(countKey(), appendUint64(nil, uint64(keys+defaults-len(batch)))))
		}, func() {
			s.index.remove(batch)
			for _, r := range batch {
				s.cache.remove(r.key.ID)
			}
		})
		if err != nil {
			return gone, err
		}
		for _, r := range batch {
			gone = append(gone, r.key)
		}
		ids = ids[done:]
	}
	return gone, nil
}

// removeKeys puts the removal of doomed keys into a transaction, of as many as fit, and returns them and how many of the
// ids it has done with.
func removeKeys(txn *badger.Txn, ids []kms.KeyID, doomed func(*kms.Key) bool) (gone []record, done int, err error) {
	for size := 0; done < len(ids) && size < destroyBatch; done++ {
		r, err := readRecord(txn, ids[done])
		if e := (*kms.Error)(nil); errors.As(err, &e) && e.Code == kms.CodeNotFound {
			continue
		}
		if err != nil {
			return nil, 0, err
		}
		if !doomed(r.key) {
			continue
		}
		entries := belongings(txn, r)
		for _, key := range entries {
			if err := txn.Delete(key); err != nil {
				return nil, 0, fmt.Errorf("remove key %s: %w", r.key.ID, err)
			}
		}
		gone = append(gone, r)
		size += len(entries)
	}
	return gone, done, nil
}

// belongings returns the database's keys of all that belongs to a key.
func belongings(txn *badger.Txn, r record) [][]byte {
	id := r.key.ID
	entries := [][]byte{recordKey(id), orderKey(uint64(r.sequence)), aliasKey(r.key.Alias)}
	for _, name := range aliasNames(txn, id, "", 0) {
		entries = append(entries, nameKey(name), keyNameKey(id, name))
	}
	for k := range keysFrom(txn, messagesPrefix(id), messagesPrefix(id)) {
		entries = append(entries, k)
	}
	return entries
}
