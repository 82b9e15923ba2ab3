package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/policy"
)

// marker is a record of the log about itself that explains missing or changed records: OpRemoved or OpLossAccepted.
type marker struct {
	Time      time.Time        `json:"time"`
	Operation policy.Operation `json:"operation"`
	Target    string           `json:"target"`
	Warning   string           `json:"warning"`
	Caller    policy.Caller    `json:"caller"`

	file   string
	record uint64 // its number
	line   int
}

var markerHint = []byte(`"operation":"audit-`)

// markerIn returns the marker in a line, nil if the line is not a marker.
func markerIn(line []byte) *marker {
	if !bytes.Contains(line, markerHint) {
		return nil
	}
	m := new(marker)
	if json.Unmarshal(line, m) != nil || m.Operation != OpRemoved && m.Operation != OpLossAccepted {
		return nil
	}
	return m
}

// markers are the markers that a verification has read.
type markers struct {
	all      []*marker
	removed  int               // files up to this one were removed by retention
	accepted map[string]string // accepted states of files, with the time of the acceptance
}

// apply applies the markers up to a record. Later ones are not attested: an attacker that can write the directory of a
// stopped node could have added them to hide a change. Retention removes files, and an accepted loss takes effect, only
// after the database has the marker.
func (m *markers) apply(r *Report, upTo uint64) {
	m.accepted = make(map[string]string)
	for _, each := range m.all {
		switch {
		case each.record > upTo && each.Operation == OpLossAccepted:
			r.add(Finding{Kind: Added, File: each.file, Record: each.record, Line: each.line, Detail: "this record of an accepted loss is not attested"})
		case each.record > upTo:
		case each.Operation == OpLossAccepted:
			at := each.Time.UTC().Format(time.RFC3339)
			for content := range strings.FieldsSeq(each.Target) {
				m.accepted[content] = at
			}
			r.add(Finding{Kind: Accepted, File: each.file, Record: each.record, Line: each.line, Accepted: at,
				Detail: fmt.Sprintf("uid %d accepted this loss: %s", each.Caller.UID, each.Warning)})
		default:
			if n, err := strconv.Atoi(each.Target); err == nil {
				m.removed = max(m.removed, n)
			}
		}
	}
}

// settle compares the findings with the accepted losses, and the first file with what retention removed. upTo is the last
// attested record.
func (m *markers) settle(dir string, r *Report, first int, upTo uint64) error {
	m.apply(r, upTo)
	if removed := m.removed; first > 1 && removed < first-1 {
		r.add(Finding{Kind: FileMissing, File: nameOf(removed + 1), Record: 1, Detail: fmt.Sprintf("the files up to %s are missing, and no "+
			"record says that retention removed them", nameOf(first-1))})
	} else if first > 1 && r.First > 1 { // else the number of removed records is unknown
		r.Removed = r.First - 1
		r.note("%s removed by retention", count(int(r.Removed), "record was", "records were"))
	}
	states := make(map[string]string)
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Kind == Accepted || f.File == "" && f.content == "" {
			continue
		}
		if f.content == "" {
			state, known := states[f.File]
			if !known {
				var err error
				if state, err = stateOf(dir, f.File); err != nil {
					return err
				}
				states[f.File] = state
			}
			f.content = state
		}
		f.Accepted = m.accepted[f.content]
	}
	return nil
}

// stateOf returns the name of a file with its content: NAME@SHA-256, or NAME@missing.
func stateOf(dir, name string) (string, error) {
	open := func() (io.ReadCloser, error) { return os.Open(filepath.Join(dir, name)) }
	var number int
	if _, err := fmt.Sscanf(name, namePattern, &number); err == nil {
		open = func() (io.ReadCloser, error) { return content(dir, number) }
	}
	in, err := open()
	if errors.Is(err, fs.ErrNotExist) {
		return name + "@missing", nil
	}
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	_, err = io.Copy(sum, in)
	return name + "@" + hex.EncodeToString(sum.Sum(nil)), errors.Join(err, in.Close())
}
