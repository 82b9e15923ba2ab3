package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// The material of a key version has an entry of its own, apart from the key's record: lists do not read it, and it can be
// destroyed while the key lives. Its value is materialFormat, the sealed bytes, and a checksum over the entry's key and
// both: CRC-32C, big-endian. The record says how many sealed bytes there are.
const materialFormat = 1

var (
	crcTable    = crc32.MakeTable(crc32.Castagnoli)
	errMaterial = errors.New("its material is missing or damaged: restore the database from a backup")
)

func materialPrefix(id kms.KeyID) []byte { return append([]byte{'v'}, id[:]...) }

func materialKey(id kms.KeyID, version uint32) []byte {
	return binary.BigEndian.AppendUint32(materialPrefix(id), version)
}

func encodeMaterial(key, sealed []byte) []byte {
	b := make([]byte, 0, 1+len(sealed)+crc32.Size)
	b = append(append(b, materialFormat), sealed...)
	return binary.BigEndian.AppendUint32(b, checksum(key, b))
}

// decodeMaterial returns a copy of the sealed bytes if the value is that of the entry and has so many.
func decodeMaterial(key, value []byte, size int) ([]byte, error) {
	if len(value) != 1+size+crc32.Size || value[0] != materialFormat {
		return nil, errMaterial
	}
	body := value[:1+size]
	if binary.BigEndian.Uint32(value[1+size:]) != checksum(key, body) {
		return nil, errMaterial
	}
	return append([]byte(nil), body[1:]...), nil
}

func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, crcTable), crcTable, body)
}

// readMaterial fills in the sealed bytes of a key's versions.
func readMaterial(txn reader, r record) error {
	for i := range r.key.Versions {
		if r.sizes[i] == 0 {
			continue
		}
		v := &r.key.Versions[i]
		key := materialKey(r.key.ID, v.Number)
		item, err := txn.Get(key)
		if errors.Is(err, badger.ErrKeyNotFound) {
			err = errMaterial
		}
		if err == nil {
			err = item.Value(func(value []byte) (err error) {
				v.Sealed, err = decodeMaterial(key, value, r.sizes[i])
				return err
			})
		}
		if err != nil {
			return fmt.Errorf("key %s, version %d: %w", r.key.ID, v.Number, err)
		}
	}
	return nil
}

// writeMaterial puts the material that an update added or changed into a transaction (before is zero for a new key), and
// removes what the key no longer has: it returns the entries of that.
func writeMaterial(txn *transaction, before, after record) (dropped [][]byte, err error) {
	id := after.key.ID
	for _, v := range after.key.Versions {
		if len(v.Sealed) == 0 || sameMaterial(before.key, v) {
			continue
		}
		key := materialKey(id, v.Number)
		value := encodeMaterial(key, v.Sealed)
		if len(value) >= valueThreshold {
			return nil, fmt.Errorf("key %s, version %d: its material has %d bytes, which is too many", id, v.Number, len(v.Sealed))
		}
		if err := txn.Set(key, value); err != nil {
			return nil, err
		}
	}
	if before.key == nil {
		return nil, nil
	}
	for _, v := range before.key.Versions {
		now := after.key.Version(v.Number)
		if len(v.Sealed) == 0 || (now != nil && len(now.Sealed) > 0) {
			continue
		}
		key := materialKey(id, v.Number)
		if err := txn.Delete(key); err != nil {
			return nil, err
		}
		dropped = append(dropped, key)
	}
	return dropped, nil
}

func sameMaterial(before *kms.Key, v kms.KeyVersion) bool {
	if before == nil {
		return false
	}
	was := before.Version(v.Number)
	return was != nil && string(was.Sealed) == string(v.Sealed)
}
