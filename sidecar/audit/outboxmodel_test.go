package audit

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// operationsVariable is the number of operations of TestEffectAndRecordAgree, for long runs.
const operationsVariable = "KEYSIDE_AUDIT_TEST_OPERATIONS"

// movingClock advances by a second with every look, so that what is scheduled becomes due.
type movingClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *movingClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Second)
	return c.now
}

// pass lets days pass.
func (c *movingClock) pass(days int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.AddDate(0, 0, days)
}

// outboxModel is what the answers of a node say that its database and its log must have.
type outboxModel struct {
	t       *testing.T
	n       *node
	random  *rand.Rand
	changes []string // ids of the requests that changed something, and what the scheduler did, in order
	states  map[kms.KeyID]kms.KeyState
	texts   map[kms.KeyID]string // what else a key has, see textOf
	grants  map[string]kms.KeyID
	aliases map[string]kms.KeyID
	access  map[string]bool
	tokens  map[kms.KeyID][]byte // the last for an import
	refused int                  // requests that were refused because the log could not be written
}

func (m *outboxModel) someKey() kms.KeyID {
	if len(m.states) == 0 || m.random.IntN(20) == 0 {
		return uuid.New()
	}
	ids := sorted(m.states)
	return ids[m.random.IntN(len(ids))]
}

func sorted[V any](of map[kms.KeyID]V) []kms.KeyID {
	return slices.SortedFunc(maps.Keys(of), func(a, b kms.KeyID) int { return bytes.Compare(a[:], b[:]) })
}

func some[V any](m *outboxModel, in map[string]V) string {
	names := slices.Sorted(maps.Keys(in))
	if len(names) == 0 || m.random.IntN(20) == 0 {
		return "absent"
	}
	return names[m.random.IntN(len(names))]
}

// operation is one request and what the model does if its answer is success.
type operation struct {
	do    func(context.Context) error
	apply func()
}

func (m *outboxModel) changeKey(do func(context.Context, kms.KeyID) (*kms.Key, error)) operation {
	id := m.someKey()
	var key *kms.Key
	return operation{func(ctx context.Context) (err error) { key, err = do(ctx, id); return err }, func() { m.learn(key) }}
}

func (m *outboxModel) learn(key *kms.Key) {
	m.states[key.ID], m.texts[key.ID] = key.State, textOf(key)
}

func textOf(k *kms.Key) string {
	return fmt.Sprint(k.Description, k.Tags, k.Alias, k.Rotation.Enabled, k.Rotation.Interval, k.Rotation.Count, len(k.Versions), k.Protected.Enabled)
}

// next returns a random operation.
func (m *outboxModel) next(i int) operation {
	name := fmt.Sprint("name-", i)
	switch m.random.IntN(30) {
	case 0, 1:
		var key *kms.Key
		spec := []kms.KeySpec{kms.AES256, kms.RSA2048}[m.random.IntN(2)]
		return operation{func(ctx context.Context) (err error) {
			key, err = m.n.CreateKey(ctx, kms.CreateKeyInput{Alias: name, Spec: spec})
			return err
		}, func() { m.learn(key) }}
	case 2:
		return m.changeKey(m.n.EnableKey)
	case 3:
		return m.changeKey(m.n.DisableKey)
	case 4:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) { return m.n.ScheduleKeyDeletion(ctx, id, 7) })
	case 5:
		return m.changeKey(m.n.CancelKeyDeletion)
	case 6:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
			return m.n.SetTags(ctx, id, []kms.Tag{{Key: "t", Value: name}})
		})
	case 7:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) { return m.n.UpdateDescription(ctx, id, name) })
	case 8:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) { return m.n.UpdateAlias(ctx, id, name) })
	case 9:
		id := m.someKey()
		return operation{func(ctx context.Context) error { _, err := m.n.CreateAlias(ctx, id, name); return err }, func() { m.aliases[name] = id }}
	case 10:
		id, alias := m.someKey(), some(m, m.aliases)
		return operation{func(ctx context.Context) error { _, err := m.n.AssociateAlias(ctx, alias, id); return err }, func() { m.aliases[alias] = id }}
	case 11:
		alias := some(m, m.aliases)
		id := m.aliases[alias]
		return operation{func(ctx context.Context) error { return m.n.DeleteAliases(ctx, id, []string{alias}) }, func() { delete(m.aliases, alias) }}
	case 12:
		var g *policy.Grant
		id := m.someKey()
		return operation{func(ctx context.Context) (err error) {
			g, err = m.n.CreateGrant(ctx, kms.CreateGrantInput{KeyID: id, Grantee: "grantee", Operations: []policy.Operation{policy.OpEncryptData}})
			return err
		}, func() { m.grants[g.ID] = id }}
	case 13:
		g := some(m, m.grants)
		return operation{func(ctx context.Context) error { return m.n.RevokeGrant(ctx, m.grants[g], g) }, func() { delete(m.grants, g) }}
	case 14:
		g := some(m, m.grants)
		return operation{func(ctx context.Context) error { return m.n.RetireGrant(ctx, m.grants[g], g) }, func() { delete(m.grants, g) }}
	case 15:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
			return m.n.DeleteTags(ctx, id, []string{"t"}, true)
		})
	case 16:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) { return m.n.EnableRotation(ctx, id, 30) })
	case 17:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
			return m.n.UpdateRotation(ctx, id, 30+m.random.IntN(300))
		})
	case 18:
		return m.changeKey(m.n.DisableRotation)
	case 19:
		var key *kms.Key
		return operation{func(ctx context.Context) (err error) {
			key, err = m.n.CreateKey(ctx, kms.CreateKeyInput{Alias: name, Origin: kms.OriginExternal})
			return err
		}, func() { m.learn(key) }}
	case 20:
		id := m.someKey()
		var p *kms.ImportParameters
		return operation{func(ctx context.Context) (err error) {
			p, err = m.n.GetImportParameters(ctx, kms.ImportParametersInput{KeyID: id, Algorithm: kms.WrapOAEPSHA256})
			return err
		}, func() { m.tokens[id] = p.Token }}
	case 21:
		var expires time.Time
		if m.random.IntN(2) == 0 {
			expires = m.n.clock.Now().AddDate(0, 0, 10)
		}
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
			for _, waiting := range sorted(m.tokens) {
				if m.states[waiting] == kms.PendingImport {
					return m.n.ImportKeyMaterial(ctx, kms.ImportInput{KeyID: waiting, Token: m.tokens[waiting], Material: make([]byte, 256), ExpiresAt: expires})
				}
			}
			return m.n.ImportKeyMaterial(ctx, kms.ImportInput{KeyID: id, Token: m.tokens[id], Material: make([]byte, 256), ExpiresAt: expires})
		})
	case 22:
		return m.changeKey(m.n.DeleteImportedKeyMaterial)
	case 23:
		return operation{func(ctx context.Context) error { _, err := m.n.CreateToken(ctx, kms.CreateTokenInput{}); return err }, func() {}}
	case 24:
		return m.changeKey(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
			return m.n.SetDeletionProtection(ctx, id, kms.DeletionProtection{Enabled: m.random.IntN(3) == 0})
		})
	case 25:
		return m.changeKey(m.n.CreateKeyVersion)
	case 26:
		return m.changeKey(m.n.RotateKey)
	case 27:
		var c *kms.NewCredential
		return operation{func(ctx context.Context) (err error) {
			c, err = m.n.CreateCredential(ctx, kms.CreateCredentialInput{User: "user", Role: policy.Administrator})
			return err
		}, func() { m.access[c.AccessKey] = true }}
	default:
		access := some(m, m.access)
		return operation{func(ctx context.Context) error { return m.n.DeleteCredential(ctx, access) }, func() { delete(m.access, access) }}
	}
}

// breakLog has the next record fail, in one of the ways in which a write can.
func (m *outboxModel) breakLog() {
	l := m.n.log
	switch m.random.IntN(4) {
	case 0:
		full(m.t, l)
		return
	case 1:
		l.writing.Lock()
		_ = l.file.Close()
	case 2: // the record is written but not synced
		l.writing.Lock()
		_ = l.journal.file.Close()
	default: // the record is synced
		l.writing.Lock()
		_ = l.leaves.Close()
	}
	l.writing.Unlock()
}

// away moves the log's file away, so that the log cannot be opened again, and returns what moves it back.
func (m *outboxModel) away() (back func()) {
	path := m.n.log.path
	if err := os.Rename(path, path+".away"); err != nil {
		m.t.Fatal(err)
	}
	return func() {
		if err := os.Rename(path+".away", path); err != nil {
			m.t.Fatal(err)
		}
	}
}

// step performs an operation while the log fails, perhaps for longer or beyond a restart, and holds its answer against the database.
func (m *outboxModel) step(i int) {
	id := fmt.Sprint("request-", i)
	o := m.next(i)
	back := func() {}
	if m.random.IntN(2) == 0 {
		if err := m.n.log.Ready(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
		m.breakLog()
		if m.random.IntN(4) == 0 {
			back = m.away()
		}
	}
	if m.random.IntN(100) == 0 {
		m.runDue()
	} else {
		before := m.n.store.LastRecorded()
		err := o.do(call(id))
		if changed := m.n.store.LastRecorded() > before; changed != (err == nil) {
			m.t.Fatalf("%s: answered %v, and the database changed: %v", id, err, changed)
		}
		if err == nil {
			o.apply()
			m.changes = append(m.changes, id)
		}
	}
	if m.n.log.failed.Load() && m.n.log.Ready(m.t.Context()) != nil {
		before := m.n.store.LastRecorded()
		o := m.next(-i)
		if err := o.do(call("refused-" + id)); err == nil || m.n.store.LastRecorded() != before {
			m.t.Fatalf("%s: an operation was admitted while the log could not be written: %v", id, err)
		}
		m.refused++
	}
	if m.random.IntN(40) == 0 {
		m.restart(back)
	} else {
		back()
	}
}

// runDue lets days pass, and has the scheduler destroy and rotate what is due then.
func (m *outboxModel) runDue() {
	m.n.clock.(*movingClock).pass(1 + m.random.IntN(30))
	before := m.keys()
	m.n.RunDue(m.t.Context())
	after := m.keys()
	var acts []string
	for id, was := range before {
		is := after[id]
		switch {
		case is == nil:
			if was.State != kms.PendingDeletion {
				m.t.Fatalf("key %s, %s, was destroyed", id, was.State)
			}
			acts = append(acts, act(policy.OpDestroyKey, id.String()))
			m.forget(id)
			continue
		case len(is.Versions) < len(was.Versions):
			acts = append(acts, act(policy.OpExpireMaterial, id.String()))
		case len(is.Versions) > len(was.Versions):
			acts = append(acts, slices.Repeat([]string{act(policy.OpRotateKey, id.String())}, len(is.Versions)-len(was.Versions))...)
		}
		m.learn(is)
	}
	slices.Sort(acts)
	m.changes = append(m.changes, acts...)
}

func act(op policy.Operation, key string) string { return fmt.Sprint(schedulerAct, op, " ", key) }

// schedulerAct begins the name of what the scheduler did.
const schedulerAct = "scheduler "

// keys returns all keys of the database.
func (m *outboxModel) keys() map[kms.KeyID]*kms.Key {
	all := map[kms.KeyID]*kms.Key{}
	list, _, err := m.n.store.ListKeys(m.t.Context(), kms.KeyFilter{}, 0, 1<<20)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, k := range list {
		all[k.ID] = k
	}
	return all
}

// forget removes a destroyed key.
func (m *outboxModel) forget(id kms.KeyID) {
	delete(m.states, id)
	delete(m.texts, id)
	delete(m.tokens, id)
	maps.DeleteFunc(m.aliases, func(_ string, key kms.KeyID) bool { return key == id })
	maps.DeleteFunc(m.grants, func(_ string, key kms.KeyID) bool { return key == id })
}

// restart ends the process as it is and starts another.
func (m *outboxModel) restart(back func()) {
	_ = m.n.close() // a log that fails says so
	back()
	n, err := openNode(m.n.dir, m.n.clock, nil, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	m.n = n
}

// TestEffectAndRecordAgree runs a random workload on a log that keeps failing. What was answered is what the database has, and each
// change has its record in the log once, in the order of the changes.
func TestEffectAndRecordAgree(t *testing.T) {
	operations := 500
	if text := os.Getenv(operationsVariable); text != "" {
		var err error
		if operations, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := &outboxModel{
		t: t, random: rand.New(rand.NewPCG(seed, 0)), states: map[kms.KeyID]kms.KeyState{}, texts: map[kms.KeyID]string{},
		grants: map[string]kms.KeyID{}, aliases: map[string]kms.KeyID{}, access: map[string]bool{}, tokens: map[kms.KeyID][]byte{},
	}
	n, err := openNode(t.TempDir(), &movingClock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.n = n
	for i := range operations {
		m.step(i)
	}
	if err := m.n.log.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.wantDatabase()
	if r, err := m.n.log.Verify(t.Context(), nil); err != nil || len(r.Findings) > 0 {
		t.Errorf("the running log does not verify: %v, %v", err, r)
	}
	if err := m.n.close(); err != nil {
		t.Fatal(err)
	}
	m.wantLog()
	src, found, err := stoppedSource(m.n.dir)
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, src)
	if len(found.Outbox) > 0 {
		t.Errorf("the outbox still has %d changes", len(found.Outbox))
	}
	if m.refused == 0 || len(m.changes) < operations/4 {
		t.Errorf("%d changes and %d refusals: the workload does not test this", len(m.changes), m.refused)
	}
}

// wantDatabase compares the database with the answers.
func (m *outboxModel) wantDatabase() {
	m.t.Helper()
	states, texts := map[kms.KeyID]kms.KeyState{}, map[kms.KeyID]string{}
	for id, k := range m.keys() {
		states[id], texts[id] = k.State, textOf(k)
	}
	aliases := map[string]kms.KeyID{}
	list, _, err := m.n.store.ListAliases(m.t.Context(), nil, "", 1<<20)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, a := range list {
		aliases[a.Name] = a.KeyID
	}
	grants := map[string]kms.KeyID{}
	all, _ := m.n.store.FindGrants(func(*policy.Grant) bool { return true }, 0, 1<<20)
	for _, g := range all {
		grants[g.ID] = g.Key
	}
	access := map[string]bool{}
	credentials, err := m.n.store.ListCredentials(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range credentials {
		access[c.AccessKey] = true
	}
	if !maps.Equal(states, m.states) || !maps.Equal(texts, m.texts) || !maps.Equal(aliases, m.aliases) || !maps.Equal(grants, m.grants) || !maps.Equal(access, m.access) {
		m.t.Error("the database is not what the answers say")
	}
}

// wantLog compares the log with the answers.
func (m *outboxModel) wantLog() {
	m.t.Helper()
	var recorded []string
	var last uint64
	seen := map[policy.Operation]int{}
	for _, r := range lines(m.t, filepath.Join(m.n.dir, "audit")) {
		if r.Change == 0 {
			if r.Outcome == "ok" && r.RequestID != "" {
				m.t.Errorf("%s has a record of success without a change", r.RequestID)
			}
			continue
		}
		if r.Change != last && r.PreviousChange != last || r.Outcome != "ok" && r.Outcome != "begun" {
			m.t.Errorf("%s: change %d after %d is recorded after %d, %s", r.RequestID, r.Change, r.PreviousChange, last, r.Outcome)
		}
		last = r.Change
		seen[r.Operation]++
		switch {
		case r.Outcome == "begun": // the operation needed further transactions
		case r.Principal == "scheduler":
			recorded = append(recorded, act(r.Operation, r.KeyID))
		default:
			recorded = append(recorded, r.RequestID)
		}
	}
	sortActs(recorded)
	sortActs(m.changes)
	if !slices.Equal(recorded, m.changes) {
		m.t.Errorf("the log has records of %d changes, and %d were answered", len(recorded), len(m.changes))
	}
	m.t.Logf("%d changes: %v", len(recorded), seen)
}

// sortActs sorts what the scheduler did without a request in between: it acts on several keys at once.
func sortActs(changes []string) {
	for from := 0; from < len(changes); from++ {
		to := from
		for to < len(changes) && strings.HasPrefix(changes[to], schedulerAct) {
			to++
		}
		slices.Sort(changes[from:to])
		from = max(from, to-1)
	}
}
