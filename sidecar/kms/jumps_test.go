package kms_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// node is a node with a clock that can be set wrong, and a count of its running time that cannot.
type node struct {
	*world
	mu    sync.Mutex
	wall  time.Time
	up    time.Duration
	boots int
}

// Now implements kms.Clock. The clock stands between two steps.
func (n *node) Now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wall
}

func (n *node) running() (string, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return fmt.Sprint("boot-", n.boots), n.up
}

// pass lets time go by.
func (n *node) pass(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wall, n.up = n.wall.Add(d), n.up+d
}

// set moves the clock alone.
func (n *node) set(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wall = n.wall.Add(d)
}

// reboot is a boot after the node was off. The clock may be set meanwhile.
func (n *node) reboot(t checker, off time.Duration) {
	t.Helper()
	n.mu.Lock()
	n.wall, n.up, n.boots = n.wall.Add(off), time.Minute, n.boots+1
	n.mu.Unlock()
	n.restart(t)
}

// restart makes another service, as a new process would. The one before was not closed.
func (n *node) restart(t checker) {
	t.Helper()
	s, err := kms.New(kms.Config{
		Store: n.store, HSM: n.hsm, Auditor: n.audit, Tenant: "test", Credentials: n.store, Limits: kms.Limits{Keys: 1000},
		Clock: n, Running: n.running, Account: "acc", Principals: named,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.Service = s
	n.RunDue(admin)
}

func newNode(t checker) *node {
	t.Helper()
	n := &node{
		world: &world{hsm: newHSM(), store: newStore(t), audit: new(fakeAudit)},
		wall:  time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), up: time.Hour,
	}
	n.restart(t)
	return n
}

func (n *node) exists(id kms.KeyID) bool {
	_, err := n.store.Store.Key(admin, id)
	return err == nil
}

// waitsUntil returns until when the destruction of a key waits.
func (n *node) waitsUntil(t *testing.T, id kms.KeyID) time.Time {
	t.Helper()
	f, err := n.KeyFacts(admin, n.stored(t, id))
	if err != nil {
		t.Fatal(err)
	}
	return f.WaitsUntil
}

// TestClockJumpHoldsDestructions holds that a key is not destroyed because the clock jumped, but when what was left of its period has
// passed in running time, and that a key which is scheduled afterwards has its own period.
func TestClockJumpHoldsDestructions(t *testing.T) {
	for name, jump := range map[string]func(n *node){
		"while running":         func(n *node) { n.set(day(400)); n.RunDue(admin) },
		"between two processes": func(n *node) { n.set(day(400)); n.restart(t) },
		"over a reboot":         func(n *node) { n.reboot(t, day(400)) },
		"in steps below an hour": func(n *node) { // 400 days would take too long
			for range 400 * 24 {
				n.set(59 * time.Minute)
				n.RunDue(admin)
			}
			n.set(400 * 24 * time.Minute)
			n.RunDue(admin)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			before := n.doom(t, "before")
			date := n.stored(t, before).DeletionAt
			n.pass(day(2))
			n.RunDue(admin)
			jump(n)
			if state := n.ClockState(); state.Waiting != 1 || (state.Jumped-day(400)).Abs() > time.Hour {
				t.Errorf("the clock is %+v", state)
			}
			if until := n.waitsUntil(t, before); (until.Sub(date) - day(400)).Abs() > time.Hour {
				t.Errorf("it waits until %s, and its date is %s", until, date)
			}
			after := n.doom(t, "after")
			if !n.waitsUntil(t, after).IsZero() {
				t.Error("a key that was scheduled after the jump waits because of it")
			}
			n.pass(day(5) - 2*time.Hour)
			n.RunDue(admin)
			if !n.exists(before) {
				t.Fatal("destroyed before its period had passed")
			}
			n.pass(3 * time.Hour)
			if n.RunDue(admin); n.exists(before) || !n.exists(after) {
				t.Errorf("after its period it exists: %v; the other one: %v", n.exists(before), n.exists(after))
			}
			n.pass(day(2))
			if n.RunDue(admin); n.exists(after) {
				t.Error("a key that was scheduled after the jump is not destroyed at its date")
			}
			n.pass(2 * time.Minute)
			if n.RunDue(admin); n.ClockState().Waiting != 0 {
				t.Errorf("nothing waits, and the clock is %+v", n.ClockState())
			}
		})
	}
}

// TestClockSetRight holds that a clock that is set right again ends the wait, and that a clock set back delays a destruction but never
// brings one forward.
func TestClockSetRight(t *testing.T) {
	n := newNode(t)
	id := n.doom(t, "key")
	n.set(day(400))
	n.RunDue(admin)
	late := n.doom(t, "late") // in the wrong time
	n.set(-day(400))
	n.RunDue(admin)
	if state := n.ClockState(); state != (kms.ClockState{}) {
		t.Errorf("the clock is right and counts as %+v", state)
	}
	n.pass(day(7))
	if n.RunDue(admin); n.exists(id) || !n.exists(late) {
		t.Errorf("at its date it exists: %v, and the one with a wrong date: %v", n.exists(id), n.exists(late))
	}
	id = n.doom(t, "other")
	n.set(-day(3))
	n.RunDue(admin)
	back := n.doom(t, "back")
	n.set(day(3))
	n.pass(day(5))
	if n.RunDue(admin); !n.exists(id) || !n.exists(back) {
		t.Errorf("after five of seven days exist: %v, %v", n.exists(id), n.exists(back))
	}
	n.pass(day(2))
	if n.RunDue(admin); n.exists(id) || n.exists(back) {
		t.Errorf("after seven days exist: %v, %v", n.exists(id), n.exists(back))
	}
}

// TestConfirmDeletions holds that a confirmation makes dates count again, on record, and that it does not count for later jumps.
func TestConfirmDeletions(t *testing.T) {
	n := newNode(t)
	early, later := n.doom(t, "early"), n.create(t, kms.CreateKeyInput{Alias: "later"}).ID
	_, err := n.ScheduleKeyDeletion(admin, later, 1096)
	wantCode(t, err, "ok")
	n.reboot(t, day(400))
	_, err = n.ConfirmDeletions(user)
	wantCode(t, err, kms.CodeDenied)
	if n.RunDue(admin); !n.exists(early) {
		t.Fatal("destroyed without a confirmation")
	}
	was, err := n.ConfirmDeletions(admin)
	wantCode(t, err, "ok")
	if was.Waiting != 2 || was.Jumped != day(400) {
		t.Errorf("confirmed as %+v", was)
	}
	if rec := n.audit.last(t); rec.Operation != policy.OpConfirmDeletions || rec.Outcome != "ok" || rec.Change == 0 || rec.Target != "clock jumped by 9600h0m0s, waiting keys: 2" {
		t.Errorf("audited as %+v", rec)
	}
	n.restart(t)
	if n.exists(early) || !n.exists(later) || n.ClockState() != (kms.ClockState{}) {
		t.Errorf("after it exist: %v, %v; the clock is %+v", n.exists(early), n.exists(later), n.ClockState())
	}
	n.set(day(1000))
	if n.RunDue(admin); !n.exists(later) || n.ClockState().Waiting != 1 {
		t.Errorf("a later jump: exists %v, the clock is %+v", n.exists(later), n.ClockState())
	}
	n.pass(day(696))
	if n.RunDue(admin); n.exists(later) {
		t.Error("it is not destroyed after what was left of its period")
	}
	again, err := n.ConfirmDeletions(admin)
	wantCode(t, err, "ok")
	if again.Waiting != 0 {
		t.Errorf("nothing waits, and %+v is confirmed", again)
	}
}

// TestClockJumpHoldsMaterial holds that material which expires is refused from its date on, but destroyed only after what was left
// of its time.
func TestClockJumpHoldsMaterial(t *testing.T) {
	n := newNode(t)
	id := n.external(t, "key", kms.AES256)
	p := n.parameters(t, id, kms.WrapOAEPSHA256)
	_, err := n.ImportKeyMaterial(admin, kms.ImportInput{
		KeyID: id, Token: p.Token, Material: wrap(p, bytes.Repeat([]byte{7}, 32)), ExpiresAt: n.Now().Add(day(30)),
	})
	wantCode(t, err, "ok")
	n.set(day(400))
	n.RunDue(admin)
	_, err = n.Encrypt(admin, kms.EncryptInput{KeyID: id, Plaintext: []byte("x")})
	wantCode(t, err, kms.CodeKeyPendingImport)
	n.pass(day(30) - time.Second)
	if n.RunDue(admin); n.stored(t, id).Current() == nil || n.ClockState().Waiting != 1 {
		t.Fatalf("material is destroyed before its time; the clock is %+v", n.ClockState())
	}
	n.pass(time.Second)
	if n.RunDue(admin); n.stored(t, id).Current() != nil {
		t.Error("material is not destroyed after its time")
	}
}

// TestManyWaiting holds that keys whose destruction waits hinder neither the destruction nor the rotation of others, however many
// they are.
func TestManyWaiting(t *testing.T) {
	n := newNode(t)
	for i := range 600 {
		n.doom(t, fmt.Sprint("waits-", i))
	}
	n.set(day(400))
	n.RunDue(admin)
	turning, doomed := n.turn(t, "turning"), n.doom(t, "doomed")
	n.pass(day(7) - time.Minute)
	n.RunDue(admin)
	if state := n.ClockState(); state.Waiting != 600 || !n.exists(doomed) {
		t.Fatalf("the clock is %+v", state)
	}
	n.pass(time.Minute)
	n.RunDue(admin)
	if n.RunDue(admin); n.exists(doomed) {
		t.Error("a key is not destroyed at its date")
	}
	n.pass(day(24))
	if n.RunDue(admin); len(n.stored(t, turning).Versions) != 2 {
		t.Error("a key is not rotated at its date")
	}
}

// modelDeletion is a deletion as the model of the clock sees it.
type modelDeletion struct {
	id      kms.KeyID
	period  time.Duration
	date    time.Time
	ran     time.Duration // running time since it was scheduled, and jumps that were confirmed
	reboots int           // since it was scheduled
	jumped  bool          // the clock was set since it was scheduled
	free    bool          // confirmed since it was scheduled, and the clock not set since
}

// clockModel is a node with the deletions that are scheduled on it.
type clockModel struct {
	*node
	deletions []*modelDeletion
	keys      int
}

// ran lets time go by in small steps, as the scheduler looks, and compares each destruction with its period.
func (m *clockModel) ran(rt *rapid.T, d time.Duration) {
	const steps = 4
	for range steps {
		m.pass(d / steps)
		for _, del := range m.deletions {
			del.ran += d / steps
		}
		m.look(rt)
	}
}

// look has the scheduler look, and says what may be destroyed and what must be.
func (m *clockModel) look(rt *rapid.T) {
	m.RunDue(admin)
	kept := m.deletions[:0]
	for _, del := range m.deletions {
		exists := m.exists(del.id)
		// The clock may leave the running time by an hour either way, and a reboot counts for up to a day, besides the hour.
		slack := 2*time.Hour + time.Duration(del.reboots)*26*time.Hour
		past := !m.Now().Before(del.date)
		switch {
		case !exists && !del.free && del.ran < del.period-slack:
			rt.Fatalf("destroyed after %s of %s of running time and %d reboots", del.ran, del.period, del.reboots)
		case !exists && !past:
			rt.Fatalf("destroyed at %s, before its date %s", m.Now(), del.date)
		case exists && past && (!del.jumped || del.free):
			rt.Fatalf("it is %s, and a key with the date %s exists", m.Now(), del.date)
		}
		if exists {
			kept = append(kept, del)
		}
	}
	m.deletions = kept
}

func (m *clockModel) schedule(rt *rapid.T) {
	days := rapid.IntRange(7, 40).Draw(rt, "days")
	m.keys++
	key, err := m.CreateKey(admin, kms.CreateKeyInput{Alias: fmt.Sprint("key-", m.keys)})
	if err == nil {
		key, err = m.ScheduleKeyDeletion(admin, key.ID, days)
	}
	if err != nil {
		rt.Fatal(err)
	}
	m.deletions = append(m.deletions, &modelDeletion{id: key.ID, period: day(days), date: key.DeletionAt})
}

// disturb notes that the clock was set.
func (m *clockModel) disturb() {
	for _, del := range m.deletions {
		del.jumped, del.free = true, false
	}
}

func (m *clockModel) rebooted(rt *rapid.T, off time.Duration) {
	for _, del := range m.deletions {
		del.reboots++
	}
	m.reboot(rt, off)
	m.look(rt)
}

func drawHours(rt *rapid.T, name string, low, high int) time.Duration {
	return time.Duration(rapid.IntRange(low, high).Draw(rt, name)) * time.Hour
}

// TestNothingIsDestroyedEarly holds that no sequence of jumps of the clock, crashes, restarts and reboots destroys a key before its
// period has passed in running time, unless an administrator confirms the clock, and that without jumps it is destroyed on time.
func TestNothingIsDestroyedEarly(t *testing.T) {
	for name, jumps := range map[string]bool{"with jumps": true, "without jumps": false} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				m := &clockModel{node: newNode(rt)}
				m.schedule(rt)
				actions := map[string]func(*rapid.T){
					"schedule": m.schedule,
					"run":      func(rt *rapid.T) { m.ran(rt, drawHours(rt, "hours", 0, 200)) },
					"run more": func(rt *rapid.T) { m.ran(rt, drawHours(rt, "hours", 0, 20)) },
					"restart": func(rt *rapid.T) { // the process was stopped, and the node ran
						off := drawHours(rt, "hours", 0, 100)
						m.pass(off)
						for _, del := range m.deletions {
							del.ran += off
						}
						if rapid.Bool().Draw(rt, "orderly") {
							if err := m.Close(admin); err != nil {
								rt.Fatal(err)
							}
						}
						m.restart(rt)
						m.look(rt)
					},
					"reboot": func(rt *rapid.T) { m.rebooted(rt, drawHours(rt, "hours", 0, 22)) },
				}
				if jumps {
					actions["set"] = func(rt *rapid.T) {
						m.set(drawHours(rt, "hours", -2000, 20000))
						m.disturb()
						m.look(rt)
					}
					actions["set by little"] = func(rt *rapid.T) {
						m.set(time.Duration(rapid.IntRange(-59, 59).Draw(rt, "minutes")) * time.Minute)
						m.disturb()
						m.look(rt)
					}
					actions["set while stopped"] = func(rt *rapid.T) {
						m.set(drawHours(rt, "hours", -2000, 20000))
						m.disturb()
						m.restart(rt)
						m.look(rt)
					}
					actions["set while off"] = func(rt *rapid.T) {
						m.disturb()
						m.rebooted(rt, drawHours(rt, "hours", -2000, 20000))
					}
					actions["confirm"] = func(rt *rapid.T) {
						if _, err := m.ConfirmDeletions(admin); err != nil {
							rt.Fatal(err)
						}
						for _, del := range m.deletions { // the jumps until now count as time
							del.free, del.ran, del.reboots = true, del.period-del.date.Sub(m.Now()), 0
						}
						m.look(rt)
					}
				}
				rt.Repeat(actions)
			})
		})
	}
}
