package soft

import (
	"container/list"
	"sync"
)

// liveKeys is an LRU cache of unsealed keys.
type liveKeys struct {
	limit int

	mu    sync.Mutex
	byRef map[keyRef]*list.Element
	order *list.List // of *liveEntry, the most recently used first
}

// keyRef identifies a live key by what the caller sends: a blob that differs in one bit is another key.
type keyRef struct {
	tenant, sealed string
}

type liveEntry struct {
	ref keyRef
	key *workingKey
}

func newLiveKeys(limit int) *liveKeys {
	return &liveKeys{limit: limit, byRef: map[keyRef]*list.Element{}, order: list.New()}
}

func (l *liveKeys) get(tenant string, sealed []byte) *workingKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.byRef[keyRef{tenant, string(sealed)}]
	if e == nil {
		return nil
	}
	l.order.MoveToFront(e)
	return e.Value.(*liveEntry).key
}

func (l *liveKeys) put(tenant string, sealed []byte, key *workingKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ref := keyRef{tenant, string(sealed)}
	if _, there := l.byRef[ref]; there {
		return // another goroutine unsealed the same key
	}
	l.byRef[ref] = l.order.PushFront(&liveEntry{ref, key})
	for len(l.byRef) > l.limit {
		l.remove(l.order.Back())
	}
}

func (l *liveKeys) forget(tenant string, sealed []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.byRef[keyRef{tenant, string(sealed)}]; e != nil {
		l.remove(e)
	}
}

func (l *liveKeys) remove(e *list.Element) {
	l.order.Remove(e)
	delete(l.byRef, e.Value.(*liveEntry).ref)
}

func (l *liveKeys) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.byRef)
}
