package store

import (
	"slices"
	"testing"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestConflictingNames holds that names of several keys in a database of an earlier version stay what they are, that they are found,
// and that they are found no more once one of them is gone.
func TestConflictingNames(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	a, b, c := newKey("x"), newKey("alias/y"), newKey("z")
	for _, k := range []*kms.Key{a, b, c} {
		if err := s.CreateKey(ctx, k, 10); err != nil {
			t.Fatal(err)
		}
	}
	// What earlier versions allowed.
	if err := s.change(ctx, func(txn *transaction) error {
		if err := writeAlias(txn, &kms.Alias{Name: "alias/x", KeyID: b.ID}); err != nil {
			return err
		}
		return writeAlias(txn, &kms.Alias{Name: "z", KeyID: a.ID})
	}, func() {}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, Options{Dir: dir})
	if got := s.ConflictingNames(); len(got) != 3 {
		t.Errorf("keys with conflicts: %v", got)
	}
	want := map[kms.KeyID][]kms.NameConflict{
		a.ID: {{Name: "x", KeyID: a.ID, Same: "alias/x", Other: b.ID}, {Name: "z", KeyID: a.ID, Same: "z", Other: c.ID}},
		b.ID: {{Name: "alias/x", KeyID: b.ID, Same: "x", Other: a.ID}},
		c.ID: {{Name: "z", KeyID: c.ID, Same: "z", Other: a.ID}},
	}
	for id, want := range want {
		if got, err := s.NameConflicts(ctx, id); err != nil || !slices.Equal(got, want) {
			t.Errorf("conflicts of %s: %+v (%v), want %+v", id, got, err, want)
		}
	}
	if alias, err := s.Alias(ctx, "z"); err != nil || alias.KeyID != a.ID {
		t.Errorf("z is %+v (%v)", alias, err)
	}
	if _, err := s.UpdateKey(ctx, c.ID, func(k *kms.Key) error { k.Alias = "free"; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteAliases(ctx, b.ID, []string{"alias/x"}); err != nil {
		t.Fatal(err)
	}
	for id := range want {
		if got, err := s.NameConflicts(ctx, id); err != nil || len(got) != 0 {
			t.Errorf("resolved conflicts of %s: %+v (%v)", id, got, err)
		}
	}
	s.Close()
	if s = open(t, Options{Dir: dir}); len(s.ConflictingNames()) != 0 {
		t.Errorf("after a restart: %v", s.ConflictingNames())
	}
}
