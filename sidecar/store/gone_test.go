package store

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// sealedKey is a key with material that is like nothing else.
func sealedKey(alias string) *kms.Key {
	k := newKey(alias)
	k.Versions[0].Sealed = randomSealed()
	return k
}

func randomSealed() []byte {
	b := make([]byte, 160)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// holds returns the files under dir that have any of the byte strings in them, as they are or in the Base64 of format 1.
func holds(t testing.TB, dir string, secrets ...[]byte) (files []string) {
	t.Helper()
	for _, s := range secrets {
		secrets = append(secrets, inBase64(s))
	}
	return containing(t, dir, secrets)
}

func inBase64(secret []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(secret)) }

// containing returns the files under dir that have any of the byte strings in them.
func containing(t testing.TB, dir string, words [][]byte) (files []string) {
	t.Helper()
	if len(words) == 0 {
		t.Fatal("nothing to look for")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a compaction removed it
		}
		if slices.ContainsFunc(words, func(w []byte) bool { return bytes.Contains(content, w) }) {
			files = append(files, d.Name())
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

func all(*kms.Key) bool { return true }

// sink has badger merge everything it has into its deepest level.
func sink(t testing.TB, s *Store) {
	t.Helper()
	err := s.flush()
	s.purging.Lock()
	defer s.purging.Unlock()
	if err = errors.Join(err, s.merge()); err != nil {
		t.Fatal(err)
	}
}

// reseal gives a key's newest version other material and returns that.
func reseal(t testing.TB, s *Store, id kms.KeyID) []byte {
	t.Helper()
	sealed := randomSealed()
	if _, err := s.UpdateKey(ctx, id, func(k *kms.Key) error { k.Current().Sealed = sealed; return nil }); err != nil {
		t.Fatal(err)
	}
	return sealed
}

// places are where badger may have a key's material when it is to go. Each brings the key there and returns the store, open
// again or not, and all the sealed bytes that the key ever had.
var places = map[string]func(t *testing.T, s *Store, k *kms.Key) (*Store, [][]byte){
	"memtable": func(t *testing.T, s *Store, k *kms.Key) (*Store, [][]byte) { return s, nil },
	"level 0": func(t *testing.T, s *Store, k *kms.Key) (*Store, [][]byte) {
		s.Close() // writes the memtable to a table
		s = open(t, Options{Dir: s.opts.Dir})
		if n := s.db.Levels()[0].NumTables; n != 1 {
			t.Fatalf("level 0 has %d tables, want 1", n)
		}
		return s, nil
	},
	"deepest level": func(t *testing.T, s *Store, k *kms.Key) (*Store, [][]byte) {
		sink(t, s)
		return s, nil
	},
	"all of them": func(t *testing.T, s *Store, k *kms.Key) (*Store, [][]byte) {
		sink(t, s)
		secrets := [][]byte{reseal(t, s, k.ID)}
		s.Close()
		s = open(t, Options{Dir: s.opts.Dir})
		return s, append(secrets, reseal(t, s, k.ID))
	},
	"many versions of an entry": func(t *testing.T, s *Store, k *kms.Key) (_ *Store, secrets [][]byte) {
		for range 60 {
			secrets = append(secrets, reseal(t, s, k.ID))
		}
		return s, secrets
	},
	"log that a crash left": func(t *testing.T, s *Store, k *kms.Key) (*Store, [][]byte) {
		secrets := [][]byte{reseal(t, s, k.ID)}
		return open(t, Options{Dir: leftByKill(t, s)}), secrets
	},
}

// TestDestroyedIsGone holds that no file has any sealed bytes of a key once it is destroyed, wherever they were, and that
// the keys around it lack nothing.
func TestDestroyedIsGone(t *testing.T) {
	for place, bring := range places {
		t.Run(place, func(t *testing.T) {
			s := open(t, Options{Dir: t.TempDir()})
			doomed := sealedKey("doomed")
			create(t, s, sealedKey("before"), doomed, sealedKey("after"))
			s, more := bring(t, s, doomed)
			secrets := append(more, doomed.Versions[0].Sealed)
			neighbours := neighboursOf(t, s, doomed.ID)
			if len(holds(t, s.opts.Dir, secrets...)) == 0 {
				t.Fatal("what is looked for cannot be found at all")
			}

			if gone, err := s.DestroyKeys(ctx, []kms.KeyID{doomed.ID}, all); err != nil || len(gone) != 1 {
				t.Fatalf("destroyed %v (%v)", gone, err)
			}
			if _, err := s.Key(ctx, doomed.ID); codeOf(err) != kms.CodeNotFound {
				t.Errorf("destroyed key: %v", err)
			}
			checkGone(t, s, secrets, neighbours)
		})
	}
}

// TestDroppedIsGone holds the same for material that an update takes from a key that lives on.
func TestDroppedIsGone(t *testing.T) {
	drops := map[string]func(*kms.Key) error{
		"emptied": func(k *kms.Key) error { k.Versions[0].Sealed = nil; return nil },
		"removed": func(k *kms.Key) error { k.Versions = k.Versions[1:]; return nil },
	}
	for name, drop := range drops {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{Dir: t.TempDir()})
			k := sealedKey("doomed")
			create(t, s, k, sealedKey("other"))
			secrets := [][]byte{k.Versions[0].Sealed, reseal(t, s, k.ID)}
			sink(t, s)
			secrets = append(secrets, reseal(t, s, k.ID))
			kept := randomSealed()
			if _, err := s.UpdateKey(ctx, k.ID, func(k *kms.Key) error {
				k.Versions = append(k.Versions, kms.KeyVersion{Number: 2, Sealed: kept, CreatedAt: k.CreatedAt})
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			after, err := s.UpdateKey(ctx, k.ID, drop)
			if err != nil {
				t.Fatal(err)
			}
			checkGone(t, s, secrets, append(neighboursOf(t, s, k.ID), after))
			if !bytes.Equal(after.Current().Sealed, kept) {
				t.Error("a version that was not removed is missing")
			}
		})
	}
}

func neighboursOf(t *testing.T, s *Store, id kms.KeyID) (others []*kms.Key) {
	t.Helper()
	keys, _, err := s.ListKeys(ctx, kms.KeyFilter{}, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.ID == id {
			continue
		}
		if k, err = s.Key(ctx, k.ID); err != nil {
			t.Fatal(err)
		}
		others = append(others, k)
	}
	return others
}

// checkGone looks for the secrets now and after a restart, and for the keys that stay.
func checkGone(t *testing.T, s *Store, secrets [][]byte, staying []*kms.Key) {
	t.Helper()
	for range 2 {
		if files := holds(t, s.opts.Dir, secrets...); len(files) > 0 {
			t.Errorf("what was destroyed is in %s\n%s", files, s.db.LevelsToString())
		}
		for _, k := range staying {
			if got, err := s.Key(ctx, k.ID); err != nil || !equal(got, k) {
				t.Errorf("a key that stays is %+v (%v), want %+v", got, err, k)
			}
		}
		if len(s.pendingPurges) > 0 {
			t.Errorf("intents stay: %v", s.pendingPurges)
		}
		s.Close()
		s = open(t, Options{Dir: s.opts.Dir})
	}
}

// TestReaderHoldsUpPurge holds that a reader that still sees the old value, so that badger keeps it, does not make a purge
// report that it is gone.
func TestReaderHoldsUpPurge(t *testing.T) {
	merges := 0
	var reader *badger.Txn
	s := open(t, Options{Dir: t.TempDir(), failpoint: func(step string) {
		if step == "after the tables were merged" {
			if merges++; merges == 2 {
				reader.Discard()
			}
		}
	}})
	k := sealedKey("doomed")
	create(t, s, k)
	reader = s.db.NewTransaction(false)
	if _, err := s.DestroyKeys(ctx, []kms.KeyID{k.ID}, all); err != nil {
		t.Fatal(err)
	}
	checkGone(t, s, [][]byte{k.Versions[0].Sealed}, nil)
	if merges < 3 {
		t.Errorf("%d merges were enough, though a reader saw the key until after the second", merges)
	}
}

// TestIteratorHoldsUpPurge holds that a purge waits for the tables that it replaced and that an iterator still reads.
func TestIteratorHoldsUpPurge(t *testing.T) {
	var s *Store
	closed, waits := false, 0
	closeIterator := func() {}
	s = open(t, Options{Dir: t.TempDir(), failpoint: func(step string) {
		switch step {
		case "after the memtable was written":
			reader := s.db.NewTransaction(false) // it does not see the key any more, but has the tables
			it := reader.NewIterator(badger.DefaultIteratorOptions)
			closeIterator = func() {
				closed = true
				it.Close()
				reader.Discard()
				closeIterator = func() {}
			}
		case "waiting for old tables to be removed":
			if waits++; waits > 1 {
				closeIterator()
			}
		}
	}})
	k := sealedKey("doomed")
	create(t, s, k)
	sink(t, s)
	if _, err := s.DestroyKeys(ctx, []kms.KeyID{k.ID}, all); err != nil {
		t.Fatal(err)
	}
	if !closed {
		t.Error("purge ended while an iterator had the old tables")
	}
	closeIterator()
	checkGone(t, s, [][]byte{k.Versions[0].Sealed}, nil)
}

// TestNewMaterialOutlivesPurge holds that a purge takes nothing that was written after what it is to remove, not even under
// the same entry, and not when it has to begin again.
func TestNewMaterialOutlivesPurge(t *testing.T) {
	var s *Store
	var reader *badger.Txn
	k := sealedKey("imported")
	again := randomSealed()
	merges := 0
	s = open(t, Options{Dir: t.TempDir(), failpoint: func(step string) {
		if step != "after the tables were merged" {
			return
		}
		if merges++; merges > 1 {
			return
		}
		reader.Discard() // until here badger kept the old value
		if _, err := s.UpdateKey(ctx, k.ID, func(k *kms.Key) error { k.Versions[0].Sealed = again; return nil }); err != nil {
			t.Error(err)
		}
	}})
	create(t, s, k)
	reader = s.db.NewTransaction(false)
	if _, err := s.UpdateKey(ctx, k.ID, func(k *kms.Key) error { k.Versions[0].Sealed = nil; return nil }); err != nil {
		t.Fatal(err)
	}
	got, err := s.Key(ctx, k.ID)
	if err != nil || !bytes.Equal(got.Versions[0].Sealed, again) || merges < 2 {
		t.Fatalf("after %d merges new material is lost (%v)", merges, err)
	}
	checkGone(t, s, [][]byte{k.Versions[0].Sealed}, []*kms.Key{got})
}

// TestPurgeOfWhatCameAgain holds that a purge that ends does not count for material that was imported and dropped again after
// it had looked through the files.
func TestPurgeOfWhatCameAgain(t *testing.T) {
	var s *Store
	k := sealedKey("imported")
	again := randomSealed()
	set := func(sealed []byte) error {
		_, err := s.UpdateKey(ctx, k.ID, func(k *kms.Key) error { k.Versions[0].Sealed = sealed; return nil })
		return err
	}
	second := make(chan error, 1)
	once := sync.OnceFunc(func() {
		if err := set(again); err != nil {
			t.Error(err)
		}
		go func() { second <- set(nil) }()
		for dropped := false; !dropped && !t.Failed(); {
			now, err := s.Key(ctx, k.ID)
			if err != nil {
				t.Error(err)
			}
			dropped = len(now.Versions[0].Sealed) == 0
		}
	})
	s = open(t, Options{Dir: t.TempDir(), failpoint: func(step string) {
		if step == "waiting for old tables to be removed" {
			once()
		}
	}})
	create(t, s, k)
	if err := errors.Join(set(nil), <-second); err != nil {
		t.Fatal(err)
	}
	checkGone(t, s, [][]byte{k.Versions[0].Sealed, again}, nil)
}

// TestPurgeOnFullDisk holds that a purge that fails is not taken for done: the next one does its work too, and so does a
// restart.
func TestPurgeOnFullDisk(t *testing.T) {
	free := uint64(1 << 40)
	o := Options{Dir: t.TempDir(), freeBytes: func(string) (uint64, error) { return free, nil }}
	s := open(t, o)
	a, b := sealedKey("a"), sealedKey("b")
	create(t, s, a, b)
	s.opts.failpoint = func(step string) {
		if step == "after a commit" {
			free = minFree - 1 // once the key is removed
		}
	}
	gone, err := s.DestroyKeys(ctx, []kms.KeyID{a.ID}, all)
	if err == nil || len(gone) != 1 || len(holds(t, s.opts.Dir, a.Versions[0].Sealed)) == 0 {
		t.Fatalf("purge on a full disk: %v (%v)", gone, err)
	}
	if _, err := s.Key(ctx, a.ID); codeOf(err) != kms.CodeNotFound {
		t.Errorf("removed key: %v", err)
	}
	crashed := leftByKill(t, s)
	if s, err := Open(Options{Dir: crashed, Tenant: "default", freeBytes: o.freeBytes}); err == nil {
		s.Close()
		t.Error("database is served before what was destroyed is gone")
	}
	free, s.opts.failpoint = 1<<40, func(string) {}
	if gone, err := s.DestroyKeys(ctx, []kms.KeyID{a.ID}, all); err != nil || len(gone) != 0 {
		t.Fatalf("second try: %v (%v)", gone, err)
	}
	checkGone(t, s, [][]byte{a.Versions[0].Sealed}, []*kms.Key{b})
	checkGone(t, open(t, Options{Dir: crashed}), [][]byte{a.Versions[0].Sealed}, []*kms.Key{b})
}

// TestDestroyMany holds that a call for very many keys takes few transactions and one purge.
func TestDestroyMany(t *testing.T) {
	commits, merges := 0, 0
	s := open(t, Options{Dir: t.TempDir(), unsynced: true, failpoint: func(step string) {
		switch step {
		case "after a commit":
			commits++
		case "after the tables were merged":
			merges++
		}
	}})
	var ids []kms.KeyID
	var secrets [][]byte
	for i := range 2000 {
		k := sealedKey(fmt.Sprint("key-", i))
		create(t, s, k)
		ids = append(ids, k.ID)
		if i%50 == 0 {
			secrets = append(secrets, k.Versions[0].Sealed)
		}
	}
	commits = 0
	gone, err := s.DestroyKeys(ctx, ids, func(k *kms.Key) bool { return k.Alias != "key-7" })
	if err != nil || len(gone) != len(ids)-1 {
		t.Fatalf("%d keys destroyed (%v)", len(gone), err)
	}
	if commits > 60 || merges > 2 {
		t.Errorf("%d transactions and %d merges for 2000 keys", commits, merges)
	}
	if n, _, _ := s.CountKeys(ctx); n != 1 {
		t.Errorf("%d keys are left, want 1", n)
	}
	checkGone(t, s, secrets, nil)
}

// TestConcurrentDestruction checks that several callers can destroy keys at once, while others read, list and change, and
// that each caller's keys are purged when its call returns.
func TestConcurrentDestruction(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), unsynced: true, cacheSize: 5})
	stays := sealedKey("stays")
	create(t, s, stays)
	done := make(chan struct{})
	var readers, destroyers sync.WaitGroup
	readers.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			keys, total, err := s.ListKeys(ctx, kms.KeyFilter{Name: "k", Tags: []kms.TagValues{{Key: "t"}}}, 0, 100)
			if err != nil || len(keys) != total {
				t.Errorf("list of %d of %d: %v", len(keys), total, err)
			}
			if got, err := s.Key(ctx, stays.ID); err != nil || !equal(got, stays) {
				t.Errorf("key that stays is %+v (%v)", got, err)
			}
		}
	})
	for g := range 3 {
		destroyers.Go(func() {
			for i := range 4 {
				k := sealedKey(fmt.Sprintf("k-%d-%d", g, i))
				k.Tags = []kms.Tag{{Key: "t", Value: fmt.Sprint(g)}}
				create(t, s, k)
				sealed := reseal(t, s, k.ID)
				if gone, err := s.DestroyKeys(ctx, []kms.KeyID{k.ID, stays.ID}, func(k *kms.Key) bool { return k.Alias != "stays" }); err != nil || len(gone) != 1 {
					t.Errorf("destroyed %v (%v)", gone, err)
				}
				if files := holds(t, s.opts.Dir, k.Versions[0].Sealed, sealed); len(files) > 0 {
					t.Errorf("what was destroyed is in %s", files)
				}
				if _, err := s.Key(ctx, k.ID); codeOf(err) != kms.CodeNotFound {
					t.Errorf("destroyed key: %v", err)
				}
			}
		})
	}
	destroyers.Wait()
	close(done)
	readers.Wait()
	checkGone(t, s, [][]byte{randomSealed()}, []*kms.Key{stays})
}

// TestCloseWaitsForPurge holds that a purge that runs is ended before the database is closed.
func TestCloseWaitsForPurge(t *testing.T) {
	var s *Store
	closed := make(chan error, 1)
	once := sync.OnceFunc(func() { go func() { closed <- s.Close() }() })
	s = open(t, Options{Dir: t.TempDir(), failpoint: func(step string) {
		if step == "after the memtable was written" {
			once()
		}
	}})
	k := sealedKey("doomed")
	create(t, s, k)
	if _, err := s.DestroyKeys(ctx, []kms.KeyID{k.ID}, all); err != nil {
		t.Error(err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if files := holds(t, s.opts.Dir, k.Versions[0].Sealed); len(files) > 0 {
		t.Errorf("what was destroyed is in %s", files)
	}
}
