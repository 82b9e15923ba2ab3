package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"
)

// The audit log stores two values here, so that the loss of an acknowledged record from its files is detected:
//
//	ha    the identity of the log, and the start of its last file
//	hh    its high-water mark
//
// Each is auditFormat, the log's own bytes, and a checksum over the entry's key and both (CRC-32C).
const auditFormat = 1

var (
	auditAnchorKey = []byte("ha")
	auditHeadKey   = []byte("hh")

	errAuditHead = errors.New("what the database knows of the audit log is damaged: restore the database from a backup")
)

// SetAuditHead stores both values, or where anchor is nil head alone, or neither, and removes the records of changes from the outbox
// that the log has, in one transaction.
func (s *Store) SetAuditHead(ctx context.Context, anchor, head []byte, logged []uint64) error {
	return s.change(ctx, func(txn *transaction) error {
		for _, change := range logged {
			if err := txn.Delete(outboxKey(change)); err != nil {
				return err
			}
		}
		if anchor != nil {
			if err := txn.Set(auditAnchorKey, sealAudit(auditAnchorKey, anchor)); err != nil {
				return err
			}
		}
		if head == nil {
			return nil
		}
		return txn.Set(auditHeadKey, sealAudit(auditHeadKey, head))
	}, func() {})
}

// AuditHead returns what SetAuditHead stored last; nil where it never did.
func (s *Store) AuditHead() (anchor, head []byte, err error) { return readAuditHead(s.db) }

func sealAudit(key, value []byte) []byte {
	b := append([]byte{auditFormat}, value...)
	return binary.BigEndian.AppendUint32(b, checksum(key, b))
}

func readAuditHead(db *badger.DB) (anchor, head []byte, err error) {
	err = db.View(func(txn *badger.Txn) error {
		var err1, err2 error
		anchor, err1 = openAudit(txn, auditAnchorKey)
		head, err2 = openAudit(txn, auditHeadKey)
		return errors.Join(err1, err2)
	})
	if err == nil && (anchor == nil) != (head == nil) {
		err = errAuditHead
	}
	return anchor, head, err
}

func openAudit(txn reader, key []byte) (value []byte, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAuditHead, err)
	}
	b, err := item.ValueCopy(nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errAuditHead, err)
	}
	if len(b) < 1+crc32.Size || b[0] != auditFormat ||
		binary.BigEndian.Uint32(b[len(b)-crc32.Size:]) != checksum(key, b[:len(b)-crc32.Size]) {
		return nil, errAuditHead
	}
	return b[1 : len(b)-crc32.Size], nil
}
