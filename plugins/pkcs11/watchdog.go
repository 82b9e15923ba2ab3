package pkcs11

import (
	"sync"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// watchdog finds C calls that do not return. Callers only write two words to their tracker; one goroutine scans all trackers every
// eighth of Floor. The limit of each kind and size is Factor times its 99th percentile, within Floor and Ceiling.
type watchdog struct {
	settings WatchdogSettings
	meter    *meter
	hung     func(k kind, age, limit time.Duration) // called once
	now      func() time.Duration                   // since epoch

	mu       sync.Mutex
	trackers map[*tracker]*sighting
	stop     chan struct{}
	stopped  sync.Once
}

// sighting is the last scan of a tracker. A call ages only while the watchdog runs, so that a stopped machine or process finds no
// hung calls when it continues. It does not age while a key is being generated: small devices run one call at a time, and an RSA
// key takes them a minute.
type sighting struct {
	began int64
	age   time.Duration
}

// learnedFrom is the number of calls from which a limit is computed; the ceiling applies before.
const learnedFrom = 200

func newWatchdog(settings WatchdogSettings, m *meter, hung func(kind, time.Duration, time.Duration)) *watchdog {
	return &watchdog{
		settings: settings, meter: m, hung: hung, now: func() time.Duration { return time.Since(epoch) },
		trackers: map[*tracker]*sighting{}, stop: make(chan struct{}),
	}
}

func (w *watchdog) interval() time.Duration { return w.settings.Floor / 8 }

// run scans until close.
func (w *watchdog) run() {
	tick := time.NewTicker(w.interval())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if w.scan() {
				return
			}
		case <-w.stop:
			return
		}
	}
}

func (w *watchdog) close() { w.stopped.Do(func() { close(w.stop) }) }

// watch returns a new tracker that is scanned until forget.
func (w *watchdog) watch() *tracker {
	t := &tracker{meter: w.meter}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trackers[t] = new(sighting)
	return t
}

func (w *watchdog) forget(t *tracker) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.trackers, t)
}

// scan checks every call in progress and reports whether one hangs.
func (w *watchdog) scan() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, making := w.now(), w.making()
	for t, seen := range w.trackers {
		began := t.began.Load()
		if began == 0 || began != seen.began {
			*seen = sighting{began: began}
			continue
		}
		what := t.what.Load()
		if making && kind(what/sizeClasses) != callGenerate {
			continue
		}
		seen.age = min(seen.age+w.interval(), now-time.Duration(began))
		if seen.age < w.settings.Floor {
			continue
		}
		if limit := w.limit(kind(what/sizeClasses), int(what%sizeClasses)); seen.age >= limit && t.began.Load() == began {
			w.hung(kind(what/sizeClasses), seen.age, limit)
			return true
		}
	}
	return false
}

// making reports whether a key is being generated. The caller must hold the lock.
func (w *watchdog) making() bool {
	for t := range w.trackers {
		if t.began.Load() != 0 && kind(t.what.Load()/sizeClasses) == callGenerate {
			return true
		}
	}
	return false
}

// limit returns how long a call may take.
func (w *watchdog) limit(k kind, class int) time.Duration {
	if k == callGenerate {
		return w.settings.Generate
	}
	var counts driver.Counts
	counts.Add(&w.meter.calls[k][class])
	if counts.Calls < learnedFrom {
		return w.settings.Ceiling
	}
	learned := time.Duration(w.settings.Factor) * counts.Quantile(0.99)
	return min(max(learned, w.settings.Floor), w.settings.Ceiling)
}
