package kms_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestAliases holds which names aliases can have, that each names one key, and how they are moved and removed.
func TestAliases(t *testing.T) {
	w := newWorld(t, kms.Limits{Aliases: 3})
	a, b := w.create(t, kms.CreateKeyInput{Alias: "a"}).ID, w.create(t, kms.CreateKeyInput{Alias: "b"}).ID
	for _, c := range []struct {
		name string
		want kms.Code
	}{
		{"alias/one", "ok"}, {"two", "ok"}, {"alias/one", kms.CodeAlreadyExists}, {"", invalidAlias},
		{"with space", invalidAlias}, {strings.Repeat("a", 256), invalidAlias},
		{"alias/x/default", invalidAlias}, {"a", "ok"}, {"four", kms.CodeQuotaExceeded},
	} {
		before := w.clock.Now()
		alias, err := w.CreateAlias(admin, a, c.name)
		wantCode(t, err, c.want)
		if err == nil && (alias.Name != c.name || alias.KeyID != a || alias.CreatedAt.Before(before.Truncate(time.Millisecond)) ||
			alias.UpdatedAt != alias.CreatedAt) {
			t.Errorf("alias is %+v", alias)
		}
	}
	created := w.aliases(t, nil)
	alias, err := w.AssociateAlias(admin, "two", b)
	wantCode(t, err, "ok")
	if alias.KeyID != b || !alias.UpdatedAt.After(alias.CreatedAt) {
		t.Errorf("moved, it is %+v", alias)
	}
	_, err = w.AssociateAlias(admin, "nothing", b)
	wantCode(t, err, kms.CodeNotFound)
	for _, c := range []struct {
		id    kms.KeyID
		names []string
		want  kms.Code
	}{
		{a, nil, kms.CodeInvalidRequest}, {a, []string{"alias/one", "two"}, kms.CodeNotFound}, {a, []string{"a b"}, invalidAlias},
		{a, slices.Repeat([]string{"alias/one", "a"}, 40), "ok"}, {a, []string{"a"}, kms.CodeNotFound}, {b, []string{"two"}, "ok"},
	} {
		wantCode(t, w.DeleteAliases(admin, c.id, c.names), c.want)
	}
	if left := w.aliases(t, nil); len(created) != 3 || len(left) != 0 {
		t.Errorf("there were aliases %v, and %v are left", created, left)
	}
}

// aliases returns the names of aliases, read by pages of two.
func (w *world) aliases(t testing.TB, of *kms.KeyID) (names []string) {
	t.Helper()
	in := kms.ListAliasesInput{KeyID: of, Limit: 2}
	for {
		page, err := w.ListAliases(admin, in)
		wantCode(t, err, "ok")
		for _, a := range page.Aliases {
			names = append(names, a.Name)
		}
		if in.After = page.Next; in.After == "" {
			return names
		}
	}
}

// TestListAliases holds pages and their limits.
func TestListAliases(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	a, b := w.create(t, kms.CreateKeyInput{Alias: "a"}).ID, w.create(t, kms.CreateKeyInput{Alias: "b"}).ID
	var all, ofA []string
	for i := range 9 {
		name, id := fmt.Sprint("alias-", i), b
		if i%3 == 0 {
			id = a
			ofA = append(ofA, name)
		}
		all = append(all, name)
		_, err := w.CreateAlias(admin, id, name)
		wantCode(t, err, "ok")
	}
	if got := w.aliases(t, nil); !slices.Equal(got, all) {
		t.Errorf("aliases are %v", got)
	}
	if got := w.aliases(t, &a); !slices.Equal(got, ofA) {
		t.Errorf("aliases of a key are %v", got)
	}
	for _, c := range []struct {
		in   kms.ListAliasesInput
		want kms.Code
	}{
		{kms.ListAliasesInput{Limit: -1}, invalidLimit}, {kms.ListAliasesInput{Limit: 1001}, invalidLimit},
		{kms.ListAliasesInput{Limit: 1000}, "ok"}, {kms.ListAliasesInput{KeyID: new(kms.KeyID)}, kms.CodeNotFound},
	} {
		_, err := w.ListAliases(admin, c.in)
		wantCode(t, err, c.want)
	}
}

// TestResolve holds which names stand for a key: its own alias and its further ones as they were created, and with the prefix or
// without it.
func TestResolve(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, other := w.create(t, kms.CreateKeyInput{Alias: "key"}).ID, w.create(t, kms.CreateKeyInput{Alias: "other"}).ID
	for name, id := range map[string]kms.KeyID{"alias/with": key, "without": key, "both": other, "alias/both": other} {
		_, err := w.CreateAlias(admin, id, name)
		wantCode(t, err, "ok")
	}
	records := len(w.audit.records)
	for name, want := range map[string]kms.KeyID{
		"alias/with": key, "with": key, "without": key, "alias/without": key, "both": other, "alias/both": other,
		"key": key, "alias/key": key, "other": other, key.String(): key,
	} {
		id, err := w.Resolve(admin, policy.OpEncryptData, name)
		wantCode(t, err, "ok")
		if id != want {
			t.Errorf("%s is another key", name)
		}
	}
	if len(w.audit.records) != records {
		t.Error("a name that was found is audited, beside the operation")
	}
	for _, name := range []string{"", "Key", "alias/alias/key", "alias/", strings.Repeat("x", 5000), "obs/default", "/default", "alias//default"} {
		_, err := w.Resolve(admin, policy.OpEncryptData, name)
		wantCode(t, err, kms.CodeNotFound)
		if rec := w.audit.last(t); rec.Operation != policy.OpEncryptData || rec.Outcome != "NotFound" || len(rec.Target) > 300 {
			t.Errorf("%q is audited as %+v", name, rec)
		}
	}
	// A name that is there is no answer yet: the operation itself refuses then, in the same words.
	id, err := w.Resolve(user, policy.OpEncryptData, "with")
	wantCode(t, err, "ok")
	_, known := w.Encrypt(user, kms.EncryptInput{KeyID: id, Plaintext: []byte("x")})
	_, unknown := w.Resolve(user, policy.OpEncryptData, "nothing")
	if codeOf(known) != kms.CodeDenied || known.Error() != unknown.Error() {
		t.Errorf("who has no right is told whether the alias is there: %v, %v", known, unknown)
	}
}

// TestDefaultKey holds who makes a service's default key and when, that it is made once, what it is, and that it can be
// used and looked at but not changed.
func TestDefaultKey(t *testing.T) {
	w := newWorld(t, kms.Limits{Keys: 1})
	w.create(t, kms.CreateKeyInput{Alias: "fills-the-quota"})
	obs := callAs(policy.Principal{Name: "storage", Service: "obs"})
	for _, ctx := range []func() error{
		func() error { _, err := w.Resolve(admin, policy.OpCreateDataKey, "obs/default"); return err },
		func() error { _, err := w.Resolve(obs, policy.OpCreateDataKey, "evs/default"); return err },
		func() error { _, err := w.Resolve(obs, policy.OpCreateDataKey, "OBS/default"); return err },
		func() error { _, err := w.Resolve(obs, policy.OpDisableKey, "obs/default"); return err },
	} {
		if code := codeOf(ctx()); code != kms.CodeNotFound && code != kms.CodeDenied {
			t.Errorf("code is %s", code)
		}
	}
	w.hsm.made = nil
	var wg sync.WaitGroup
	ids := make([]kms.KeyID, 8)
	for i := range ids {
		wg.Go(func() {
			var err error
			if ids[i], err = w.Resolve(obs, policy.OpCreateDataKey, []string{"obs/default", "alias/obs/default"}[i%2]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(slices.Compact(ids)) != 1 || len(w.hsm.made) != 1 {
		t.Fatalf("first uses at once made keys %v, and the HSM %d", ids, len(w.hsm.made))
	}
	key := w.stored(t, ids[0])
	if key.Alias != "obs/default" || key.Service != "obs" || key.Spec != kms.AES256 || key.State != kms.Enabled || len(key.Versions) != 1 {
		t.Errorf("default key is %+v", key)
	}
	w.wantOutcomes(t, policy.OpCreateKey, "ok", "ok")
	_, err := w.GenerateDataKey(obs, kms.DataKeyInput{KeyID: key.ID, Bytes: 32})
	wantCode(t, err, "ok")
	id, err := w.Resolve(admin, policy.OpDescribeKey, "obs/default")
	wantCode(t, err, "ok")
	if id != key.ID {
		t.Error("the administrator finds another key")
	}
	data, dataKey := w.ciphertexts(t, key)
	for op, do := range w.operations(key, data, dataKey) {
		want := kms.Code("ok")
		switch {
		case w.changes(key.ID)[op] != nil && op != policy.OpGetRotation && op != policy.OpListKeyTags,
			op == policy.OpEnableKey, op == policy.OpDisableKey, w.onGrants(key.ID)[op] != nil && op != policy.OpListGrants:
			want = kms.CodeServiceKey
		case op == policy.OpSign, op == policy.OpVerify, op == policy.OpGetPublicKey, op == policy.OpDeriveSharedSecret,
			op == policy.OpGenerateMAC, op == policy.OpVerifyMAC:
			want = isSymmetric
		}
		wantCode(t, do(admin), want)
	}
	page, err := w.ListKeys(admin, kms.ListKeysInput{})
	wantCode(t, err, "ok")
	if page.Total != 2 {
		t.Errorf("%d keys are listed, want 2", page.Total)
	}
}

// TestDefaultKeyNeedsTheHSM holds that a default key that cannot be made does not exist, and that the failure is on record.
func TestDefaultKeyNeedsTheHSM(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	w.hsm.down = kms.Errorf(kms.CodeKeyUnavailable, "the HSM is not available")
	obs := callAs(policy.Principal{Name: "storage", Service: "obs"})
	_, err := w.Resolve(obs, policy.OpCreateDataKey, "obs/default")
	wantCode(t, err, kms.CodeKeyUnavailable)
	w.wantOutcomes(t, policy.OpCreateKey, "KeyUnavailable")
	w.hsm.down = nil
	w.defaultKey(t, "obs")
}
