package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/google/uuid"
)

// The anchor is a file outside the database that says what the database was after its files last changed: a lower bound of
// its change number, and the digests by which a cut or replaced file is named. Its first line is the JSON of storedAnchor, its
// second the SHA-256 of the first in hexadecimal digits. A database whose anchor is lost or corrupt gets a new one: its state record and
// the audit log still say whether it is whole.

type storedAnchor struct {
	Node   uuid.UUID      `json:"node"`
	Tenant string         `json:"tenant"`
	Change uint64         `json:"change"`
	Files  []anchoredFile `json:"files"`
}

// anchoredFile is a file of the database: MANIFEST, which grows at its end, KEYREGISTRY, or a table.
type anchoredFile struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"` // of its first Size bytes, in hexadecimal digits
}

// missing ends the description of a file that does not exist.
const missing = " is missing"

var (
	errAnchor = errors.New("the anchor is corrupt")
	errBehind = errors.New("acknowledged changes are lost")
)

// AnchoredChange returns the number of the last change that the database is known to have had, 0 without an intact anchor.
func AnchoredChange(path string) (uint64, error) {
	a, err := readAnchor(path)
	if errors.Is(err, errAnchor) {
		return 0, nil
	}
	if a == nil {
		return 0, err
	}
	return a.Change, nil
}

// readAnchor returns nil if there is no anchor.
func readAnchor(path string) (*storedAnchor, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	line, sum, _ := bytes.Cut(b, []byte("\n"))
	if string(bytes.TrimSpace(sum)) != hexDigest(line) {
		return nil, errAnchor
	}
	a := new(storedAnchor)
	if err := json.Unmarshal(line, a, json.RejectUnknownMembers(true)); err != nil {
		return nil, errAnchor
	}
	return a, nil
}

func hexDigest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// differences describes the files in dir that are not what they were when the anchor was written.
func (a *storedAnchor) differences(dir string) (found []string) {
	for _, f := range a.Files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name))
		switch {
		case errors.Is(err, fs.ErrNotExist) && filepath.Ext(f.Name) == tableExt:
			if tables, err := namedTables(filepath.Join(dir, manifest)); err != nil || slices.Contains(tables, f.Name) {
				found = append(found, f.Name+missing)
			}
		case errors.Is(err, fs.ErrNotExist):
			found = append(found, f.Name+missing)
		case err != nil:
			found = append(found, err.Error())
		case len(b) < f.Size:
			found = append(found, fmt.Sprintf("%s has %d bytes and had %d", f.Name, len(b), f.Size))
		case hexDigest(b[:f.Size]) != f.SHA256:
			found = append(found, f.Name+" has another content")
		}
	}
	return found
}

// renewAnchor writes the anchor if the database's files changed since it was last written. now is a committed state. s.purging is
// held.
func (s *Store) renewAnchor(now state) error {
	if s.opts.Anchor == "" || s.opts.InMemory {
		return nil
	}
	a := storedAnchor{Node: now.node, Tenant: s.opts.Tenant, Change: now.change}
	names, err := databaseFiles(s.opts.Dir)
	if err != nil {
		return err
	}
	known := map[string]anchoredFile{} // tables never change
	for _, f := range s.anchored {
		if filepath.Ext(f.Name) == tableExt {
			known[f.Name] = f
		}
	}
	for _, name := range names {
		f, isKnown := known[name]
		switch filepath.Ext(name) {
		case logExt, valueLogExt:
			continue
		}
		if !isKnown {
			b, err := os.ReadFile(filepath.Join(s.opts.Dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				continue // a merge removed it meanwhile
			}
			if err != nil {
				return err
			}
			f = anchoredFile{name, len(b), hexDigest(b)}
		}
		a.Files = append(a.Files, f)
	}
	if slices.Equal(a.Files, s.anchored) {
		return nil
	}
	line, err := json.Marshal(&a)
	if err != nil {
		return err
	}
	if err := replaceFile(s.opts.Anchor, append(line, "\n"+hexDigest(line)+"\n"...)); err != nil {
		return err
	}
	s.anchored = a.Files
	return nil
}

// replaceFile replaces the content of a file durably, or leaves it as it was.
func replaceFile(path string, content []byte) error {
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// checkAnchor holds what Inspect found, or its error, against the anchor.
func (o Options) checkAnchor(found *State, cause error) error {
	if o.Anchor == "" {
		return cause
	}
	a, err := readAnchor(o.Anchor)
	if errors.Is(err, errAnchor) {
		o.Logger.Warn("anchor of the database is corrupt and will be replaced", slog.String("file", o.Anchor))
		return cause
	}
	if err != nil {
		return errors.Join(cause, err)
	}
	if a == nil {
		return cause
	}
	if found != nil && found.Node != a.Node {
		return fmt.Errorf("%s is not the database of this audit log: it was created by node %s, and %s is of node %s", o.Dir, found.Node, o.Anchor, a.Node)
	}
	switch {
	case cause == nil && found.Change >= a.Change:
		return nil
	case errors.Is(cause, ErrAbsent):
		cause = fmt.Errorf("%w, but %s says that there was one", cause, o.Anchor)
	case cause == nil:
		cause = fmt.Errorf("database %s ends at change %d, but had change %d: %w", o.Dir, found.Change, a.Change, errBehind)
	}
	for _, difference := range a.differences(o.Dir) {
		if errors.Is(cause, ErrAbsent) && strings.HasSuffix(difference, missing) {
			continue
		}
		cause = fmt.Errorf("%w; %s", cause, difference)
	}
	return cause
}
