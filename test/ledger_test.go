package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// A ledger is what a node has acknowledged. Workers, each on slots of its own, change keys and note what they were told;
// after every kill the ledger is held against what is there. A change without an answer may have happened or not, but
// nothing in between.
type ledger struct {
	slots []*slot
	// A move of the clock is counted before and after, so that what is between both is known to be uncertain.
	moving, moved atomic.Int64
	acknowledged  atomic.Int64
}

// interval and wait are those of all rotations and deletions, in days; the clock moves far enough for both.
const (
	interval = 30
	wait     = 7
	leap     = 31 * 24 * time.Hour
)

// either is what a value may be: one, where it is known.
type either[T comparable] []T

func (e either[T]) is(v T) bool { return len(e) == 1 && e[0] == v }

// slot is a name for keys, one after the other.
type slot struct {
	alias   string
	id      string                  // empty: no key, or none that is known of
	unknown bool                    // a change had no answer, or the key went: nothing more is done before a check
	state   either[client.KeyState] // of the key
	rotates either[bool]
	stage   either[string] // value of the only tag, empty for none
	earlier int64          // moves before the state or rotation last began to change
	later   int64          // and after
	born    int64          // moves before the key was made
	texts   []sealedText
}

// sealedText is a ciphertext with its plaintext.
type sealedText struct {
	sealed []byte
	plain  string
}

func newLedger(slots int) *ledger {
	l := new(ledger)
	for i := range slots {
		l.slots = append(l.slots, &slot{alias: fmt.Sprintf("slot-%d", i)})
	}
	return l
}

// mayBeGone reports whether the clock has moved beyond the deletion, or may have.
func (l *ledger) mayBeGone(s *slot) bool {
	return slices.Contains(s.state, client.PendingDeletion) && l.moving.Load() > s.earlier
}

// mustBeGone reports whether it certainly has.
func (l *ledger) mustBeGone(s *slot) bool {
	return s.state.is(client.PendingDeletion) && l.moved.Load() > s.later
}

// work changes keys in one of every so many slots until ctx ends or nothing is sure any more.
func (l *ledger) work(ctx context.Context, t *testing.T, c *client.Client, worker, workers int) {
	for ctx.Err() == nil && !t.Failed() {
		var free []*slot
		for i := worker; i < len(l.slots); i += workers {
			if !l.slots[i].unknown {
				free = append(free, l.slots[i])
			}
		}
		if len(free) == 0 {
			return
		}
		s := free[rand.IntN(len(free))]
		if s.id == "" {
			l.create(ctx, t, c, s)
			continue
		}
		step := steps[rand.IntN(len(steps))]
		if len(s.state) == 1 && slices.Contains(step.in, s.state[0]) {
			step.do(l, ctx, t, c, s)
		}
	}
}

// steps are what is done to keys, each in the states that allow it.
var steps = []struct {
	in []client.KeyState
	do func(*ledger, context.Context, *testing.T, *client.Client, *slot)
}{
	{[]client.KeyState{client.Enabled}, (*ledger).disable},
	{[]client.KeyState{client.Disabled}, (*ledger).enable},
	{[]client.KeyState{client.Enabled, client.Disabled}, (*ledger).schedule},
	{[]client.KeyState{client.PendingDeletion}, (*ledger).cancel},
	{[]client.KeyState{client.Enabled}, (*ledger).rotation},
	{[]client.KeyState{client.Enabled, client.Disabled}, (*ledger).tag},
	{[]client.KeyState{client.Enabled}, (*ledger).encrypt},
	{[]client.KeyState{client.Enabled}, (*ledger).encrypt},
	{[]client.KeyState{client.Enabled}, (*ledger).encrypt},
}

// attempt does a change that makes value of field, and notes what is known then.
func attempt[T comparable](l *ledger, t *testing.T, s *slot, field *either[T], value T, change func() error) {
	earlier := l.moved.Load()
	gone := l.mayBeGone(s)
	err := change()
	gone = gone || l.mayBeGone(s)
	switch {
	case err == nil:
		*field = either[T]{value}
		s.earlier, s.later = earlier, l.moving.Load()
		l.acknowledged.Add(1)
	case unanswered(err):
		*field = append(*field, value)
		s.earlier, s.later = min(earlier, s.earlier), l.moving.Load()
		s.unknown = true
	case gone && errors.Is(err, client.ErrNotFound):
		s.unknown = true
	default:
		t.Errorf("%s (%v): %v", s.alias, s.state, err)
	}
}

// unanswered reports whether a change may have happened though its answer says nothing: the sidecar or what is below it
// died meanwhile.
func unanswered(err error) bool {
	var refused *client.Error
	if errors.As(err, &refused) {
		return refused.Status >= 500
	}
	return true
}

func (l *ledger) create(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	born := l.moved.Load()
	key, err := c.CreateKey(ctx, client.CreateKeyRequest{Alias: s.alias})
	switch {
	case err == nil:
		l.acknowledged.Add(1)
		s.begin(key.ID, born)
	case unanswered(err):
		s.unknown, s.born = true, born
	default:
		t.Errorf("create %s: %v", s.alias, err)
	}
}

// begin notes a new key.
func (s *slot) begin(id string, born int64) {
	*s = slot{
		alias: s.alias, id: id, born: born, state: either[client.KeyState]{client.Enabled}, rotates: either[bool]{false}, stage: either[string]{""},
	}
}

func (l *ledger) disable(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	attempt(l, t, s, &s.state, client.Disabled, func() error { _, err := c.DisableKey(ctx, s.id); return err })
}

func (l *ledger) enable(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	attempt(l, t, s, &s.state, client.Enabled, func() error { _, err := c.EnableKey(ctx, s.id); return err })
}

func (l *ledger) schedule(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	attempt(l, t, s, &s.state, client.PendingDeletion, func() error { _, err := c.ScheduleKeyDeletion(ctx, s.id, wait); return err })
}

func (l *ledger) cancel(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	attempt(l, t, s, &s.state, client.Disabled, func() error { _, err := c.CancelKeyDeletion(ctx, s.id); return err })
}

func (l *ledger) rotation(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	if s.rotates.is(true) && rand.IntN(4) == 0 {
		attempt(l, t, s, &s.rotates, false, func() error { return c.DisableKeyRotation(ctx, s.id) })
		return
	}
	if s.rotates.is(false) {
		attempt(l, t, s, &s.rotates, true, func() error { return c.EnableKeyRotation(ctx, s.id, 0) })
	}
	if s.rotates.is(true) {
		attempt(l, t, s, &s.rotates, true, func() error { return c.SetKeyRotationInterval(ctx, s.id, interval) })
	}
}

func (l *ledger) tag(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	value := strconv.Itoa(rand.IntN(1000))
	attempt(l, t, s, &s.stage, value, func() error { return c.TagKey(ctx, s.id, client.Tag{Key: "stage", Value: value}) })
}

func (l *ledger) encrypt(ctx context.Context, t *testing.T, c *client.Client, s *slot) {
	plain := fmt.Sprintf("%s %d", s.alias, rand.Int64())
	sealed, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: s.id, Plaintext: []byte(plain)})
	switch {
	case err == nil:
		// The first ones stay, which have the oldest versions, and the latest.
		if len(s.texts) == 12 {
			s.texts = slices.Delete(s.texts, 6, 7)
		}
		s.texts = append(s.texts, sealedText{sealed.Ciphertext, plain})
		l.acknowledged.Add(1)
	case !unanswered(err):
		t.Errorf("encrypt under %s (%v): %v", s.alias, s.state, err)
	}
}
