package audit

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// recordAmong records while so many other operations are under way.
func recordAmong(t *testing.T, l *Log, others int) {
	r := sample("r")
	r.InFlight = others
	if err := l.Record(context.Background(), r); err != nil {
		t.Error(err)
	}
}

// TestGroupCommit holds that a record among many operations in flight shares its sync with theirs, and that one among few
// does not wait.
func TestGroupCommit(t *testing.T) {
	var syncs atomic.Int32
	l := open(t, Options{Dir: t.TempDir(), Sync: true, waitLimit: time.Hour, failpoint: func(step string) {
		if step == "records are synced" {
			syncs.Add(1)
		}
	}})
	recordAmong(t, l, minInFlight-1)
	if n := syncs.Load(); n != 1 {
		t.Fatalf("a record among few took %d syncs", n)
	}
	done := make(chan struct{})
	go func() { defer close(done); recordAmong(t, l, 20) }()
	for awaited, end := false, time.Now().Add(10*time.Second); !awaited; runtime.Gosched() {
		l.mu.Lock()
		awaited = l.group.awaited
		l.mu.Unlock()
		if time.Now().After(end) {
			t.Fatal("a record among many does not wait for theirs")
		}
	}
	recordAmong(t, l, 2) // two are there, and two are under way: half
	<-done
	if n := syncs.Load(); n != 2 {
		t.Errorf("two records of one group took %d syncs", n-1)
	}
}

// TestPatienceEnds holds that operations which do not come are not waited for, and soon only seldom.
func TestPatienceEnds(t *testing.T) {
	l := open(t, Options{Dir: t.TempDir(), Sync: true, waitLimit: time.Nanosecond})
	for range 2 * maxSkips {
		recordAmong(t, l, 20)
	}
	if n := len(lines(t, l.opts.Dir)); n != 2*maxSkips {
		t.Errorf("%d records are there", n)
	}
	if l.skipped != maxSkips {
		t.Errorf("after each wait without success %d groups are not waited for, want %d", l.skipped, maxSkips)
	}
}
