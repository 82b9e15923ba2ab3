package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/kms"
)

// The state record says what the database contains, so that a lost, cut or old file is found whatever entries it held. Every
// transaction replaces it. Its value is stateFormat, the fields of [state] in their order, big-endian, and a checksum over the
// entry's key and both (CRC-32C).
//
// The digest is the XOR of SHA-256 over each entry: length of the key as 4 bytes, key, value. A transaction updates it from the
// values that it replaces. It finds accidents. Whoever can write the database can also compute it; forgeries are found by
// seals and MACs.
const (
	stateFormat = 1
	stateSize   = 1 + 16 + 8 + 8 + 8 + sha256.Size + crc32.Size
)

var (
	stateKey = []byte("y")

	errState = errors.New("the state record is corrupt")
)

// state is the content of a database as of its last transaction.
type state struct {
	node     uuid.UUID // random; a new database gets a new one
	change   uint64    // number of the last transaction; the first has 1
	recorded uint64    // number of the last transaction with an audit record, 0 for none
	entries  uint64    // how many there are, without the state record
	digest   digest
}

type digest [sha256.Size]byte

func (d *digest) toggle(other digest) {
	for i := range d {
		d[i] ^= other[i]
	}
}

func entryDigest(key, value []byte) digest {
	b := make([]byte, 0, 4+len(key)+len(value))
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	return sha256.Sum256(append(append(b, key...), value...))
}

func (s *state) encode() []byte {
	b := append(make([]byte, 0, stateSize), stateFormat)
	b = append(b, s.node[:]...)
	b = binary.BigEndian.AppendUint64(b, s.change)
	b = binary.BigEndian.AppendUint64(b, s.recorded)
	b = binary.BigEndian.AppendUint64(b, s.entries)
	b = append(b, s.digest[:]...)
	return binary.BigEndian.AppendUint32(b, checksum(stateKey, b))
}

func decodeState(b []byte) (s state, err error) {
	if len(b) != stateSize || b[0] != stateFormat {
		return s, errState
	}
	body := b[:stateSize-crc32.Size]
	if binary.BigEndian.Uint32(b[len(body):]) != checksum(stateKey, body) {
		return s, errState
	}
	copy(s.node[:], b[1:])
	s.change = binary.BigEndian.Uint64(b[17:])
	s.recorded = binary.BigEndian.Uint64(b[25:])
	s.entries = binary.BigEndian.Uint64(b[33:])
	copy(s.digest[:], b[41:])
	return s, nil
}

// readState returns the state record; badger.ErrKeyNotFound if there is none.
func readState(txn reader) (s state, err error) {
	item, err := txn.Get(stateKey)
	if err != nil {
		return s, err
	}
	return s, item.Value(func(value []byte) (err error) {
		s, err = decodeState(value)
		return err
	})
}

// count computes the state of the entries that a transaction sees. check, if not nil, is called for each of them.
func (s *state) count(txn reader, check func(key, value []byte) error) error {
	s.entries, s.digest = 0, digest{}
	options := badger.DefaultIteratorOptions
	it := txn.NewIterator(options)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		key := it.Item().Key()
		if string(key) == string(stateKey) {
			continue
		}
		if err := it.Item().Value(func(value []byte) error {
			s.entries++
			s.digest.toggle(entryDigest(key, value))
			if check == nil {
				return nil
			}
			return check(key, value)
		}); err != nil {
			return fmt.Errorf("entry %q: %w", key[:1], err)
		}
	}
	return nil
}

// reader is what reading needs of a transaction.
type reader interface {
	Get(key []byte) (*badger.Item, error)
	NewIterator(badger.IteratorOptions) *badger.Iterator
}

// transaction is one state change: what it writes also changes the state record.
type transaction struct {
	txn     *badger.Txn
	written map[string]written
	part    bool // the operation needs further transactions

	recorded, after uint64 // see SkipChanges
}

// written is what one entry adds to the state before and after a transaction.
type written struct {
	before, after         digest
	wasPresent, isPresent bool
}

func newTransaction(db *badger.DB) *transaction {
	return &transaction{txn: db.NewTransaction(true), written: map[string]written{}}
}

// Get implements reader. It sees what the transaction wrote.
func (t *transaction) Get(key []byte) (*badger.Item, error) { return t.txn.Get(key) }

// NewIterator implements reader.
func (t *transaction) NewIterator(o badger.IteratorOptions) *badger.Iterator {
	return t.txn.NewIterator(o)
}

// Set writes an entry. The transaction keeps key and value; the caller must not change them.
func (t *transaction) Set(key, value []byte) error {
	w, err := t.before(key)
	if err != nil {
		return err
	}
	w.after, w.isPresent = entryDigest(key, value), true
	t.written[string(key)] = w
	return t.txn.Set(key, value)
}

// Delete removes an entry, if it exists.
func (t *transaction) Delete(key []byte) error {
	w, err := t.before(key)
	if err != nil {
		return err
	}
	w.after, w.isPresent = digest{}, false
	t.written[string(key)] = w
	return t.txn.Delete(key)
}

// before returns what is known of an entry that is about to be written.
func (t *transaction) before(key []byte) (written, error) {
	if w, known := t.written[string(key)]; known {
		return w, nil
	}
	var w written
	item, err := t.txn.Get(key)
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return w, nil
	case err != nil:
		return w, fmt.Errorf("read the entry to be replaced: %w", err)
	}
	w.wasPresent = true
	return w, item.Value(func(value []byte) error {
		w.before = entryDigest(key, value)
		return nil
	})
}

// seal writes the state record s, whose number of entries and digest are still those before the transaction, and returns it.
func (t *transaction) seal(s state) (state, error) {
	for _, w := range t.written {
		s.digest.toggle(w.before)
		s.digest.toggle(w.after)
		if w.wasPresent {
			s.entries--
		}
		if w.isPresent {
			s.entries++
		}
	}
	return s, t.txn.Set(stateKey, s.encode())
}

// stateAfter puts the state after a transaction into it, with the audit record of the change, and returns it. pending is nil for a
// change without a record. s.writing is held.
func (s *Store) stateAfter(t *transaction, pending *kms.Pending) (after state, recorded bool, err error) {
	if !s.stateful {
		return s.state, false, nil
	}
	after = s.state
	after.change, after.recorded = max(after.change, t.after)+1, max(after.recorded, t.recorded)
	if pending != nil {
		if recorded, err = t.keepRecord(pending, kms.Change{Number: after.change, Previous: after.recorded, Part: t.part}); err != nil {
			return s.state, false, err
		}
	}
	if recorded {
		after.recorded = after.change
	}
	after, err = t.seal(after)
	return after, recorded, err
}

// newNode returns the id of a new database.
func newNode() uuid.UUID { return uuid.Must(uuid.NewRandomFromReader(rand.Reader)) }

// addState gives a database of format 2 its state record: what it holds now is what it should hold.
func addState(s *Store) error {
	started := state{node: newNode()}
	if err := s.db.View(func(txn *badger.Txn) error { return started.count(txn, nil) }); err != nil {
		return err
	}
	s.state, s.stateful = started, true
	return nil
}
