package kms_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestForgedGrants holds that a start finds every grant that was not made here as it is, whatever was changed in it, moved to
// another key or made up, and takes those that were.
func TestForgedGrants(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, other := w.create(t, kms.CreateKeyInput{Alias: "a"}), w.create(t, kms.CreateKeyInput{Alias: "b"})
	made, err := w.CreateGrant(admin, kms.CreateGrantInput{
		KeyID: key.ID, Grantee: "app", Name: "n", Retiring: "other",
		Operations:  []policy.Operation{policy.OpEncryptData, policy.OpDescribeKey},
		Constraints: policy.Constraints{Context: map[string]string{"a": "b"}, Expires: w.clock.Now().Add(time.Hour), Source: "uid:7"},
	})
	wantCode(t, err, "ok")
	check := func() error { return w.restart(t, kms.Limits{}).CheckGrants(admin) }
	if err := check(); err != nil {
		t.Errorf("a grant that was made here: %v", err)
	}
	changes := map[string]func(*policy.Grant){
		"id":         func(g *policy.Grant) { g.ID = strings.Repeat("0", 64) },
		"name":       func(g *policy.Grant) { g.Name = "m" },
		"key":        func(g *policy.Grant) { g.Key = other.ID },
		"grantee":    func(g *policy.Grant) { g.Grantee = "third" },
		"account":    func(g *policy.Grant) { g.Account = true },
		"operations": func(g *policy.Grant) { g.Operations = []policy.Operation{policy.OpDecryptData, policy.OpDescribeKey} },
		"fewer":      func(g *policy.Grant) { g.Operations = g.Operations[:1] },
		"retiring":   func(g *policy.Grant) { g.Retiring = "" },
		"issuer":     func(g *policy.Grant) { g.Issuer = "third" },
		"parent":     func(g *policy.Grant) { g.Parent = g.ID },
		"context":    func(g *policy.Grant) { g.Constraints.Context = map[string]string{"a": "c"} },
		"no context": func(g *policy.Grant) { g.Constraints.Context = nil },
		"exact":      func(g *policy.Grant) { g.Constraints.Exact = true },
		"expires":    func(g *policy.Grant) { g.Constraints.Expires = g.Constraints.Expires.Add(time.Hour) },
		"never":      func(g *policy.Grant) { g.Constraints.Expires = time.Time{} },
		"source":     func(g *policy.Grant) { g.Constraints.Source = "uid:8" },
		"seal":       func(g *policy.Grant) { g.Seal[0] ^= 1 },
		"made up":    func(g *policy.Grant) { g.Seal = [32]byte{} },
		"two texts":  func(g *policy.Grant) { g.Grantee, g.Retiring = "appo", "ther" },
	}
	for name, change := range changes {
		forged := *made
		change(&forged)
		if forged.Key != made.Key {
			w.forgeNone(t, made.Key)
		}
		w.onlyGrant(t, &forged)
		if err := check(); err == nil || !strings.Contains(err.Error(), forged.ID) || !strings.Contains(err.Error(), "restore the database") {
			t.Errorf("%s: %v", name, err)
		}
		w.forgeNone(t, forged.Key)
	}
	w.onlyGrant(t, made)
	if err := check(); err != nil {
		t.Errorf("the grant in its place again: %v", err)
	}
	// A field that is added to grants must be sealed, and tried here; only when a grant was made is not.
	fields := reflect.TypeFor[policy.Grant]().NumField() + reflect.TypeFor[policy.Constraints]().NumField() - 1
	if want := 15; fields != want {
		t.Errorf("grants have %d fields, and what is sealed was written for %d", fields, want)
	}
}

func (w *world) forgeNone(t *testing.T, id kms.KeyID) {
	t.Helper()
	if err := w.store.ChangeGrants(admin, id, func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error) { return nil, nil }); err != nil {
		t.Fatal(err)
	}
}

// TestGrantNeedsHSM holds that no grant is made that cannot be sealed, and that one can be taken away without the HSM.
func TestGrantNeedsHSM(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	in := kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: []policy.Operation{policy.OpEncryptData}}
	made, err := w.CreateGrant(admin, in)
	wantCode(t, err, "ok")
	for name, mac := range map[string][]byte{"no answer": nil, "short": make([]byte, 31), "zeros": make([]byte, 32)} {
		w.hsm.hook = func(a *answer) {
			if a.op == "tenant-mac" {
				a.output = mac
			}
		}
		if _, err := w.CreateGrant(admin, in); kms.AsError(err).Code != kms.CodeInternal {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantCode(t, w.RevokeGrant(admin, key.ID, made.ID), "ok")
	if n := len(w.store.Grants(key.ID)); n != 0 {
		t.Errorf("%d grants", n)
	}
}

// BenchmarkCheckGrants is the work of a start for each grant, but for the HSM's own.
func BenchmarkCheckGrants(b *testing.B) {
	w := newWorld(b, kms.Limits{Grants: 1000})
	key := w.create(b, kms.CreateKeyInput{})
	for i := range 1000 {
		_, err := w.CreateGrant(admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Name: fmt.Sprint(i), Operations: []policy.Operation{policy.OpEncryptData}})
		wantCode(b, err, "ok")
	}
	for b.Loop() {
		if err := w.CheckGrants(admin); err != nil {
			b.Fatal(err)
		}
	}
}
