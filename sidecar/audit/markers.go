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

// markers are what the log's records about itself say that a verification must know.
type markers struct {
	removed  int               // files up to this one were removed by retention
	accepted map[string]string // states of damaged files that were accepted, and when
}

var markerHint = []byte(`"operation":"audit-`)

// look takes a line's marker, if it is one.
func (m *markers) look(line []byte) {
	if !bytes.Contains(line, markerHint) {
		return
	}
	var r struct {
		Time      time.Time        `json:"time"`
		Operation policy.Operation `json:"operation"`
		Target    string           `json:"target"`
	}
	if json.Unmarshal(line, &r) != nil {
		return
	}
	switch r.Operation {
	case OpRemoved:
		if n, err := strconv.Atoi(r.Target); err == nil {
			m.removed = max(m.removed, n)
		}
	case OpLossAccepted:
		if m.accepted == nil {
			m.accepted = make(map[string]string)
		}
		for state := range strings.FieldsSeq(r.Target) {
			m.accepted[state] = r.Time.UTC().Format(time.RFC3339)
		}
	}
}

// settle holds the findings to what was accepted, and the first file to what retention removed.
func (m *markers) settle(dir string, r *Report, first int) error {
	if removed := m.removed; first > 1 && removed < first-1 {
		r.add(Finding{Kind: FileMissing, File: nameOf(removed + 1), Record: 1, Detail: fmt.Sprintf("the files up to %s are missing, and the log "+
			"does not say that retention removed them", nameOf(first-1))})
	} else if first > 1 {
		r.Removed = r.First - 1
		r.note("%s removed by retention", count(int(r.Removed), "record was", "records were"))
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.File == "" {
			continue
		}
		var err error
		if i > 0 && r.Findings[i-1].File == f.File {
			f.state = r.Findings[i-1].state
		} else if f.state, err = stateOf(dir, f.File); err != nil {
			return err
		}
		f.Accepted = m.accepted[f.state]
	}
	return nil
}

// stateOf names a file with all that it holds: NAME@SHA-256, or NAME@missing.
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
