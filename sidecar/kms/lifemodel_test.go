package kms_test

import (
	"maps"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Limits that random sequences reach.
var modelLimits = kms.Limits{Keys: 5, Tags: 3, Aliases: 2}

// model is what the service should know, in the simplest form: maps and slices, and the user guide's rules as they are
// told there.
type model struct {
	w       *world
	store   kms.Store
	keys    []*modelKey // also those that are gone
	names   map[string]*modelKey
	aliases map[string]*modelKey
	sealed  []modelCiphertext
	tokens  []*modelToken
	done    int // audit records so far
}

type modelKey struct {
	id       kms.KeyID
	gone     bool
	name     string
	text     string
	spec     kms.KeySpec
	external bool
	service  string
	state    kms.KeyState
	deletion time.Time
	rotation kms.Rotation
	versions int
	tags     map[string]string
	material int // that it is bound to, from 1; 0: none yet
	expires  time.Time
}

// first returns the first code that is a refusal, or "ok".
func first(codes ...kms.Code) kms.Code {
	for _, c := range codes {
		if c != "ok" {
			return c
		}
	}
	return "ok"
}

func unless(ok bool, code kms.Code) kms.Code {
	if ok {
		return "ok"
	}
	return code
}

// there is the code of asking for a key.
func (k *modelKey) there() kms.Code { return unless(!k.gone, kms.CodeNotFound) }

// own is the code of changing a key, as opposed to a default key.
func (k *modelKey) own() kms.Code {
	return first(k.there(), unless(k.service == "", kms.CodeServiceKey))
}

// describable is the code of changing what people write on a key.
func (k *modelKey) describable() kms.Code {
	return first(k.own(), unless(k.state != kms.PendingDeletion, kms.CodeKeyPendingDeletion))
}

// plannable is the code of changing a key's rotation.
func (k *modelKey) plannable() kms.Code {
	return first(k.describable(), unless(k.state != kms.Disabled, kms.CodeKeyDisabled), unless(!k.external, isExternal),
		unless(k.spec != kms.HMAC256, isMAC), unless(k.spec == kms.AES256, isAsymmetric))
}

// using is the code of using a key's material.
func (k *modelKey) using(now time.Time) kms.Code {
	switch {
	case k.gone:
		return kms.CodeNotFound
	case k.state == kms.Enabled && k.expired(now):
		return kms.CodeKeyPendingImport
	}
	return map[kms.KeyState]kms.Code{
		kms.Enabled: "ok", kms.Disabled: kms.CodeKeyDisabled, kms.PendingImport: kms.CodeKeyPendingImport,
		kms.PendingDeletion: kms.CodeKeyPendingDeletion,
	}[k.state]
}

// pick draws a key, rarely one that is gone, or ends the action where there is none.
func (m *model) pick(rt *rapid.T) *modelKey {
	keys := slices.DeleteFunc(slices.Clone(m.keys), func(k *modelKey) bool { return k.gone })
	if len(keys) == 0 || rapid.IntRange(0, 15).Draw(rt, "any") == 0 {
		keys = m.keys
	}
	if len(keys) == 0 {
		rt.Skip("no keys yet")
	}
	return rapid.SampledFrom(keys).Draw(rt, "key")
}

// expect compares the code of an answer with the model's.
func (m *model) expect(rt *rapid.T, err error, want kms.Code) bool {
	m.done++
	if !is(err, want) {
		rt.Fatalf("%v, want %s", err, want)
	}
	if rec := m.w.audit.records[len(m.w.audit.records)-1]; !recorded(&rec, err) {
		rt.Fatalf("audited as %s %s, want %s", rec.Outcome, rec.Reason, want)
	}
	return want == "ok"
}

// check compares every key with the model's, and the number of audit records.
func (m *model) check(rt *rapid.T) {
	if got := len(m.w.audit.records); got != m.done {
		rt.Fatalf("%d audit records, want %d", got, m.done)
	}
	for _, k := range m.keys {
		got, err := m.store.Key(admin, k.id)
		if k.gone {
			if !is(err, kms.CodeNotFound) {
				rt.Fatalf("key %s is destroyed and still there (%v)", k.name, err)
			}
			continue
		}
		if err != nil {
			rt.Fatal(err)
		}
		tags := map[string]string{}
		for _, t := range got.Tags {
			tags[t.Key] = t.Value
		}
		if got.Alias != k.name || got.Description != k.text || got.State != k.state || !got.DeletionAt.Equal(k.deletion) ||
			got.Rotation != k.rotation || !got.MaterialExpiresAt.Equal(k.expires) || (got.CheckValue != nil) != (k.material != 0) || len(got.Versions) != k.versions || !maps.Equal(tags, k.tags) || got.Service != k.service {
			rt.Fatalf("key is  %+v\nwant %+v", got, k)
		}
	}
}

// count returns how many keys there are, default keys not counted.
func (m *model) count() (n int) {
	for _, k := range m.keys {
		if !k.gone && k.service == "" {
			n++
		}
	}
	return n
}

func (m *model) create(rt *rapid.T) {
	in := kms.CreateKeyInput{
		Alias:  rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "alias/a", "p", "bad alias", "x/default"}).Draw(rt, "alias"),
		Spec:   rapid.SampledFrom([]kms.KeySpec{kms.AES256, kms.AES256, kms.AES256, kms.ECP256, kms.HMAC256, kms.SM2}).Draw(rt, "spec"),
		Origin: rapid.SampledFrom([]kms.Origin{kms.OriginKMS, kms.OriginExternal}).Draw(rt, "origin"),
	}
	want := first(
		unless(in.Alias != "bad alias" && in.Alias != "x/default", invalidAlias),
		unless(in.Spec != kms.SM2, kms.CodeUnsupported),
		unless(m.count() < modelLimits.Keys, kms.CodeQuotaExceeded),
		unless(m.free(in.Alias, nil, ""), kms.CodeAlreadyExists),
	)
	key, err := m.w.CreateKey(admin, in)
	if !m.expect(rt, err, want) {
		return
	}
	k := &modelKey{id: key.ID, name: in.Alias, spec: in.Spec, state: kms.Enabled, versions: 1, tags: map[string]string{}}
	if in.Origin == kms.OriginExternal {
		k.external, k.state, k.versions = true, kms.PendingImport, 0
	}
	m.keys = append(m.keys, k)
	m.names[in.Alias] = k
}

func (m *model) enable(rt *rapid.T) {
	k := m.pick(rt)
	_, err := m.w.EnableKey(admin, k.id)
	if m.expect(rt, err, first(k.own(), unless(k.state == kms.Disabled, kms.CodeKeyNotDisabled))) {
		k.state = kms.Enabled
	}
}

func (m *model) disable(rt *rapid.T) {
	k := m.pick(rt)
	_, err := m.w.DisableKey(admin, k.id)
	if m.expect(rt, err, first(k.own(), unless(k.state == kms.Enabled, kms.CodeKeyNotEnabled))) {
		k.state = kms.Disabled
	}
}

// near takes a time over that the service set, if it is now plus so many days.
func (m *model) near(rt *rapid.T, at time.Time, days int) time.Time {
	if off := m.w.clock.Now().Add(day(days)).Sub(at); off < 0 || off > time.Second {
		rt.Fatalf("%s is not in %d days", at, days)
	}
	return at
}

func (m *model) schedule(rt *rapid.T) {
	k := m.pick(rt)
	days := rapid.SampledFrom([]int{0, 6, 7, 7, 8, 20, 40, 1096, 1097}).Draw(rt, "days")
	key, err := m.w.ScheduleKeyDeletion(admin, k.id, days)
	if m.expect(rt, err, first(unless(days >= 7 && days <= 1096, invalidWait), k.own(),
		unless(k.state != kms.PendingDeletion, kms.CodeKeyPendingDeletion))) {
		k.state, k.deletion = kms.PendingDeletion, m.near(rt, key.DeletionAt, days)
	}
}

func (m *model) cancel(rt *rapid.T) {
	k := m.pick(rt)
	_, err := m.w.CancelKeyDeletion(admin, k.id)
	if m.expect(rt, err, first(k.own(), unless(k.state == kms.PendingDeletion, kms.CodeKeyNotPendingDeletion))) {
		k.state, k.deletion = kms.Disabled, time.Time{}
		if k.versions == 0 {
			k.state = kms.PendingImport
		}
	}
}

func (m *model) enableRotation(rt *rapid.T) {
	k := m.pick(rt)
	days := rapid.SampledFrom([]int{0, 29, 30, 30, 45, 365, 366}).Draw(rt, "days")
	interval := days
	if days == 0 {
		interval = 365
	}
	key, err := m.w.EnableRotation(admin, k.id, days)
	if m.expect(rt, err, first(unless(interval >= 30 && interval <= 365, invalidInterval), k.plannable(),
		unless(!k.rotation.Enabled, kms.CodeRotationEnabled))) {
		k.rotation.Enabled, k.rotation.Interval, k.rotation.Next = true, interval, m.near(rt, key.Rotation.Next, interval)
	}
}

func (m *model) updateRotation(rt *rapid.T) {
	k := m.pick(rt)
	days := rapid.SampledFrom([]int{0, 29, 30, 60, 365, 366}).Draw(rt, "days")
	key, err := m.w.UpdateRotation(admin, k.id, days)
	if m.expect(rt, err, first(unless(days >= 30 && days <= 365, invalidInterval), k.plannable(),
		unless(k.rotation.Enabled, kms.CodeRotationDisabled))) {
		k.rotation.Interval, k.rotation.Next = days, m.near(rt, key.Rotation.Next, days)
	}
}

func (m *model) disableRotation(rt *rapid.T) {
	k := m.pick(rt)
	_, err := m.w.DisableRotation(admin, k.id)
	if m.expect(rt, err, first(k.plannable(), unless(k.rotation.Enabled, kms.CodeRotationDisabled))) {
		k.rotation.Enabled, k.rotation.Next = false, time.Time{}
	}
}

// advance lets time go by, and has the scheduler look from time to time, as it would.
func (m *model) advance(rt *rapid.T) {
	m.w.clock.advance(day(rapid.SampledFrom([]int{0, 1, 7, 20, 30, 31, 100, 1000}).Draw(rt, "days")))
	if rapid.Bool().Draw(rt, "look") {
		m.runDue(rt)
	}
}

// runDue has the scheduler do what is due, and does the same.
func (m *model) runDue(rt *rapid.T) {
	now := m.w.clock.Now()
	reported := m.w.RunDue(admin)
	var next time.Time
	for _, k := range m.keys {
		switch {
		case k.gone:
		case k.state == kms.PendingDeletion && !k.deletion.After(now):
			m.done += 2
			k.gone = true
			delete(m.names, k.name)
			maps.DeleteFunc(m.aliases, func(_ string, owner *modelKey) bool { return owner == k })
		case k.expired(now):
			m.done += 2
			k.lose()
		case k.state == kms.Enabled && k.rotation.Enabled && !k.rotation.Next.After(now):
			m.done++
			m.rotated(rt, k)
		}
		at := k.expires
		switch {
		case k.state == kms.PendingDeletion && (at.IsZero() || k.deletion.Before(at)):
			at = k.deletion
		case k.state == kms.Enabled && k.rotation.Enabled:
			at = k.rotation.Next
		}
		if !at.IsZero() && !k.gone && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	early := m.pairs() && !reported.IsZero() && (next.IsZero() || reported.Before(next)) // a wrapping key's end
	if !reported.Equal(next) && !early {
		rt.Fatalf("the next act is due at %s, want %s", reported, next)
	}
}

func (m *model) rotated(rt *rapid.T, k *modelKey) {
	got, err := m.store.Key(admin, k.id)
	if err != nil {
		rt.Fatal(err)
	}
	k.versions++
	k.rotation.Count++
	k.rotation.Last = m.near(rt, got.Rotation.Last, 0)
	if k.rotation.Next = k.rotation.Next.Add(day(k.rotation.Interval)); !k.rotation.Next.After(k.rotation.Last) {
		k.rotation.Next = k.rotation.Last.Add(day(k.rotation.Interval))
	}
}

// unauthorized tries every operation without a right to it, which changes nothing.
func (m *model) unauthorized(rt *rapid.T) {
	k := m.pick(rt)
	for op, do := range m.w.changes(k.id) {
		if op == policy.OpAssociateAlias || op == policy.OpDeleteAlias {
			continue // those make the alias first
		}
		m.done++
		if code := codeOf(do(user)); code != kms.CodeDenied {
			rt.Fatalf("%s without a right: %s", op, code)
		}
	}
}

// quotas compares the counts.
func (m *model) quotas(rt *rapid.T) {
	usage, err := m.w.Quotas(admin)
	m.expect(rt, err, "ok")
	if want := m.count(); usage.Keys != want || usage.KeyLimit != modelLimits.Keys {
		rt.Fatalf("quotas are %+v, want %d keys", usage, want)
	}
}
