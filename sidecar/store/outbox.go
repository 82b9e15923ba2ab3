package store

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// The outbox holds the audit records of changes from the transaction that makes the change until the audit log has stored a
// head that includes them: under q and the number of the change (8 bytes) the lines of the log, in the form of the log's other
// values, see audithead.go.

var outboxPrefix = []byte{'q'}

func outboxKey(change uint64) []byte { return appendUint64(append([]byte{}, outboxPrefix...), change) }

// keepRecord puts the audit record of a change into its transaction, and reports whether there is one.
func (t *transaction) keepRecord(pending *kms.Pending, c kms.Change) (recorded bool, err error) {
	lines := pending.Lines(c)
	switch {
	case len(lines) == 0:
		return false, nil
	case len(lines) >= valueThreshold:
		return false, fmt.Errorf("the audit record of a change has %d bytes, too many to be stored", len(lines))
	}
	key := outboxKey(c.Number)
	return true, t.Set(key, sealAudit(key, lines))
}

// AuditOutbox returns the records that may not be in the audit log yet: whole lines, by the numbers of their changes.
func (s *Store) AuditOutbox() (lines map[uint64][]byte, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		lines, err = readOutbox(txn)
		return err
	})
	return lines, err
}

func readOutbox(txn reader) (map[uint64][]byte, error) {
	found := map[uint64][]byte{}
	for key := range keysFrom(txn, outboxPrefix, nil) {
		lines, err := openAudit(txn, key)
		if err != nil {
			return nil, err
		}
		if len(key) != len(outboxKey(0)) {
			return nil, errAuditHead
		}
		found[binary.BigEndian.Uint64(key[len(outboxPrefix):])] = lines
	}
	return found, nil
}

// LastRecorded returns the number of the last change with an audit record, 0 for none.
func (s *Store) LastRecorded() uint64 {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.state.recorded
}

// SkipChanges makes recorded the number of the last change with a record, and numbers later changes above it and above after. It is
// for a database that has lost changes.
func (s *Store) SkipChanges(ctx context.Context, recorded, after uint64) error {
	return s.change(ctx, func(txn *transaction) error {
		txn.recorded, txn.after = recorded, max(recorded, after)
		return nil
	}, func() {})
}
