package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// scan is the result of a scan of the files of a log.
type scan struct {
	dir     string
	numbers []int           // of the files
	accept  bool            // accept any loss
	missing map[string]bool // lines of the outbox that are not among the records

	start, tree     tree           // as the last file began, and of all lines
	rotated         []*snapshot    // ends of files that have no checkpoint
	leaves          map[int][]byte // leaf hashes of files whose stored ones differ
	excusedByRecord bool           // a record that the database does not have explains a loss
	flush           bool           // write the leaf hashes after each file: a log older than heads may have very many files
}

// LossError says that acknowledged records are missing or changed, or that records were added. Nothing was changed.
type LossError struct {
	Problem  string
	Dir      string
	Findings []Finding // of Verify
}

// shownFindings limits the findings in the text of an error.
const shownFindings = 5

func (e *LossError) Error() string {
	var b strings.Builder
	b.WriteString(e.Problem)
	for _, f := range e.Findings[:min(len(e.Findings), shownFindings)] {
		b.WriteString("; " + f.String())
	}
	if more := len(e.Findings) - shownFindings; more > 0 {
		fmt.Fprintf(&b, "; and %d more (keyside audit verify)", more)
	}
	b.WriteString(". The log was not changed. Restore its files from a backup or, if no backup has these records, run " +
		"`keyside audit accept-loss`, which records the loss in the log")
	return b.String()
}

func (s *scan) loss(format string, args ...any) error {
	if s.accept {
		return nil
	}
	return &LossError{Dir: s.dir, Problem: fmt.Sprintf(format, args...)}
}

// trustCheckpoint returns the newest checkpoint as a head, without verification, for a database that has none; nil if there
// is no checkpoint.
func (s *scan) trustCheckpoint() (*head, error) {
	c, err := readUnverified(s.dir, checkpointName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &head{Size: c.tree.size(), Root: c.tree.root(), File: c.file, Offset: c.offset, Signed: c.tree.size()}, nil
}

// take reads the files from the start of the one that was the last when the head was stored, and compares them with the
// head. Earlier files are for Verify. Without a head, it reads all files.
func (s *scan) take(a *anchor, h *head) error {
	first, t, err := s.from(a)
	if err != nil {
		return err
	}
	s.tree, s.start, s.leaves = t, t, make(map[int][]byte)
	i, found := slices.BinarySearch(s.numbers, first)
	if !found {
		if err := s.loss("%s is missing, with records %d to %d", nameOf(first), t.size()+1, h.Size); err != nil {
			return err
		}
	}
	for n, number := range s.numbers[i:] {
		if number != first+n {
			if err := s.loss("%s is missing", nameOf(first+n)); err != nil {
				return err
			}
		}
		last := i+n == len(s.numbers)-1
		if err := s.read(number, last, h); err != nil {
			return err
		}
	}
	switch {
	case h == nil:
	case s.tree.size() < h.Size:
		return s.loss("%s missing at the end: the log ends after record %d of %d", count(int(h.Size-s.tree.size()), "record is", "records are"), s.tree.size(), h.Size)
	case h.Closed && s.tree.size() > h.Size:
		return s.loss("%s added after the log was closed at record %d", count(int(s.tree.size()-h.Size), "record was", "records were"), h.Size)
	}
	return nil
}

// from returns the first file to read, and the tree at its start.
func (s *scan) from(a *anchor) (int, tree, error) {
	if a != nil {
		t, err := treeOf(a.Size, a.Hashes)
		return a.File, t, err
	}
	if s.numbers[0] == 1 {
		return 1, emptyTree(), nil
	}
	c, err := readUnverified(s.dir, fmt.Sprintf(checkpointOfFile, s.numbers[0]-1))
	if err != nil {
		return 0, tree{}, fmt.Errorf("%s is the first file, and neither the database nor a checkpoint has the tree before it: restore the "+
			"database that belongs to this log, or move the log elsewhere to begin a new one (%w)", nameOf(s.numbers[0]), err)
	}
	return s.numbers[0], c.tree, nil
}

// read adds the records of a file to the tree.
func (s *scan) read(number int, last bool, h *head) error {
	f, err := content(s.dir, number)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	s.start = s.tree.clone()
	known, err := readIfExists(leavesPath(s.dir, number))
	if err != nil {
		return err
	}
	var leaves []byte
	var size int64
	err = eachLine(f, func(line []byte, whole bool) error {
		if !whole {
			if !last {
				return s.loss("%s does not end with a whole record", nameOf(number))
			}
			return nil
		}
		leaf := leafHash(line)
		s.tree.add(leaf)
		if len(s.missing) > 0 {
			delete(s.missing, string(line)+"\n")
		}
		leaves, size = append(leaves, leaf...), size+int64(len(line))+1
		if h != nil && s.tree.size() > h.Size && markerIn(line) != nil {
			s.excusedByRecord = true
		}
		if h != nil && s.tree.size() == h.Size && !bytes.Equal(s.tree.root(), h.Root) {
			return s.loss("some of records %d to %d were changed", s.start.size()+1, h.Size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !bytes.Equal(leaves, known) {
		s.leaves[number] = leaves
	}
	if !last {
		return s.endOf(number, size)
	}
	return nil
}

// endOf keeps the end of a file that is not the last one, if no checkpoint covers it.
func (s *scan) endOf(number int, size int64) error {
	signed, err := s.hasCheckpoint(number)
	if err != nil {
		return err
	}
	if signed && s.accept {
		name := fmt.Sprintf(checkpointOfFile, number)
		if c, err := readUnverified(s.dir, name); err != nil || !bytes.Equal(c.tree.root(), s.tree.root()) {
			if err := void(s.dir, name); err != nil {
				return err
			}
			signed = false
		}
	}
	if !signed {
		s.rotated = append(s.rotated, &snapshot{tree: s.tree.clone(), number: number, size: size, start: s.start})
	}
	if s.flush {
		return s.keepLeaves()
	}
	return nil
}

func (s *scan) hasCheckpoint(number int) (bool, error) {
	_, err := os.Stat(filepath.Join(s.dir, fmt.Sprintf(checkpointOfFile, number)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// unsigned returns the ends of files before the anchor's that have no checkpoint, because the HSM could not sign then. It
// returns an error unless their records lead to the tree of the anchor.
func (s *scan) unsigned(a *anchor) ([]*snapshot, error) {
	if a == nil {
		return nil, nil
	}
	i, _ := slices.BinarySearch(s.numbers, a.File)
	before := s.numbers[:i]
	for i, number := range before {
		if signed, err := s.hasCheckpoint(number); err != nil {
			return nil, err
		} else if signed {
			continue
		}
		t := emptyTree()
		if number > 1 {
			c, err := readCheckpoint(s.dir, fmt.Sprintf(checkpointOfFile, number-1), a.verifiers())
			if err != nil {
				return nil, err
			}
			t = c.tree
		}
		again := scan{dir: s.dir, numbers: before[i:], tree: t, start: t, leaves: make(map[int][]byte)}
		for n, number := range again.numbers {
			if number != before[i]+n {
				return nil, fmt.Errorf("file %d is missing", before[i]+n)
			}
			if err := again.read(number, false, nil); err != nil {
				return nil, err
			}
		}
		if want, err := treeOf(a.Size, a.Hashes); err != nil || again.tree.size() != a.Size || !bytes.Equal(again.tree.root(), want.root()) {
			return nil, errors.New("records were changed")
		}
		return again.rotated, nil
	}
	return nil, nil
}

// keepLeaves writes the leaf hashes that differ from the stored ones.
func (s *scan) keepLeaves() error {
	for number, leaves := range s.leaves {
		if err := writeDurably(s.dir, fmt.Sprintf(leavesOfFile, number), leaves); err != nil {
			return err
		}
	}
	clear(s.leaves)
	return nil
}
