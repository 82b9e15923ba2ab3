package kms_test

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// The part of the model that is about what people write on keys: names, descriptions, tags, aliases.

func (m *model) rename(rt *rapid.T) {
	k := m.pick(rt)
	name := rapid.SampledFrom([]string{"a", "b", "c", "g", "h", "alias/a", "alias/p", "p", "", "y/default"}).Draw(rt, "name")
	taken := name != k.name && !m.free(name, k, "")
	_, err := m.w.UpdateAlias(admin, k.id, name)
	if m.expect(rt, err, first(unless(name != "" && name != "y/default", invalidAlias), k.describable(),
		unless(!taken, kms.CodeAlreadyExists))) {
		delete(m.names, k.name)
		k.name, m.names[name] = name, k
	}
}

func (m *model) describe(rt *rapid.T) {
	k := m.pick(rt)
	text := rapid.SampledFrom([]string{"", "words", strings.Repeat("x", 256)}).Draw(rt, "text")
	_, err := m.w.UpdateDescription(admin, k.id, text)
	if m.expect(rt, err, first(unless(len(text) < 256, invalidDescription), k.describable())) {
		k.text = text
	}
}

func (m *model) tag(rt *rapid.T) {
	k := m.pick(rt)
	var tags []kms.Tag
	after := maps.Clone(k.tags)
	keys, values := rapid.SampledFrom([]string{"a", "b", "c", "d", "="}), rapid.SampledFrom([]string{"", "v"})
	for key, value := range rapid.MapOfN(keys, values, 1, 2).Draw(rt, "tags") {
		tags = append(tags, kms.Tag{Key: key, Value: value})
		after[key] = value
	}
	_, bad := after["="]
	_, err := m.w.SetTags(admin, k.id, tags)
	if m.expect(rt, err, first(unless(!bad, invalidTagKey), k.describable(), unless(len(after) <= modelLimits.Tags, tooManyTags))) {
		k.tags = after
	}
}

func (m *model) untag(rt *rapid.T) {
	k := m.pick(rt)
	keys := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d"}), 1, 2).Draw(rt, "keys")
	strict := rapid.Bool().Draw(rt, "strict")
	missing := slices.ContainsFunc(keys, func(key string) bool { _, ok := k.tags[key]; return !ok })
	_, err := m.w.DeleteTags(admin, k.id, keys, strict)
	if m.expect(rt, err, first(k.describable(), unless(!strict || !missing, tagNotFound))) {
		maps.DeleteFunc(k.tags, func(key, _ string) bool { return slices.Contains(keys, key) })
	}
}

// find compares a search by tag, and the tags of all keys.
func (m *model) find(rt *rapid.T) {
	key, value := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "tag"), rapid.SampledFrom([]string{"", "v"}).Draw(rt, "value")
	var want, got []kms.KeyID
	for _, k := range m.keys {
		if v, ok := k.tags[key]; ok && v == value && !k.gone {
			want = append(want, k.id)
		}
	}
	page, err := m.w.FindKeys(admin, kms.FindKeysInput{Tags: []kms.TagValues{{Key: key, Values: []string{value}}}})
	m.expect(rt, err, "ok")
	for _, k := range page.Keys {
		got = append(got, k.ID)
	}
	if !slices.Equal(got, want) || page.Total != len(want) {
		rt.Fatalf("search found %v, want %v", got, want)
	}
	all, err := m.w.ListTags(admin)
	m.expect(rt, err, "ok")
	listed := slices.ContainsFunc(all, func(t kms.TagValues) bool { return t.Key == key && slices.Contains(t.Values, value) })
	if listed != (len(want) > 0) {
		rt.Fatalf("tags of all keys are %v", all)
	}
}

// of returns how many aliases a key has.
func (m *model) of(k *modelKey) (n int) {
	for _, owner := range m.aliases {
		if owner == k {
			n++
		}
	}
	return n
}

func drawAlias(rt *rapid.T) string {
	return rapid.SampledFrom([]string{"p", "alias/p", "q", "r", "s", "a", "alias/b", "alias/alias/p", "z/default"}).Draw(rt, "alias")
}

// free reports whether no key but one, nil for a new one, has a name that means the same. A moved alias does not count.
func (m *model) free(name string, but *modelKey, moved string) bool {
	same := func(a, b string) bool { return a == b || a == "alias/"+b || b == "alias/"+a }
	for other, k := range m.names {
		if k != but && same(other, name) {
			return false
		}
	}
	for other, k := range m.aliases {
		if k != but && other != moved && same(other, name) {
			return false
		}
	}
	return true
}

func (m *model) createAlias(rt *rapid.T) {
	k, name := m.pick(rt), drawAlias(rt)
	_, err := m.w.CreateAlias(admin, k.id, name)
	if m.expect(rt, err, first(unless(name != "z/default", invalidAlias), k.describable(),
		unless(m.aliases[name] == nil, kms.CodeAlreadyExists), unless(m.of(k) < modelLimits.Aliases, kms.CodeQuotaExceeded),
		unless(m.free(name, k, ""), kms.CodeAlreadyExists))) {
		m.aliases[name] = k
	}
}

func (m *model) moveAlias(rt *rapid.T) {
	k, name := m.pick(rt), drawAlias(rt)
	_, err := m.w.AssociateAlias(admin, name, k.id)
	if m.expect(rt, err, first(unless(name != "z/default", invalidAlias), k.describable(),
		unless(m.aliases[name] != nil, kms.CodeNotFound), unless(m.aliases[name] == k || m.of(k) < modelLimits.Aliases, kms.CodeQuotaExceeded),
		unless(m.aliases[name] == k || m.free(name, k, name), kms.CodeAlreadyExists))) {
		m.aliases[name] = k
	}
}

func (m *model) deleteAlias(rt *rapid.T) {
	k, name := m.pick(rt), drawAlias(rt)
	err := m.w.DeleteAliases(admin, k.id, []string{name})
	if m.expect(rt, err, first(unless(name != "z/default", invalidAlias), k.describable(),
		unless(m.aliases[name] == k, kms.CodeNotFound))) {
		delete(m.aliases, name)
	}
}

func (m *model) resolve(rt *rapid.T) {
	name := drawAlias(rt)
	other, prefixed := strings.CutPrefix(name, "alias/")
	if !prefixed {
		other = "alias/" + name
	}
	want := cmp.Or(m.aliases[name], m.aliases[other], m.names[name], m.names[other])
	id, err := m.w.Resolve(admin, policy.OpDescribeKey, name)
	if want == nil {
		m.expect(rt, err, kms.CodeNotFound)
	} else if err != nil || id != want.id {
		rt.Fatalf("%s stands for %s (%v), want %s", name, id, err, want.id)
	}
}

// firstUse has a service, or another principal, name a default key.
func (m *model) firstUse(rt *rapid.T) {
	service := rapid.SampledFrom([]string{"obs", "evs"}).Draw(rt, "service")
	who := rapid.SampledFrom([]string{"obs", "evs", ""}).Draw(rt, "who")
	ctx := admin
	if who != "" {
		ctx = callAs(policy.Principal{Name: who, Service: who})
	}
	name := service + "/default"
	id, err := m.w.Resolve(ctx, policy.OpCreateDataKey, name)
	switch k := m.names[name]; {
	case k != nil:
		if err != nil || id != k.id {
			rt.Fatalf("%s is %s (%v), want %s", name, id, err, k.id)
		}
	case who == service:
		m.expect(rt, err, "ok")
		k := &modelKey{id: id, name: name, spec: kms.AES256, service: service, state: kms.Enabled, versions: 1, tags: map[string]string{}}
		m.keys, m.names[name] = append(m.keys, k), k
	case who == "":
		m.expect(rt, err, kms.CodeNotFound)
	default:
		m.done++
		if !is(err, kms.CodeDenied) {
			rt.Fatalf("%s asks for %s: %v", who, name, err)
		}
	}
}
