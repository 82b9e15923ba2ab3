package kms

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/keyside/keyside/policy"
)

// Nothing brings a destroyed key back, so the date of a destruction is not left to the wall clock alone: it can be set wrong by days or
// years. The clock is compared with the time for which the node has been running, which no program sets. After a jump, every destruction
// that was scheduled before waits as long as was left of its period, in running time; or until an administrator confirms that the clock
// is right. Everything else follows the wall clock.

const (
	// maxDrift is how far the wall clock may leave the running time within one boot. Beyond it the clock has jumped.
	maxDrift = time.Hour
	// maxGap is how long a node may have been off for the time to count as passed. Beyond it the clock has jumped.
	maxGap = 24 * time.Hour
	// markEvery is how often the mark is stored while nothing happens. A crash adds at most this to the time that a node was off.
	markEvery = time.Hour
	// countEvery is how often the destructions that wait are counted after a jump.
	countEvery = time.Minute
)

// RunningTime returns for how long the node has been running since its boot, suspension included, and a name of that boot.
type RunningTime func() (boot string, up time.Duration)

// ClockMark is the durable state of the wall clock. Running time moves it, and time for which the node was off up to maxGap.
type ClockMark struct {
	Boot string // that Up belongs to
	Up   time.Duration
	Wall time.Time
	// Drift is how far the wall clock has left the running time in this boot without having jumped.
	Drift time.Duration
	// Jumped is the sum of all jumps, those back in time negative; Confirmed is what it was when the clock was last confirmed, and
	// Confirmations how often that was.
	Jumped, Confirmed time.Duration
	Confirmations     int
}

// ClockReading is the state of the clock in which the date of a destruction was set.
type ClockReading struct {
	Jumped        time.Duration
	Confirmations int
}

func (m *ClockMark) reading() ClockReading { return ClockReading{m.Jumped, m.Confirmations} }

// advance returns the mark at a later look at the clock.
func (m ClockMark) advance(boot string, up time.Duration, wall time.Time) ClockMark {
	moved := wall.Sub(m.Wall)
	switch {
	case m.Wall.IsZero(): // the first look ever
	case boot != "" && boot == m.Boot && up >= m.Up:
		if m.Drift += moved - (up - m.Up); m.Drift.Abs() > maxDrift {
			m.Jumped, m.Drift = m.Jumped+m.Drift, 0
		}
	default:
		if m.Drift = 0; moved > maxGap || moved < -maxDrift {
			m.Jumped += moved
		}
	}
	m.Boot, m.Up, m.Wall = boot, up, wall
	return m
}

// postponed returns by how much a destruction is later than its date, which was set at a reading. What was confirmed since postpones
// nothing, and a clock that jumped back brings nothing forward.
func (m *ClockMark) postponed(at ClockReading) time.Duration {
	base := at.Jumped
	if at.Confirmations < m.Confirmations {
		base = m.Confirmed
	}
	return max(0, m.Jumped-base)
}

// dueAt returns when a destruction with a date is due by the wall clock, zero for a zero date.
func (m *ClockMark) dueAt(date time.Time, at ClockReading) time.Time {
	if date.IsZero() {
		return date
	}
	return date.Add(m.postponed(at))
}

// destruction returns when the key is destroyed, or else its material; zero means never. postponed says that this is not its date.
func (m *ClockMark) destruction(k *Key) (at time.Time, postponed bool) {
	expiry := m.dueAt(k.MaterialExpiresAt, k.ExpiryClock)
	if k.State != PendingDeletion {
		return expiry, !expiry.Equal(k.MaterialExpiresAt)
	}
	deletion := m.dueAt(k.DeletionAt, k.DeletionClock)
	at = earlier(deletion, expiry)
	return at, !at.Equal(earlier(k.DeletionAt, k.MaterialExpiresAt))
}

// due is [Key.Due] with the destructions that wait after a jump of the clock.
func (m *ClockMark) due(k *Key) time.Time {
	at, _ := m.destruction(k)
	if k.State == Enabled && k.Rotation.Enabled {
		return earlier(k.Rotation.Next, at)
	}
	return at
}

// timekeeper knows the mark.
type timekeeper struct {
	running RunningTime // nil: the wall clock is trusted
	store   ClockStore

	mu     sync.Mutex
	loaded bool
	mark   ClockMark
	saved  ClockMark
	state  ClockState
	at     time.Time // of the last count
}

// ClockState is how the clock is.
type ClockState struct {
	Jumped  time.Duration // since it was last confirmed
	Waiting int           // keys whose destruction, or that of their material, waits because of it
}

// clockMark looks at the clock and returns the mark. One that must outlive a crash is durable then.
func (s *Service) clockMark(ctx context.Context) (ClockMark, error) {
	t := &s.time
	if t.running == nil {
		return ClockMark{}, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return s.lookAtClock(ctx)
}

// lookAtClock does the work of clockMark. s.time.mu is held.
func (s *Service) lookAtClock(ctx context.Context) (mark ClockMark, err error) {
	t := &s.time
	if !t.loaded {
		if t.saved, err = t.store.ClockMark(ctx); err != nil {
			return mark, fmt.Errorf("read the mark of the clock: %w", err)
		}
		t.mark, t.loaded = t.saved, true
	}
	boot, up := t.running()
	up = up.Truncate(time.Millisecond) // as it is stored
	before := t.mark
	t.mark = before.advance(boot, up, s.now())
	if jump := t.mark.Jumped - before.Jumped; jump != 0 {
		t.at = time.Time{}
		s.log.LogAttrs(ctx, slog.LevelWarn, "the clock jumped: destructions wait for what is left of their periods in running time, "+
			"or until keyside key confirm-deletions", slog.Duration("by", jump), slog.Time("now", t.mark.Wall), slog.Time("before", before.Wall))
	}
	if t.saved.Jumped == t.mark.Jumped && t.saved.Boot == boot && up-t.saved.Up < markEvery {
		return t.mark, nil
	}
	return t.mark, s.saveClock(ctx, t.mark)
}

// saveClock makes a mark durable. s.time.mu is held.
func (s *Service) saveClock(ctx context.Context, mark ClockMark) error {
	if err := s.time.store.SetClockMark(ctx, mark); err != nil {
		return fmt.Errorf("store the mark of the clock: %w", err)
	}
	s.time.mark, s.time.saved = mark, mark
	return nil
}

// keepMark makes the mark durable when the process ends, so that the next one knows for how long it did not run.
func (s *Service) keepMark(ctx context.Context) error {
	s.time.mu.Lock()
	defer s.time.mu.Unlock()
	if s.time.running == nil || !s.time.loaded {
		return nil
	}
	mark, err := s.lookAtClock(ctx)
	if err != nil || s.time.saved == mark {
		return err
	}
	return s.saveClock(ctx, mark)
}

// ClockState returns how the clock was at the last look of the scheduler.
func (s *Service) ClockState() ClockState {
	s.time.mu.Lock()
	defer s.time.mu.Unlock()
	return s.time.state
}

// waitsUntil returns until when the destruction of a key or of its material waits, zero if it does not wait.
func (s *Service) waitsUntil(key *Key) time.Time {
	s.time.mu.Lock()
	defer s.time.mu.Unlock()
	at, postponed := s.time.mark.destruction(key)
	if !postponed {
		return time.Time{}
	}
	return at
}

// countWaiting counts the keys whose destruction waits, at most every countEvery while the clock does not jump.
func (s *Service) countWaiting(ctx context.Context, mark ClockMark) error {
	t := &s.time
	t.mu.Lock()
	recent := !t.at.IsZero() && mark.Wall.Sub(t.at).Abs() < countEvery
	t.mu.Unlock()
	if recent {
		return nil
	}
	n, err := s.waiting(ctx, mark)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state, t.at = ClockState{Jumped: mark.Jumped - mark.Confirmed, Waiting: n}, mark.Wall
	return nil
}

// waiting returns how many keys have a destruction that waits.
func (s *Service) waiting(ctx context.Context, mark ClockMark) (n int, err error) {
	if mark.Jumped == 0 && mark.Confirmations == 0 {
		return 0, nil
	}
	ids, _, err := s.store.DueKeys(ctx, time.UnixMilli(math.MaxInt64/2), math.MaxInt)
	for _, id := range ids {
		if err != nil {
			break
		}
		var key *Key
		if key, err = s.store.Key(ctx, id); err == nil {
			if _, postponed := mark.destruction(key); postponed {
				n++
			}
		}
		err = ignoreNotFound(err)
	}
	return n, err
}

// ConfirmDeletions declares the clock right: destructions that wait because it jumped are due at their dates again, those of the past
// at once. It returns how the clock was until then.
func (s *Service) ConfirmDeletions(ctx context.Context) (*ClockState, error) {
	return run(ctx, s, policy.OpConfirmDeletions, func(ctx context.Context, r *request) (*ClockState, error) {
		t := &s.time
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.running == nil {
			return &ClockState{}, nil
		}
		mark, err := s.lookAtClock(ctx)
		if err != nil {
			return nil, err
		}
		n, err := s.waiting(ctx, mark)
		if err != nil {
			return nil, err
		}
		was := &ClockState{Jumped: mark.Jumped - mark.Confirmed, Waiting: n}
		r.target = fmt.Sprintf("clock jumped by %s, waiting keys: %d", was.Jumped.Round(time.Second), n)
		mark.Confirmed, mark.Confirmations = mark.Jumped, mark.Confirmations+1
		t.at, t.state = time.Time{}, ClockState{}
		return was, s.saveClock(s.recorded(ctx, r), mark)
	})
}
