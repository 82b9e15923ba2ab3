package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/kms"
)

// Wrapping pairs lie under w and their id, as JSON. There are as many as imports were begun in a day, so memory knows of
// each whose it is and when it ends. One that ends early is written anew with its end; its older version goes when it is
// destroyed.

// storedPair is a wrapping pair as it is stored. Its names are the format, as storedKey's are.
type storedPair struct {
	Spec       kms.KeySpec    `json:"spec"`
	KeyID      kms.KeyID      `json:"key"`
	CreatedMS  int64          `json:"created"`
	ExpiresMS  int64          `json:"expires"`
	Root       uint32         `json:"root"`
	Protection kms.Protection `json:"protection"`
	PublicKey  []byte         `json:"public"`
	Sealed     []byte         `json:"sealed"`
}

// pairEnd is what memory knows of a wrapping pair.
type pairEnd struct {
	id  uuid.UUID
	key kms.KeyID
	at  int64 // milliseconds since 1970
}

func pairsPrefix() []byte               { return []byte{'w'} }
func pairKey(id uuid.UUID) []byte       { return append(pairsPrefix(), id[:]...) }
func endOf(p *kms.WrappingPair) pairEnd { return pairEnd{p.ID, p.KeyID, p.ExpiresAt.UnixMilli()} }

// CreatePair implements kms.PairStore.
func (s *Store) CreatePair(ctx context.Context, p *kms.WrappingPair, limit int) error {
	ended := map[uuid.UUID]*kms.WrappingPair{}
	return s.change(ctx, func(txn *transaction) error {
		if _, err := txn.Get(pairKey(p.ID)); !errors.Is(err, badger.ErrKeyNotFound) {
			return fmt.Errorf("new wrapping pair %s: its id is taken, or cannot be looked up: %w", p.ID, err)
		}
		for _, id := range s.crowding(p, limit) {
			old, err := readPair(txn, id)
			if err != nil {
				return err
			}
			old.ExpiresAt = p.CreatedAt
			if err := writePair(txn, old); err != nil {
				return err
			}
			ended[id] = old
		}
		return writePair(txn, p)
	}, func() {
		for i := range s.pairs {
			if old := ended[s.pairs[i].id]; old != nil {
				s.pairs[i] = endOf(old)
			}
		}
		s.pairs = append(s.pairs, endOf(p))
	})
}

// crowding returns the valid pairs of a new pair's key that are too many beside it, the first to end first.
func (s *Store) crowding(p *kms.WrappingPair, limit int) (ids []uuid.UUID) {
	valid := slices.DeleteFunc(slices.Clone(s.pairs), func(e pairEnd) bool {
		return e.key != p.KeyID || e.at <= p.CreatedAt.UnixMilli()
	})
	slices.SortStableFunc(valid, func(a, b pairEnd) int { return cmp.Compare(a.at, b.at) })
	for i := 0; i <= len(valid)-limit; i++ {
		ids = append(ids, valid[i].id)
	}
	return ids
}

// Pair implements kms.PairStore.
func (s *Store) Pair(_ context.Context, id uuid.UUID) (p *kms.WrappingPair, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		p, err = readPair(txn, id)
		return err
	})
	return p, err
}

// DestroyPairs implements kms.PairStore.
func (s *Store) DestroyPairs(ctx context.Context, now time.Time, limit int) (gone []*kms.WrappingPair, next time.Time, err error) {
	if ended, next := s.pairsEnded(now, limit); len(ended) == 0 {
		return nil, next, nil
	}
	err = s.change(ctx, func(txn *transaction) error {
		ended, _ := s.ended(now, limit)
		var intents [][]byte
		for _, e := range ended {
			p, err := readPair(txn, e.id)
			if err != nil {
				s.opts.Logger.Warn("wrapping pair that is destroyed is damaged", "pair", e.id.String(), "error", err)
				p = &kms.WrappingPair{ID: e.id, KeyID: e.key}
			}
			gone = append(gone, p)
			intents = append(intents, pairKey(e.id))
			if err := txn.Delete(pairKey(e.id)); err != nil {
				return err
			}
		}
		return writeIntents(txn, intents)
	}, func() {
		var intents [][]byte
		for _, p := range gone {
			intents = append(intents, pairKey(p.ID))
		}
		s.pairs = slices.DeleteFunc(s.pairs, func(e pairEnd) bool {
			return slices.ContainsFunc(gone, func(p *kms.WrappingPair) bool { return p.ID == e.id })
		})
		s.addPendingPurges(intents)
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	_, next = s.pairsEnded(now, 0)
	return gone, next, s.purge()
}

func (s *Store) pairsEnded(now time.Time, limit int) (ended []pairEnd, next time.Time) {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.ended(now, limit)
}

// ended returns up to limit pairs that ended by now, the first to end first, and when the first of the others ends. s.writing
// is held.
func (s *Store) ended(now time.Time, limit int) (ended []pairEnd, next time.Time) {
	for _, e := range slices.SortedStableFunc(slices.Values(s.pairs), func(a, b pairEnd) int { return cmp.Compare(a.at, b.at) }) {
		if e.at > now.UnixMilli() || len(ended) == limit {
			return ended, time.UnixMilli(e.at).UTC()
		}
		ended = append(ended, e)
	}
	return ended, time.Time{}
}

func writePair(txn *transaction, p *kms.WrappingPair) error {
	return write(txn, pairKey(p.ID), storedPair{
		Spec: p.Spec, KeyID: p.KeyID, CreatedMS: p.CreatedAt.UnixMilli(), ExpiresMS: p.ExpiresAt.UnixMilli(), Root: p.Root,
		Protection: p.Protection, PublicKey: p.PublicKey, Sealed: p.Sealed,
	})
}

func readPair(txn reader, id uuid.UUID) (*kms.WrappingPair, error) {
	var stored storedPair
	if err := readJSON(txn, pairKey(id), "wrapping pair", &stored); err != nil {
		return nil, err
	}
	if stored.Spec == "" || len(stored.Sealed) == 0 || len(stored.PublicKey) == 0 {
		return nil, fmt.Errorf("wrapping pair %s: %w: fields are missing", id, errRecord)
	}
	return &kms.WrappingPair{
		ID: id, Spec: stored.Spec, KeyID: stored.KeyID, CreatedAt: time.UnixMilli(stored.CreatedMS).UTC(),
		ExpiresAt: time.UnixMilli(stored.ExpiresMS).UTC(), Root: stored.Root, Protection: stored.Protection,
		PublicKey: stored.PublicKey, Sealed: stored.Sealed,
	}, nil
}

// readPairs makes what memory knows of the pairs. One that cannot be read ends now: it opens nothing, and is destroyed.
func (s *Store) readPairs(txn reader) error {
	for key := range keysFrom(txn, pairsPrefix(), nil) {
		id, err := uuid.FromBytes(key[len(pairsPrefix()):])
		if err != nil {
			return fmt.Errorf("wrapping pair: %w: its name has %d bytes", errRecord, len(key))
		}
		p, err := readPair(txn, id)
		if err != nil {
			p = &kms.WrappingPair{ID: id, ExpiresAt: time.UnixMilli(0)}
		}
		s.pairs = append(s.pairs, endOf(p))
	}
	return nil
}
