package kms

import (
	"bytes"
	"context"
	"fmt"
	"sync"
)

// Random 96-bit IVs allow 2^32 messages under one key (NIST SP 800-38D, section 8.3). The count must survive a crash, so
// numbers are reserved in blocks before use; the unused numbers of a crashed process are lost. The first block of a process is
// small and each further one twice as large, so a crash loses about as many numbers as the process used, and a busy key is
// reserved for seldom.
const (
	firstBlock = 1 << 10
	lastBlock  = 1 << 20
	// maxMessages is 15/16 of the safe number of messages. Above it, encryption is refused.
	maxMessages = 1<<32 - 1<<28
	// warnMessages is the count from which audit records warn that the key should be rotated.
	warnMessages = 1 << 31
)

// messages counts the encryptions of each key version.
type messages struct {
	store    MessageStore
	counters sync.Map // versionID → *counter
}

type versionID struct {
	key     KeyID
	version uint32
}

// counter returns the numbers of its reservation block.
type counter struct {
	reserving gate // held while the next block is reserved
	mu        sync.Mutex
	next, end uint64
	block     uint64 // size of the last block; 0: none was reserved
	lastIV    [ivSize]byte
}

func (m *messages) of(id KeyID, version uint32) *counter {
	at := versionID{id, version}
	if c, ok := m.counters.Load(at); ok {
		return c.(*counter)
	}
	c, _ := m.counters.LoadOrStore(at, &counter{reserving: make(gate, 1)})
	return c.(*counter)
}

// take returns a number that no other message of the key version has or had, and the counter it came from.
func (m *messages) take(ctx context.Context, id KeyID, version uint32) (uint64, *counter, error) {
	c := m.of(id, version)
	for {
		switch n, end := c.number(); {
		case end > maxMessages:
			return 0, nil, Errorf(CodeKeyExhausted, "key has encrypted as many messages as is safe: rotate it or create another")
		case end > 0:
			return n, c, nil
		}
		if err := m.reserve(ctx, c, id, version); err != nil {
			return 0, nil, err
		}
	}
}

// number returns the next number and the end of its reservation block, which is 0 if none is left. It uses no number of a
// block that exceeds maxMessages.
func (c *counter) number() (n, end uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == c.end {
		return 0, 0
	}
	n = c.next
	if c.end <= maxMessages {
		c.next++
	}
	return n, c.end
}

// reserve reserves the next block, unless another caller has done so meanwhile. Waiting for that ends with the context.
func (m *messages) reserve(ctx context.Context, c *counter, id KeyID, version uint32) error {
	if err := c.reserving.enter(ctx); err != nil {
		return err
	}
	defer c.reserving.leave()
	c.mu.Lock()
	left, block := c.end-c.next, min(max(firstBlock, 2*c.block), lastBlock)
	c.mu.Unlock()
	if left > 0 {
		return nil
	}
	first, err := m.store.ReserveMessages(ctx, id, version, block)
	if err != nil {
		if AsError(err).Code == CodeNotFound { // the key was destroyed meanwhile: forget may have run already
			m.counters.Delete(versionID{id, version})
		}
		return fmt.Errorf("reserve message numbers: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next, c.end, c.block = first, first+block, block
	return nil
}

// forget drops the counters of a destroyed key.
func (m *messages) forget(key *Key) {
	for _, v := range key.Versions {
		m.counters.Delete(versionID{key.ID, v.Number})
	}
}

// release returns the unused numbers to the store, so that only crashes waste them. Later encryptions reserve
// another block.
func (m *messages) release(ctx context.Context) error {
	var unused []MessageRange
	m.counters.Range(func(at, of any) bool {
		id, c := at.(versionID), of.(*counter)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.next < c.end {
			unused = append(unused, MessageRange{ID: id.key, Version: id.version, First: c.next, End: c.end})
		}
		c.next, c.end = 0, 0
		return true
	})
	if len(unused) == 0 {
		return nil
	}
	return m.store.ReleaseMessages(ctx, unused)
}

// left returns how many messages a key version can still encrypt, numbers in use by another process not counted. reserved is the number
// of those that are reserved in the store.
func (m *messages) left(id KeyID, version uint32, reserved uint64) uint64 {
	next := reserved
	if held, ok := m.counters.Load(versionID{id, version}); ok {
		c := held.(*counter)
		c.mu.Lock()
		if c.end == reserved {
			next = c.next
		}
		c.mu.Unlock()
	}
	if reserved > maxMessages { // the numbers of such a block are not used
		return 0
	}
	return maxMessages - next
}

// messagesLeft returns how many messages a key can still encrypt, nil for one that does not count them.
func (s *Service) messagesLeft(ctx context.Context, key *Key) (*uint64, error) {
	current := key.Current()
	if current == nil || !key.CountsMessages() {
		return nil, nil
	}
	reserved, err := s.store.ReservedMessages(ctx, key.ID, current.Number)
	if err != nil {
		return nil, err
	}
	left := s.messages.left(key.ID, current.Number, reserved)
	return &left, nil
}

// FewestMessagesLeft returns how many messages the key that has the fewest left can still encrypt, maxMessages if none has encrypted any.
// Old versions of keys, which encrypt no more, do not count; the credential key of the tenant does.
func (s *Service) FewestMessagesLeft(ctx context.Context) (uint64, error) {
	fewest := uint64(maxMessages)
	err := s.store.MessageCounts(ctx, func(id KeyID, version uint32, reserved uint64) error {
		left := s.messages.left(id, version, reserved)
		if left >= fewest {
			return nil
		}
		key, err := s.store.Key(ctx, id)
		if isNotFound(err) {
			key, err = s.credentialKey(ctx)
		}
		if err != nil {
			return ignoreNotFound(err)
		}
		if current := key.Current(); key.ID == id && key.CountsMessages() && current != nil && current.Number == version {
			fewest = left
		}
		return nil
	})
	return fewest, err
}

// checkIV refuses an IV that cannot be random: of another length, zero, or the previous one. Two consecutive random IVs are
// equal with probability 2^-96; those of a stuck generator always are.
func (c *counter) checkIV(iv []byte) error {
	if len(iv) != ivSize {
		return hostile("IV has %d bytes", len(iv))
	}
	if allZero(iv) {
		return hostile("IV is zero")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes.Equal(iv, c.lastIV[:]) {
		return hostile("IV is that of the message before")
	}
	copy(c.lastIV[:], iv)
	return nil
}

func allZero(b []byte) bool {
	var all byte
	for _, x := range b {
		all |= x
	}
	return all == 0
}
