package kms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// doom creates a key that will be destroyed in 7 days.
func (w *world) doom(t testing.TB, alias string) kms.KeyID {
	t.Helper()
	id := w.create(t, kms.CreateKeyInput{Alias: alias}).ID
	_, err := w.ScheduleKeyDeletion(admin, id, 7)
	wantCode(t, err, "ok")
	return id
}

// turn creates a key that will be rotated in 30 days.
func (w *world) turn(t testing.TB, alias string) kms.KeyID {
	t.Helper()
	id := w.create(t, kms.CreateKeyInput{Alias: alias}).ID
	_, err := w.EnableRotation(admin, id, 30)
	wantCode(t, err, "ok")
	return id
}

// outcomes returns what the audit log says of an operation, in order.
func (a *fakeAudit) outcomes(op policy.Operation) (outcomes []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.records {
		if r.Operation == op {
			outcomes = append(outcomes, r.Outcome)
		}
	}
	return outcomes
}

func (w *world) wantOutcomes(t testing.TB, op policy.Operation, want ...string) {
	t.Helper()
	if got := w.audit.outcomes(op); !slices.Equal(got, want) {
		t.Errorf("%s is audited as %q, want %q", op, got, want)
	}
}

// TestDestruction holds that a key is there until its time has come and gone afterwards, with all that belongs to it, that
// the audit log says so before and after, and that the layers below are told of each version.
func TestDestruction(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.turn(t, "key")
	w.clock.advance(day(30))
	w.RunDue(admin)
	ciphertext := w.encrypt(t, id)
	_, err := w.CreateAlias(admin, id, "alias/other")
	wantCode(t, err, "ok")
	key, err := w.ScheduleKeyDeletion(admin, id, 7)
	wantCode(t, err, "ok")
	w.clock.advance(day(7) - time.Second)
	if next := w.RunDue(admin); !next.Equal(key.DeletionAt) {
		t.Errorf("next is %s, want %s", next, key.DeletionAt)
	}
	w.stored(t, id)
	w.wantOutcomes(t, policy.OpDestroyKey)
	w.clock.advance(time.Second)
	if next := w.RunDue(admin); !next.IsZero() {
		t.Errorf("something is due at %s", next)
	}
	_, err = w.DescribeKey(admin, id)
	wantCode(t, err, kms.CodeNotFound)
	_, err = w.CancelKeyDeletion(admin, id)
	wantCode(t, err, kms.CodeNotFound)
	_, err = w.Decrypt(admin, kms.DecryptInput{Ciphertext: ciphertext})
	wantCode(t, err, kms.CodeInvalidCiphertext)
	_, err = w.Resolve(admin, policy.OpDescribeKey, "alias/other")
	wantCode(t, err, kms.CodeNotFound)
	w.create(t, kms.CreateKeyInput{Alias: "key"}) // the name is free again
	w.wantOutcomes(t, policy.OpDestroyKey, "begun", "ok")
	if rec := w.audit.records; true {
		i := slices.IndexFunc(rec, func(r kms.AuditRecord) bool { return r.Operation == policy.OpDestroyKey })
		if rec[i].RequestID != rec[i+1].RequestID || rec[i].KeyID != id.String() || rec[i].Principal != "scheduler" || rec[i].By != "schedule" {
			t.Errorf("audited as %+v and %+v", rec[i], rec[i+1])
		}
	}
	if len(w.hsm.destroyed) != 2 || w.hsm.destroyed[0].Version != 1 || w.hsm.destroyed[1].Version != 2 || len(w.hsm.destroyed[0].Sealed) == 0 {
		t.Errorf("the HSM was told to forget %+v", w.hsm.destroyed)
	}
	if err := w.Close(admin); err != nil { // with message numbers of a key that is gone
		t.Error(err)
	}
}

// TestNoAuditNoDestruction holds that nothing is destroyed that is not on record before, and that it is made up for later.
func TestNoAuditNoDestruction(t *testing.T) {
	for name, fault := range map[string]func(*fakeAudit, error){
		"not ready": func(a *fakeAudit, err error) { a.notReady = err },
		"no record": func(a *fakeAudit, err error) { a.down = err },
	} {
		w := newWorld(t, kms.Limits{})
		id := w.doom(t, "key")
		w.clock.advance(day(8))
		fault(w.audit, errors.New("disk full"))
		next := w.RunDue(admin)
		w.stored(t, id)
		if wait := next.Sub(w.clock.Now()); wait <= 0 || wait > time.Second {
			t.Errorf("%s: next try in %s", name, wait)
		}
		fault(w.audit, nil)
		w.clock.advance(time.Second)
		w.RunDue(admin)
		if _, err := w.store.Store.Key(admin, id); !is(err, kms.CodeNotFound) {
			t.Errorf("%s: the key is still there (%v)", name, err)
		}
	}
}

// TestTakenBackInTheLastMoment holds that a key that is changed between being found due and the transaction that would
// destroy or rotate it is left alone.
func TestTakenBackInTheLastMoment(t *testing.T) {
	for name, change := range map[string]func(*kms.Key){
		"canceled":          func(k *kms.Key) { k.State, k.DeletionAt = kms.Disabled, time.Time{} },
		"put off":           func(k *kms.Key) { k.DeletionAt = k.DeletionAt.Add(day(100)) },
		"disabled":          func(k *kms.Key) { k.State = kms.Disabled },
		"rotation ended":    func(k *kms.Key) { k.Rotation.Enabled, k.Rotation.Next = false, time.Time{} },
		"rotated meanwhile": func(k *kms.Key) { k.Rotation.Next = k.Rotation.Next.Add(day(30)) },
	} {
		w := newWorld(t, kms.Limits{})
		var id kms.KeyID
		doomed := name == "canceled" || name == "put off"
		if doomed {
			id = w.doom(t, "key")
		} else {
			id = w.turn(t, "key")
		}
		w.clock.advance(day(31))
		w.store.beforeUpdate = func() {
			w.store.beforeUpdate = nil
			w.set(id, change)
		}
		w.RunDue(admin)
		w.RunDue(admin)
		if key := w.stored(t, id); len(key.Versions) != 1 || key.Rotation.Count != 0 {
			t.Errorf("%s, and rotated: %+v", name, key)
		}
		w.wantOutcomes(t, policy.OpRotateKey)
		if doomed {
			w.wantOutcomes(t, policy.OpDestroyKey, "begun", "KeyNotPendingDeletion")
		}
	}
}

// TestRotationFails holds that a rotation that fails is on record and tried again later and later, that the plan is kept,
// and that it is made up for once the HSM is there again.
func TestRotationFails(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.turn(t, "key")
	w.hsm.made = nil
	w.clock.advance(day(31))
	w.hsm.down = kms.Errorf(kms.CodeKeyUnavailable, "the HSM is not available")
	schedule := w.stored(t, id).Rotation
	var waits []time.Duration
	for range 12 {
		next := w.RunDue(admin)
		wait := next.Sub(w.clock.Now()).Round(100 * time.Millisecond)
		waits = append(waits, wait)
		if again := w.RunDue(admin); !again.Equal(next) {
			t.Fatalf("a look before the time moves it from %s to %s", next, again)
		}
		w.clock.advance(wait)
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300}
	for i := range want {
		if want[i] *= time.Second; want[i] != waits[i] {
			t.Fatalf("waits are %v", waits)
		}
	}
	if key := w.stored(t, id); key.Rotation != schedule || len(key.Versions) != 1 || len(w.hsm.made) != 12 {
		t.Errorf("after %d tries the key is %+v", len(w.hsm.made), key)
	}
	w.hsm.down = nil
	w.RunDue(admin)
	if key := w.stored(t, id); len(key.Versions) != 2 || key.Rotation.Count != 1 {
		t.Errorf("with the HSM back the key is %+v", key)
	}
	if got := w.audit.outcomes(policy.OpRotateKey); len(got) != 13 || got[0] != "KeyUnavailable" || got[12] != "ok" {
		t.Errorf("audited as %q", got)
	}
}

// TestOneBadKey holds that keys that cannot be rotated hinder no others, however many they are, and neither rotation nor
// destruction of the others.
func TestOneBadKey(t *testing.T) {
	w := newWorld(t, kms.Limits{Keys: 1000})
	bad := make(map[kms.KeyID]bool)
	var good, doomed []kms.KeyID
	for i := range 40 {
		bad[w.turn(t, fmt.Sprint("bad-", i))] = true
	}
	for i := range 40 {
		good = append(good, w.turn(t, fmt.Sprint("good-", i)))
	}
	w.clock.advance(day(24))
	for i := range 20 {
		doomed = append(doomed, w.doom(t, fmt.Sprint("doomed-", i)))
	}
	w.clock.advance(day(7))
	w.hsm.hook = func(a *answer) {
		if a.op == "make" && bad[w.hsm.made[len(w.hsm.made)-1].ID] {
			a.sealed.Protection = "trust me"
		}
	}
	w.RunDue(admin)
	for _, id := range good {
		if len(w.stored(t, id).Versions) != 2 {
			t.Fatal("a good key was not rotated")
		}
	}
	for _, id := range doomed {
		if _, err := w.store.Store.Key(admin, id); !is(err, kms.CodeNotFound) {
			t.Fatal("a key was not destroyed")
		}
	}
	for id := range bad {
		if len(w.stored(t, id).Versions) != 1 {
			t.Fatal("a bad answer was stored")
		}
	}
}

// TestRotationWithoutHSM holds that while the HSM is away it is not asked for every key, and that keys are still destroyed.
func TestRotationWithoutHSM(t *testing.T) {
	w := newWorld(t, kms.Limits{Keys: 1000})
	for i := range 100 {
		w.turn(t, fmt.Sprint("key-", i))
	}
	w.clock.advance(day(24))
	doomed := w.doom(t, "doomed")
	w.clock.advance(day(7))
	w.hsm.made, w.hsm.down = nil, kms.Errorf(kms.CodeKeyUnavailable, "the HSM is not available")
	for range 60 { // seconds
		w.RunDue(admin)
		w.clock.advance(time.Second)
	}
	if n := len(w.hsm.made); n < 4 || n > 8 {
		t.Errorf("in a minute the HSM was asked %d times", n)
	}
	if _, err := w.store.Store.Key(admin, doomed); !is(err, kms.CodeNotFound) {
		t.Errorf("a key is not destroyed while the HSM is away (%v)", err)
	}
	w.hsm.down = nil
	for range 300 {
		w.RunDue(admin)
		w.clock.advance(time.Second)
	}
	if n := len(w.audit.outcomes(policy.OpRotateKey)); n < 100 {
		t.Errorf("only %d keys were rotated after it", n)
	}
	if next := w.RunDue(admin); next.Before(w.clock.Now().Add(day(20))) {
		t.Errorf("there is still a key to rotate, at %s", next)
	}
}

// TestStoreFails holds that keys whose destruction or rotation cannot be stored are dealt with later.
func TestStoreFails(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	doomed, turning := w.doom(t, "doomed"), w.turn(t, "turning")
	w.clock.advance(day(31))
	w.store.noDestroy = errors.New("disk full")
	w.store.beforeUpdate = func() { w.store.down = errors.New("disk full") }
	w.RunDue(admin)
	w.store.noDestroy, w.store.down, w.store.beforeUpdate = nil, nil, nil
	w.stored(t, doomed)
	w.wantOutcomes(t, policy.OpDestroyKey, "begun", "Internal")
	w.clock.advance(2 * time.Second)
	w.RunDue(admin)
	if _, err := w.store.Store.Key(admin, doomed); !is(err, kms.CodeNotFound) || len(w.stored(t, turning).Versions) != 2 {
		t.Errorf("what failed was not made up for (%v)", err)
	}
}

// TestMaterialStaysInFiles holds that a destruction that could not clear the files has that on record beside its change, and
// that the store is asked again until it could.
func TestMaterialStaysInFiles(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.doom(t, "key")
	w.clock.advance(day(8))
	w.store.noPurge = errors.New("disk full")
	next := w.RunDue(admin)
	if _, err := w.store.Store.Key(admin, id); !is(err, kms.CodeNotFound) {
		t.Errorf("the key is still there (%v)", err)
	}
	w.wantOutcomes(t, policy.OpDestroyKey, "begun", "ok", "Internal")
	asked := 0
	w.store.beforeUpdate = func() { asked++ }
	for _, wait := range []time.Duration{1, 2, 4} {
		if got := next.Sub(w.clock.Now()).Round(100 * time.Millisecond); got != wait*time.Second {
			t.Errorf("it is tried again in %s, want %d s", got, wait)
		}
		w.RunDue(admin)
		w.clock.advance(wait * time.Second)
		next = w.RunDue(admin)
	}
	w.store.noPurge = nil
	w.clock.advance(8 * time.Second)
	for range 3 {
		if next = w.RunDue(admin); !next.IsZero() {
			t.Errorf("something is due at %s", next)
		}
	}
	if asked != 4 {
		t.Errorf("the store was asked %d times", asked)
	}
}

// TestClockJumps holds that a clock set back neither repeats an act nor blocks a retry, and that one set forward only
// brings forward what it passes.
func TestClockJumps(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.turn(t, "key")
	w.clock.advance(day(31))
	w.RunDue(admin)
	w.clock.advance(-day(31))
	w.RunDue(admin)
	w.clock.advance(day(31))
	w.RunDue(admin)
	if n := len(w.stored(t, id).Versions); n != 2 {
		t.Fatalf("after a jump forth and back the key has %d versions", n)
	}
	w.clock.advance(day(30))
	w.hsm.down = kms.Errorf(kms.CodeKeyUnavailable, "the HSM is not available")
	w.clock.advance(day(10))
	w.RunDue(admin)
	w.hsm.down = nil
	w.clock.advance(-day(5)) // the retry is now days ahead, and the key still due
	w.RunDue(admin)
	if n := len(w.stored(t, id).Versions); n != 3 {
		t.Errorf("a retry waits for a clock that was set back: %d versions", n)
	}
}

// TestCatchUp holds that what came due while nothing ran is done by the next service, in one go.
func TestCatchUp(t *testing.T) {
	w := newWorld(t, kms.Limits{Keys: 1000})
	var doomed, turning []kms.KeyID
	for i := range 50 {
		doomed = append(doomed, w.doom(t, fmt.Sprint("doomed-", i)))
		turning = append(turning, w.turn(t, fmt.Sprint("turning-", i)))
	}
	w.clock.advance(day(31))
	w.restart(t, kms.Limits{}).RunDue(admin)
	for i := range doomed {
		if _, err := w.store.Store.Key(admin, doomed[i]); !is(err, kms.CodeNotFound) || len(w.stored(t, turning[i]).Versions) != 2 {
			t.Fatalf("pair %d was not caught up with (%v)", i, err)
		}
	}
}

// TestSchedule holds that the loop acts when the time comes, to the second, that it finds out within a second what became
// due by a change or by a clock that was set, and that it ends when it is told to.
func TestSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kms.Limits{})
		w.clock.now = time.Now()
		clock := &skewedClock{}
		s, err := kms.New(kms.Config{Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		doomed, turning := w.doom(t, "doomed"), w.turn(t, "turning")
		w.set(doomed, func(k *kms.Key) { k.DeletionAt = time.Now().Add(2500 * time.Millisecond) })
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			s.Schedule(ctx)
			close(ended)
		}()
		at := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		at(2490 * time.Millisecond)
		w.stored(t, doomed)
		at(20 * time.Millisecond)
		if _, err := w.store.Store.Key(ctx, doomed); !is(err, kms.CodeNotFound) {
			t.Errorf("not destroyed on time: %v", err)
		}
		clock.skew.Store(int64(day(30)))
		at(time.Second)
		if n := len(w.stored(t, turning).Versions); n != 2 {
			t.Errorf("a second after the clock was set, the key has %d versions", n)
		}
		w.set(turning, func(k *kms.Key) { k.Rotation.Next = clock.Now() })
		at(time.Second)
		if n := len(w.stored(t, turning).Versions); n != 3 {
			t.Errorf("a second after it became due, the key has %d versions", n)
		}
		cancel()
		<-ended
	})
}

// skewedClock is the system's, set wrong.
type skewedClock struct{ skew atomic.Int64 }

func (c *skewedClock) Now() time.Time { return time.Now().Add(time.Duration(c.skew.Load())) }
