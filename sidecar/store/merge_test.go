package store

import (
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// TestMerge holds that tables do not pile up, that nothing is lost when they are merged, also not when the database is
// closed meanwhile, and that it would be noticed.
func TestMerge(t *testing.T) {
	o := Options{Dir: t.TempDir(), unsynced: true}
	s := open(t, o)
	k := newKey("a")
	create(t, s, k)
	setGrants(t, s, k, newGrant(k, 1), newGrant(k, 2))
	fill := func() {
		t.Helper()
		if err := s.change(ctx, func(txn *transaction) error {
			return txn.Set(fillerKey, make([]byte, filler))
		}, func() {}); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 { // ten memtables
		fill()
	}
	if err := s.wait("a merge", func() (bool, error) { return s.db.Levels()[0].NumTables < mergeAt, nil }); err != nil {
		t.Error(err)
	}
	for range 40 {
		fill()
	}
	s.Close()
	s = open(t, o)
	if err := s.whole(); err != nil || len(s.Grants(k.ID)) != 2 {
		t.Errorf("after merges: %v, %d grants", err, len(s.Grants(k.ID)))
	}
	for _, c := range []struct {
		kind string
		name []byte
	}{{"grants", grantKey(newGrant(k, 1))}, {"keys", recordKey(k.ID)}} {
		if err := s.db.Update(func(txn *badger.Txn) error { return txn.Delete(c.name) }); err != nil {
			t.Fatal(err)
		}
		s.purging.Lock()
		err := s.merge()
		s.purging.Unlock()
		if err == nil || !strings.Contains(err.Error(), c.kind+" left") || s.Ready(ctx) == nil {
			t.Errorf("entries of %s are lost, and a merge says %v", c.kind, err)
		}
	}
}

// TestNoMergeWithoutRoom holds that tables are merged only where the disk takes what comes out of it.
func TestNoMergeWithoutRoom(t *testing.T) {
	free := uint64(minFree)
	s := open(t, Options{Dir: t.TempDir(), freeBytes: func(string) (uint64, error) { return free, nil }})
	create(t, s, newKey("a"))
	if err := s.flush(); err != nil {
		t.Fatal(err)
	}
	s.purging.Lock()
	defer s.purging.Unlock()
	if err := s.merge(); err == nil || !strings.Contains(err.Error(), "make room") {
		t.Errorf("a merge on a full disk: %v", err)
	}
	free = 1 << 40
	if err := s.merge(); err != nil {
		t.Error(err)
	}
}
