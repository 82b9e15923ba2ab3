package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/sidecar/kms"
)

// The database's keys begin with one letter:
//
//	k id               the record of a key (16-byte id)
//	a alias            the id of the key with that alias
//	o sequence         the index in order of creation (8 bytes): id, spec, a zero byte, state
//	m id version       message numbers reserved so far (version: 4 bytes), as 8 bytes
//	b name             an alias, other than a key's own, as JSON
//	d id name          nothing: the key has that alias
//	n                  how many keys there are, as 8 bytes
//	s                  what the database is, as JSON
//
// Integers are big-endian.
func recordPrefix() []byte                   { return []byte{'k'} }
func recordKey(id kms.KeyID) []byte          { return append(recordPrefix(), id[:]...) }
func aliasKey(alias string) []byte           { return append([]byte{'a'}, alias...) }
func orderKey(sequence uint64) []byte        { return appendUint64([]byte{'o'}, sequence) }
func countKey() []byte                       { return []byte{'n'} }
func schemaKey() []byte                      { return []byte{'s'} }
func messagesPrefix(id kms.KeyID) []byte     { return append([]byte{'m'}, id[:]...) }
func nameKey(name string) []byte             { return append([]byte{'b'}, name...) }
func appendUint64(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

func messagesKey(id kms.KeyID, version uint32) []byte {
	return binary.BigEndian.AppendUint32(messagesPrefix(id), version)
}

func keyNameKey(id kms.KeyID, name string) []byte {
	return append(append([]byte{'d'}, id[:]...), name...)
}

// idOf returns the id in the key of a record.
func idOf(key []byte) (id kms.KeyID, err error) {
	if len(key) != 1+len(id) {
		return id, fmt.Errorf("an entry has a key of %d bytes", len(key))
	}
	copy(id[:], key[1:])
	return id, nil
}

// keysFrom yields the keys that have a prefix, in order, from one on.
func keysFrom(txn *badger.Txn, prefix, from []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
		defer it.Close()
		for it.Seek(from); it.Valid() && yield(it.Item().KeyCopy(nil)); it.Next() {
		}
	}
}

func readUint64(txn *badger.Txn, key []byte) (n uint64, err error) {
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

// recordFormat is the first byte of a record; the rest is the JSON of storedKey.
const recordFormat = 1

// storedKey is a key as it is stored. Its names are the format: a changed meaning takes a new format and a migration.
type storedKey struct {
	Sequence    uint32          `json:"seq"`
	ID          kms.KeyID       `json:"id"`
	Alias       string          `json:"alias"`
	Description string          `json:"desc,omitempty"`
	Spec        kms.KeySpec     `json:"spec"`
	Usage       kms.KeyUsage    `json:"usage"`
	Origin      kms.Origin      `json:"origin"`
	State       kms.KeyState    `json:"state"`
	CreatedMS   int64           `json:"created"`
	Versions    []storedVersion `json:"versions,omitempty"`
	Service     string          `json:"service,omitempty"`
	DeletionMS  int64           `json:"deletion,omitzero"`
	Rotation    *storedRotation `json:"rotation,omitempty"`
	Tags        []storedTag     `json:"tags,omitempty"`
}

// storedRotation has its times in milliseconds since 1970; zero stands for no time.
type storedRotation struct {
	Enabled  bool  `json:"on,omitzero"`
	Interval int   `json:"days,omitzero"`
	NextMS   int64 `json:"next,omitzero"`
	LastMS   int64 `json:"last,omitzero"`
	Count    int   `json:"count,omitzero"`
}

type storedTag struct {
	Key   string `json:"k"`
	Value string `json:"v"`
}

type storedVersion struct {
	Number     uint32         `json:"n"`
	CreatedMS  int64          `json:"created"`
	Sealed     []byte         `json:"sealed"`
	Root       uint32         `json:"root"`
	Protection kms.Protection `json:"protection"`
	PublicKey  []byte         `json:"public,omitempty"`
}

// record is a key with its place in the order of creation.
type record struct {
	key      *kms.Key
	sequence uint32
}

// milliseconds and timeOf keep the zero time.
func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func encodeRecord(r record) ([]byte, error) {
	k := r.key
	stored := storedKey{
		Sequence: r.sequence, ID: k.ID, Alias: k.Alias, Description: k.Description, Spec: k.Spec, Usage: k.Usage,
		Origin: k.Origin, State: k.State, CreatedMS: k.CreatedAt.UnixMilli(), Service: k.Service,
		DeletionMS: milliseconds(k.DeletionAt),
	}
	if r := k.Rotation; r != (kms.Rotation{}) {
		stored.Rotation = &storedRotation{r.Enabled, r.Interval, milliseconds(r.Next), milliseconds(r.Last), r.Count}
	}
	for _, t := range k.Tags {
		stored.Tags = append(stored.Tags, storedTag(t))
	}
	for _, v := range k.Versions {
		stored.Versions = append(stored.Versions, storedVersion{
			Number: v.Number, CreatedMS: v.CreatedAt.UnixMilli(), Sealed: v.Sealed, Root: v.Root,
			Protection: v.Protection, PublicKey: v.PublicKey,
		})
	}
	if err := stored.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(&stored)
	return append([]byte{recordFormat}, text...), err
}

var errRecord = errors.New("key record is damaged")

// decodeRecord reads a record of the key with that id. What is not exactly one is an error.
func decodeRecord(id kms.KeyID, b []byte) (record, error) {
	if len(b) == 0 || b[0] != recordFormat {
		return record{}, fmt.Errorf("%w: unknown format", errRecord)
	}
	var stored storedKey
	if err := json.Unmarshal(b[1:], &stored, json.RejectUnknownMembers(true)); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if stored.ID != id {
		return record{}, fmt.Errorf("%w: it is that of %s", errRecord, stored.ID)
	}
	if err := stored.check(); err != nil {
		return record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	return record{key: stored.decode(), sequence: stored.Sequence}, nil
}

// check refuses what is no whole key.
func (stored *storedKey) check() error {
	if stored.Sequence == 0 || stored.Alias == "" || stored.Spec == "" || stored.Usage == "" || stored.State == "" {
		return errors.New("fields are missing")
	}
	for i, v := range stored.Versions {
		if len(v.Sealed) == 0 || v.Number == 0 || (i > 0 && v.Number <= stored.Versions[i-1].Number) {
			return fmt.Errorf("version %d is wrong", i)
		}
	}
	for i, t := range stored.Tags {
		if i > 0 && t.Key <= stored.Tags[i-1].Key {
			return errors.New("tags are out of order")
		}
	}
	return nil
}

func (stored *storedKey) decode() *kms.Key {
	k := &kms.Key{
		ID: stored.ID, Alias: stored.Alias, Description: stored.Description, Spec: stored.Spec, Usage: stored.Usage,
		Origin: stored.Origin, State: stored.State, CreatedAt: time.UnixMilli(stored.CreatedMS).UTC(),
		Service: stored.Service, DeletionAt: timeOf(stored.DeletionMS),
	}
	if r := stored.Rotation; r != nil {
		k.Rotation = kms.Rotation{
			Enabled: r.Enabled, Interval: r.Interval, Next: timeOf(r.NextMS), Last: timeOf(r.LastMS), Count: r.Count,
		}
	}
	for _, t := range stored.Tags {
		k.Tags = append(k.Tags, kms.Tag(t))
	}
	for _, v := range stored.Versions {
		k.Versions = append(k.Versions, kms.KeyVersion{
			Number: v.Number, CreatedAt: time.UnixMilli(v.CreatedMS).UTC(), Sealed: v.Sealed, Root: v.Root,
			Protection: v.Protection, PublicKey: v.PublicKey,
		})
	}
	return k
}

// readRecord reads a key; only one that is not there is CodeNotFound.
func readRecord(txn *badger.Txn, id kms.KeyID) (r record, err error) {
	item, err := txn.Get(recordKey(id))
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		return record{}, kms.Errorf(kms.CodeNotFound, "key does not exist")
	case err != nil:
		return record{}, fmt.Errorf("read key %s: %w", id, err)
	}
	if err := item.Value(func(value []byte) (err error) {
		r, err = decodeRecord(id, value)
		return err
	}); err != nil {
		return record{}, fmt.Errorf("read key %s: %w", id, err)
	}
	return r, nil
}

func readKey(txn *badger.Txn, id kms.KeyID) (*kms.Key, error) {
	r, err := readRecord(txn, id)
	return r.key, err
}

// writeKey puts a key's record and its place in the index into a transaction.
func writeKey(txn *badger.Txn, r record) error {
	key := r.key
	value, err := encodeRecord(r)
	if err != nil {
		return fmt.Errorf("encode key %s: %w", key.ID, err)
	}
	if len(value) >= valueThreshold {
		return fmt.Errorf("key %s: its record has %d bytes, which is too many", key.ID, len(value))
	}
	return errors.Join(
		txn.Set(recordKey(key.ID), value),
		txn.Set(orderKey(uint64(r.sequence)), encodeOrder(key)),
	)
}

func encodeOrder(key *kms.Key) []byte {
	b := append([]byte(nil), key.ID[:]...)
	b = append(b, key.Spec...)
	b = append(b, 0)
	return append(b, key.State...)
}
