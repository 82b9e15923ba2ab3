package store

import (
	"errors"
	"os"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// TestAuditHead holds that what the audit log stores is there after a restart and in a copy, that reading the copy changes
// nothing, and that a damaged value is an error and no head.
func TestAuditHead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if a, h, err := s.AuditHead(); a != nil || h != nil || err != nil {
		t.Errorf("a new database has %q, %q, %v", a, h, err)
	}
	for _, put := range [][2]string{{"anchor", "one"}, {"", "two"}, {"another", "three"}, {"", "four"}} {
		var anchor []byte
		if put[0] != "" {
			anchor = []byte(put[0])
		}
		if err := s.SetAuditHead(ctx, anchor, []byte(put[1]), nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	before := filesOf(t, dir)
	if found, err := Inspect(dir); err != nil || found.Tenant != "default" || found.AuditAnchor != "another" || found.AuditHead != "four" {
		t.Errorf("Inspect found %+v, %v", found, err)
	}
	if after := filesOf(t, dir); after != before {
		t.Error("reading it changed the database")
	}
	s = open(t, Options{Dir: dir})
	if a, h, err := s.AuditHead(); string(a) != "another" || string(h) != "four" || err != nil {
		t.Errorf("after a restart it has %q, %q, %v", a, h, err)
	}
	for name, value := range map[string][]byte{
		"a changed bit": append([]byte{auditFormat, 'F'}, sealAudit(auditHeadKey, []byte("four"))[2:]...),
		"the anchor's":  sealAudit(auditAnchorKey, []byte("four")),
		"nothing":       {},
		"a new format":  append([]byte{auditFormat + 1}, sealAudit(auditHeadKey, []byte("four"))[1:]...),
	} {
		if err := s.db.Update(func(txn *badger.Txn) error { return txn.Set(auditHeadKey, value) }); err != nil {
			t.Fatal(err)
		}
		if _, h, err := s.AuditHead(); !errors.Is(err, errAuditHead) {
			t.Errorf("%s: it has %q, %v", name, h, err)
		}
	}
	if err := s.db.Update(func(txn *badger.Txn) error { return txn.Delete(auditHeadKey) }); err != nil {
		t.Fatal(err)
	}
	if _, h, err := s.AuditHead(); !errors.Is(err, errAuditHead) {
		t.Errorf("without a head: it has %q, %v", h, err)
	}
}

// filesOf is all that a folder has.
func filesOf(t *testing.T, dir string) (all string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(dir + "/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		all += e.Name() + "\x00" + string(content)
	}
	return all
}
