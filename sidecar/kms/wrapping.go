package kms

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// pairLife is how long a wrapping key and its token can be used (user guide, 2.3).
	pairLife = 24 * time.Hour
	// pairsPerKey is how many valid wrapping keys a key can have; a further one ends the oldest.
	pairsPerKey = 100
	// Ended pairs are destroyed every pairsEvery, up to pairBatch at once: that rewrites the database's files.
	pairsEvery = 30 * time.Second
	pairBatch  = 1000
	// pairTimeout bounds the making of one pair ahead of its use: small HSMs need most of a minute for RSA-4096.
	pairTimeout = 2 * time.Minute
)

// DefaultPool is how many wrapping keys of each spec are made ahead. Those that take long, which are all but RSA2048, are
// made only while some key waits for its material.
var DefaultPool = map[KeySpec]int{RSA2048: 4, RSA3072: 1, RSA4096: 2}

// pool has wrapping keys that were made ahead, since making one takes seconds. They are in memory alone: what was not given
// out is made anew by the next process.
type pool struct {
	want   map[KeySpec]int
	taken  chan struct{} // holds one: there may be something to make
	making chan struct{} // holds one: who makes a pair that a request waits for

	mu    sync.Mutex
	ready map[KeySpec][]*WrappingPair
}

func newPool(want map[KeySpec]int) *pool {
	if want == nil {
		want = DefaultPool
	}
	return &pool{
		want: want, taken: make(chan struct{}, 1), making: make(chan struct{}, 1), ready: make(map[KeySpec][]*WrappingPair),
	}
}

// take returns a pair that nobody has, from the pool, or made now where that is empty.
func (p *pool) take(ctx context.Context, s *Service, spec KeySpec) (*WrappingPair, error) {
	if pair := p.pop(spec); pair != nil {
		return pair, nil
	}
	select {
	case p.making <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-p.making }()
	if pair := p.pop(spec); pair != nil { // that came while this one waited
		return pair, nil
	}
	return s.makePair(ctx, spec)
}

func (p *pool) pop(spec KeySpec) *WrappingPair {
	p.mu.Lock()
	defer p.mu.Unlock()
	ready := p.ready[spec]
	if len(ready) == 0 {
		return nil
	}
	p.ready[spec] = ready[1:]
	p.wake()
	return ready[0]
}

// wake has FillPool look again.
func (p *pool) wake() {
	select {
	case p.taken <- struct{}{}:
	default:
	}
}

func (p *pool) put(pair *WrappingPair) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready[pair.Spec] = append(p.ready[pair.Spec], pair)
}

// lacking returns a spec of which the pool has too few.
func (p *pool) lacking(can []KeySpec, waiting bool) (KeySpec, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range specs {
		spec := specs[i].name
		if specs[i].family == RSA && len(p.ready[spec]) < p.want[spec] && slices.Contains(can, spec) && (waiting || spec == RSA2048) {
			return spec, true
		}
	}
	return "", false
}

// importsWait reports whether some key waits for its material.
func (s *Service) importsWait(ctx context.Context) bool {
	_, n, err := s.store.ListKeys(ctx, KeyFilter{State: PendingImport}, 0, 1)
	return err == nil && n > 0
}

// FillPool makes wrapping keys ahead, one after the other, until ctx ends. It leaves the HSM to the requests for longer than
// it uses it. Nothing of it is on record: a wrapping key that nobody got opens nothing.
func (s *Service) FillPool(ctx context.Context) {
	var failed retry
	for ctx.Err() == nil {
		spec, ok := s.pool.lacking(s.hsm.Imports().Specs, s.importsWait(ctx))
		if !ok {
			select {
			case <-s.pool.taken:
			case <-ctx.Done():
			}
			continue
		}
		start := time.Now()
		making, cancel := context.WithTimeout(ctx, pairTimeout)
		pair, err := s.makePair(making, spec)
		cancel()
		if err != nil {
			failed.again(start)
			if ctx.Err() == nil {
				s.log.LogAttrs(ctx, slog.LevelWarn, "wrapping key cannot be made ahead", slog.String("error", err.Error()))
			}
			sleep(ctx, failed.wait)
			continue
		}
		failed = retry{}
		s.pool.put(pair)
		sleep(ctx, min(restFactor*time.Since(start), maxRest))
	}
}

// makePair has the HSM generate a pair and checks what it answers.
func (s *Service) makePair(ctx context.Context, spec KeySpec) (*WrappingPair, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, fmt.Errorf("make a wrapping key's id: %w", err)
	}
	pair := &WrappingPair{ID: id, Spec: spec}
	made, err := s.hsm.MakeWrappingKey(ctx, pair.Ref())
	if err != nil {
		return nil, err
	}
	if err := checkSealed(spec, made); err != nil {
		return nil, err
	}
	pair.Sealed, pair.Root, pair.Protection, pair.PublicKey = made.Sealed, made.Root, made.Protection, made.PublicKey
	return pair, nil
}

// destroyPairs destroys wrapping keys that ended, now and then, and returns when to look again.
func (s *Service) destroyPairs(ctx context.Context, now time.Time) (next time.Time) {
	r := &s.scheduler.pairs
	if now.Before(r.at) && r.at.Sub(now) <= maxRetry {
		return r.at
	}
	gone, next, err := s.store.DestroyPairs(ctx, now, pairBatch)
	refs := make([]KeyRef, len(gone))
	for i, p := range gone {
		refs[i] = p.Ref()
	}
	s.forgetRefs(ctx, refs)
	switch {
	case err != nil:
		s.scheduler.unclear.Store(true)
		r.again(now)
		s.log.LogAttrs(ctx, slog.LevelError, "ended wrapping keys cannot be destroyed", slog.String("error", err.Error()))
		return r.at
	case len(gone) > 0:
		*r = retry{at: now.Add(pairsEvery)}
		if !next.IsZero() && next.Before(r.at) {
			return r.at
		}
	}
	return next
}

// An import that failed can be tried triesAtOnce times, and then once every tryEvery: whoever tries blocks to learn from the
// answers needs millions.
const (
	triesAtOnce = 10
	tryEvery    = time.Minute / triesAtOnce
	// manyTries is how many keys are remembered before those are forgotten that may be tried freely again.
	manyTries = 1000
)

// tries is when each key will have all its tries again.
type tries struct {
	mu   sync.Mutex
	full map[KeyID]time.Time
}

// take takes one of a key's tries, or says how long there is none.
func (t *tries) take(id KeyID, now time.Time) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.full) >= manyTries {
		for key, full := range t.full {
			if !full.After(now) {
				delete(t.full, key)
			}
		}
	}
	const most = triesAtOnce * tryEvery
	full := t.full[id]
	switch {
	case full.Before(now):
		full = now
	case full.Sub(now) > most: // the clock was set back
		full = now.Add(most)
	}
	full = full.Add(tryEvery)
	if wait = full.Sub(now) - most; wait > 0 {
		return wait
	}
	t.full[id] = full
	return 0
}

// giveBack gives a try back that did not fail.
func (t *tries) giveBack(id KeyID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if full, ok := t.full[id]; ok {
		t.full[id] = full.Add(-tryEvery)
	}
}
