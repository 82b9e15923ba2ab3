package kms_test

import (
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestRotationPlan holds which intervals there are, when a period begins, and what is left of a plan that was ended.
func TestRotationPlan(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	next := func(key *kms.Key, err error) time.Duration {
		t.Helper()
		wantCode(t, err, "ok")
		return key.Rotation.Next.Sub(w.clock.Now()).Round(time.Minute)
	}
	for _, interval := range []int{-1, 1, 29, 366} {
		_, err := w.EnableRotation(admin, id, interval)
		wantCode(t, err, invalidInterval)
		_, err = w.UpdateRotation(admin, id, interval)
		wantCode(t, err, invalidInterval)
	}
	_, err := w.UpdateRotation(admin, id, 0)
	wantCode(t, err, invalidInterval)
	if got := next(w.EnableRotation(admin, id, 0)); got != day(365) {
		t.Errorf("by default the first rotation is in %s", got)
	}
	_, err = w.EnableRotation(admin, id, 30)
	wantCode(t, err, kms.CodeRotationEnabled)
	w.clock.advance(day(20))
	if got := next(w.UpdateRotation(admin, id, 30)); got != day(30) {
		t.Errorf("the new period ends in %s", got)
	}
	key, err := w.DisableRotation(admin, id)
	wantCode(t, err, "ok")
	if p := key.Rotation; p.Enabled || !p.Next.IsZero() || p.Interval != 30 {
		t.Errorf("ended, the plan is %+v", p)
	}
	_, err = w.DisableRotation(admin, id)
	wantCode(t, err, kms.CodeRotationDisabled)
	if got := next(w.EnableRotation(admin, id, 0)); got != day(365) {
		t.Errorf("a new plan does not begin with the default, but with %s", got)
	}
}

// TestRotationOfOtherKeys holds that an imported key is not rotated, with or without material, and that the status of a
// key that cannot be rotated is no error.
func TestRotationOfOtherKeys(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	empty := w.create(t, kms.CreateKeyInput{Alias: "empty", Origin: kms.OriginExternal})
	imported := w.create(t, kms.CreateKeyInput{Alias: "imported", Origin: kms.OriginExternal})
	w.set(imported.ID, func(k *kms.Key) {
		k.Versions, k.State = []kms.KeyVersion{{Number: 1, Sealed: []byte("x")}}, kms.Enabled
	})
	for id, want := range map[kms.KeyID]kms.Code{
		empty.ID:    isExternal,
		imported.ID: isExternal,
		w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048}).ID:                                         isAsymmetric,
		w.create(t, kms.CreateKeyInput{Alias: "d", Spec: kms.RSA2048, Usage: kms.EncryptDecrypt}).ID:  isAsymmetric,
		w.create(t, kms.CreateKeyInput{Alias: "agree", Spec: kms.ECP256, Usage: kms.KeyAgreement}).ID: isAsymmetric,
		w.create(t, kms.CreateKeyInput{Alias: "mac", Spec: kms.HMAC256}).ID:                           isMAC,
		w.defaultKey(t, "obs"): kms.CodeServiceKey,
	} {
		_, err := w.EnableRotation(admin, id, 0)
		wantCode(t, err, want)
		key, err := w.RotationStatus(admin, id)
		wantCode(t, err, "ok")
		if key.Rotation != (kms.Rotation{}) {
			t.Errorf("rotation of %s is shown as %+v", key.Alias, key.Rotation)
		}
	}
}

// TestRotation holds that a key that is due gets one new version, that old ciphertexts open, and how the plan goes on.
func TestRotation(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	old := w.encrypt(t, id)
	key, err := w.EnableRotation(admin, id, 30)
	wantCode(t, err, "ok")
	first := key.Rotation.Next
	w.clock.advance(day(30) - time.Second)
	if got := w.RunDue(admin); !got.Equal(first) {
		t.Errorf("next is %s, want %s", got, first)
	}
	if key := w.stored(t, id); len(key.Versions) != 1 {
		t.Fatal("key was rotated before its time")
	}
	w.clock.advance(2 * time.Second)
	if got, want := w.RunDue(admin), first.Add(day(30)); !got.Equal(want) {
		t.Errorf("next is %s, want %s", got, want)
	}
	key = w.stored(t, id)
	if p := key.Rotation; len(key.Versions) != 2 || p.Count != 1 || p.Last.Before(first) || p.Last != key.Versions[1].CreatedAt ||
		!p.Next.Equal(first.Add(day(30))) || key.Versions[1].Number != 2 {
		t.Errorf("rotated, the key is %+v", key)
	}
	rec := w.audit.last(t)
	if rec.Operation != "rotate-key" || rec.Principal != "scheduler" || rec.By != "schedule" || rec.Outcome != "ok" ||
		rec.KeyID != id.String() || rec.Version != 2 || rec.RequestID == "" || rec.Decision != "allow" {
		t.Errorf("audited as %+v", rec)
	}
	young := w.encrypt(t, id)
	if version(old) != 1 || version(young) != 2 {
		t.Errorf("versions %d and %d encrypted", version(old), version(young))
	}
	w.opens(t, old, young)
}

// TestMissedRotations holds that a key that missed many periods is rotated once, and then a whole period later.
func TestMissedRotations(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	_, err := w.EnableRotation(admin, id, 30)
	wantCode(t, err, "ok")
	w.clock.advance(day(400))
	w.Service = w.restart(t, kms.Limits{})
	for range 3 {
		next := w.RunDue(admin)
		key := w.stored(t, id)
		if len(key.Versions) != 2 || !next.Equal(key.Rotation.Next) || next.Sub(key.Rotation.Last) != day(30) {
			t.Fatalf("after a long absence the key is %+v", key)
		}
	}
}

// TestRotationWaits holds that keys that are disabled or wait for their deletion keep their plan and are not rotated, and
// that one that is overdue when it is enabled again is rotated at once (table 2-12).
func TestRotationWaits(t *testing.T) {
	for name, c := range map[string]struct {
		away     time.Duration
		leave    func(*world, kms.KeyID) error
		versions int
	}{
		"disabled, overdue":  {day(31), func(w *world, id kms.KeyID) error { _, err := w.DisableKey(admin, id); return err }, 2},
		"disabled, in time":  {day(29), func(w *world, id kms.KeyID) error { _, err := w.DisableKey(admin, id); return err }, 1},
		"deletion, overdue":  {day(31), func(w *world, id kms.KeyID) error { _, err := w.ScheduleKeyDeletion(admin, id, 40); return err }, 2},
		"deletion, in time":  {day(29), func(w *world, id kms.KeyID) error { _, err := w.ScheduleKeyDeletion(admin, id, 40); return err }, 1},
		"disabled very long": {day(3000), func(w *world, id kms.KeyID) error { _, err := w.DisableKey(admin, id); return err }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, kms.Limits{})
			id := w.create(t, kms.CreateKeyInput{}).ID
			key, err := w.EnableRotation(admin, id, 30)
			wantCode(t, err, "ok")
			schedule := key.Rotation
			wantCode(t, c.leave(w, id), "ok")
			w.clock.advance(c.away)
			w.RunDue(admin)
			if key := w.stored(t, id); len(key.Versions) != 1 || key.Rotation != schedule {
				t.Fatalf("meanwhile the key became %+v", key)
			}
			if w.stored(t, id).State == kms.PendingDeletion {
				_, err := w.CancelKeyDeletion(admin, id)
				wantCode(t, err, "ok")
			}
			_, err = w.EnableKey(admin, id)
			wantCode(t, err, "ok")
			w.RunDue(admin)
			if key := w.stored(t, id); len(key.Versions) != c.versions || (c.versions == 1 && key.Rotation != schedule) {
				t.Errorf("enabled again, the key is %+v", key)
			}
		})
	}
}

// TestRotationAfterWrongClock holds that what was planned or rotated by a clock that was far ahead is due as configured
// once the clock is right again, with or without a restart, and that other plans stay as they are.
func TestRotationAfterWrongClock(t *testing.T) {
	for name, restart := range map[string]bool{"clock set back": false, "restart": true} {
		w := newWorld(t, kms.Limits{})
		turned, long := w.turn(t, "turned"), w.turn(t, "long")
		_, err := w.UpdateRotation(admin, long, 365)
		wantCode(t, err, "ok")
		doomed := w.doom(t, "doomed")
		_, err = w.CancelKeyDeletion(admin, doomed)
		wantCode(t, err, "ok")
		right := w.stored(t, long).Rotation.Next
		w.RunDue(admin)

		w.clock.advance(day(200)) // turned is rotated by it, late is planned by it
		w.RunDue(admin)
		late := w.turn(t, "late")
		w.RunDue(admin)
		w.clock.advance(-day(190))
		service := w.Service
		if restart {
			service = w.restart(t, kms.Limits{})
		}
		service.RunDue(admin)
		want := w.clock.Now().Add(day(30))
		for _, id := range []kms.KeyID{turned, late} {
			if next := w.stored(t, id).Rotation.Next; next.After(want) || next.Before(want.Add(-time.Hour)) {
				t.Errorf("%s: %s is due %s, want %s", name, w.stored(t, id).Alias, next, want)
			}
		}
		if next := w.stored(t, long).Rotation.Next; !next.Equal(right) {
			t.Errorf("%s: a plan that was right became %s, was %s", name, next, right)
		}
		w.clock.advance(day(31))
		service.RunDue(admin)
		if n := w.stored(t, turned).Rotation.Count; n != 2 {
			t.Errorf("%s: rotated %d times, want 2", name, n)
		}
	}
}
