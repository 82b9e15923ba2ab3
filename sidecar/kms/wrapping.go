package kms

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// pairLife is how long a wrapping key and its token are valid (Huawei KMS user guide, section 2.3).
	pairLife = 24 * time.Hour
	// pairsPerKey limits the valid wrapping keys of a key; a further one expires the oldest.
	pairsPerKey = 100
	// Expired pairs are destroyed every pairsEvery, up to pairBatch at once, because that rewrites database files.
	pairsEvery = 30 * time.Second
	pairBatch  = 1000
	// pairTimeout limits the generation of one pair in advance: small HSMs need most of a minute for RSA-4096.
	pairTimeout = 2 * time.Minute
)

// DefaultPool is the number of wrapping keys of each spec that are generated in advance. All but RSA2048 take long and are
// generated only while a key is PendingImport.
var DefaultPool = map[KeySpec]int{RSA2048: 4, RSA3072: 1, RSA4096: 2}

// pool contains wrapping keys that were generated in advance, because generating one takes seconds. They are only in memory:
// the next process generates others.
type pool struct {
	want   map[KeySpec]int
	taken  chan struct{} // holds one: the pool may lack a pair
	making gate          // held while a pair is generated for a waiting request

	mu    sync.Mutex
	ready map[KeySpec][]*WrappingPair
}

func newPool(want map[KeySpec]int) *pool {
	if want == nil {
		want = DefaultPool
	}
	return &pool{want: want, taken: make(chan struct{}, 1), making: make(gate, 1), ready: make(map[KeySpec][]*WrappingPair)}
}

// take returns an unused pair from the pool, or generates one if the pool is empty.
func (p *pool) take(ctx context.Context, s *Service, spec KeySpec) (*WrappingPair, error) {
	if pair := p.pop(spec); pair != nil {
		return pair, nil
	}
	if err := p.making.enter(ctx); err != nil {
		return nil, err
	}
	defer p.making.leave()
	if pair := p.pop(spec); pair != nil { // added meanwhile
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

// wake makes FillPool check the pool.
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

// importsWait reports whether a key is PendingImport.
func (s *Service) importsWait(ctx context.Context) bool {
	_, n, err := s.store.ListKeys(ctx, KeyFilter{State: PendingImport}, 0, 1)
	return err == nil && n > 0
}

// FillPool generates wrapping keys in advance, one after the other, until ctx ends. It uses the HSM for less than half of
// the time. It records nothing, because a wrapping key that was not issued unwraps nothing.
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
			failed.backOff(start)
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
	pair := &WrappingPair{ID: uuid.New(), Spec: spec}
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

// destroyPairs destroys expired wrapping keys every pairsEvery, and returns when to call it again.
func (s *Service) destroyPairs(ctx context.Context, now time.Time) (next time.Time) {
	r := &s.scheduler.pairs
	if r.waits(now) {
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
		r.backOff(now)
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

// An import that fails can be repeated triesAtOnce times, and then once every tryEvery. An attacker that learns from the
// answers to chosen blocks needs millions.
const (
	triesAtOnce = 10
	tryEvery    = time.Minute / triesAtOnce
	// manyTries is the number of keys from which on those with all their tries are dropped.
	manyTries = 1000
)

// tries has the time at which each key has all its tries again.
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

// giveBack returns a try that did not fail.
func (t *tries) giveBack(id KeyID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if full, ok := t.full[id]; ok {
		t.full[id] = full.Add(-tryEvery)
	}
}
