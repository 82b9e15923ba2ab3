package store

import (
	"context"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

func newGrant(key *kms.Key, n byte) *policy.Grant {
	return &policy.Grant{
		ID: strings.Repeat("0", 62) + string("0123456789abcdef"[n>>4]) + string("0123456789abcdef"[n&15]), Key: key.ID, Name: "n",
		CreatedAt: time.Unix(int64(n), 5e6).UTC(), Grantee: "app", Operations: []policy.Operation{policy.OpEncryptData}, Issuer: "owner",
		Constraints: policy.Constraints{Context: map[string]string{"a": "b"}, Expires: time.Unix(1<<31, 0).UTC(), Source: "uid:7"}, Seal: [32]byte{n, 1},
	}
}

func setGrants(t *testing.T, s *Store, key *kms.Key, grants ...*policy.Grant) {
	t.Helper()
	if err := s.ChangeGrants(context.Background(), key.ID, func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error) {
		return grants, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestGrants holds that memory and disk have the same grants after every change and restart, and that a change that is
// refused leaves both as they were.
func TestGrants(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	key, other := newKey("a"), newKey("b")
	create(t, s, key)
	create(t, s, other)
	one, two, three := newGrant(key, 1), newGrant(key, 2), newGrant(other, 3)
	check := func(of *kms.Key, want ...*policy.Grant) {
		t.Helper()
		if got := s.Grants(of.ID); !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 {
			t.Errorf("grants are %+v, want %+v", got, want)
		}
	}
	for _, grants := range [][]*policy.Grant{{two, one}, {two}, nil, {one}, {one, two}} {
		setGrants(t, s, key, grants...)
		setGrants(t, s, other, three)
		slices.SortFunc(grants, inOrder)
		check(key, grants...)
		s.Close()
		s = open(t, Options{Dir: dir})
		check(key, grants...)
		check(other, three)
	}
	refused := errors.New("refused")
	if err := s.ChangeGrants(context.Background(), key.ID, func(_ *kms.Key, g []*policy.Grant) ([]*policy.Grant, error) {
		return nil, refused
	}); !errors.Is(err, refused) {
		t.Error(err)
	}
	if err := s.ChangeGrants(context.Background(), key.ID, func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error) {
		return []*policy.Grant{three}, nil
	}); err == nil {
		t.Error("another key's grant was stored")
	}
	check(key, one, two)
	if n := s.MostGrants(); n != 2 {
		t.Errorf("most grants: %d", n)
	}
	if _, err := s.DestroyKeys(context.Background(), []kms.KeyID{key.ID}, func(*kms.Key) bool { return true }); err != nil {
		t.Fatal(err)
	}
	check(key)
	s.Close()
	s = open(t, Options{Dir: dir})
	check(key)
	check(other, three)
}

// TestDamagedGrant holds that a grant that is not exactly what was stored stops the start, whatever was done to it: nothing
// is granted by it, and nothing is left out.
func TestDamagedGrant(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	key := newKey("a")
	create(t, s, key)
	g := newGrant(key, 1)
	setGrants(t, s, key, g)
	s.Close()
	value, err := encodeGrant(g)
	if err != nil {
		t.Fatal(err)
	}
	moved := newGrant(key, 2)
	for at := range len(value) {
		damaged := slices.Clone(value)
		damaged[at] ^= 1 << (at % 8)
		if _, err := decodeGrant(grantKey(g), damaged); err == nil {
			t.Errorf("byte %d was changed, and the grant is read", at)
		}
	}
	for _, c := range []struct{ name, value []byte }{
		{grantKey(g), slices.Concat(value[:20], []byte{value[20] ^ 1}, value[21:])}, {grantKey(g), nil}, {grantKey(g), value[:9]},
		{grantKey(moved), value}, {grantKey(g)[:30], value},
	} {
		tamper(t, dir, func(txn *transaction) error { return txn.Set(c.name, c.value) })
		s, err := Open(Options{Dir: dir, Tenant: "default"})
		if err == nil {
			s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "damaged") || !strings.Contains(err.Error(), "restore the database from a backup") {
			t.Errorf("%x: opened with %v", c.name, err)
		}
		tamper(t, dir, func(txn *transaction) error { return errors.Join(txn.Delete(c.name), txn.Set(grantKey(g), value)) })
	}
	old := append([]byte{1}, value[1:len(value)-4]...)
	tamper(t, dir, func(txn *transaction) error {
		return txn.Set(grantKey(g), binary.BigEndian.AppendUint32(old, checksum(grantKey(g), old)))
	})
	if _, err := Open(Options{Dir: dir, Tenant: "default"}); !errors.Is(err, errUnsealed) || !strings.Contains(err.Error(), g.ID) {
		t.Errorf("with a grant from before there were seals: %v", err)
	}
	tamper(t, dir, func(txn *transaction) error { return txn.Set(grantKey(g), value) })
	s = open(t, Options{Dir: dir})
	if got := s.Grants(key.ID); len(got) != 1 || !reflect.DeepEqual(got[0], g) {
		t.Errorf("grants are %+v", got)
	}
}
