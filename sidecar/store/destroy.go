package store

import (
	"context"
	"errors"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// destroyBatch is how many entries one transaction removes at least, far below what badger takes in one. A transaction
// that is larger holds up other writers for longer.
const destroyBatch = 500

// DestroyKeys implements kms.KeyStore.
func (s *Store) DestroyKeys(ctx context.Context, ids []kms.KeyID, doomed func(*kms.Key) bool) (gone []*kms.Key, err error) {
	for len(ids) > 0 && err == nil {
		var batch []*kms.Key
		batch, ids, err = s.removeSome(ctx, ids, doomed)
		gone = append(gone, batch...)
	}
	return gone, errors.Join(err, s.purge())
}

// removeSome removes the first doomed keys among ids, as many as go into one transaction, and returns them and the ids
// that are left.
func (s *Store) removeSome(ctx context.Context, ids []kms.KeyID, doomed func(*kms.Key) bool) (gone []*kms.Key, rest []kms.KeyID, err error) {
	var removed []record
	var intents [][]byte
	err = s.change(ctx, func(txn *transaction) error {
		// The transaction's own writes would be in the way of its iterators. As there is one writer, this one sees the same.
		view := s.db.NewTransaction(false)
		defer view.Discard()
		names := view.NewIterator(badger.IteratorOptions{Prefix: namesPrefix()})
		defer names.Close()
		counts := view.NewIterator(badger.IteratorOptions{Prefix: countsPrefix()})
		defer counts.Close()
		var entries [][]byte
		seen := make(map[kms.KeyID]bool)
		for rest = ids; len(rest) > 0 && len(entries) < destroyBatch; rest = rest[1:] {
			if seen[rest[0]] {
				continue
			}
			seen[rest[0]] = true
			r, err := readRecord(view, rest[0])
			if notFound(err) {
				continue
			}
			if err != nil {
				return err
			}
			if err := readMaterial(view, r); err != nil { // which must not keep it from being destroyed
				s.opts.Logger.Warn("material of a key that may be destroyed is damaged", "error", err)
			}
			if doomed(r.key) {
				removed = append(removed, r)
				for _, g := range s.grants.of(r.key.ID) {
					entries = append(entries, grantKey(g))
				}
				entries = append(entries, entriesOf(r, names, counts)...)
				intents = append(intents, materialPrefix(r.key.ID))
			}
		}
		if len(removed) == 0 {
			return nil
		}
		for _, key := range entries {
			if err := txn.Delete(key); err != nil {
				return err
			}
		}
		keys, defaults := s.index.count()
		return errors.Join(
			writeIntents(txn, intents),
			txn.Set(countKey(), appendUint64(nil, uint64(keys+defaults-len(removed)))),
		)
	}, func() {
		s.index.remove(removed)
		for _, r := range removed {
			s.cache.remove(r.key.ID)
			s.grants.set(r.key.ID, nil)
			gone = append(gone, r.key)
		}
		s.addPendingPurges(intents)
	})
	return gone, rest, err
}

// entriesOf returns the database's keys of all that belongs to a key. The iterators are over all keys' names and counts.
func entriesOf(r record, names, counts *badger.Iterator) [][]byte {
	id := r.key.ID
	entries := [][]byte{recordKey(id), aliasKey(r.key.Alias)}
	for _, v := range r.key.Versions {
		entries = append(entries, materialKey(id, v.Number))
	}
	prefix := keyNameKey(id, "")
	for names.Seek(prefix); names.ValidForPrefix(prefix); names.Next() {
		key := names.Item().KeyCopy(nil)
		entries = append(entries, key, nameKey(string(key[len(prefix):])))
	}
	prefix = messagesPrefix(id)
	for counts.Seek(prefix); counts.ValidForPrefix(prefix); counts.Next() {
		entries = append(entries, counts.Item().KeyCopy(nil))
	}
	return entries
}
