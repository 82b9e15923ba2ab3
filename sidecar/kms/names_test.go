package kms_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// nameTexts are the names that TestNamesKeepTheirMeaning gives to keys and asks for: few, so that they meet.
var nameTexts = []string{"x", "alias/x", "alias/alias/x", "y", "alias/y", "alias/alias/alias/x", "z"}

// TestNamesKeepTheirMeaning holds that a new name of a key, whether its own alias or a further one, never changes which key an
// existing name stands for, whatever names there are, that a refusal changes nothing, and that no name is refused without need.
func TestNamesKeepTheirMeaning(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, kms.Limits{})
		var ids []kms.KeyID
		own, further := map[kms.KeyID]string{}, map[string]kms.KeyID{}
		meanings := func() map[string]kms.KeyID {
			all := map[string]kms.KeyID{}
			for _, name := range nameTexts {
				if id, err := w.Resolve(admin, policy.OpDescribeKey, name); err == nil {
					all[name] = id
				} else if !is(err, kms.CodeNotFound) {
					rt.Fatal(err)
				}
			}
			return all
		}
		taken := func(name string, id kms.KeyID, moved bool) bool {
			for other, owner := range further {
				if owner != id && !(moved && other == name) && slices.Contains(kms.SameNames(name), other) {
					return true
				}
			}
			for owner, other := range own {
				if owner != id && slices.Contains(kms.SameNames(name), other) {
					return true
				}
			}
			return false
		}
		// give does what gives a key a name, zero for a new one. Names that the key had, or that moved, may lose their meaning.
		give := func(name string, id kms.KeyID, moved bool, do func() error) bool {
			before, refuse := meanings(), taken(name, id, moved)
			err := do()
			if is(err, "AlreadyExists/alias") != refuse || err != nil && !refuse {
				rt.Fatalf("%s for %s: %v, and it is another key's: %v", name, id, err, refuse)
			}
			after := meanings()
			if err != nil && !maps.Equal(before, after) {
				rt.Fatalf("the refusal of %s changes names from %v to %v", name, before, after)
			}
			for known, is := range after {
				if was, existed := before[known]; existed && was != is && !(moved && is == id) {
					rt.Fatalf("%s for %s: %s stood for %s and stands for %s", name, id, known, was, is)
				}
			}
			return err == nil
		}
		draw := func() string { return rapid.SampledFrom(nameTexts).Draw(rt, "name") }
		key := func() kms.KeyID {
			if len(ids) == 0 {
				rt.Skip("no keys yet")
			}
			return rapid.SampledFrom(ids).Draw(rt, "key")
		}
		rt.Repeat(map[string]func(*rapid.T){
			"create": func(*rapid.T) {
				name := draw()
				give(name, kms.KeyID{}, false, func() error {
					k, err := w.CreateKey(admin, kms.CreateKeyInput{Alias: name})
					if err == nil {
						ids, own[k.ID] = append(ids, k.ID), name
					}
					return err
				})
			},
			"rename": func(*rapid.T) {
				name, id := draw(), key()
				if own[id] != name && give(name, id, false, func() error { _, err := w.UpdateAlias(admin, id, name); return err }) {
					own[id] = name
				}
			},
			"create alias": func(*rapid.T) {
				name, id := draw(), key()
				if further[name] != (kms.KeyID{}) {
					return
				}
				if give(name, id, false, func() error { _, err := w.CreateAlias(admin, id, name); return err }) {
					further[name] = id
				}
			},
			"move alias": func(*rapid.T) {
				name, id := draw(), key()
				if further[name] == (kms.KeyID{}) {
					return
				}
				if give(name, id, true, func() error { _, err := w.AssociateAlias(admin, name, id); return err }) {
					further[name] = id
				}
			},
			"delete alias": func(*rapid.T) {
				name := draw()
				if id := further[name]; id != (kms.KeyID{}) {
					wantCode(t, w.DeleteAliases(admin, id, []string{name}), "ok")
					delete(further, name)
				}
			},
			"": func(*rapid.T) {},
		})
	})
}

// TestAliasLikeAnID holds that no key gets the id of another as its name.
func TestAliasLikeAnID(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	a, b := w.create(t, kms.CreateKeyInput{Alias: "a"}).ID, w.create(t, kms.CreateKeyInput{Alias: "b"}).ID
	_, err := w.CreateKey(admin, kms.CreateKeyInput{Alias: a.String()})
	wantCode(t, err, "AlreadyExists/alias")
	_, err = w.UpdateAlias(admin, b, a.String())
	wantCode(t, err, "AlreadyExists/alias")
	_, err = w.CreateAlias(admin, b, a.String())
	wantCode(t, err, "AlreadyExists/alias")
	_, err = w.CreateAlias(admin, b, uuid.NewString())
	wantCode(t, err, "ok")
}

// TestCanIByName holds that can-i finds a key by the same names as the operation itself.
func TestCanIByName(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{Alias: "own"}).ID
	_, err := w.CreateAlias(admin, id, "alias/further")
	wantCode(t, err, "ok")
	_, err = w.CreateGrant(admin, kms.CreateGrantInput{KeyID: id, Grantee: "app", Operations: []policy.Operation{policy.OpEncryptData}})
	wantCode(t, err, "ok")
	for name, want := range map[string]bool{
		"own": true, "alias/own": true, "further": true, "alias/further": true, id.String(): true, "nothing": false, "alias/alias/own": false,
	} {
		out, err := w.CanI(user, kms.CanIInput{Operation: policy.OpEncryptData, Key: name})
		wantCode(t, err, "ok")
		_, found := w.Resolve(user, policy.OpEncryptData, name)
		if out.Decision.Allow != want || name != id.String() && (found == nil) != want {
			t.Errorf("%s: can-i says %v, and the operation finds it: %v", name, out.Decision.Allow, found)
		}
	}
}
