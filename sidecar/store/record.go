package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/sidecar/kms"
)

// recordFormat is the first byte of a record; the rest is the JSON of storedKey.
const recordFormat = 2

// storedKey is a key as it is stored. Its names are the format: a changed meaning takes a new format and a migration.
type storedKey struct {
	Sequence     uint32          `json:"seq"`
	ID           kms.KeyID       `json:"id"`
	Alias        string          `json:"alias"`
	Description  string          `json:"desc,omitempty"`
	Spec         kms.KeySpec     `json:"spec"`
	Usage        kms.KeyUsage    `json:"usage"`
	Origin       kms.Origin      `json:"origin"`
	State        kms.KeyState    `json:"state"`
	CreatedMS    int64           `json:"created"`
	Versions     []storedVersion `json:"versions,omitempty"`
	Service      string          `json:"service,omitempty"`
	DeletionMS   int64           `json:"deletion,omitzero"`
	Rotation     *storedRotation `json:"rotation,omitempty"`
	Tags         []storedTag     `json:"tags,omitempty"`
	CheckValue   []byte          `json:"check,omitempty"` // of imported material
	ExpiryMS     int64           `json:"expiry,omitzero"` // of imported material
	Instance     string          `json:"instance,omitempty"`
	Protected    bool            `json:"protected,omitzero"` // against deletion
	ProtectedFor string          `json:"why,omitempty"`      // why

	// How the clock was when the deletion or the expiry was set; nil: it had not jumped.
	DeletionClock *storedReading `json:"deletion_clock,omitempty"`
	ExpiryClock   *storedReading `json:"expiry_clock,omitempty"`
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
	Material   int            `json:"material,omitzero"` // bytes of sealed material, 0: it has none
	Root       uint32         `json:"root"`
	Protection kms.Protection `json:"protection"`
	PublicKey  []byte         `json:"public,omitempty"`
	OpenedIn   kms.Protection `json:"opened,omitempty"`
}

// record is a key with its place in the order of creation.
type record struct {
	key      *kms.Key
	sequence uint32
	sizes    []int // of the material of each version, whether or not the key's versions have it here
}

// newRecord returns the record of a key whose versions have their material.
func newRecord(key *kms.Key, sequence uint32) record {
	r := record{key: key, sequence: sequence}
	for _, v := range key.Versions {
		r.sizes = append(r.sizes, len(v.Sealed))
	}
	return r
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
		DeletionMS: milliseconds(k.DeletionAt), CheckValue: k.CheckValue, ExpiryMS: milliseconds(k.MaterialExpiresAt),
		Instance: k.Instance, Protected: k.Protected.Enabled, ProtectedFor: k.Protected.Description,
		DeletionClock: storeReading(k.DeletionClock), ExpiryClock: storeReading(k.ExpiryClock),
	}
	if r := k.Rotation; r != (kms.Rotation{}) {
		stored.Rotation = &storedRotation{r.Enabled, r.Interval, milliseconds(r.Next), milliseconds(r.Last), r.Count}
	}
	for _, t := range k.Tags {
		stored.Tags = append(stored.Tags, storedTag(t))
	}
	for i, v := range k.Versions {
		stored.Versions = append(stored.Versions, storedVersion{
			Number: v.Number, CreatedMS: v.CreatedAt.UnixMilli(), Material: r.sizes[i], Root: v.Root,
			Protection: v.Protection, PublicKey: v.PublicKey, OpenedIn: v.OpenedIn,
		})
	}
	if err := stored.check(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(&stored)
	return append([]byte{recordFormat}, text...), err
}

var errRecord = errors.New("key record is damaged")

// decodeRecord reads a record of the key with that id, without its material. What is not exactly one is an error.
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
	return stored.decode(), nil
}

// check refuses what is no whole key.
func (stored *storedKey) check() error {
	if stored.Sequence == 0 || stored.Alias == "" || stored.Spec == "" || stored.Usage == "" || stored.State == "" {
		return errors.New("fields are missing")
	}
	for i, v := range stored.Versions {
		if v.Material < 0 || v.Material > valueThreshold || v.Number == 0 || (i > 0 && v.Number <= stored.Versions[i-1].Number) {
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

func (stored *storedKey) decode() record {
	k := &kms.Key{
		ID: stored.ID, Alias: stored.Alias, Description: stored.Description, Spec: stored.Spec, Usage: stored.Usage,
		Origin: stored.Origin, State: stored.State, CreatedAt: time.UnixMilli(stored.CreatedMS).UTC(),
		Service: stored.Service, DeletionAt: timeOf(stored.DeletionMS), CheckValue: stored.CheckValue,
		MaterialExpiresAt: timeOf(stored.ExpiryMS), Instance: stored.Instance,
		Protected:     kms.DeletionProtection{Enabled: stored.Protected, Description: stored.ProtectedFor},
		DeletionClock: stored.DeletionClock.decode(), ExpiryClock: stored.ExpiryClock.decode(),
	}
	if r := stored.Rotation; r != nil {
		k.Rotation = kms.Rotation{
			Enabled: r.Enabled, Interval: r.Interval, Next: timeOf(r.NextMS), Last: timeOf(r.LastMS), Count: r.Count,
		}
	}
	for _, t := range stored.Tags {
		k.Tags = append(k.Tags, kms.Tag(t))
	}
	r := record{key: k, sequence: stored.Sequence}
	for _, v := range stored.Versions {
		k.Versions = append(k.Versions, kms.KeyVersion{
			Number: v.Number, CreatedAt: time.UnixMilli(v.CreatedMS).UTC(), Root: v.Root,
			Protection: v.Protection, PublicKey: v.PublicKey, OpenedIn: v.OpenedIn,
		})
		r.sizes = append(r.sizes, v.Material)
	}
	return r
}

// readRecord reads a key without its material. CodeNotFound means only that the key does not exist.
func readRecord(txn reader, id kms.KeyID) (r record, err error) {
	err = read(txn, recordKey(id), "key", func(value []byte) (err error) {
		r, err = decodeRecord(id, value)
		return err
	})
	if err != nil && !notFound(err) {
		err = fmt.Errorf("key %s: %w", id, err)
	}
	return r, err
}

// readKey reads a key with its material.
func readKey(txn reader, id kms.KeyID) (record, error) {
	r, err := readRecord(txn, id)
	if err != nil {
		return record{}, err
	}
	if err := readMaterial(txn, r); err != nil {
		return record{}, err
	}
	return r, nil
}

// writeRecord puts a key's record into a transaction.
func writeRecord(txn *transaction, r record) error {
	value, err := encodeRecord(r)
	if err != nil {
		return fmt.Errorf("encode key %s: %w", r.key.ID, err)
	}
	if len(value) >= valueThreshold {
		return fmt.Errorf("key %s: its record has %d bytes, which is too many", r.key.ID, len(value))
	}
	return txn.Set(recordKey(r.key.ID), value)
}
