package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/kms"
)

var ctx = context.Background()

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.Tenant == "" {
		o.Tenant = "default"
	}
	o.Create = true
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newKey(alias string) *kms.Key {
	return &kms.Key{
		ID: uuid.New(), Alias: alias, Description: "ü " + alias, Spec: kms.AES256, Usage: kms.EncryptDecrypt, Origin: kms.OriginKMS,
		State: kms.Enabled, CreatedAt: time.UnixMilli(1767322800123).UTC(), Versions: []kms.KeyVersion{{
			Number: 1, CreatedAt: time.UnixMilli(1767322800123).UTC(), Sealed: bytes.Repeat([]byte(alias), 160)[:160], Root: 1,
			Protection: kms.ProtectionHSM, PublicKey: []byte("public"),
		}},
	}
}

func create(t testing.TB, s *Store, keys ...*kms.Key) {
	t.Helper()
	for _, k := range keys {
		if err := s.CreateKey(ctx, k, 1<<30); err != nil {
			t.Fatal(err)
		}
	}
}

func codeOf(err error) kms.Code {
	var e *kms.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// withoutMaterial returns the key as lists show it.
func withoutMaterial(key *kms.Key) *kms.Key {
	k := *key
	k.Versions = slices.Clone(key.Versions)
	for i := range k.Versions {
		k.Versions[i].Sealed = nil
	}
	return &k
}

func equal(a, b *kms.Key) bool { return fmt.Sprintf("%+v", *a) == fmt.Sprintf("%+v", *b) }

// TestKeysOutliveTheProcess holds that what was written is there after the database was opened again, key by key, alias
// by alias, in order, with every count.
func TestKeysOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if !s.Fresh() {
		t.Error("a new database is not fresh")
	}
	a, b := newKey("a"), newKey("b")
	create(t, s, a, b)
	updated, err := s.UpdateKey(ctx, a.ID, func(k *kms.Key) error { k.State = kms.Disabled; return nil })
	if err != nil || updated.State != kms.Disabled || a.State != kms.Enabled {
		t.Fatalf("update: %v, answer %s, key that was handed out before %s", err, updated.State, a.State)
	}
	if keys, _, err := s.ListKeys(ctx, kms.KeyFilter{State: kms.Disabled}, 0, 10); err != nil || len(keys) != 1 {
		t.Errorf("%d disabled keys (%v), want the one just disabled", len(keys), err)
	}
	for want := range uint64(2) {
		if first, err := s.ReserveMessages(ctx, a.ID, 1, 1<<20); err != nil || first != want<<20 {
			t.Errorf("reservation begins at %d (%v)", first, err)
		}
	}
	s.Close()

	s = open(t, Options{Dir: dir})
	if s.Fresh() {
		t.Error("an old database is fresh")
	}
	for _, want := range []*kms.Key{updated, b} {
		for range 2 { // from the database, then from the cache
			if got, err := s.Key(ctx, want.ID); err != nil || !equal(got, want) {
				t.Errorf("key is %+v (%v), want %+v", got, err, want)
			}
		}
	}
	keys, total, err := s.ListKeys(ctx, kms.KeyFilter{State: kms.Disabled}, 0, 10)
	if err != nil || total != 1 || len(keys) != 1 || keys[0].ID != a.ID {
		t.Errorf("disabled keys are %v, %d, %v", keys, total, err)
	}
	if first, err := s.ReserveMessages(ctx, a.ID, 1, 1); err != nil || first != 2<<20 {
		t.Errorf("reservation goes on at %d (%v)", first, err)
	}
	if first, err := s.ReserveMessages(ctx, a.ID, 2, 1); err != nil || first != 0 {
		t.Errorf("another version begins at %d (%v)", first, err)
	}
	if err := s.CreateKey(ctx, newKey("a"), 10); codeOf(err) != kms.CodeAlreadyExists {
		t.Errorf("second key of one alias: %v", err)
	}
}

// TestReleaseMessages holds that only the numbers reserved last can be given back, in any number of keys at once.
func TestReleaseMessages(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), unsynced: true})
	var unused []kms.MessageRange
	for i := range releaseBatch + 1 {
		k := newKey(fmt.Sprint("key-", i))
		create(t, s, k)
		id := k.ID
		if _, err := s.ReserveMessages(ctx, id, 1, 100); err != nil {
			t.Fatal(err)
		}
		unused = append(unused, kms.MessageRange{ID: id, Version: 1, First: 10, End: 100})
	}
	later := unused[0]
	if _, err := s.ReserveMessages(ctx, later.ID, 1, 100); err != nil {
		t.Fatal(err)
	}
	if err := s.ReleaseMessages(ctx, unused); err != nil {
		t.Fatal(err)
	}
	for _, r := range unused {
		want := uint64(10)
		if r == later {
			want = 200
		}
		if first, err := s.ReserveMessages(ctx, r.ID, 1, 1); err != nil || first != want {
			t.Fatalf("reservation goes on at %d (%v), want %d", first, err, want)
		}
	}
}

// TestCreateRefusals holds that a refused key leaves nothing behind.
func TestCreateRefusals(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	a := newKey("a")
	create(t, s, a)
	if err := s.CreateKey(ctx, newKey("b"), 1); codeOf(err) != kms.CodeQuotaExceeded {
		t.Errorf("beyond the quota: %v", err)
	}
	same := newKey("c")
	same.ID = a.ID
	if s.CreateKey(ctx, same, 10) == nil {
		t.Error("an id is given twice")
	}
	huge := newKey("d")
	huge.Versions[0].Sealed = make([]byte, valueThreshold)
	if s.CreateKey(ctx, huge, 10) == nil {
		t.Error("a record that would go to the value log is stored")
	}
	for alias, want := range map[string]kms.Code{"a": kms.CodeAlreadyExists, "b": "", "c": "", "d": ""} {
		if err := s.CheckNew(ctx, alias, 2); codeOf(err) != want {
			t.Errorf("alias %s: %v", alias, err)
		}
	}
	if n, _, _ := s.CountKeys(ctx); n != 1 {
		t.Errorf("%d keys, want 1", n)
	}
	if _, err := s.Key(ctx, huge.ID); codeOf(err) != kms.CodeNotFound {
		t.Errorf("a refused key: %v", err)
	}
	create(t, s, newKey("b"))
}

// TestUpdateRefusals holds that an update that fails, or that would break an index, changes nothing.
func TestUpdateRefusals(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	a := newKey("a")
	create(t, s, a, newKey("b"))
	no := kms.Errorf(kms.CodeKeyNotEnabled, "no")
	for name, change := range map[string]func(*kms.Key) error{
		"refused": func(k *kms.Key) error { k.State = kms.Disabled; return no },
		"id":      func(k *kms.Key) error { k.ID = uuid.New(); return nil },
		"alias":   func(k *kms.Key) error { k.Alias = "b"; return nil },
		"tags":    func(k *kms.Key) error { k.Tags = []kms.Tag{{Key: "b"}, {Key: "a"}}; return nil },
	} {
		if _, err := s.UpdateKey(ctx, a.ID, change); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got, err := s.Key(ctx, a.ID); err != nil || !equal(got, a) {
			t.Errorf("%s: key is now %+v (%v)", name, got, err)
		}
	}
	if _, err := s.UpdateKey(ctx, uuid.New(), func(*kms.Key) error { return nil }); codeOf(err) != kms.CodeNotFound {
		t.Errorf("unknown key: %v", err)
	}
}

// TestDueTimesOfRecords holds that a due time is found again by what its record has of it, which is milliseconds.
func TestDueTimesOfRecords(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	k := newKey("a")
	k.Rotation = kms.Rotation{Enabled: true, Next: k.CreatedAt.Add(1234567)}
	create(t, s, k)
	for _, enabled := range []bool{true, false} {
		if _, err := s.UpdateKey(ctx, k.ID, func(k *kms.Key) error {
			k.Rotation = kms.Rotation{Enabled: enabled, Next: k.Rotation.Next.Add(1234567)}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		due, next, err := s.DueKeys(ctx, k.CreatedAt.Add(time.Hour), 9)
		if err != nil || len(due) == 1 != enabled || !next.IsZero() {
			t.Errorf("rotation enabled: %t, due keys are %v, then %s (%v)", enabled, due, next, err)
		}
	}
}

// TestConcurrentChanges holds that many writers leave one state on which memory and disk agree, and that readers never
// see a state older than one that was acknowledged.
func TestConcurrentChanges(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, cacheSize: 3, unsynced: true})
	shared := newKey("shared")
	create(t, s, shared)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				k := newKey(fmt.Sprintf("%d-%d", g, i))
				if err := s.CreateKey(ctx, k, 100); err != nil && codeOf(err) != kms.CodeQuotaExceeded {
					t.Error(err)
				}
				version := uint32(g*20 + i + 2)
				_, err := s.UpdateKey(ctx, shared.ID, func(k *kms.Key) error {
					k.Versions = append(k.Versions, kms.KeyVersion{Number: max(version, k.Current().Number+1), Sealed: []byte("s")})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				seen, err := s.Key(ctx, shared.ID)
				if err != nil || seen.Current().Number < version {
					t.Errorf("version %d is acknowledged, but the key has %d (%v)", version, seen.Current().Number, err)
				}
			}
		})
	}
	wg.Wait()
	before, total, err := s.ListKeys(ctx, kms.KeyFilter{}, 0, 1000)
	if err != nil || total != 100 || len(before) != 100 {
		t.Fatalf("%d keys of %d (%v), want the quota of 100", len(before), total, err)
	}
	s.Close()
	s = open(t, Options{Dir: dir})
	after, _, err := s.ListKeys(ctx, kms.KeyFilter{}, 0, 1000)
	if err != nil || !slices.EqualFunc(before, after, equal) {
		t.Errorf("memory and disk do not agree (%v)", err)
	}
	if n := len(after[0].Versions); n != 161 {
		t.Errorf("shared key has %d versions, want 161", n)
	}
}

// TestPages holds pages and filters against a plain slice.
func TestPages(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), unsynced: true})
	var all []*kms.Key
	for i := range 50 {
		k := newKey(fmt.Sprint("key-", i))
		k.Spec = []kms.KeySpec{kms.AES256, kms.ECP256, kms.AES256}[i%3]
		k.State = []kms.KeyState{kms.Enabled, kms.Disabled}[i%2]
		all = append(all, k)
	}
	create(t, s, all...)
	if got := s.CountStates(); got[kms.Enabled] != 25 || got[kms.Disabled] != 25 || got[kms.PendingImport] != 0 || len(got) != len(kms.KeyStates) {
		t.Errorf("keys by state: %v", got)
	}
	for _, spec := range []kms.KeySpec{"", kms.AES256, kms.ECP256, kms.RSA4096} {
		for _, state := range []kms.KeyState{"", kms.Enabled, kms.Disabled, kms.PendingImport} {
			filter := kms.KeyFilter{Spec: spec, State: state}
			var want []*kms.Key
			for _, k := range all {
				if filter.Accepts(k) {
					want = append(want, withoutMaterial(k))
				}
			}
			for _, limit := range []int{1, 7, 50, 1000} {
				for offset := 0; offset <= 60; offset += 6 {
					got, total, err := s.ListKeys(ctx, filter, offset, limit)
					page := want[min(offset, len(want)):min(offset+limit, len(want))]
					if err != nil || total != len(want) || !slices.EqualFunc(got, page, equal) {
						t.Fatalf("%+v from %d, limit %d: %d keys of %d (%v), want %d of %d",
							filter, offset, limit, len(got), total, err, len(page), len(want))
					}
				}
			}
		}
	}
}

// TestValueLogStaysEmpty holds that all values are in the tables, so that the value log needs no collection of garbage
// and a destroyed value has one place less to hide.
func TestValueLogStaysEmpty(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, unsynced: true})
	for i := range 100 {
		k := newKey(fmt.Sprint("key-", i))
		k.Versions[0].Sealed = make([]byte, 64<<10)
		create(t, s, k)
	}
	s.Close()
	logs, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("value logs: %v %v", logs, err)
	}
	for _, l := range logs {
		if info, err := os.Stat(l); err != nil || info.Size() > 20 { // its header
			t.Errorf("%s has %d bytes (%v)", l, info.Size(), err)
		}
	}
}

// TestLateChange holds that a change whose request is over does not happen.
func TestLateChange(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	late, cancel := context.WithCancel(ctx)
	cancel()
	if err := s.CreateKey(late, newKey("a"), 10); !errors.Is(err, context.Canceled) {
		t.Errorf("create: %v", err)
	}
	if n, _, _ := s.CountKeys(ctx); n != 0 {
		t.Errorf("%d keys, want none", n)
	}
}

// TestFullDisk holds that a disk without room refuses writes, not reads, and that nothing is half-written.
func TestFullDisk(t *testing.T) {
	free := uint64(1 << 40)
	s := open(t, Options{Dir: t.TempDir(), freeBytes: func(string) (uint64, error) { return free, nil }})
	k := newKey("a")
	create(t, s, k)
	free = minFree - 1
	if err := s.CreateKey(ctx, newKey("b"), 10); codeOf(err) != kms.CodeBusy || kms.AsError(err).RetryAfter <= 0 || !errors.Is(err, unix.ENOSPC) {
		t.Errorf("create on a full disk: %v", err)
	}
	if _, err := s.ReserveMessages(ctx, k.ID, 1, 1); codeOf(err) != kms.CodeBusy {
		t.Errorf("message numbers on a full disk: %v", err)
	}
	if _, err := s.Key(ctx, k.ID); err != nil {
		t.Errorf("read on a full disk: %v", err)
	}
	free = minFree
	create(t, s, newKey("b"))
}

// TestCacheTakesNothingStale holds that what a reader found before a write does not replace what was written.
func TestCacheTakesNothingStale(t *testing.T) {
	c := newCache(10)
	before, after := newKey("a"), newKey("a")
	after.ID = before.ID
	_, generation := c.get(before.ID)
	c.put(after)
	c.fill(before, generation)
	if got, _ := c.get(before.ID); got != after {
		t.Error("a reader that was late brought the old key back")
	}
}

// TestWritesAreSynced holds the option on which every acknowledgement rests: no test can cut the power.
func TestWritesAreSynced(t *testing.T) {
	if s := open(t, Options{Dir: t.TempDir()}); !s.db.Opts().SyncWrites {
		t.Error("badger does not sync its writes")
	}
}

// TestHotKeyNeedsNoDatabase holds that a key in use costs no look into the database, and the cache stays bounded.
func TestHotKeyNeedsNoDatabase(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), cacheSize: 2, unsynced: true})
	a, b, c := newKey("a"), newKey("b"), newKey("c")
	create(t, s, a, b)
	s.Key(ctx, a.ID)
	create(t, s, c) // pushes b out
	if n := s.cache.recent.Len(); n != 2 || len(s.cache.keys) != 2 {
		t.Errorf("cache holds %d keys, want 2", n)
	}
	s.db.Close()
	for _, k := range []*kms.Key{a, c} {
		if got, err := s.Key(ctx, k.ID); err != nil || got != k {
			t.Errorf("hot key: %v, %v", got, err)
		}
	}
	if _, err := s.Key(ctx, b.ID); err == nil || codeOf(err) == kms.CodeNotFound {
		t.Errorf("cold key without database: %v", err)
	}
}
