package audit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// journalName is the file in the log's folder that makes records durable until the log's own file is synced. It is there
// while a log with Options.Sync is open, and after a crash until the next opening.
const journalName = "journal"

// journalSize is how many bytes of entries the journal takes; then the log's own file is synced and it starts over.
const journalSize = 1 << 20

// journal holds what was written to the log's file since that was last synced. Syncing an append costs twice as much as
// syncing the journal: the file's new size and blocks are metadata, which the file system writes in more places and under
// a journal of its own, while the blocks here are there already and stay.
//
// Entries follow each other from the start of the file. Each is a header, in little-endian order
//
//	crc uint32 (Castagnoli, of all that follows) | length uint32 | lap uint32 | file uint32 | offset uint64
//
// and length bytes of lines, which belong at that offset of the log's file of that number. The lap counts how often the
// journal started over; the first entry of another lap ends what is valid.
type journal struct {
	file *os.File
	size int64
	at   int64 // where the next entry goes
	lap  uint32
	buf  []byte
}

const entryHeader = 4 + 4 + 4 + 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openJournal makes an empty journal in dir, or empties the one that is there. What it held must be in the log's file, and
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

// restart forgets all entries. The log's file must be synced.
func (j *journal) restart() { j.at, j.lap = 0, j.lap+1 }

// entry is what one group of records was.
type entry struct {
	lap, number uint32
	offset      uint64
	lines       []byte
}

// nextEntry splits the first entry off b; ok is false where none is whole.
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

// replay writes what the journal in dir holds to the log's last file, and syncs that. Files before the last one were synced
// before it began.
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

// journaled returns the entries of the journal in dir, if there is one, that are about a file of the log.
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
