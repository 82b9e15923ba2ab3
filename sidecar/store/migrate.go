package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/sidecar/kms"
)

// migrationBatch is how many keys one transaction brings into the new format. A key of format 1 has few versions: it could
// not be rotated.
const migrationBatch = 200

// moveMaterial leads from format 1 to 2: each key's record goes from k to r, its sealed bytes go out of it to entries of
// their own, and the index under o goes. Each transaction does some keys from beginning to end, so a crash leaves each key
// in one format or the other. What is under k holds sealed bytes, so it must leave the files.
func moveMaterial(s *Store) error {
	ctx := context.Background()
	if err := s.change(ctx, func(txn *transaction) error { return writeIntents(txn, [][]byte{{'k'}}) }, func() {}); err != nil {
		return err
	}
	for {
		var old [][]byte
		err := s.change(ctx, func(txn *transaction) error {
			for key := range keysFrom(txn, []byte{'k'}, nil) {
				if old = append(old, key); len(old) == migrationBatch {
					break
				}
			}
			for _, key := range old {
				if err := moveRecord(txn, key); err != nil {
					return err
				}
			}
			return nil
		}, func() {})
		if err != nil {
			return err
		}
		if len(old) < migrationBatch {
			break
		}
	}
	return s.removeAll([]byte{'o'})
}

// removeAll deletes what is under a prefix.
func (s *Store) removeAll(prefix []byte) error {
	var keys [][]byte
	if err := s.db.View(func(txn *badger.Txn) error {
		keys = slices.Collect(keysFrom(txn, prefix, nil))
		return nil
	}); err != nil {
		return err
	}
	for batch := range slices.Chunk(keys, destroyBatch) {
		err := s.change(context.Background(), func(txn *transaction) error {
			for _, key := range batch {
				if err := txn.Delete(key); err != nil {
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

// moveRecord brings one record of format 1 into format 2.
func moveRecord(txn *transaction, key []byte) error {
	id, err := idOf(key)
	if err != nil {
		return err
	}
	item, err := txn.Get(key)
	if err != nil {
		return err
	}
	var r record
	if err := item.Value(func(value []byte) (err error) {
		r, err = decodeRecord1(id, value)
		return err
	}); err != nil {
		return fmt.Errorf("key %s: %w", id, err)
	}
	if _, err := writeMaterial(txn, record{}, r); err != nil {
		return err
	}
	return errors.Join(writeRecord(txn, r), txn.Delete(key))
}

// storedKey1 is a key as format 1 stored it, after a byte that is 1.
type storedKey1 struct {
	Sequence    uint32           `json:"seq"`
	ID          kms.KeyID        `json:"id"`
	Alias       string           `json:"alias"`
	Description string           `json:"desc"`
	Spec        kms.KeySpec      `json:"spec"`
	Usage       kms.KeyUsage     `json:"usage"`
	Origin      kms.Origin       `json:"origin"`
	State       kms.KeyState     `json:"state"`
	CreatedMS   int64            `json:"created"`
	Versions    []storedVersion1 `json:"versions"`
}

type storedVersion1 struct {
	Number     uint32         `json:"n"`
	CreatedMS  int64          `json:"created"`
	Sealed     []byte         `json:"sealed"`
	Root       uint32         `json:"root"`
	Protection kms.Protection `json:"protection"`
	PublicKey  []byte         `json:"public"`
}

func decodeRecord1(id kms.KeyID, b []byte) (record, error) {
	if len(b) == 0 || b[0] != 1 {
		return record{}, fmt.Errorf("%w: unknown format", errRecord)
	}
	var stored storedKey1
	if err := json.Unmarshal(b[1:], &stored, json.RejectUnknownMembers(true)); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if stored.ID != id {
		return record{}, fmt.Errorf("%w: it is that of %s", errRecord, stored.ID)
	}
	k := &kms.Key{
		ID: stored.ID, Alias: stored.Alias, Description: stored.Description, Spec: stored.Spec, Usage: stored.Usage,
		Origin: stored.Origin, State: stored.State, CreatedAt: time.UnixMilli(stored.CreatedMS).UTC(),
	}
	for _, v := range stored.Versions {
		if len(v.Sealed) == 0 {
			return record{}, fmt.Errorf("%w: version %d has no material", errRecord, v.Number)
		}
		k.Versions = append(k.Versions, kms.KeyVersion{
			Number: v.Number, CreatedAt: time.UnixMilli(v.CreatedMS).UTC(), Sealed: v.Sealed, Root: v.Root,
			Protection: v.Protection, PublicKey: v.PublicKey,
		})
	}
	return newRecord(k, stored.Sequence), nil
}
