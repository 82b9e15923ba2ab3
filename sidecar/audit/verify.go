package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Source is a log to verify. Verification does not change it.
type Source struct {
	Dir string
	// Anchor and Head are the values of the log in the database, nil without a database.
	Anchor, Head []byte
	// Recorded is the number of the database's last change with a record, and Outbox the changes whose records it still has.
	Recorded uint64
	Outbox   []uint64
	// Change is the number of the database's last change, and Had that of the last change that it is known to have had.
	Change, Had uint64
	// Keys are the trusted verifier keys; nil means those of the anchor.
	Keys []note.Verifier

	until *snapshot // of an open log: later records are ignored
}

// Verify compares every record of a log with its checkpoints, with its head in the database and with its leaf hashes. The
// report has the findings; an error means that the log could not be read.
func Verify(ctx context.Context, src Source) (*Report, error) {
	q := &verification{Source: src, report: &Report{Findings: []Finding{}}, begins: map[int]tree{1: emptyTree()}}
	for _, step := range []func() error{q.readDatabase, q.readCheckpoints, q.listFiles} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for number := q.first; number <= q.last; number++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := q.file(number); err != nil {
			return nil, err
		}
	}
	q.conclude()
	q.findGaps()
	return q.report, q.markers.settle(q.Dir, q.report, q.first, q.attested)
}

// Verify verifies the log up to its present end, while it is open. Retention removes no file meanwhile. With keys, it first
// signs a checkpoint, if the HSM can.
func (l *Log) Verify(ctx context.Context, keys []note.Verifier) (*Report, error) {
	if l.opts.Heads == nil {
		return nil, errors.New("the log has no head in a database to verify it against")
	}
	if keys != nil && l.checkpoints != nil {
		_ = l.checkpoints.signNow(ctx) // it logs its errors
	}
	l.retaining.RLock()
	defer l.retaining.RUnlock()
	src, err := databaseSource(l.opts.Dir, l.opts.Heads) // before until, so that the head is not ahead of it
	if err != nil {
		return nil, err
	}
	src.Keys, src.until = keys, l.now.Load()
	return Verify(ctx, src)
}

// verification is one verification in progress.
type verification struct {
	Source
	report *Report
	anchor *anchor
	head   *head

	expectations []expectation // roots that the log must have, the smallest first
	begins       map[int]tree  // attested starts of files
	checkpoints  []int         // numbers of the files with a valid checkpoint
	newest       *checkpoint   // that is not of a file
	numbers      []int         // of the present files
	first, last  int           // numbers of the expected files
	tree         tree          // at the start of the next file
	lost         int           // number of the missing file after which tree is unknown; 0: tree is known
	attested     uint64        // the largest expectation that the records meet
	given        bool          // the caller gave the keys
	unsigned     time.Time     // of the first record that no signature covers
	markers      markers
	changes      changes
}

// expectation is a root that the log must have had at a size.
type expectation struct {
	size   uint64
	root   []byte
	file   int // number of the file with the last of the records
	signed bool
	who    string // what attests the root, for findings
}

func (q *verification) find(kind Kind, file string, record uint64, line int, format string, args ...any) {
	q.report.add(Finding{Kind: kind, File: file, Record: record, Line: line, Detail: fmt.Sprintf(format, args...)})
}

// readDatabase reads the expectations of the database.
func (q *verification) readDatabase() error {
	if q.until != nil {
		q.attest(expectation{q.until.tree.size(), q.until.tree.root(), q.until.number, false, "the running sidecar"})
	}
	if q.Anchor != nil {
		a, h, err := decodeHeads(q.Anchor, q.Head)
		if err != nil {
			q.find(Database, "", 0, 0, "%v", err)
		} else {
			q.anchor, q.head = a, h
			start, _ := treeOf(a.Size, a.Hashes) // decoded above
			q.begins[a.File] = start
			q.attest(expectation{h.Size, h.Root, h.File, false, "the database"})
			q.attest(expectation{a.Size, start.root(), a.File - 1, false, "the database"})
		}
	}
	q.given = q.Keys != nil
	if q.Keys == nil && q.anchor != nil {
		q.Keys = q.anchor.verifiers()
	}
	if len(q.Keys) == 0 {
		if q.head != nil {
			return nil // no checkpoint was signed yet
		}
		return errors.New("no verifier key to verify the checkpoints of the log with: give one")
	}
	for _, k := range q.Keys {
		if v, ok := k.(*verifier); ok {
			q.report.Keys = append(q.report.Keys, v.String())
		}
	}
	q.report.Origin = q.Keys[len(q.Keys)-1].Name()
	return nil
}

// attest adds an expectation.
func (q *verification) attest(m expectation) {
	if m.size > 0 {
		q.expectations = append(q.expectations, m)
	}
}

// readCheckpoints reads the expectations of signed checkpoints.
func (q *verification) readCheckpoints() error {
	// The newest first: the checkpoints of the files that it covers were written before it.
	if err := q.readCheckpoint(checkpointName, 0); err != nil {
		return err
	}
	entries, err := os.ReadDir(q.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var number int
		if _, err := fmt.Sscanf(e.Name(), checkpointOfFile, &number); err != nil || e.Name() != fmt.Sprintf(checkpointOfFile, number) {
			continue
		}
		if err := q.readCheckpoint(e.Name(), number); err != nil {
			return err
		}
	}
	slices.SortStableFunc(q.expectations, func(a, b expectation) int { return cmp.Compare(a.size, b.size) })
	return nil
}

// readCheckpoint reads the expectation of a checkpoint: of a file, or with number 0 of the newest one.
func (q *verification) readCheckpoint(name string, number int) error {
	c, err := readCheckpoint(q.Dir, name, q.Keys)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, fs.ErrPermission):
		return err
	case err != nil:
		q.find(Signature, name, 0, 0, "%v", err)
		return nil
	case number != 0 && c.file != number:
		q.find(Checkpoint, name, c.tree.size(), 0, "it belongs to %s", nameOf(c.file))
		return nil
	case number == 0:
		q.newest = c
	}
	if q.until != nil && c.tree.size() > q.until.tree.size() {
		return nil // signed since the verification began
	}
	q.attest(expectation{c.tree.size(), c.tree.root(), c.file, true, name})
	if number != 0 {
		q.begins[number+1] = c.tree
		q.checkpoints = append(q.checkpoints, number)
	}
	q.report.Signed = max(q.report.Signed, c.tree.size())
	return nil
}

func nameOf(number int) string { return fmt.Sprintf(namePattern, number) }

// listFiles sets the present and the expected files, and the tree at the start of the first one if it is known.
func (q *verification) listFiles() (err error) {
	last := math.MaxInt
	if q.until != nil {
		last = q.until.number
	}
	if q.numbers, err = filesUpTo(q.Dir, last); err != nil {
		return err
	}
	if len(q.numbers) == 0 && len(q.expectations) == 0 {
		return fmt.Errorf("there is no audit log in %s", q.Dir)
	}
	q.first, q.last = 1, 1
	if len(q.numbers) > 0 {
		q.first, q.last = q.numbers[0], q.numbers[len(q.numbers)-1]
	}
	for _, m := range q.expectations {
		q.last = max(q.last, m.file)
	}
	q.tree = emptyTree()
	if begun, known := q.begins[q.first]; known {
		q.tree = begun
	} else {
		q.lost = q.first - 1
		q.find(Checkpoint, fmt.Sprintf(checkpointOfFile, q.lost), 0, 0, "it is missing, so the start of %s, the first file, is unknown",
			nameOf(q.first))
	}
	q.report.First = q.tree.size() + 1
	return nil
}

// conclude reports the findings about the whole log.
func (q *verification) conclude() {
	end := q.tree.size()
	q.report.Records = end
	switch {
	case end <= q.attested:
	case q.head == nil && q.until == nil:
		q.find(Uncovered, nameOf(q.last), q.attested+1, 0, "%s covered by no checkpoint", count(int(end-q.attested), "record is", "records are"))
	case q.head != nil && q.head.Closed && q.until == nil:
		q.find(Added, nameOf(q.last), q.attested+1, 0, "%s after the log was closed", count(int(end-q.attested), "record was added", "records were added"))
	default:
		q.report.note("%s newer than the head in the database: the sidecar was killed, and its next start accepts them",
			count(int(end-q.attested), "record is", "records are"))
	}
	has := uint64(0)
	if q.newest != nil {
		has = q.newest.tree.size()
	}
	if q.head != nil && q.head.Signed > has {
		q.find(Checkpoint, checkpointName, has, 0, "it is older than the last one that the database has: it covers %d records, not %d", has, q.head.Signed)
	}
	if q.head == nil && q.newest == nil {
		q.find(Checkpoint, checkpointName, 0, 0, "it is missing, so the end of the log is unknown")
	}
	switch n := min(end, q.attested); {
	case n <= q.report.Signed:
	case q.given && q.report.Signed == 0:
		q.find(Uncovered, nameOf(q.first), q.report.First, 0, "no checkpoint is signed with the given key")
	default:
		q.report.note("%s not signed yet, the first of %s", count(int(n-q.report.Signed), "record is", "records are"), q.unsigned.UTC().Format(time.RFC3339))
	}
}

// file verifies one file and sets q.tree to the start of the next one.
func (q *verification) file(number int) error {
	if begun, known := q.begins[number]; known {
		q.tree, q.lost = begun, 0
	}
	f := &inspected{q: q, number: number, name: nameOf(number), start: q.tree}
	f.end, f.closed = q.begins[number+1]
	for _, m := range q.expectations {
		if m.size > f.start.size() && (f.closed && m.size <= f.end.size() || !f.closed && m.file <= number) {
			f.expectations = append(f.expectations, m)
		}
	}
	if err := f.read(); err != nil {
		return err
	}
	if q.lost != 0 && f.proven() {
		q.lost = 0 // the tree continues without the missing file, whose loss was accepted
	}
	switch {
	case q.lost != 0:
		q.find(Uncovered, f.name, 0, 0, "its records cannot be verified, because %s and the checkpoint of its end are missing", nameOf(q.lost))
		f.after = f.start
	case !f.present && !f.closed && len(f.expectations) == 0:
		q.lost, f.after = number, f.start
		q.find(FileMissing, f.name, f.start.size()+1, 0, "the records from %d on are missing; their number is unknown", f.start.size()+1)
	default:
		f.conclude()
	}
	q.tree = f.after
	if f.closed {
		q.tree = f.end
	}
	if number < q.last && f.present && !slices.Contains(q.checkpoints, number) && q.tree.size() < q.signedUpTo() {
		q.find(Checkpoint, fmt.Sprintf(checkpointOfFile, number), q.tree.size(), 0, "it is missing")
	}
	return nil
}

// signedUpTo returns the number of records that the newest known checkpoint covered.
func (q *verification) signedUpTo() uint64 {
	n := q.report.Signed
	if q.head != nil {
		n = max(n, q.head.Signed)
	}
	return n
}
