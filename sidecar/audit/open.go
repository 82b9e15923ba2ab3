package audit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// open takes the folder, finds out how far the log is, and whether that is as far as the database knows it to be. Only then
// does it change anything: a log that lost records stays as it was found.
func (l *Log) open() error {
	if err := os.MkdirAll(l.opts.Dir, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(l.opts.Dir)
	if err != nil {
		return err
	}
	l.lock = dir
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.New("another process writes it: stop that process, or give this one a directory of its own")
	}
	a, h, err := loadHead(l.opts.Heads)
	if err != nil {
		return err
	}
	numbers, err := list(l.opts.Dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 && h == nil {
		if err := l.create(1); err != nil {
			return err
		}
		return errors.Join(l.startJournal(), l.begin(""))
	}
	return l.carryOn(numbers, a, h)
}

// carryOn opens a log that has files, or that the database knows.
func (l *Log) carryOn(numbers []int, a *anchor, h *head) error {
	var end int64
	if len(numbers) > 0 {
		l.number = numbers[len(numbers)-1]
		l.path = fileName(l.opts.Dir, l.number)
		if err := replay(l.opts.Dir, l.path, l.number); err != nil {
			return err
		}
		var err error
		if end, err = endOfLines(l.path); err != nil {
			return err
		}
	}
	s := stock{dir: l.opts.Dir, numbers: numbers, end: end, flush: a == nil}
	if err := s.take(a, h); err != nil {
		return err
	}
	if unsigned, err := s.unsigned(a); err != nil {
		l.opts.Logger.Warn("files of the audit log can get no checkpoint: keyside audit verify says more", "error", err)
	} else {
		s.rotated = append(unsigned, s.rotated...)
	}
	if err := s.keepLeaves(); err != nil {
		return err
	}
	l.tree, l.start, l.rotated = s.tree, s.start, s.rotated
	kept, err := l.reopen(end)
	if err != nil {
		return err
	}
	if err := errors.Join(l.openLeaves(), l.startJournal()); err != nil {
		return err
	}
	if a == nil {
		if err := l.begin(fmt.Sprintf("the database knew nothing of the %d records before", l.tree.size())); err != nil {
			return err
		}
	} else {
		l.anchor, l.anchored = *a, true
		l.signed.Store(h.Signed)
		l.publish()
		if err := l.storeHead(false); err != nil { // from here on the log may be longer
			return err
		}
	}
	if kept == "" {
		return nil
	}
	l.opts.Logger.Warn("the audit log's last record was cut off by a crash", "file", l.path, "kept", kept)
	return l.mark(OpRepaired, "a crash cut the last record off; its fragment is in "+filepath.Base(kept), "")
}

// begin makes the log known to the database, and says so in it.
func (l *Log) begin(warning string) error {
	l.publish()
	if l.opts.Heads == nil {
		return nil
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	l.anchor = anchor{Format: headFormat, ID: hex.EncodeToString(id[:])}
	if err := l.mark(OpBegun, warning, l.anchor.ID); err != nil {
		return err
	}
	return l.storeHead(false)
}

// mark writes a record about the log itself.
func (l *Log) mark(op policy.Operation, warning, target string) error {
	return l.append(appendRecord(nil, &kms.AuditRecord{
		Time: l.opts.Clock.Now(), Operation: op, Tenant: l.opts.Tenant, Decision: "allow", By: "audit", Outcome: "ok",
		Warning: warning, Target: target,
	}), true)
}

// stock is what is found in the files of a log.
type stock struct {
	dir     string
	numbers []int // of the files
	end     int64 // of the last one's whole lines

	start, tree tree           // as the last file began, and of all lines
	rotated     []*state       // ends of files that have no checkpoint
	leaves      map[int][]byte // leaf hashes of files that are not those beside them
	flush       bool           // write them after each file: a log from before there were heads may have very many
}

// LossError says that records which were acknowledged are missing from the log, or are not what they were, or that somebody
// added some. Nothing was changed.
type LossError struct {
	Problem string
	Dir     string
}

func (e *LossError) Error() string {
	return e.Problem + "; the log is left as it is. Restore the files from where they were copied to, or, if there is no better " +
		"copy, run `keyside audit accept-loss`, which leaves a record of it in the log for good"
}

func (s *stock) loss(format string, args ...any) error {
	return &LossError{Dir: s.dir, Problem: fmt.Sprintf(format, args...)}
}

// take reads the files that the database says nothing final about, from the beginning of the one that was the last when the
// head was stored, and holds them to the head. Those before are for Verify. Without a head it reads all that there are.
func (s *stock) take(a *anchor, h *head) error {
	first, t, err := s.from(a)
	if err != nil {
		return err
	}
	s.tree, s.start, s.leaves = t, t, make(map[int][]byte)
	i := slices.Index(s.numbers, first)
	if i < 0 {
		return s.loss("%s is missing, and with it the records from %d to %d", filepath.Base(fileName(s.dir, first)), t.size()+1, h.Size)
	}
	for n, number := range s.numbers[i:] {
		if number != first+n {
			return s.loss("%s is missing", filepath.Base(fileName(s.dir, first+n)))
		}
		last := i+n == len(s.numbers)-1
		if err := s.read(number, last, h); err != nil {
			return err
		}
	}
	switch {
	case h == nil:
	case s.tree.size() < h.Size:
		return s.loss("%d records are missing at the end: the log ends after record %d of %d", h.Size-s.tree.size(), s.tree.size(), h.Size)
	case h.Closed && s.tree.size() > h.Size:
		return s.loss("%d records were added after the log was closed at record %d", s.tree.size()-h.Size, h.Size)
	}
	return nil
}

// from returns the file to begin with, and the tree as it began.
func (s *stock) from(a *anchor) (int, tree, error) {
	if a != nil {
		t, err := treeOf(a.Size, a.Hashes)
		return a.File, t, err
	}
	if s.numbers[0] == 1 {
		return 1, emptyTree(), nil
	}
	return 0, tree{}, fmt.Errorf("%s is the first file, and the database does not know what was before it: restore the database that "+
		"belongs to this log, or move the log elsewhere to begin a new one", filepath.Base(fileName(s.dir, s.numbers[0])))
}

// read adds a file to the tree.
func (s *stock) read(number int, last bool, h *head) error {
	path := fileName(s.dir, number)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	s.start = s.tree.clone()
	known, err := os.ReadFile(leavesPath(s.dir, number))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var leaves []byte
	var size int64
	err = eachLine(f, func(line []byte, whole bool) error {
		if !whole {
			if !last {
				return s.loss("%s does not end with a whole record", filepath.Base(path))
			}
			return nil
		}
		leaf := leafHash(line)
		s.tree.add(leaf)
		leaves, size = append(leaves, leaf...), size+int64(len(line))+1
		if h != nil && s.tree.size() == h.Size && !bytes.Equal(s.tree.root(), h.Root) {
			return s.loss("records from %d to %d are not all what they were", s.start.size()+1, h.Size)
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

// endOf notes the end of a file that is not the last.
func (s *stock) endOf(number int, size int64) error {
	signed, err := s.hasCheckpoint(number)
	if err != nil {
		return err
	}
	if !signed {
		s.rotated = append(s.rotated, &state{tree: s.tree.clone(), number: number, size: size, start: s.start})
	}
	if s.flush {
		return s.keepLeaves()
	}
	return nil
}

func (s *stock) hasCheckpoint(number int) (bool, error) {
	_, err := os.Stat(filepath.Join(s.dir, fmt.Sprintf(checkpointOfFile, number)))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// unsigned returns the ends of files before the anchor's that have no checkpoint, as they are after a time in which the HSM could
// sign none. What is signed is what the anchor was made from, or nothing.
func (s *stock) unsigned(a *anchor) ([]*state, error) {
	if a == nil {
		return nil, nil
	}
	before := s.numbers[:slices.Index(s.numbers, a.File)]
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
		again := stock{dir: s.dir, numbers: before[i:], tree: t, start: t, leaves: make(map[int][]byte)}
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

// keepLeaves writes the leaf hashes that are not those beside the files.
func (s *stock) keepLeaves() error {
	for number, leaves := range s.leaves {
		if err := writeDurably(s.dir, fmt.Sprintf(leavesOfFile, number), leaves); err != nil {
			return err
		}
	}
	clear(s.leaves)
	return nil
}
