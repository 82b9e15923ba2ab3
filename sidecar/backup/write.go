package backup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Writer writes a backup.
type Writer struct {
	out     io.WriteCloser
	entries uint64
	buffer  []byte
}

// NewWriter writes the header of a backup to dst. key is the data key, which the caller clears.
func NewWriter(dst io.Writer, header Header, key []byte) (*Writer, error) {
	begin, err := header.marshal()
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	if _, err := dst.Write(begin); err != nil {
		return nil, err
	}
	out, err := aead.NewEncryptingWriter(dst, begin)
	if err != nil {
		return nil, err
	}
	return &Writer{out: out}, nil
}

// File adds a file of the configuration. All files come before the entries.
func (w *Writer) File(name string, content []byte) error {
	if w.entries > 0 || name == "" || len(name) > maxName || len(content) > maxFile {
		return fmt.Errorf("%s of %d bytes cannot be added to the backup", name, len(content))
	}
	return w.record(kindFile, []byte(name), content)
}

// Entry adds an entry of the database. Their keys come in ascending order.
func (w *Writer) Entry(key, value []byte) error {
	if len(key) == 0 || len(key) > maxKey || len(value) > maxValue {
		return fmt.Errorf("an entry of %d and %d bytes cannot be added to the backup", len(key), len(value))
	}
	w.entries++
	return w.record(kindEntry, key, value)
}

// record writes a record: its kind, and name and value, each after its length as uvarint.
func (w *Writer) record(kind byte, name, value []byte) error {
	b := append(w.buffer[:0], kind)
	b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
	b = append(binary.AppendUvarint(b, uint64(len(value))), value...)
	w.buffer = b
	_, err := w.out.Write(b)
	return err
}

// Close writes the end of the backup, without which no reader accepts it.
func (w *Writer) Close() error {
	return errors.Join(w.record(kindEnd, nil, binary.BigEndian.AppendUint64(nil, w.entries)), w.out.Close())
}
