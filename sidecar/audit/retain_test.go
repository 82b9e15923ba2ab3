package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
)

// movedClock is a clock that a test sets.
type movedClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *movedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *movedClock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rotated is an open log with several files that have checkpoints.
func rotated(t testing.TB, keep Keep, failpoint func(string)) (*world, *Log, *movedClock) {
	t.Helper()
	w := newWorld(t, 2500)
	clock := &movedClock{now: sample("").Time}
	w.Clock, w.Keep, w.failpoint = clock, keep, failpoint
	l := w.open(t)
	for i := range 30 {
		if err := l.Record(t.Context(), sample(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.checkpoints.signNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w, l, clock
}

// TestRetention holds which files go under each limit, that this is on record before, and that what is left verifies: while it is
// written, stopped, exported and after the next start.
func TestRetention(t *testing.T) {
	for name, c := range map[string]struct {
		keep  Keep
		later time.Duration
		first int // file that is left; 0: the last one
	}{
		"everything":  {Keep{}, 1e6 * time.Hour, 1},
		"young":       {Keep{For: time.Hour}, 0, 1},
		"old":         {Keep{For: time.Hour}, 2 * time.Hour, 0},
		"three files": {Keep{Files: 3}, 0, -3},
		"7000 bytes":  {Keep{Bytes: 7000}, 0, -2},
		"both":        {Keep{For: time.Hour, Files: 1000}, 2 * time.Hour, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w, l, clock := rotated(t, c.keep, nil)
			clock.move(c.later)
			before, _ := list(w.Dir)
			want := c.first
			if want <= 0 {
				want += before[len(before)-1]
			}
			if err := l.retain(); err != nil {
				t.Fatal(err)
			}
			after, _ := list(w.Dir)
			if after[0] != want {
				t.Errorf("of the files %v there are left %v, want %d on", before, after, want)
			}
			removed := 0
			for _, r := range lines(t, w.Dir) {
				if r.Operation == OpRemoved && r.Target == fmt.Sprint(want-1) {
					removed++
				}
			}
			if (removed == 1) != (want > 1) {
				t.Errorf("it is on record %d times", removed)
			}
			r, err := l.Verify(t.Context(), nil)
			if err != nil || len(r.Findings) > 0 || (r.Removed > 0) != (want > 1) {
				t.Errorf("%v, %+v", err, r)
			}
			dir, _ := export(t, l)
			a, _ := w.heads.head(t)
			wantClean(t, Source{Dir: dir, Keys: a.verifiers()})
			if got := ids(t, l, Query{RequestID: "29"}); len(got) != 1 {
				t.Errorf("the last record is there %d times", len(got))
			}
			l.EndCheckpoints(t.Context())
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			wantClean(t, w.source(t))
			w.write(t, 9)
			if r := wantClean(t, w.source(t)); r.Signed != r.Records {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestRetentionIsNoExcuse holds that a file which retention did not remove is reported missing, and that without a database a log
// whose first files are gone carries on.
func TestRetentionIsNoExcuse(t *testing.T) {
	w, l, _ := rotated(t, Keep{Files: 3}, nil)
	if err := l.retain(); err != nil {
		t.Fatal(err)
	}
	l.EndCheckpoints(t.Context())
	l.Close()
	wantClean(t, w.source(t))
	numbers, _ := list(w.Dir)
	c := w.copy(t)
	os.Remove(fileName(c.Dir, numbers[0]))
	if r := verify(t, c.source(t)); len(r.Findings) != 1 || r.Findings[0].Kind != FileMissing || r.Findings[0].File != nameOf(numbers[0]) {
		t.Errorf("%v", r.Findings)
	}
	c = w.copy(t)
	begun := fmt.Sprintf(checkpointOfFile, numbers[0]-1)
	os.Remove(filepath.Join(c.Dir, begun))
	r := verify(t, c.source(t))
	if len(r.Findings) != 2 || r.Findings[0].Kind != Checkpoint || r.Findings[0].File != begun ||
		r.Findings[1].Kind != Uncovered || r.Findings[1].File != nameOf(numbers[0]) {
		t.Errorf("without %s: %v", begun, r.Findings)
	}
	if _, err := AcceptLoss(t.Context(), c.Options, 0, 0, policy.Caller{}); err != nil {
		t.Error(err)
	}
	if r := verify(t, c.source(t)); !r.OK() {
		t.Errorf("without %s, which is accepted: %v", begun, r.Findings)
	}
	c = w.copy(t)
	os.Remove(c.heads.path)
	c.write(t, 3)
	if r := wantClean(t, c.source(t)); r.Signed != r.Records {
		t.Errorf("%+v", r)
	}
}

// TestRetentionWaits holds that nothing goes that is not signed, whatever the limit, and nothing during a read.
func TestRetentionWaits(t *testing.T) {
	w := newWorld(t, 2500)
	w.Keep = Keep{Files: 1}
	w.key.away(errors.New("unplugged"))
	l := w.open(t)
	for range 30 {
		if err := l.Record(t.Context(), sample("")); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := list(w.Dir)
	same := func(what string) {
		t.Helper()
		if err := l.retain(); err != nil {
			t.Fatal(err)
		}
		if after, _ := list(w.Dir); len(after) != len(before) {
			t.Errorf("%s: of the files %v there are left %v", what, before, after)
		}
	}
	same("without checkpoints")
	w.key.away(nil)
	if err := l.checkpoints.signNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.Dir, fmt.Sprintf(checkpointOfFile, 1))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, w.Dir, filepath.Base(path), bytes.Replace(good, []byte("file 1"), []byte("file 2"), 1))
	same("with a damaged checkpoint")
	put(t, w.Dir, filepath.Base(path), good)
	l.retaining.RLock()
	same("with a reader")
	l.retaining.RUnlock()
	if err := l.retain(); err != nil {
		t.Fatal(err)
	}
	if after, _ := list(w.Dir); len(after) != 2 {
		t.Errorf("there are left %v", after)
	}
}

// asked is a context that calls a function each time its end is checked.
type asked struct {
	context.Context
	then func()
}

func (a asked) Err() error {
	a.then()
	return a.Context.Err()
}

// TestRetentionWaitsForVerify has files become removable while the log is verified: none that the verification knows of goes.
func TestRetentionWaitsForVerify(t *testing.T) {
	_, l, _ := rotated(t, Keep{Files: 3}, nil)
	before, _ := list(l.opts.Dir)
	r, err := l.Verify(asked{t.Context(), func() {
		if err := l.retain(); err != nil {
			t.Error(err)
		}
	}}, nil)
	if err != nil || len(r.Findings) > 0 {
		t.Errorf("%v, %+v", err, r)
	}
	if err := l.retain(); err != nil {
		t.Fatal(err)
	}
	if after, _ := list(l.opts.Dir); len(after) >= len(before) {
		t.Errorf("of the files %v there are left %v", before, after)
	}
}

// TestRetentionIsKilled stops a removal at each of its steps, as a kill does, and holds that the log verifies as it is then and
// that the next one does the rest.
func TestRetentionIsKilled(t *testing.T) {
	type killed struct{}
	for stop := 1; ; stop++ {
		steps := 0
		w, l, _ := rotated(t, Keep{Files: 2}, func(step string) {
			if strings.Contains(step, "remov") {
				if steps++; steps == stop {
					panic(killed{})
				}
			}
		})
		done := func() (done bool) {
			defer func() {
				if p := recover(); p != nil {
					_ = p.(killed)
				}
			}()
			if err := l.retain(); err != nil {
				t.Fatal(err)
			}
			return true
		}()
		until(t, func() bool { _, h := w.heads.head(t); return h.Size == l.now.Load().tree.size() })
		c := w.copy(t)
		c.failpoint = nil
		wantClean(t, c.source(t))
		c.Keep = Keep{Files: 1}
		l = c.open(t)
		if err := l.retain(); err != nil {
			t.Fatal(err)
		}
		entries, _ := filepath.Glob(filepath.Join(c.Dir, "*.leaves"))
		if numbers, _ := list(c.Dir); len(numbers) != len(entries) {
			t.Errorf("files %v, leaf hashes %v", numbers, entries)
		}
		if r, err := l.Verify(t.Context(), nil); err != nil || len(r.Findings) > 0 {
			t.Errorf("%v, %+v", err, r)
		}
		if done {
			if stop < 4 {
				t.Errorf("it has %d steps", stop)
			}
			return
		}
	}
}
