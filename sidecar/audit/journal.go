package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// journalName is the file in the log's folder that makes records durable until the log's own file is synced. It exists while
// a log with Options.Sync is open, and after a crash until the next Open.
const journalName = "journal"

// journalSize limits the entries of the journal, in bytes. When it is full, the log's own file is synced and the journal
// restarts.
const journalSize = 1 << 20

// journal contains what was written to the log's file since its last sync. Syncing an append costs twice as much as syncing
// the journal: the file's new size and blocks are metadata, which the file system writes in more places and through its own
// journal, while the blocks of this file are allocated once.
//
// Entries follow each other from the start of the file. Each is a header, in little-endian order
//
//	crc uint32 (Castagnoli, of all that follows) | length uint32 | lap uint32 | file uint32 | offset uint64
//
// and length bytes of lines, which belong at that offset of the log's file of that number. The lap counts the restarts of the
// journal; the valid entries end before the first entry of another lap.
type journal struct {
	file *os.File
	size int64
	at   int64 // offset of the next entry
	lap  uint32
	buf  []byte
}

const entryHeader = 4 + 4 + 4 + 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal creates an empty journal in dir, or empties an existing one. The log's file must contain its records and be
// synced.
func openJournal(dir *os.File, size int64) (*journal, error) {
	f, err := os.OpenFile(filepath.Join(dir.Name(), journalName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.WriteAt(make([]byte, size), 0)
	if err = errors.Join(err, f.Sync(), dir.Sync()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &journal{file: f, size: size, lap: 1}, nil
}

// fits reports whether there is room for one more entry.
func (j *journal) fits(lines []byte) bool {
	return j.at+entryHeader+int64(len(lines)) <= j.size
}

// write writes an entry, which fits.
func (j *journal) write(number int, offset int64, lines []byte) error {
	b := append(j.buf[:0], make([]byte, entryHeader)...)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(lines)))
	binary.LittleEndian.PutUint32(b[8:], j.lap)
	binary.LittleEndian.PutUint32(b[12:], uint32(number))
	binary.LittleEndian.PutUint64(b[16:], uint64(offset))
	b = append(b, lines...)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	j.buf = b
	if _, err := j.file.WriteAt(b, j.at); err != nil {
		return err
	}
	j.at += int64(len(b))
	return nil
}

// restart discards all entries. The log's file must be synced.
func (j *journal) restart() { j.at, j.lap = 0, j.lap+1 }

// entry is one group of records.
type entry struct {
	lap, number uint32
	offset      uint64
	lines       []byte
}

// nextEntry splits the first entry off b; ok is false if it is not whole and valid.
func nextEntry(b []byte) (e entry, rest []byte, ok bool) {
	if len(b) < entryHeader {
		return e, nil, false
	}
	n := int64(binary.LittleEndian.Uint32(b[4:]))
	if n == 0 || n > int64(len(b)-entryHeader) {
		return e, nil, false
	}
	whole, rest := b[:entryHeader+n], b[entryHeader+n:]
	if crc32.Checksum(whole[4:], castagnoli) != binary.LittleEndian.Uint32(whole) {
		return e, nil, false
	}
	return entry{
		lap: binary.LittleEndian.Uint32(whole[8:]), number: binary.LittleEndian.Uint32(whole[12:]),
		offset: binary.LittleEndian.Uint64(whole[16:]), lines: whole[entryHeader:],
	}, rest, true
}

// replay writes the entries of the journal in dir to the log's last file and syncs it. Earlier files were synced before the
// last one began.
func replay(dir, path string, number int) error {
	entries, err := journaled(dir, number)
	if err != nil || len(entries) == 0 {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := uint64(info.Size())
	for _, e := range entries {
		if e.offset > size {
			return &LossError{Dir: dir, Problem: fmt.Sprintf("%s has %d bytes of the %d that were written: it was truncated", path, size, e.offset)}
		}
		if _, err := f.WriteAt(e.lines, int64(e.offset)); err != nil {
			return err
		}
		size = max(size, e.offset+uint64(len(e.lines)))
	}
	return f.Sync()
}

// journaled returns the journal's entries for a file of the log in dir, none without a journal.
func journaled(dir string, number int) (entries []entry, err error) {
	b, err := readIfExists(filepath.Join(dir, journalName))
	if err != nil {
		return nil, err
	}
	for lap := uint32(0); ; {
		e, rest, ok := nextEntry(b)
		if !ok || lap != 0 && e.lap != lap {
			return entries, nil
		}
		lap, b = e.lap, rest
		if e.number == uint32(number) {
			entries = append(entries, e)
		}
	}
}
