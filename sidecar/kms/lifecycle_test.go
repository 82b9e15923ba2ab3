package kms_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestDeletion holds the wait's bounds, what a key is meanwhile, and what it is when the deletion is canceled.
func TestDeletion(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	for _, days := range []int{-1, 0, 6, 1097} {
		_, err := w.ScheduleKeyDeletion(admin, id, days)
		wantCode(t, err, invalidWait)
	}
	for name, c := range map[string]struct {
		in    kms.CreateKeyInput
		days  int
		after kms.KeyState // when the deletion is canceled
	}{
		"enabled":       {kms.CreateKeyInput{}, 7, kms.Disabled},
		"disabled":      {kms.CreateKeyInput{Description: "disabled"}, 1096, kms.Disabled},
		"signs":         {kms.CreateKeyInput{Spec: kms.ECP256}, 8, kms.Disabled},
		"without":       {kms.CreateKeyInput{Origin: kms.OriginExternal}, 7, kms.PendingImport},
		"with material": {kms.CreateKeyInput{Origin: kms.OriginExternal, Description: "imported"}, 7, kms.Disabled},
	} {
		t.Run(name, func(t *testing.T) {
			c.in.Alias = strings.ReplaceAll(name, " ", "-")
			id := w.create(t, c.in).ID
			w.set(id, func(k *kms.Key) {
				if c.in.Description == "disabled" {
					k.State = kms.Disabled
				}
				if c.in.Description == "imported" {
					k.Versions, k.State = []kms.KeyVersion{{Number: 1, Sealed: []byte("x")}}, kms.Enabled
				}
			})
			before := w.clock.Now()
			key, err := w.ScheduleKeyDeletion(admin, id, c.days)
			wantCode(t, err, "ok")
			if wait := key.DeletionAt.Sub(before); key.State != kms.PendingDeletion || wait < day(c.days) || wait > day(c.days)+time.Second {
				t.Errorf("key is %s and will be destroyed in %s", key.State, wait)
			}
			_, err = w.ScheduleKeyDeletion(admin, id, 7)
			wantCode(t, err, kms.CodeKeyPendingDeletion)
			_, err = w.UpdateAlias(admin, id, "other")
			wantCode(t, err, kms.CodeKeyPendingDeletion)
			key, err = w.CancelKeyDeletion(admin, id)
			wantCode(t, err, "ok")
			if key.State != c.after || !key.DeletionAt.IsZero() {
				t.Errorf("canceled, it is %s and its time %s", key.State, key.DeletionAt)
			}
			_, err = w.CancelKeyDeletion(admin, id)
			wantCode(t, err, kms.CodeKeyNotPendingDeletion)
		})
	}
}

// TestRename holds which names a key can get, and that it is then found under the new one alone.
func TestRename(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, other := w.create(t, kms.CreateKeyInput{Alias: "key"}), w.create(t, kms.CreateKeyInput{Alias: "other"})
	for alias, want := range map[string]kms.Code{
		"": invalidAlias, "a b": invalidAlias, strings.Repeat("a", 256): invalidAlias,
		"obs/default": invalidAlias, "other": kms.CodeAlreadyExists, "key": "ok",
	} {
		_, err := w.UpdateAlias(admin, key.ID, alias)
		wantCode(t, err, want)
	}
	renamed, err := w.UpdateAlias(admin, key.ID, "renamed")
	wantCode(t, err, "ok")
	if renamed.Alias != "renamed" || renamed.CreatedAt != key.CreatedAt || len(renamed.Versions) != 1 {
		t.Errorf("renamed, the key is %+v", renamed)
	}
	_, err = w.UpdateAlias(admin, other.ID, "key") // free again
	wantCode(t, err, "ok")
	for text, want := range map[string]kms.Code{
		"": "ok", strings.Repeat("ü", 255): "ok", strings.Repeat("ü", 256): invalidDescription, "\xff": invalidDescription,
	} {
		described, err := w.UpdateDescription(admin, key.ID, text)
		wantCode(t, err, want)
		if err == nil && described.Description != text {
			t.Errorf("description is %q, want %q", described.Description, text)
		}
	}
}

// TestQuotas holds what is counted: default keys are not, keys that wait for their deletion are.
func TestQuotas(t *testing.T) {
	w := newWorld(t, kms.Limits{Keys: 3, Grants: 5})
	w.create(t, kms.CreateKeyInput{Alias: "a"})
	_, err := w.ScheduleKeyDeletion(admin, w.create(t, kms.CreateKeyInput{Alias: "b"}).ID, 7)
	wantCode(t, err, "ok")
	w.defaultKey(t, "obs")
	usage, err := w.Quotas(admin)
	wantCode(t, err, "ok")
	if want := (kms.Usage{Keys: 2, KeyLimit: 3, Grants: 5}); *usage != want {
		t.Errorf("quotas are %+v, want %+v", *usage, want)
	}
	if n, err := w.CountKeys(admin); n != 2 || err != nil {
		t.Errorf("%d keys (%v), want 2", n, err)
	}
}
