package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/sidecar/kms"
)

// model is what a store must be: keys in order of creation and aliases, in plain slices and maps.
type model struct {
	s        *Store
	t        *testing.T
	keys     []*kms.Key
	aliases  map[string]kms.Alias
	reserved map[kms.KeyID]uint64
	clock    time.Time
}

const modelQuota, modelAliases = 12, 3

var (
	modelSpecs  = []kms.KeySpec{kms.AES256, kms.ECP256}
	modelStates = []kms.KeyState{kms.Enabled, kms.Disabled, kms.PendingDeletion}
	modelNames  = []string{"a", "ab", "alias/ab", "b-c", "x:y", "Z"}
	modelTags   = []string{"env", "team", "ü"}
	modelValues = []string{"", "1", "2"}
)

// TestAgainstModel drives random changes, restarts and kills between them, and compares every answer with the model's.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{
			t: t, aliases: map[string]kms.Alias{}, reserved: map[kms.KeyID]uint64{}, clock: time.UnixMilli(1767322800123).UTC(),
		}
		m.open(rt, t.TempDir())
		defer func() { m.s.Close() }()
		rt.Repeat(map[string]func(*rapid.T){
			"":            m.check,
			"create":      m.create,
			"update":      m.update,
			"destroy":     m.destroy,
			"createAlias": m.createAlias,
			"moveAlias":   m.moveAlias,
			"dropAliases": m.deleteAliases,
			"reserve":     m.reserve,
			"restart":     m.restart,
			"kill":        m.kill,
			"find":        m.find,
			"aliases":     m.listAliases,
			"due":         m.due,
		})
	})
}

func (m *model) restart(t *rapid.T) {
	m.s.Close()
	m.open(t, m.s.opts.Dir)
}

// kill goes on with the files as they are, which is what a process leaves that is killed.
func (m *model) kill(t *rapid.T) {
	left := leftByKill(m.t, m.s)
	m.s.Close()
	m.open(t, left)
}

func (m *model) open(t *rapid.T, dir string) {
	s, err := Open(Options{Create: true, Dir: dir, Tenant: "default", unsynced: true, cacheSize: 3})
	if err != nil {
		t.Fatal(err)
	}
	m.s = s
}

func pick[T any](t *rapid.T, name string, from []T) T { return rapid.SampledFrom(from).Draw(t, name) }

// someID is one of a key that is there, or sometimes of none.
func (m *model) someID(t *rapid.T) kms.KeyID {
	i := rapid.IntRange(-1, len(m.keys)-1).Draw(t, "key")
	if i < 0 {
		return kms.KeyID{1}
	}
	return m.keys[i].ID
}

func (m *model) key(id kms.KeyID) *kms.Key {
	if i := slices.IndexFunc(m.keys, func(k *kms.Key) bool { return k.ID == id }); i >= 0 {
		return m.keys[i]
	}
	return nil
}

// taken reports whether a key other than owner has a name that means the same. A further alias that moves does not count.
func (m *model) taken(name string, owner kms.KeyID, moved string) bool {
	same := func(other string) bool { return name == other || name == "alias/"+other || other == "alias/"+name }
	for other, a := range m.aliases {
		if a.KeyID != owner && other != moved && same(other) {
			return true
		}
	}
	return slices.ContainsFunc(m.keys, func(k *kms.Key) bool { return k.ID != owner && same(k.Alias) })
}

func (m *model) defaults() int {
	n := 0
	for _, k := range m.keys {
		if k.IsDefault() {
			n++
		}
	}
	return n
}

func (m *model) tick() time.Time { m.clock = m.clock.Add(time.Second); return m.clock }

func drawTags(t *rapid.T) (tags []kms.Tag) {
	for _, key := range modelTags {
		if rapid.Bool().Draw(t, "tagged") {
			tags = append(tags, kms.Tag{Key: key, Value: pick(t, "value", modelValues)})
		}
	}
	return tags
}

func (m *model) create(t *rapid.T) {
	k := newKey(pick(t, "alias", modelNames))
	k.Spec, k.CreatedAt, k.Tags = pick(t, "spec", modelSpecs), m.tick(), drawTags(t)
	if rapid.IntRange(0, 5).Draw(t, "default") == 0 {
		k.Service = "obs"
	}
	want := kms.Code("")
	switch {
	case !k.IsDefault() && len(m.keys)-m.defaults() >= modelQuota:
		want = kms.CodeQuotaExceeded
	case m.taken(k.Alias, k.ID, ""):
		want = kms.CodeAlreadyExists
	}
	if err := m.s.CreateKey(ctx, k, modelQuota); codeOf(err) != want || (err != nil && want == "") {
		t.Fatalf("create %s: %v, want %q", k.Alias, err, want)
	}
	if want == "" {
		m.keys = append(m.keys, k)
	}
}

func (m *model) update(t *rapid.T) {
	id := m.someID(t)
	alias, state, tags := pick(t, "alias", modelNames), pick(t, "state", modelStates), drawTags(t)
	at := m.tick()
	days := time.Duration(rapid.IntRange(0, 3).Draw(t, "days"))
	change := func(k *kms.Key) error {
		k.Alias, k.State, k.Tags, k.DeletionAt = alias, state, tags, time.Time{}
		if state == kms.PendingDeletion {
			k.DeletionAt = at.Add(days * time.Hour)
		}
		k.Rotation = kms.Rotation{Enabled: days > 0, Interval: int(days), Next: at.Add(days * time.Minute), Count: k.Rotation.Count + 1}
		k.Versions = append(k.Versions, kms.KeyVersion{
			Number: k.Current().Number + 1, CreatedAt: at, Sealed: fmt.Appendf(nil, "%s-%d", k.ID, k.Current().Number+1),
		})
		return nil
	}
	k := m.key(id)
	want := kms.Code("")
	switch {
	case k == nil:
		want = kms.CodeNotFound
	case k.Alias != alias && m.taken(alias, id, ""):
		want = kms.CodeAlreadyExists
	}
	got, err := m.s.UpdateKey(ctx, id, change)
	if codeOf(err) != want || (err != nil && want == "") {
		t.Fatalf("update: %v, want %q", err, want)
	}
	if want != "" {
		return
	}
	after := *k
	change(&after)
	if !equal(got, &after) {
		t.Fatalf("updated key is %+v, want %+v", got, &after)
	}
	*k = after
}

func (m *model) destroy(t *rapid.T) {
	ids := []kms.KeyID{m.someID(t), m.someID(t), m.someID(t)}
	doomed := func(k *kms.Key) bool { return k.State == kms.PendingDeletion || len(k.Versions) > 3 }
	gone, err := m.s.DestroyKeys(ctx, ids, doomed)
	if err != nil {
		t.Fatal(err)
	}
	var want []*kms.Key
	for _, id := range ids {
		if k := m.key(id); k != nil && doomed(k) {
			want = append(want, k)
			m.keys = slices.DeleteFunc(m.keys, func(k *kms.Key) bool { return k.ID == id })
			maps.DeleteFunc(m.aliases, func(_ string, a kms.Alias) bool { return a.KeyID == id })
			delete(m.reserved, id)
			if n, err := m.s.ReserveMessages(ctx, id, 1, 1); codeOf(err) != kms.CodeNotFound {
				t.Fatalf("a destroyed key has %d messages (%v)", n, err)
			}
		}
	}
	if !slices.EqualFunc(gone, want, equal) {
		t.Fatalf("destroyed %v, want %v", gone, want)
	}
}

func (m *model) aliasesOf(id kms.KeyID) (n int) {
	for _, a := range m.aliases {
		if a.KeyID == id {
			n++
		}
	}
	return n
}

func (m *model) createAlias(t *rapid.T) {
	at := m.tick()
	a := kms.Alias{Name: pick(t, "name", modelNames), KeyID: m.someID(t), CreatedAt: at, UpdatedAt: at}
	_, taken := m.aliases[a.Name]
	want := kms.Code("")
	switch {
	case taken:
		want = kms.CodeAlreadyExists
	case m.key(a.KeyID) == nil:
		want = kms.CodeNotFound
	case m.aliasesOf(a.KeyID) >= modelAliases:
		want = kms.CodeQuotaExceeded
	case m.taken(a.Name, a.KeyID, ""):
		want = kms.CodeAlreadyExists
	}
	if err := m.s.CreateAlias(ctx, a, modelAliases); codeOf(err) != want || (err != nil && want == "") {
		t.Fatalf("create alias: %v, want %q", err, want)
	}
	if want == "" {
		m.aliases[a.Name] = a
	}
}

func (m *model) moveAlias(t *rapid.T) {
	name, target, at := pick(t, "name", modelNames), m.someID(t), m.tick()
	a, there := m.aliases[name]
	want := kms.Code("")
	switch {
	case !there || (m.key(target) == nil):
		want = kms.CodeNotFound
	case a.KeyID != target && m.aliasesOf(target) >= modelAliases:
		want = kms.CodeQuotaExceeded
	case a.KeyID != target && m.taken(name, target, name):
		want = kms.CodeAlreadyExists
	}
	got, err := m.s.MoveAlias(ctx, name, target, at, modelAliases)
	if codeOf(err) != want || (err != nil && want == "") {
		t.Fatalf("move alias: %v, want %q", err, want)
	}
	if want == "" {
		a.KeyID, a.UpdatedAt = target, at
		m.aliases[name] = a
		if *got != a {
			t.Fatalf("moved alias is %+v, want %+v", got, a)
		}
	}
}

func (m *model) deleteAliases(t *rapid.T) {
	id := m.someID(t)
	names := slices.Compact(slices.Sorted(slices.Values([]string{pick(t, "name", modelNames), pick(t, "name", modelNames)})))
	want := kms.Code("")
	for _, name := range names {
		if a, there := m.aliases[name]; !there || a.KeyID != id {
			want = kms.CodeNotFound
		}
	}
	if err := m.s.DeleteAliases(ctx, id, names); codeOf(err) != want || (err != nil && want == "") {
		t.Fatalf("delete aliases %q: %v, want %q", names, err, want)
	}
	if want == "" {
		for _, name := range names {
			delete(m.aliases, name)
		}
	}
}

func (m *model) reserve(t *rapid.T) {
	id := m.someID(t)
	if m.key(id) == nil {
		return
	}
	first, err := m.s.ReserveMessages(ctx, id, 1, 5)
	if err != nil || first != m.reserved[id] {
		t.Fatalf("reservation begins at %d (%v), want %d", first, err, m.reserved[id])
	}
	m.reserved[id] += 5
}

func (m *model) find(t *rapid.T) {
	filter := kms.KeyFilter{
		Spec: pick(t, "spec", append(modelSpecs, "", "", kms.RSA2048)), State: pick(t, "state", append(modelStates, "", "")),
		Name: pick(t, "name", []string{"", "", "", "b", "/C", "nothing"}),
	}
	for _, key := range append(modelTags, "other") {
		if rapid.IntRange(0, 3).Draw(t, "wanted") == 0 {
			filter.Tags = append(filter.Tags, kms.TagValues{
				Key: key, Values: rapid.SliceOfN(rapid.SampledFrom(append(modelValues, "3")), 0, 2).Draw(t, "values"),
			})
		}
	}
	offset, limit := rapid.IntRange(0, 14).Draw(t, "offset"), rapid.IntRange(1, 14).Draw(t, "limit")
	var want []*kms.Key
	for _, k := range m.keys {
		if filter.Accepts(k) {
			want = append(want, withoutMaterial(k))
		}
	}
	got, total, err := m.s.ListKeys(ctx, filter, offset, limit)
	page := want[min(offset, len(want)):min(offset+limit, len(want))]
	if err != nil || total != len(want) || !slices.EqualFunc(got, page, equal) {
		t.Fatalf("%+v from %d, limit %d: %v of %d (%v), want %v of %d", filter, offset, limit, got, total, err, page, len(want))
	}
}

func (m *model) listAliases(t *rapid.T) {
	var key *kms.KeyID
	if rapid.Bool().Draw(t, "of one key") {
		id := m.someID(t)
		key = &id
	}
	after, limit := pick(t, "after", append(modelNames, "", "a0")), rapid.IntRange(1, 4).Draw(t, "limit")
	var want []*kms.Alias
	for _, name := range slices.Sorted(maps.Keys(m.aliases)) {
		if a := m.aliases[name]; name > after && (key == nil || a.KeyID == *key) {
			want = append(want, &a)
		}
	}
	got, more, err := m.s.ListAliases(ctx, key, after, limit)
	if err != nil || more != (len(want) > limit) ||
		!slices.EqualFunc(got, want[:min(limit, len(want))], func(a, b *kms.Alias) bool { return *a == *b }) {
		t.Fatalf("aliases after %q, limit %d: %v, more %v (%v), want of %v", after, limit, got, more, err, want)
	}
}

func (m *model) due(t *rapid.T) {
	now := m.clock.Add(time.Duration(rapid.IntRange(-100, 300).Draw(t, "minutes")) * time.Minute)
	limit := rapid.IntRange(0, 4).Draw(t, "limit")
	all := slices.DeleteFunc(slices.Clone(m.keys), func(k *kms.Key) bool { return k.Due().IsZero() })
	slices.SortStableFunc(all, func(a, b *kms.Key) int { return a.Due().Compare(b.Due()) })
	var want []kms.KeyID
	var wantNext time.Time
	for _, k := range all {
		if len(want) == limit || k.Due().After(now) {
			wantNext = k.Due()
			break
		}
		want = append(want, k.ID)
	}
	got, next, err := m.s.DueKeys(ctx, now, limit)
	if err != nil || !slices.Equal(got, want) || !next.Equal(wantNext) {
		t.Fatalf("due at %s: %v, then %s (%v), want %v, then %s", now, got, next, err, want, wantNext)
	}
}

// check compares what every change may disturb.
func (m *model) check(t *rapid.T) {
	for _, k := range m.keys {
		if got, err := m.s.Key(ctx, k.ID); err != nil || !equal(got, k) {
			t.Fatalf("key is %+v (%v), want %+v", got, err, k)
		}
	}
	if _, err := m.s.Key(ctx, kms.KeyID{1}); codeOf(err) != kms.CodeNotFound {
		t.Fatalf("key that never was: %v", err)
	}
	keys, defaults, err := m.s.CountKeys(ctx)
	if err != nil || defaults != m.defaults() || keys != len(m.keys)-defaults {
		t.Fatalf("%d and %d keys (%v), want %d with %d", keys, defaults, err, len(m.keys), m.defaults())
	}
	for _, name := range modelNames {
		want, there := m.aliases[name]
		if got, err := m.s.Alias(ctx, name); there && (err != nil || *got != want) || !there && codeOf(err) != kms.CodeNotFound {
			t.Fatalf("alias %s is %+v (%v), want %+v", name, got, err, want)
		}
	}
	tags := map[string]map[string]bool{}
	for _, k := range m.keys {
		for _, tag := range k.Tags {
			if tags[tag.Key] == nil {
				tags[tag.Key] = map[string]bool{}
			}
			tags[tag.Key][tag.Value] = true
		}
	}
	var want []kms.TagValues
	for key, values := range tags {
		want = append(want, kms.TagValues{Key: key, Values: slices.Sorted(maps.Keys(values))})
	}
	slices.SortFunc(want, func(a, b kms.TagValues) int { return cmp.Compare(a.Key, b.Key) })
	same := func(a, b kms.TagValues) bool { return a.Key == b.Key && slices.Equal(a.Values, b.Values) }
	if got, err := m.s.ListTags(ctx); err != nil || !slices.EqualFunc(got, want, same) {
		t.Fatalf("tags are %v (%v), want %v", got, err, want)
	}
}
