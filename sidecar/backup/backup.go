// Package backup implements the format of backup files: an unencrypted header, and the entries of a database with the node's
// configuration, encrypted under a key that only the tenant's HSM opens. FORMAT.md specifies it.
//
// The content is Tink's streaming AEAD AES-GCM-HKDF: segments of 64 KiB, each authenticated with its number and whether it is
// the last, so segments cannot be changed, swapped, dropped or cut off. The whole header is the associated data. Reading and
// writing take constant memory.
package backup

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

const (
	// magic is the first line of every file; its number is the format's version.
	magic = "keyside-backup/1\n"
	// KeySize is the length of a file's data key in bytes.
	KeySize = 32
	// segmentSize is the length of a ciphertext segment in bytes. Larger ones would be encrypted and sent in bursts that requests wait for.
	segmentSize = 64 << 10
	// maxHeader is the limit of the header in bytes.
	maxHeader = 16 << 10
	// maxKey, maxName, maxValue and maxFile are limits in bytes. The database has no larger entries.
	maxKey   = 4 << 10
	maxName  = 255
	maxValue = 1 << 20
	maxFile  = 1 << 20
	maxFiles = 1000
)

// ErrFormat is a file of another format, or of a version that this program does not know.
var ErrFormat = errors.New("not a file made by keyside backup create (version 1)")

// ErrContent is a file whose content or header was changed, cut off or mixed with another file's.
var ErrContent = errors.New("the backup is damaged or was changed: it does not verify under its data key")

// Header is the unencrypted header of a file. Its numbers are those of the database as of its last change before the backup.
type Header struct {
	Created time.Time `json:"created"`
	Tenant  string    `json:"tenant"`
	Node    uuid.UUID `json:"node"` // of the node that created the database
	Format  int       `json:"format"`
	Change  uint64    `json:"change"`
	Entries uint64    `json:"entries"`
	Keys    int       `json:"keys"` // of customers and services
	Key     SealedKey `json:"key"`
}

// SealedKey is the data key of a file, encrypted in the HSM under a key of its own, which the tenant's root key seals.
type SealedKey struct {
	ID     uuid.UUID `json:"id"`     // of the key in the HSM: AES_256, version 1
	Sealed []byte    `json:"sealed"` // that key
	IV     []byte    `json:"iv"`
	Data   []byte    `json:"data"` // the data key, encrypted under it
}

// Bound returns what the encryption of the data key is bound to: a domain and the header but for the encrypted key.
func (h Header) Bound() ([]byte, error) {
	h.Key = SealedKey{ID: h.Key.ID}
	b, err := json.Marshal(&h, json.Deterministic(true))
	return append([]byte("keyside backup v1\x00"), b...), err
}

// marshal returns the beginning of a file: magic and header.
func (h *Header) marshal() ([]byte, error) {
	line, err := json.Marshal(h, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	b := append(append([]byte(magic), line...), '\n')
	if len(b) > maxHeader {
		return nil, fmt.Errorf("the header of a backup has %d bytes, more than %d", len(b), maxHeader)
	}
	return b, nil
}

// parse parses a header line. It accepts only the one encoding of a header, because readers may differ in others.
func parse(line []byte) (h Header, err error) {
	if err := json.Unmarshal(line, &h, json.RejectUnknownMembers(true)); err != nil {
		return h, ErrFormat
	}
	canonical, err := h.marshal()
	if err != nil || !bytes.Equal(canonical[len(magic):], line) || h.Tenant == "" || len(h.Key.Sealed) == 0 {
		return h, ErrFormat
	}
	return h, nil
}

func newAEAD(key []byte) (*subtle.AESGCMHKDF, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("%w: its data key has %d bytes, not %d", ErrContent, len(key), KeySize)
	}
	return subtle.NewAESGCMHKDF(key, "SHA256", KeySize, segmentSize, 0)
}

// The kinds of records in the content.
const (
	kindEnd   = 0 // the number of entries as 8 bytes, big-endian; nothing follows
	kindFile  = 1 // a file of the configuration, by its name; all before the first entry
	kindEntry = 2 // an entry of the database, by its key
)
