package store

import (
	"container/list"
	"sync"

	"github.com/keyside/keyside/sidecar/kms"
)

// cache holds the keys used last. Keys are never changed, only replaced, so handing one out costs no copy.
type cache struct {
	mu         sync.Mutex
	size       int
	keys       map[kms.KeyID]*list.Element // of *kms.Key
	recent     *list.List                  // front: used last
	generation uint64                      // counts the writes
}

func newCache(size int) cache {
	return cache{size: size, keys: make(map[kms.KeyID]*list.Element), recent: list.New()}
}

// get returns the key, or nil and the generation with which fill may bring it.
func (c *cache) get(id kms.KeyID) (*kms.Key, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.keys[id]
	if !ok {
		return nil, c.generation
	}
	c.recent.MoveToFront(e)
	return e.Value.(*kms.Key), 0
}

// fill caches what was read from the database, unless something was written since: then it may be out of date.
func (c *cache) fill(key *kms.Key, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation == c.generation {
		c.set(key)
	}
}

// put caches what was just committed.
func (c *cache) put(key *kms.Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	c.set(key)
}

// remove forgets a key that was destroyed.
func (c *cache) remove(id kms.KeyID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	if e, ok := c.keys[id]; ok {
		c.recent.Remove(e)
		delete(c.keys, id)
	}
}

func (c *cache) set(key *kms.Key) {
	if e, ok := c.keys[key.ID]; ok {
		e.Value = key
		c.recent.MoveToFront(e)
		return
	}
	c.keys[key.ID] = c.recent.PushFront(key)
	for c.recent.Len() > c.size {
		oldest := c.recent.Back()
		delete(c.keys, c.recent.Remove(oldest).(*kms.Key).ID)
	}
}
