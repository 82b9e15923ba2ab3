package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/dgraph-io/badger/v4"
	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/sidecar/kms"
)

// The database's keys begin with one letter. This is format 3:
//
//	r id               the record of a key (16-byte id)
//	v id version       the material of a key's version (4 bytes), see material.go
//	a alias            the id of the key with that alias
//	b name             an alias other than a key's own: see aliases.go
//	d id name          nothing: the key has that other alias
//	m id version       message numbers reserved so far, as 8 bytes
//	n                  how many keys there are, as 8 bytes
//	s                  what the database is, as JSON
//	w id               a wrapping pair (16-byte id), see pairs.go
//	x prefix           nothing: what was under the prefix must leave the files, see purge.go
//	f                  filler, see purge.go
//	q change           audit records of a change (8 bytes): see outbox.go
//	y                  what all other entries amount to: see state.go
//	z                  the mark of the clock, as JSON: see clock.go
//
// Integers are big-endian. The letters c, t and u are those of access keys, tokens and their key: see credentials.go; g is
// that of grants: see grants.go; h that of the audit log: see audithead.go.
//
// Format 2 had neither q nor y. Format 1 had a key's record, with its sealed bytes in it, under k, and under o an index of what lists are filtered by.
func recordPrefix() []byte                   { return []byte{'r'} }
func recordKey(id kms.KeyID) []byte          { return append(recordPrefix(), id[:]...) }
func aliasKey(alias string) []byte           { return append([]byte{'a'}, alias...) }
func countKey() []byte                       { return []byte{'n'} }
func schemaKey() []byte                      { return []byte{'s'} }
func clockKey() []byte                       { return []byte{'z'} }
func countsPrefix() []byte                   { return []byte{'m'} }
func messagesPrefix(id kms.KeyID) []byte     { return append(countsPrefix(), id[:]...) }
func namesPrefix() []byte                    { return []byte{'d'} }
func nameKey(name string) []byte             { return append([]byte{'b'}, name...) }
func appendUint64(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

func messagesKey(id kms.KeyID, version uint32) []byte {
	return binary.BigEndian.AppendUint32(messagesPrefix(id), version)
}

func keyNameKey(id kms.KeyID, name string) []byte {
	return append(append(namesPrefix(), id[:]...), name...)
}

// idOf returns the id in the key of a record.
func idOf(key []byte) (id kms.KeyID, err error) {
	if len(key) != 1+len(id) {
		return id, fmt.Errorf("an entry has a key of %d bytes", len(key))
	}
	copy(id[:], key[1:])
	return id, nil
}

// keysFrom yields the keys that have a prefix, in order, from one on (nil: from the first).
func keysFrom(txn reader, prefix, from []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Seek(from); it.Valid() && yield(it.Item().KeyCopy(nil)); it.Next() {
		}
	}
}

func readUint64(txn reader, key []byte) (n uint64, err error) {
	item, err := txn.Get(key)
	if err != nil {
		return 0, err
	}
	return n, item.Value(func(value []byte) error {
		if len(value) != 8 {
			return fmt.Errorf("number has %d bytes", len(value))
		}
		n = binary.BigEndian.Uint64(value)
		return nil
	})
}

// read passes a value to decode; CodeNotFound if the entry does not exist.
func read(txn reader, name []byte, what string, decode func([]byte) error) error {
	item, err := txn.Get(name)
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return kms.Errorf(kms.CodeNotFound, "%s does not exist", what)
	case err == nil:
		err = item.Value(decode)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

func readJSON(txn reader, name []byte, what string, out any) error {
	return read(txn, name, what, func(value []byte) error {
		if err := json.Unmarshal(value, out, json.RejectUnknownMembers(true)); err != nil {
			return fmt.Errorf("%w: %w", errRecord, err)
		}
		return nil
	})
}

func write(txn *transaction, name []byte, stored any) error {
	value, err := json.Marshal(stored)
	if err != nil {
		return fmt.Errorf("encode a record: %w", err)
	}
	return txn.Set(name, value)
}

// notFound reports whether an error says that an entry does not exist.
func notFound(err error) bool {
	var e *kms.Error
	return errors.As(err, &e) && e.Code == kms.CodeNotFound
}
