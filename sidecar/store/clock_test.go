package store

import (
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestClockMark holds that the mark of the clock and the readings of a key outlive a restart, and that a database without a mark has
// the zero one.
func TestClockMark(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if got, err := s.ClockMark(ctx); err != nil || got != (kms.ClockMark{}) {
		t.Errorf("a new database has the mark %+v (%v)", got, err)
	}
	mark := kms.ClockMark{
		Boot: "boot", Up: time.Hour, Wall: time.UnixMilli(1767322800123).UTC(), Drift: -time.Minute, Jumped: 400 * 24 * time.Hour,
		Confirmed: -time.Hour, Confirmations: 3,
	}
	k := newKey("a")
	k.State, k.DeletionAt, k.MaterialExpiresAt = kms.PendingDeletion, mark.Wall, mark.Wall
	k.DeletionClock = kms.ClockReading{Jumped: mark.Jumped, Confirmations: 3}
	k.ExpiryClock = kms.ClockReading{Jumped: -time.Millisecond}
	create(t, s, k)
	if err := s.SetClockMark(ctx, mark); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, Options{Dir: dir})
	if got, err := s.ClockMark(ctx); err != nil || got != mark {
		t.Errorf("the mark is %+v (%v), want %+v", got, err, mark)
	}
	if got, err := s.Key(ctx, k.ID); err != nil || !equal(got, k) {
		t.Errorf("the key is %+v (%v), want %+v", got, err, k)
	}
	if err := s.change(ctx, func(txn *transaction) error { return txn.Set(clockKey(), []byte(`{"boot":1}`)) }, func() {}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ClockMark(ctx); err == nil {
		t.Errorf("a damaged mark is %+v", got)
	}
}
