package audit

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// content opens a file of a log for reading, together with the records that a killed process left in the journal. It changes
// nothing.
func content(dir string, number int) (io.ReadCloser, error) {
	f, err := os.Open(fileName(dir, number))
	if err != nil {
		return nil, err
	}
	entries, err := journaled(dir, number)
	if err != nil || len(entries) == 0 {
		return f, err
	}
	from := entries[0].offset // entries follow each other
	info, err := f.Stat()
	if err != nil || uint64(info.Size()) < from {
		return f, err // the file is shorter than its synced part, which the journal cannot repair
	}
	tail := make([]byte, uint64(info.Size())-from)
	if _, err := f.ReadAt(tail, int64(from)); err != nil && err != io.EOF {
		return nil, errors.Join(err, f.Close())
	}
	for _, e := range entries {
		at := e.offset - from
		if at > uint64(len(tail)) {
			break
		}
		if end := at + uint64(len(e.lines)); end > uint64(len(tail)) {
			tail = append(tail, make([]byte, end-uint64(len(tail)))...)
		}
		copy(tail[at:], e.lines)
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(f, int64(from)), bytes.NewReader(tail)), f}, nil
}
