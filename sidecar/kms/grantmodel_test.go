package kms_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// modelGrant is a grant as the model knows it: the rules of the user guide, written down apart from policy.
type modelGrant struct {
	id, grantee, issuer string
	name                string
	ops                 []policy.Operation
	context             string // that must be in the encryption context under "a"; empty: none is needed
	ends                time.Time
	source              policy.Source // one of modelSources, or empty
}

// modelSources are sources of grants: who matches them, and those that are within them.
var modelSources = map[policy.Source]struct {
	units  string
	within []policy.Source
}{
	"":               {"ab", []policy.Source{"", "unit:a.service", "unit:b.service", "uid:7,unit:a.service"}},
	"unit:a.service": {"a", []policy.Source{"unit:a.service", "uid:7,unit:a.service"}}, "unit:b.service": {"b", []policy.Source{"unit:b.service"}},
	"uid:7,unit:a.service": {"a", []policy.Source{"uid:7,unit:a.service"}},
}

// fromUnit is a caller in one of two units.
func fromUnit(ctx context.Context, unit string) context.Context {
	call := *kms.CallFrom(ctx)
	call.Caller.Process = &policy.Process{Unit: unit + ".service"}
	return kms.WithCall(ctx, &call)
}

// from says whether the grant is for callers in a unit.
func (n modelGrant) from(unit string) bool {
	return strings.Contains(modelSources[n.source].units, unit)
}

// grantModel is a key with grants, and the service that is held to it.
type grantModel struct {
	t      *rapid.T
	w      *world
	dir    string
	key    kms.KeyID
	grants []modelGrant
}

var modelUsers = map[string]context.Context{"owner": admin, "app": app, "other": other, "third": third}

func (m *grantModel) live(g modelGrant) bool {
	return g.ends.IsZero() || m.w.clock.peek().Before(g.ends)
}

// may says whether a user may do an operation under an encryption context, called from a unit.
func (m *grantModel) may(user, unit string, op policy.Operation, context string) bool {
	return user == "owner" || slices.ContainsFunc(m.grants, func(g modelGrant) bool {
		return g.grantee == user && g.from(unit) && m.live(g) && slices.Contains(g.ops, op) && (g.context == "" || !op.HasContext() || g.context == context)
	})
}

// mayGrant says whether a user may make a grant: one that lets it make grants, and for each operation one that has it, none of
// them limited more than the new one.
func (m *grantModel) mayGrant(user, unit string, n modelGrant) bool {
	within := func(op policy.Operation) bool {
		return slices.ContainsFunc(m.grants, func(g modelGrant) bool {
			return g.grantee == user && g.from(unit) && m.live(g) && slices.Contains(g.ops, op) && (g.context == "" || g.context == n.context) &&
				slices.Contains(modelSources[g.source].within, n.source) &&
				(g.ends.IsZero() || !n.ends.IsZero() && !n.ends.After(g.ends))
		})
	}
	return user == "owner" || within(policy.OpCreateGrant) && !slices.ContainsFunc(n.ops, func(op policy.Operation) bool { return !within(op) })
}

// repeats says whether a grant with a name is one that is there.
func (n modelGrant) repeats(g modelGrant) bool {
	return n.name != "" && n.name == g.name && n.grantee == g.grantee && n.issuer == g.issuer && slices.Equal(n.ops, g.ops) &&
		n.context == g.context && n.ends.Equal(g.ends) && n.source == g.source
}

func (m *grantModel) create() {
	user := rapid.SampledFrom([]string{"owner", "app", "other", "third"}).Draw(m.t, "issuer")
	n := modelGrant{
		issuer: user, grantee: rapid.SampledFrom([]string{"app", "other", "third"}).Draw(m.t, "grantee"),
		ops: rapid.SliceOfNDistinct(rapid.SampledFrom([]policy.Operation{
			policy.OpCreateGrant, policy.OpRetireGrant, policy.OpDescribeKey, policy.OpEncryptData,
		}), 1, 4, rapid.ID).Draw(m.t, "operations"),
		context: rapid.SampledFrom([]string{"", "", "x", "y"}).Draw(m.t, "context"),
		source:  rapid.SampledFrom([]policy.Source{"", "", "", "unit:a.service", "unit:b.service", "uid:7,unit:a.service"}).Draw(m.t, "source"),
		name:    rapid.SampledFrom([]string{"", "once"}).Draw(m.t, "name"),
	}
	slices.Sort(n.ops)
	if minutes := rapid.IntRange(0, 3).Draw(m.t, "minutes"); minutes > 0 {
		n.ends = m.w.clock.peek().Add(time.Duration(minutes) * time.Minute).Truncate(time.Millisecond)
	}
	input := kms.CreateGrantInput{KeyID: m.key, Grantee: n.grantee, Operations: n.ops, Name: n.name, Constraints: policy.Constraints{Expires: n.ends, Source: n.source}}
	if n.context != "" {
		input.Constraints.Context = map[string]string{"a": n.context}
	}
	unit := rapid.SampledFrom([]string{"a", "b"}).Draw(m.t, "unit")
	want := kms.Code("ok")
	switch {
	case !m.may(user, unit, policy.OpCreateGrant, ""), len(n.ops) > 1 && !m.mayGrant(user, unit, n):
		want = kms.CodeDenied
	case len(n.ops) == 1 && n.ops[0] == policy.OpCreateGrant:
		want = onlyCreateGrant
	case !m.mayGrant(user, unit, n):
		want = kms.CodeDenied
	}
	g, err := m.w.CreateGrant(fromUnit(modelUsers[user], unit), input)
	if !is(err, want) {
		m.t.Fatalf("%s grants %+v: %v, want %s", user, n, err, want)
	}
	if err != nil {
		return
	}
	n.id = g.ID
	if i := slices.IndexFunc(m.grants, n.repeats); i < 0 {
		m.grants = append(m.grants, n)
	} else if m.grants[i].id != g.ID {
		m.t.Fatalf("%+v was made again as %s", m.grants[i], g.ID)
	}
}

func (m *grantModel) remove() {
	if len(m.grants) == 0 {
		return
	}
	at := rapid.IntRange(0, len(m.grants)-1).Draw(m.t, "grant")
	user := rapid.SampledFrom([]string{"owner", "app", "other", "third"}).Draw(m.t, "user")
	unit := rapid.SampledFrom([]string{"a", "b"}).Draw(m.t, "unit")
	g := m.grants[at]
	do, allowed := m.w.RevokeGrant, user == "owner"
	if rapid.Bool().Draw(m.t, "retire") {
		do = m.w.RetireGrant
		allowed = allowed || g.issuer == user || g.grantee == user && g.from(unit) && m.live(g) && slices.Contains(g.ops, policy.OpRetireGrant)
	}
	want := kms.CodeDenied
	if allowed {
		want = "ok"
		m.grants = slices.Delete(slices.Clone(m.grants), at, at+1)
	}
	if err := do(fromUnit(modelUsers[user], unit), m.key, g.id); !is(err, want) {
		m.t.Fatalf("%s takes %+v away: %v, want %s", user, g, err, want)
	}
}

// restart closes the database and opens it again.
func (m *grantModel) restart() {
	if err := m.w.store.Store.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.open()
}

func (m *grantModel) open() {
	s, err := store.Open(store.Options{Dir: m.dir, Create: true, Tenant: "test"})
	if err != nil {
		m.t.Fatal(err)
	}
	m.w.store.Store = s
	m.w.Service = m.w.restart(m.t, kms.Limits{})
}

// check compares what every principal may do with the model.
func (m *grantModel) check() {
	for user := range modelUsers {
		m.checkUser(user, "a")
		m.checkUser(user, "b")
	}
	page, err := m.w.ListGrants(admin, m.key, 0, 0)
	if err != nil || page.Total != len(m.grants) {
		m.t.Fatalf("%d grants are listed, want %d: %v", page.Total, len(m.grants), err)
	}
}

func (m *grantModel) checkUser(user, unit string) {
	ctx := fromUnit(modelUsers[user], unit)
	for _, context := range []string{"", "x", "y"} {
		input := kms.EncryptInput{KeyID: m.key, Plaintext: []byte("p")}
		if context != "" {
			input.Context = map[string]string{"a": context}
		}
		_, err := m.w.Encrypt(ctx, input)
		if got := err == nil; got != m.may(user, unit, policy.OpEncryptData, context) || err != nil && !is(err, kms.CodeDenied) {
			m.t.Fatalf("%s in %s encrypts with context %q: %v; grants %+v", user, unit, context, err, m.grants)
		}
	}
	if _, err := m.w.DescribeKey(ctx, m.key); (err == nil) != m.may(user, unit, policy.OpDescribeKey, "") {
		m.t.Fatalf("%s in %s looks at the key: %v; grants %+v", user, unit, err, m.grants)
	}
}

// TestGrantsAgainstModel holds random histories of grants (made, handed on, retired, revoked, expired, through restarts) to
// the model above.
func TestGrantsAgainstModel(t *testing.T) {
	scale(t, "rapid.steps", func(int) int { return 15 })
	rapid.Check(t, func(rt *rapid.T) {
		m := &grantModel{t: rt, w: &world{hsm: newHSM(), store: &memStore{}, audit: new(fakeAudit), clock: newClock()}, dir: t.TempDir()}
		m.open()
		defer func() { m.w.store.Store.Close() }()
		key, err := m.w.CreateKey(admin, kms.CreateKeyInput{Alias: "k"})
		if err != nil {
			rt.Fatal(err)
		}
		m.key = key.ID
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(*rapid.T) { m.create() }, "create too": func(*rapid.T) { m.create() },
			"remove": func(*rapid.T) { m.remove() },
			"wait":   func(*rapid.T) { m.w.clock.advance(time.Minute) },
			"restart": func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "really") == 0 {
					m.restart()
				}
			},
			"": func(*rapid.T) { m.check() },
		})
	})
}
