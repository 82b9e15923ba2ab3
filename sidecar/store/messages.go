package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// ReserveMessages implements kms.MessageStore.
func (s *Store) ReserveMessages(ctx context.Context, id kms.KeyID, version uint32, n uint64) (first uint64, err error) {
	err = s.change(ctx, func(txn *transaction) error {
		first, err = readUint64(txn, messagesKey(id, version))
		if errors.Is(err, badger.ErrKeyNotFound) {
			err = checkExists(txn, id) // otherwise a key that was just destroyed would leave a count
		}
		if err != nil {
			return fmt.Errorf("read message count: %w", err)
		}
		if first+n < first {
			return errors.New("message count overflows")
		}
		return txn.Set(messagesKey(id, version), appendUint64(nil, first+n))
	}, func() {})
	return first, err
}

// checkExists refuses an id that is neither that of a key nor that of the credential key.
func checkExists(txn reader, id kms.KeyID) error {
	if _, err := txn.Get(recordKey(id)); !errors.Is(err, badger.ErrKeyNotFound) {
		return err
	}
	if key, err := readCredentialKey(txn); err == nil && key.ID == id {
		return nil
	} else if err != nil && !notFound(err) {
		return err
	}
	return kms.Errorf(kms.CodeNotFound, "key does not exist")
}

// releaseBatch is the number of ranges that one transaction releases, far below the limit of badger.
const releaseBatch = 1000

// ReleaseMessages implements kms.MessageStore.
func (s *Store) ReleaseMessages(ctx context.Context, unused []kms.MessageRange) error {
	for batch := range slices.Chunk(unused, releaseBatch) {
		err := s.change(ctx, func(txn *transaction) error {
			for _, r := range batch {
				next, err := readUint64(txn, messagesKey(r.ID, r.Version))
				if errors.Is(err, badger.ErrKeyNotFound) {
					continue // the key was destroyed
				}
				if err != nil {
					return fmt.Errorf("read message count: %w", err)
				}
				if next != r.End || r.First > r.End {
					continue
				}
				if err := txn.Set(messagesKey(r.ID, r.Version), appendUint64(nil, r.First)); err != nil {
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

// ReservedMessages implements kms.MessageStore.
func (s *Store) ReservedMessages(_ context.Context, id kms.KeyID, version uint32) (reserved uint64, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		reserved, err = readCount(txn, messagesKey(id, version))
		return err
	})
	return reserved, err
}

// readCount returns a message count, 0 where nothing is reserved.
func readCount(txn reader, key []byte) (uint64, error) {
	n, err := readUint64(txn, key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read message count: %w", err)
	}
	return n, nil
}

// MessageCounts implements kms.MessageStore.
func (s *Store) MessageCounts(ctx context.Context, visit func(id kms.KeyID, version uint32, reserved uint64) error) error {
	return s.db.View(func(txn *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = countsPrefix()
		it := txn.NewIterator(opts)
		defer it.Close()
		for it.Rewind(); it.Valid() && ctx.Err() == nil; it.Next() {
			key := it.Item().Key()
			if err := it.Item().Value(func(value []byte) error {
				var id kms.KeyID
				if len(key) != len(messagesKey(id, 0)) || len(value) != 8 {
					return errors.New("a message count is damaged")
				}
				copy(id[:], key[1:])
				return visit(id, binary.BigEndian.Uint32(key[1+len(id):]), binary.BigEndian.Uint64(value))
			}); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
}
