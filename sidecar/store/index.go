package store

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// index knows all keys in order of creation with what lists are filtered by, and when each is due. It is made from the
// records at start and changes when they do. A page costs the same wherever it is and however many keys there are, except
// where names are searched.
type index struct {
	mu      sync.RWMutex
	entries []entry           // by sequence
	facets  map[facet]holders // none is empty
	due     []deadline        // earliest first
}

// entry is one key.
type entry struct {
	sequence uint32
	id       kms.KeyID
	name     string // its alias in lower case
}

// facet is something that a key has and that lists are filtered by. What key and value are depends on the kind.
type facet struct {
	kind       facetKind
	key, value string
}

type facetKind uint8

const (
	hasSpec facetKind = iota
	hasState
	isDefault
	hasTag      // with any value
	hasTagValue // with that value
)

// holders are the sequence numbers of the keys that have a facet. Where there is one, as there is for values like the number of
// a ticket, it has no bitmap, which takes 200 bytes.
type holders struct {
	one  uint32
	many *roaring.Bitmap // nil: one
}

func (h holders) count() int {
	if h.many == nil {
		return 1
	}
	return int(h.many.GetCardinality())
}

func (h holders) bitmap() *roaring.Bitmap {
	if h.many == nil {
		return roaring.BitmapOf(h.one)
	}
	return h.many
}

// facetsOf returns what a key can be found by.
func facetsOf(k *kms.Key) []facet {
	fs := make([]facet, 0, 3+2*len(k.Tags))
	fs = append(fs, facet{hasSpec, "", string(k.Spec)}, facet{hasState, "", string(k.State)})
	if k.IsDefault() {
		fs = append(fs, facet{kind: isDefault})
	}
	for _, t := range k.Tags {
		fs = append(fs, facet{hasTag, t.Key, ""}, facet{hasTagValue, t.Key, t.Value})
	}
	return fs
}

// deadline is when the scheduler has to act on a key.
type deadline struct {
	at       int64 // milliseconds since 1970, as records have it
	sequence uint32
	id       kms.KeyID
}

func (d deadline) compare(other deadline) int {
	return cmp.Or(cmp.Compare(d.at, other.at), cmp.Compare(d.sequence, other.sequence))
}

func deadlineOf(r record) (deadline, bool) {
	due := r.key.Due()
	return deadline{due.UnixMilli(), r.sequence, r.key.ID}, !due.IsZero()
}

// count returns how many keys there are besides default keys, and how many default keys.
func (x *index) count() (keys, defaults int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if h, ok := x.facets[facet{kind: isDefault}]; ok {
		defaults = h.count()
	}
	return len(x.entries) - defaults, defaults
}

// states returns the number of keys in each state.
func (x *index) states() map[kms.KeyState]int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	found := make(map[kms.KeyState]int, len(kms.KeyStates))
	for _, state := range kms.KeyStates {
		found[state] = 0
		if h, ok := x.facets[facet{hasState, "", string(state)}]; ok {
			found[state] = h.count()
		}
	}
	return found
}

// next returns the sequence number of a key that is about to be created. Writers take turns.
func (x *index) next() (uint32, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	switch n := len(x.entries); {
	case n == 0:
		return 1, nil
	case x.entries[n-1].sequence == math.MaxUint32:
		return 0, errors.New("all sequence numbers are used up")
	default:
		return x.entries[n-1].sequence + 1, nil
	}
}

// add takes in a key that was created after all others.
func (x *index) add(r record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.append(r)
	if d, ok := deadlineOf(r); ok {
		x.schedule(d)
	}
}

func (x *index) append(r record) {
	x.entries = append(x.entries, entry{r.sequence, r.key.ID, strings.ToLower(r.key.Alias)})
	for _, f := range facetsOf(r.key) {
		x.mark(f, r.sequence)
	}
}

func (x *index) mark(f facet, sequence uint32) {
	h, ok := x.facets[f]
	switch {
	case !ok:
		x.facets[f] = holders{one: sequence}
	case h.many == nil:
		x.facets[f] = holders{many: roaring.BitmapOf(h.one, sequence)}
	default:
		h.many.Add(sequence)
	}
}

func (x *index) unmark(f facet, sequence uint32) {
	h := x.facets[f]
	if h.count() == 1 {
		delete(x.facets, f)
		return
	}
	h.many.Remove(sequence)
}

func (x *index) schedule(d deadline) {
	i, _ := slices.BinarySearchFunc(x.due, d, deadline.compare)
	x.due = slices.Insert(x.due, i, d)
}

// update takes over what an update changed in a key.
func (x *index) update(before, after record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.entries[find(x.entries, before.sequence)].name = strings.ToLower(after.key.Alias)
	was, is := facetsOf(before.key), facetsOf(after.key)
	for _, f := range was {
		if !slices.Contains(is, f) {
			x.unmark(f, before.sequence)
		}
	}
	for _, f := range is {
		if !slices.Contains(was, f) {
			x.mark(f, before.sequence)
		}
	}
	old, wasDue := deadlineOf(before)
	now, isDue := deadlineOf(after)
	if wasDue == isDue && old == now {
		return
	}
	if wasDue {
		if i, found := slices.BinarySearchFunc(x.due, old, deadline.compare); found {
			x.due = slices.Delete(x.due, i, i+1)
		}
	}
	if isDue {
		x.schedule(now)
	}
}

// remove forgets keys, however many, in one pass.
func (x *index) remove(gone []record) {
	x.mu.Lock()
	defer x.mu.Unlock()
	sequences := roaring.New()
	for _, r := range gone {
		sequences.Add(r.sequence)
		for _, f := range facetsOf(r.key) {
			x.unmark(f, r.sequence)
		}
	}
	x.entries = slices.DeleteFunc(x.entries, func(e entry) bool { return sequences.Contains(e.sequence) })
	x.due = slices.DeleteFunc(x.due, func(d deadline) bool { return sequences.Contains(d.sequence) })
}

// find returns where the entry with that sequence number is.
func find(entries []entry, sequence uint32) int {
	i, _ := slices.BinarySearchFunc(entries, sequence, func(e entry, s uint32) int { return cmp.Compare(e.sequence, s) })
	return i
}

// page returns the ids of up to limit keys that filter accepts, after the first offset of them, and how many there are.
func (x *index) page(filter kms.KeyFilter, offset, limit int) (ids []kms.KeyID, total int) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	set := x.matching(filter)
	switch {
	case filter.Name != "":
		name := strings.ToLower(filter.Name)
		for e := range x.among(set, 0) {
			if !strings.Contains(e.name, name) {
				continue
			}
			if total >= offset && len(ids) < limit {
				ids = append(ids, e.id)
			}
			total++
		}
		return ids, total
	case set == nil:
		total = len(x.entries)
	default:
		total = int(set.GetCardinality())
	}
	if offset >= total || limit <= 0 {
		return nil, total
	}
	ids = make([]kms.KeyID, 0, min(limit, total-offset))
	for e := range x.among(set, offset) {
		if len(ids) == limit {
			break
		}
		ids = append(ids, e.id)
	}
	return ids, total
}

// matching returns the keys that have the spec, state and tags that filter wants; nil stands for all keys.
func (x *index) matching(filter kms.KeyFilter) *roaring.Bitmap {
	var sets []*roaring.Bitmap
	want := func(fs ...facet) {
		var any []*roaring.Bitmap
		for _, f := range fs {
			if h, ok := x.facets[f]; ok {
				any = append(any, h.bitmap())
			}
		}
		switch len(any) {
		case 1:
			sets = append(sets, any[0])
		default:
			sets = append(sets, roaring.FastOr(any...))
		}
	}
	if filter.Spec != "" {
		want(facet{hasSpec, "", string(filter.Spec)})
	}
	if filter.State != "" {
		want(facet{hasState, "", string(filter.State)})
	}
	for _, t := range filter.Tags {
		values := []facet{{hasTag, t.Key, ""}}
		if len(t.Values) > 0 {
			values = nil
		}
		for _, v := range t.Values {
			values = append(values, facet{hasTagValue, t.Key, v})
		}
		want(values...)
	}
	switch len(sets) {
	case 0:
		return nil
	case 1:
		return sets[0]
	default:
		return roaring.FastAnd(sets...)
	}
}

// among yields the entries of a set in order, after the first offset of them; nil stands for all entries.
func (x *index) among(set *roaring.Bitmap, offset int) iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		if set == nil {
			for i := offset; i < len(x.entries) && yield(&x.entries[i]); i++ {
			}
			return
		}
		first, err := set.Select(uint32(offset))
		if err != nil {
			return // there are fewer
		}
		it := set.Iterator()
		it.AdvanceIfNeeded(first)
		for i := 0; it.HasNext(); i++ {
			if next := it.Next(); x.entries[i].sequence != next { // they often follow each other
				i += find(x.entries[i:], next)
			}
			if !yield(&x.entries[i]) {
				return
			}
		}
	}
}

// tags returns the tags that keys have, sorted, with their values.
func (x *index) tags() []kms.TagValues {
	values := make(map[string][]string)
	x.mu.RLock()
	for f := range x.facets {
		if f.kind == hasTagValue {
			values[f.key] = append(values[f.key], f.value)
		}
	}
	x.mu.RUnlock() // sorting takes longer
	tags := make([]kms.TagValues, 0, len(values))
	for key, vs := range values {
		slices.Sort(vs)
		tags = append(tags, kms.TagValues{Key: key, Values: vs})
	}
	slices.SortFunc(tags, func(a, b kms.TagValues) int { return cmp.Compare(a.Key, b.Key) })
	return tags
}

// dueBy returns up to limit keys that are due at now, and when the first of the others is.
func (x *index) dueBy(now time.Time, limit int) (ids []kms.KeyID, next time.Time) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, d := range x.due {
		if d.at > now.UnixMilli() || len(ids) >= limit {
			return ids, time.UnixMilli(d.at).UTC()
		}
		ids = append(ids, d.id)
	}
	return ids, time.Time{}
}

// dueAfter returns all keys that are due after a time.
func (x *index) dueAfter(at time.Time) (ids []kms.KeyID) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, d := range slices.Backward(x.due) {
		if d.at <= at.UnixMilli() {
			break
		}
		ids = append(ids, d.id)
	}
	return ids
}

// load makes the index from the database's records, one by one, and checks that none is missing.
func (x *index) load(txn reader) error {
	count, err := readUint64(txn, countKey())
	if err != nil {
		return fmt.Errorf("read the number of keys: %w", err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.facets = make(map[facet]holders)
	x.entries = make([]entry, 0, min(count, 1<<20))
	opts := badger.DefaultIteratorOptions
	opts.Prefix = recordPrefix()
	it := txn.NewIterator(opts)
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		if err := x.take(it.Item()); err != nil {
			return err
		}
	}
	if uint64(len(x.entries)) != count {
		return fmt.Errorf("it has %d keys where %d were written: it is damaged, restore it from a backup", len(x.entries), count)
	}
	slices.SortFunc(x.entries, func(a, b entry) int { return cmp.Compare(a.sequence, b.sequence) })
	for i := 1; i < len(x.entries); i++ {
		if a, b := x.entries[i-1], x.entries[i]; a.sequence == b.sequence {
			return fmt.Errorf("keys %s and %s have one place in the order: it is damaged, restore it from a backup", a.id, b.id)
		}
	}
	slices.SortFunc(x.due, deadline.compare)
	return nil
}

// take takes in a record, in whatever order they come.
func (x *index) take(item *badger.Item) error {
	id, err := idOf(item.Key())
	if err != nil {
		return err
	}
	return item.Value(func(value []byte) error {
		r, err := decodeRecord(id, value)
		if err != nil {
			return fmt.Errorf("key %s: %w: restore the database from a backup", id, err)
		}
		x.append(r)
		if d, ok := deadlineOf(r); ok {
			x.due = append(x.due, d)
		}
		return nil
	})
}
