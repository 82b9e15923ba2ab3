package audit

import (
	"errors"
	"testing"
	"time"
)

// TestFiguresOfCheckpoints holds that the age of the last checkpoint grows until one is signed again.
func TestFiguresOfCheckpoints(t *testing.T) {
	w := newWorld(t, 0)
	clock := &movedClock{now: sample("").Time}
	w.Clock = clock
	w.key.away(errors.New("unplugged"))
	l := w.open(t)
	if err := l.Record(t.Context(), sample("one")); err != nil {
		t.Fatal(err)
	}
	clock.move(time.Hour)
	if f := l.Figures(); f.Signed != time.Hour || f.Unsigned != 2 { // it and the record that begins the log
		t.Errorf("an hour without a checkpoint: %+v", f)
	}
	w.key.away(nil)
	if err := l.checkpoints.signNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f := l.Figures(); f.Signed != 0 || f.Unsigned != 0 {
		t.Errorf("after a checkpoint: %+v", f)
	}
}

// TestFiguresOfGaps holds that a change without a record counts from the next record on, and that one whose record only comes later
// counts until then.
func TestFiguresOfGaps(t *testing.T) {
	w := newWorld(t, 0)
	l := w.open(t)
	want := func(gaps int64) {
		t.Helper()
		if f := l.Figures(); f.Gaps != gaps {
			t.Errorf("%d gaps, want %d", f.Gaps, gaps)
		}
	}
	record := func(id string) {
		t.Helper()
		if err := l.Record(t.Context(), w.heads.commit(t, id)); err != nil {
			t.Fatal(err)
		}
	}
	record("one")
	record("two")
	want(0)
	late := w.heads.commit(t, "late")
	record("three")
	want(1)
	if err := l.Record(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	want(0)
	w.heads.commit(t, "never")
	record("four")
	record("five")
	want(1)
}
