package store

import (
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// index knows all keys in order of creation, with what lists are filtered by, so that a page costs the same wherever it
// is. It takes 32 bytes a key and is read from the database's own index at start.
type index struct {
	mu      sync.RWMutex
	entries []entry // by sequence
	words   []string
	codes   map[string]uint8 // of words
}

// entry is one key. Specs and states are numbers here, good for this process only.
type entry struct {
	sequence    uint64
	id          kms.KeyID
	spec, state uint8
}

func (x *index) len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return len(x.entries)
}

// code returns the number of a spec or state; x.mu is held for writing.
func (x *index) code(word string) uint8 {
	if c, ok := x.codes[word]; ok {
		return c
	}
	if x.codes == nil {
		x.codes = make(map[string]uint8)
	}
	if len(x.words) > 255 {
		panic("store: more specs and states than there can be")
	}
	c := uint8(len(x.words))
	x.words = append(x.words, word)
	x.codes[word] = c
	return c
}

// next returns the entry of a key that is about to be created.
func (x *index) next(key *kms.Key) entry {
	x.mu.Lock()
	defer x.mu.Unlock()
	e := entry{sequence: 1, id: key.ID, spec: x.code(string(key.Spec)), state: x.code(string(key.State))}
	if n := len(x.entries); n > 0 {
		e.sequence = x.entries[n-1].sequence + 1
	}
	return e
}

func (x *index) add(e entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries = append(x.entries, e)
}

// update takes over what an update of a key changed.
func (x *index) update(sequence uint64, key *kms.Key) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].sequence >= sequence })
	if i < len(x.entries) && x.entries[i].id == key.ID {
		x.entries[i].state = x.code(string(key.State))
	}
}

// page returns the ids of up to limit keys that filter accepts, after the first offset of them, and how many there are.
func (x *index) page(filter kms.KeyFilter, offset, limit int) (ids []kms.KeyID, total int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if filter.Spec == "" && filter.State == "" {
		from := min(offset, len(x.entries))
		for _, e := range x.entries[from:min(from+limit, len(x.entries))] {
			ids = append(ids, e.id)
		}
		return ids, len(x.entries)
	}
	spec, specKnown := x.codes[string(filter.Spec)]
	state, stateKnown := x.codes[string(filter.State)]
	if (filter.Spec != "" && !specKnown) || (filter.State != "" && !stateKnown) {
		return nil, 0 // no key ever had it
	}
	for i := range x.entries {
		e := &x.entries[i]
		if (filter.Spec != "" && e.spec != spec) || (filter.State != "" && e.state != state) {
			continue
		}
		if total >= offset && len(ids) < limit {
			ids = append(ids, e.id)
		}
		total++
	}
	return ids, total
}

// load reads the index from the database and checks that it is whole.
func (x *index) load(txn *badger.Txn) error {
	count, err := readUint64(txn, countKey())
	if err != nil {
		return fmt.Errorf("read the number of keys: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries = slices.Grow(x.entries, int(min(count, 1<<20)))
	opts := badger.DefaultIteratorOptions
	opts.Prefix = orderPrefix()
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		err := it.Item().Value(func(value []byte) error {
			sequence, id, spec, state, err := decodeOrder(it.Item().Key(), value)
			if err == nil {
				x.entries = append(x.entries, entry{sequence, id, x.code(spec), x.code(state)})
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if uint64(len(x.entries)) != count {
		return fmt.Errorf("index has %d keys where %d were written: the database is damaged, restore it from a backup",
			len(x.entries), count)
	}
	return nil
}
