package store

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/kms"
)

var pairTime = time.UnixMilli(1790000000000).UTC()

// newPair is a pair of a key that is made so many minutes after pairTime and ends an hour later.
func newPair(key kms.KeyID, minutes int) *kms.WrappingPair {
	at := pairTime.Add(time.Duration(minutes) * time.Minute)
	return &kms.WrappingPair{
		ID: uuid.New(), Spec: kms.RSA2048, KeyID: key, CreatedAt: at, ExpiresAt: at.Add(time.Hour), Sealed: randomSealed(), Root: 3,
		Protection: kms.ProtectionHSM, PublicKey: []byte("public"),
	}
}

func createPairs(t testing.TB, s *Store, limit int, pairs ...*kms.WrappingPair) {
	t.Helper()
	for _, p := range pairs {
		if err := s.CreatePair(ctx, p, limit); err != nil {
			t.Fatal(err)
		}
	}
}

// wantPair holds that the store has a pair, with that end.
func wantPair(t testing.TB, s *Store, want *kms.WrappingPair, ends time.Time) {
	t.Helper()
	got, err := s.Pair(ctx, want.ID)
	if err != nil {
		t.Fatal(err)
	}
	if got.KeyID != want.KeyID || got.Spec != want.Spec || !got.CreatedAt.Equal(want.CreatedAt) || !got.ExpiresAt.Equal(ends) ||
		!bytes.Equal(got.Sealed, want.Sealed) || got.Root != 3 || got.Protection != want.Protection || string(got.PublicKey) != "public" {
		t.Errorf("pair is %+v, want %+v until %s", got, want, ends)
	}
}

// TestPairs holds that pairs outlive the process, that a further one ends those that are too many for its key alone, and
// what is destroyed when.
func TestPairs(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	key, other := uuid.New(), uuid.New()
	a, b, c, foreign := newPair(key, 0), newPair(key, 1), newPair(key, 2), newPair(other, 3)
	createPairs(t, s, 2, a, b, foreign)
	wantPair(t, s, a, a.ExpiresAt)
	createPairs(t, s, 2, c)
	s.Close()
	s = open(t, Options{Dir: s.opts.Dir})
	wantPair(t, s, a, c.CreatedAt)
	wantPair(t, s, b, b.ExpiresAt)
	wantPair(t, s, c, c.ExpiresAt)
	wantPair(t, s, foreign, foreign.ExpiresAt)
	last := newPair(key, 4)
	createPairs(t, s, 1, last)
	wantPair(t, s, b, last.CreatedAt)
	wantPair(t, s, c, last.CreatedAt)
	wantPair(t, s, last, last.ExpiresAt)
	if err := s.CreatePair(ctx, last, 1); err == nil {
		t.Error("a pair came twice")
	}

	destroy := func(now time.Time, limit, want int, next time.Time) {
		t.Helper()
		gone, at, err := s.DestroyPairs(ctx, now, limit)
		if err != nil || len(gone) != want || !at.Equal(next) {
			t.Errorf("%d pairs are gone, the next ends at %s (%v); want %d and %s", len(gone), at, err, want, next)
		}
		for _, p := range gone {
			if _, err := s.Pair(ctx, p.ID); codeOf(err) != kms.CodeNotFound || len(p.Sealed) == 0 {
				t.Errorf("destroyed pair %s: %v", p.ID, err)
			}
		}
	}
	destroy(pairTime, 10, 0, c.CreatedAt)
	destroy(last.CreatedAt, 2, 2, last.CreatedAt) // a and one of b and c, which ended as last was made
	destroy(last.CreatedAt, 10, 1, foreign.ExpiresAt)
	destroy(last.ExpiresAt, 10, 2, time.Time{})
	destroy(last.ExpiresAt, 10, 0, time.Time{})
}

// TestPairsLeaveTheFiles holds that the sealed half of a destroyed pair is in no file, also of one that ended early, and
// that others stay.
func TestPairsLeaveTheFiles(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	key := uuid.New()
	early, late := newPair(key, 0), newPair(key, 1)
	createPairs(t, s, 1, early)
	sink(t, s)
	createPairs(t, s, 1, late)
	sink(t, s)
	if len(holds(t, s.opts.Dir, early.Sealed)) == 0 {
		t.Fatal("the pair is in no file before it is destroyed")
	}
	if _, _, err := s.DestroyPairs(ctx, late.CreatedAt, 10); err != nil {
		t.Fatal(err)
	}
	if files := holds(t, s.opts.Dir, early.Sealed); len(files) > 0 {
		t.Errorf("the destroyed pair is in %v", files)
	}
	wantPair(t, s, late, late.ExpiresAt)
}

// TestDamagedPair holds that a pair that cannot be read opens nothing, keeps nothing from starting, and is destroyed.
func TestDamagedPair(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	whole, damaged := newPair(uuid.New(), 0), newPair(uuid.New(), 0)
	createPairs(t, s, 9, whole, damaged)
	if err := s.change(ctx, func(txn *transaction) error { return txn.Set(pairKey(damaged.ID), []byte(`{"spec":"RSA_2048"}`)) }, func() {}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Pair(ctx, damaged.ID); err == nil || codeOf(err) == kms.CodeNotFound {
		t.Errorf("damaged pair: %v", err)
	}
	s.Close()
	s = open(t, Options{Dir: s.opts.Dir})
	if gone, _, err := s.DestroyPairs(ctx, pairTime, 10); err != nil || len(gone) != 1 || gone[0].ID != damaged.ID {
		t.Errorf("destroyed %v (%v)", gone, err)
	}
	wantPair(t, s, whole, whole.ExpiresAt)
}

// TestKilledPairDestroyer kills a process at each step of the destruction of pairs: each exists or not, and destroyed
// material is purged when the database is served again.
func TestKilledPairDestroyer(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	early, late := newPair(uuid.New(), 0), newPair(uuid.New(), 1)
	createPairs(t, s, 9, early, late)
	sink(t, s)
	s.Close()
	removed := 0
	eachArrow(t, s.opts.Dir, "pairs", func(dir string, _ int) {
		s := open(t, Options{Dir: dir})
		defer s.Close()
		wantPair(t, s, late, late.ExpiresAt)
		if _, err := s.Pair(ctx, early.ID); err == nil {
			wantPair(t, s, early, early.ExpiresAt)
			return
		}
		removed++
		if files := holds(t, dir, early.Sealed); len(files) > 0 {
			t.Errorf("the destroyed pair is in %v", files)
		}
	})
	if removed == 0 {
		t.Error("no process got so far as to remove it")
	}
}
