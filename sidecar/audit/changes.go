package audit

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/policy"
)

// Every record of a change has the change's number and that of the record before. A verification finds by them the changes that
// have no record, which no checkpoint tells, and the records whose changes a database has lost that was replaced by an older
// copy of itself.

// Change is what the record of a change says.
type Change struct {
	Number    uint64           `json:"change"`
	Previous  uint64           `json:"previous_change"`
	Time      time.Time        `json:"time"`
	Operation policy.Operation `json:"operation"`
	Principal string           `json:"principal"`
	KeyID     string           `json:"key_id"`
	Target    string           `json:"target"`
}

func (c *Change) String() string {
	var about string
	if c.KeyID != "" {
		about += " of key " + c.KeyID
	}
	if c.Target != "" {
		about += fmt.Sprintf(" (%s)", c.Target)
	}
	if c.Principal != "" {
		about += " by " + c.Principal
	}
	return fmt.Sprintf("%d, %s%s, %s", c.Number, c.Operation.Name(), about, c.Time.UTC().Format(time.RFC3339))
}

var changeHint = []byte(`,"change":`)

// changeIn returns the change whose record a line is, nil if it is none.
func changeIn(line []byte) *Change {
	if !bytes.Contains(line, changeHint) {
		return nil
	}
	c := new(Change)
	if json.Unmarshal(line, c) != nil || c.Number == 0 {
		return nil
	}
	return c
}

// ChangesAfter returns the changes after one whose records the log in dir has. rawAnchor is what the database stored of the log,
// whose earlier files it does not read; nil means all files.
func ChangesAfter(dir string, rawAnchor []byte, change uint64) (found []Change, err error) {
	from := 0
	if rawAnchor != nil {
		a, err := decodeAnchor(rawAnchor)
		if err != nil {
			return nil, err
		}
		from = a.File
	}
	numbers, err := list(dir)
	if err != nil {
		return nil, err
	}
	for _, number := range numbers {
		if number < from {
			continue
		}
		in, err := content(dir, number)
		if err != nil {
			return nil, err
		}
		err = eachLine(in, func(line []byte, whole bool) error {
			if c := changeIn(line); whole && c != nil && c.Number > change {
				found = append(found, *c)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", nameOf(number), err)
		}
		if err := in.Close(); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// databaseSource returns a source with what a database has of a log.
func databaseSource(dir string, heads HeadStore) (src Source, err error) {
	src = Source{Dir: dir, Recorded: heads.LastRecorded()}
	outbox, err := heads.AuditOutbox() // after the last change, so that up to that all are in it or in the log
	if err != nil {
		return src, err
	}
	src.Outbox = slices.Sorted(maps.Keys(outbox))
	src.Anchor, src.Head, err = heads.AuditHead()
	return src, err
}

// changes are the records of changes in a log under verification.
type changes struct {
	lowest, highest uint64
	latest          uint64             // that of the record of a change before
	unnamed         map[uint64]bool    // numbers that no record named as previous yet
	named           map[uint64]Finding // numbers that a record names as previous and that have no record yet, with its place
}

// add adds the change of a record, which is at a place.
func (s *changes) add(c *Change, at Finding) {
	if c.Number == s.latest {
		return // another record of the same change
	}
	if s.unnamed == nil {
		s.unnamed, s.named = make(map[uint64]bool), make(map[uint64]Finding)
	}
	s.latest, s.highest = c.Number, max(s.highest, c.Number)
	if s.lowest == 0 || c.Number < s.lowest {
		s.lowest = c.Number
	}
	if _, named := s.named[c.Number]; named {
		delete(s.named, c.Number)
	} else {
		s.unnamed[c.Number] = true
	}
	switch {
	case c.Previous == 0:
	case s.unnamed[c.Previous]:
		delete(s.unnamed, c.Previous)
	default:
		s.named[c.Previous] = at
	}
}

// contentOfChange begins what an acceptance names as the content of a finding about a change.
const contentOfChange = "change@"

// lookForChange adds the change that a line records, which was just read.
func (f *inspected) lookForChange(line []byte) {
	c := changeIn(line)
	if c == nil {
		return
	}
	q := f.q
	at := Finding{Kind: Gap, File: f.name, Record: f.start.size() + uint64(len(f.have)), Line: len(f.have)}
	if q.Anchor != nil && q.until == nil && c.Number > q.Recorded {
		lost := at
		lost.Kind, lost.Detail = LostChange, fmt.Sprintf("the database does not have this change: %s", c)
		lost.content = fmt.Sprint(contentOfChange, c.Number)
		q.report.add(lost)
	}
	q.changes.add(c, at)
}

// unorderedRecords is more records than there are operations at once: within so many, records may be in another order than their
// changes.
const unorderedRecords = 4096

// findGaps reports changes without a record.
func (q *verification) findGaps() {
	s := &q.changes
	for _, number := range slices.Sorted(maps.Keys(s.named)) {
		at := s.named[number]
		switch {
		case slices.Contains(q.Outbox, number): // the record is still to be written to the log
		case q.until != nil && number > q.Recorded: // it was made since the verification began
		case q.first > 1 && number < s.lowest: // its record is in a file that was removed
		case q.Anchor == nil && at.Record+unorderedRecords > q.report.Records: // an export ends before its record
		default:
			q.addGap(number, at)
		}
	}
	if q.Had > q.Change {
		q.report.add(Finding{
			Kind: LostChange, Detail: fmt.Sprintf("the database ends at change %d, and had change %d", q.Change, q.Had), content: fmt.Sprint(contentOfChange, q.Had),
		})
	}
	if q.Anchor == nil || q.until != nil || q.Recorded <= s.highest || slices.Contains(q.Outbox, q.Recorded) || q.first > 1 && s.highest == 0 {
		return
	}
	q.addGap(q.Recorded, Finding{Kind: Gap})
}

func (q *verification) addGap(number uint64, at Finding) {
	at.Detail = fmt.Sprintf("change %d and any before it since the last one recorded here have no record", number)
	at.content = fmt.Sprint(contentOfChange, number)
	q.report.add(at)
}

// isAboutChange reports whether a finding is about a change and not about what a file contains.
func (f *Finding) isAboutChange() bool { return strings.HasPrefix(f.content, contentOfChange) }
