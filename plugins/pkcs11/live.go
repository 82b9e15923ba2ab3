package pkcs11

import (
	"context"
	"sync"

	"github.com/keyside/keyside/plugins/driver"
)

// liveKey is an unsealed key inside the HSM. Its handle is valid in one generation of the login only.
type liveKey struct {
	id     liveID
	key    *driver.KeyIdentity
	spec   keySpec
	handle handle
	gen    uint64

	// Under the lock of liveKeys:
	refs       int
	dead       bool          // evicted from the map: destroyed when refs is 0
	gone       bool          // the module deleted the object, and may have given its handle to another one
	loading    chan struct{} // closed when loaded, then nil
	err        error
	newer, old *liveKey
}

type liveID struct{ tenant, sealed string }

// liveKeys is an LRU cache of unsealed keys. Concurrent requests for a key load it once; an evicted key stays in the HSM
// until its last user returns it.
type liveKeys struct {
	limit   int
	load    func(*liveKey) error
	destroy func(*liveKey)

	mu   sync.Mutex
	keys map[liveID]*liveKey
	ring liveKey // sentinel: ring.old is the newest, ring.newer the oldest
}

func newLiveKeys(limit int, load func(*liveKey) error, destroy func(*liveKey)) *liveKeys {
	l := &liveKeys{limit: limit, load: load, destroy: destroy, keys: map[liveID]*liveKey{}}
	l.ring.newer, l.ring.old = &l.ring, &l.ring
	return l
}

func (k *liveKey) unlink() { k.newer.old, k.old.newer = k.old, k.newer }

func (l *liveKeys) front(k *liveKey) {
	k.newer, k.old = &l.ring, l.ring.old
	k.old.newer, l.ring.old = k, k
}

// get returns the live key of a sealed key, and loads it if necessary. The caller must return it with put.
func (l *liveKeys) get(ctx context.Context, tenant string, sealed []byte, id *driver.KeyIdentity) (*liveKey, error) {
	l.mu.Lock()
	k := l.keys[liveID{tenant, string(sealed)}]
	if k == nil {
		return l.add(&liveKey{id: liveID{tenant, string(sealed)}, key: id, refs: 1, loading: make(chan struct{})})
	}
	k.refs++
	if l.ring.old != k {
		k.unlink()
		l.front(k)
	}
	loading := k.loading
	l.mu.Unlock()
	if loading != nil {
		select {
		case <-loading:
		case <-ctx.Done():
			l.put(k)
			return nil, driver.AsError(ctx.Err())
		}
		if k.err != nil {
			l.put(k)
			return nil, k.err
		}
	}
	if err := driver.CheckSameKey(k.key, id); err != nil {
		l.put(k)
		return nil, err
	}
	return k, nil
}

// add puts a new key into the map, loads it, and evicts the oldest keys above the limit. It is called with the lock held and releases it.
func (l *liveKeys) add(k *liveKey) (*liveKey, error) {
	l.keys[k.id] = k
	l.front(k)
	l.mu.Unlock()

	err := l.load(k)
	l.mu.Lock()
	k.err = err
	close(k.loading)
	k.loading = nil
	if err != nil {
		k.gone = true
		l.remove(k)
	}
	unused := l.shrink(l.limit)
	l.mu.Unlock()
	l.destroyAll(unused)
	if err != nil {
		l.put(k)
		return nil, err
	}
	return k, nil
}

// put returns a key to the cache.
func (l *liveKeys) put(k *liveKey) {
	l.mu.Lock()
	k.refs--
	destroy := k.dead && k.refs == 0 && !k.gone
	l.mu.Unlock()
	if destroy {
		l.destroy(k)
	}
}

// remove removes a key from the map and reports whether its object can be destroyed now.
func (l *liveKeys) remove(k *liveKey) bool {
	if k.dead {
		return false
	}
	k.dead = true
	k.unlink()
	delete(l.keys, k.id)
	return k.refs == 0 && !k.gone
}

// shrink evicts the oldest keys until limit are left and returns those to destroy.
func (l *liveKeys) shrink(limit int) (unused []*liveKey) {
	for len(l.keys) > limit {
		oldest := l.ring.newer
		if oldest.loading != nil {
			return unused // if the oldest is still loading, so are all others
		}
		if l.remove(oldest) {
			unused = append(unused, oldest)
		}
	}
	return unused
}

func (l *liveKeys) destroyAll(keys []*liveKey) {
	for _, k := range keys {
		l.destroy(k)
	}
}

// makeRoom evicts half of the keys.
func (l *liveKeys) makeRoom() {
	l.mu.Lock()
	unused := l.shrink(len(l.keys) / 2)
	l.mu.Unlock()
	l.destroyAll(unused)
}

// forget evicts one key.
func (l *liveKeys) forget(tenant string, sealed []byte) {
	l.mu.Lock()
	k := l.keys[liveID{tenant, string(sealed)}]
	destroy := k != nil && l.remove(k)
	l.mu.Unlock()
	if destroy {
		l.destroy(k)
	}
}

// lost removes a key whose object no longer exists in the HSM.
func (l *liveKeys) lost(k *liveKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.gone = true
	l.remove(k)
}

// lostAll removes all keys after their session was closed, but those being loaded: they may belong to the new generation, and
// their gen tells.
func (l *liveKeys) lostAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keys {
		if k.loading == nil {
			k.gone = true
			l.remove(k)
		}
	}
}

func (l *liveKeys) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.keys)
}
