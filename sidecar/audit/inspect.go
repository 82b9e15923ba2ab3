package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// inspected is a file during verification.
type inspected struct {
	q            *verification
	number       int
	name         string
	start        tree
	end          tree          // as the next file begins, if closed
	closed       bool          // end is attested
	expectations []expectation // of its records
	after        tree          // at the end of the file
	present      bool

	have []leaf // of its whole lines
	want []leaf // from the file of leaf hashes
	torn []byte // the bytes after the last whole line
}

// read reads the file and its leaf hashes.
func (f *inspected) read() error {
	in, err := content(f.q.Dir, f.number)
	if err == nil {
		f.present = true
		limit := -1
		if u := f.q.until; u != nil && u.number == f.number {
			limit = int(u.tree.size() - u.start.size())
		}
		err = eachLine(in, func(line []byte, whole bool) error {
			switch {
			case len(f.have) == limit:
				return errEnough
			case !whole:
				f.torn = bytes.Clone(line)
			default:
				f.have = append(f.have, leaf(leafHash(line)))
				f.look(line)
				f.lookForChange(line)
				if f.start.size()+uint64(len(f.have)) == f.q.report.Signed+1 {
					f.q.unsigned = timeOf(line)
				}
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			err = nil
		}
		err = errors.Join(err, in.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	stored, err := os.ReadFile(leavesPath(f.q.Dir, f.number))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for chunk := range slices.Chunk(stored[:len(stored)/hashSize*hashSize], hashSize) {
		f.want = append(f.want, leaf(chunk))
	}
	if u := f.q.until; u != nil && u.number == f.number {
		f.want = f.want[:min(len(f.want), len(f.have))]
	}
	return nil
}

// look keeps the line that was read last if it is a marker.
func (f *inspected) look(line []byte) {
	if m := markerIn(line); m != nil {
		m.file, m.line, m.record = f.name, len(f.have), f.start.size()+uint64(len(f.have))
		f.q.markers.all = append(f.q.markers.all, m)
	}
}

var errEnough = errors.New("enough")

// fold returns the tree after records of the file, given by their leaf hashes, and the first expectation that they do not meet.
func (f *inspected) fold(leaves []leaf) (t tree, failed *expectation) {
	t = f.start.clone()
	expectations := f.expectations
	check := func() {
		for len(expectations) > 0 && expectations[0].size <= t.size() {
			if m := expectations[0]; failed == nil && (m.size != t.size() || !bytes.Equal(m.root, t.root())) {
				failed = &m
			}
			expectations = expectations[1:]
		}
	}
	for i := range leaves {
		t.add(leaves[i][:])
		check()
	}
	if failed == nil && len(expectations) > 0 {
		failed = &expectations[0]
	}
	return t, failed
}

// good reports whether leaves match the attested records of the file. It also returns what fold returns.
func (f *inspected) good(leaves []leaf) (tree, *expectation, bool) {
	t, failed := f.fold(leaves)
	fits := failed == nil && (!f.closed || t.size() == f.end.size() && bytes.Equal(t.root(), f.end.root()))
	return t, failed, fits
}

// proven reports whether the records of the file are attested and intact.
func (f *inspected) proven() bool {
	_, _, good := f.good(f.have)
	return good && (f.closed || len(f.expectations) > 0)
}

// conclude compares the records of the file with the expected ones.
func (f *inspected) conclude() {
	t, failed, good := f.good(f.have)
	f.after = t
	if good {
		f.concludeRest()
		return
	}
	if wanted, _, ok := f.good(f.want); ok {
		f.after = wanted
		f.differ()
		return
	}
	f.explain(failed)
}

// attest notes how many records the expectations and the end of the file attest.
func (f *inspected) attest() {
	if len(f.expectations) > 0 {
		f.q.attested = max(f.q.attested, f.expectations[len(f.expectations)-1].size)
	}
	if f.closed {
		f.q.attested = max(f.q.attested, f.end.size())
	}
}

// concludeRest checks what accompanies intact records.
func (f *inspected) concludeRest() {
	f.attest()
	last := f.number == f.q.last
	if len(f.torn) > 0 {
		if last && f.q.until == nil && (f.q.head == nil || !f.q.head.Closed) {
			f.q.report.note("%s ends with %s of an incomplete record, as after a crash", f.name, count(len(f.torn), "byte", "bytes"))
		} else if f.q.until == nil {
			f.q.find(Added, f.name, f.after.size()+1, len(f.have)+1, "%s not part of a record", count(len(f.torn), "byte is", "bytes are"))
		}
	}
	if !f.present && !f.closed {
		return
	}
	if last && f.q.until == nil && f.q.head != nil && !f.q.head.Closed {
		return // after a crash, the leaf hashes may lack the last records
	}
	if slices.Equal(f.want, f.have) {
		return
	}
	at := 0
	for at < min(len(f.want), len(f.have)) && f.want[at] == f.have[at] {
		at++
	}
	f.q.find(Leaves, fmt.Sprintf(leavesOfFile, f.number), f.start.size()+uint64(at)+1, 0, "the leaf hashes do not match the records, which are intact")
}

// differ reports how the records differ from the leaf hashes, which are intact.
func (f *inspected) differ() {
	f.attest()
	from, to := f.start.size()+1, f.start.size()+uint64(len(f.want))
	switch other := f.sameAsOther(); {
	case !f.present:
		f.q.find(FileMissing, f.name, from, 0, "records %d to %d are missing", from, to)
	case other != 0:
		f.q.find(FileSwapped, f.name, from, 0, "it contains the records of %s instead of records %d to %d", nameOf(other), from, to)
	default:
		for _, d := range compare(f.want, f.have) {
			detail := d.detail
			if d.kind == Truncated {
				detail += fmt.Sprintf(": it ends after record %d of %d", f.start.size()+uint64(d.at), to)
				if len(f.torn) > 0 {
					detail += fmt.Sprintf(", followed by %s that are not a record", count(len(f.torn), "byte", "bytes"))
				}
			}
			f.q.find(d.kind, f.name, f.start.size()+uint64(d.at)+1, d.line+1, "%s", detail)
		}
	}
}

// sameAsOther returns the number of another file whose leaf hashes match the records of this one, 0 if there is none.
func (f *inspected) sameAsOther() int {
	if len(f.have) == 0 {
		return 0
	}
	for _, number := range f.q.numbers {
		if number == f.number {
			continue
		}
		stored, err := os.ReadFile(leavesPath(f.q.Dir, number))
		if err == nil && len(stored) >= hashSize && leaf(stored[:hashSize]) == f.have[0] && !slices.Contains(f.want, f.have[0]) {
			return number
		}
	}
	return 0
}

// explain reports the difference if the leaf hashes are corrupt, too.
func (f *inspected) explain(failed *expectation) {
	from := f.start.size() + 1
	if f.closed {
		f.q.attested = max(f.q.attested, f.end.size())
	}
	if !f.present {
		to := from
		if failed != nil {
			to = failed.size
		} else if f.closed {
			to = f.end.size()
		}
		f.q.find(FileMissing, f.name, from, 0, "records %d to %d are missing", from, to)
		return
	}
	for _, number := range f.q.numbers {
		begun, known := f.q.begins[number]
		if end, closed := f.q.begins[number+1]; known && closed && number != f.number {
			other := &inspected{start: begun, end: end, closed: true}
			if _, _, good := other.good(f.have); good {
				f.q.find(FileSwapped, f.name, from, 0, "it contains the records of %s, %d to %d", nameOf(number), begun.size()+1, end.size())
				return
			}
		}
	}
	have := f.start.size() + uint64(len(f.have))
	if failed == nil {
		failed = &expectation{size: f.end.size(), who: fmt.Sprintf(checkpointOfFile, f.number)}
	}
	if have < failed.size && (failed.signed || failed.who != "") {
		f.q.find(Truncated, f.name, have+1, len(f.have)+1, "it ends after record %d of %d attested by %s; "+
			"earlier records cannot be verified: the leaf hashes are missing or corrupt", have, failed.size, failed.who)
		return
	}
	for _, m := range f.expectations {
		if m.size < failed.size {
			from = m.size + 1
		}
	}
	f.q.find(Changed, f.name, from, int(from-f.start.size()), "some of records %d to %d were changed: their root is not that of %s; "+
		"which records is unknown, because the leaf hashes are missing or corrupt, too", from, failed.size, failed.who)
}
