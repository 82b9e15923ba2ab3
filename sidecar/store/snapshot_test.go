package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

type pair struct{ key, value []byte }

// snapshot takes a snapshot into memory.
func snapshot(t testing.TB, s *Store, each func()) (state *State, pairs []pair) {
	t.Helper()
	err := s.Snapshot(ctx, func(now *State) error { state = now; return nil }, func(key, value []byte) error {
		pairs = append(pairs, pair{bytes.Clone(key), bytes.Clone(value)})
		if each != nil {
			each()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return state, pairs
}

func checked(pairs []pair) (*State, error) {
	var c SnapshotCheck
	for _, p := range pairs {
		if err := c.Add(p.key, p.value); err != nil {
			return nil, err
		}
	}
	return c.End()
}

// populate gives a database at least one entry of every kind.
func populate(t testing.TB, s *Store) (keys []*kms.Key) {
	t.Helper()
	for i := range 5 {
		keys = append(keys, newKey(fmt.Sprintf("key-%d", i)))
	}
	create(t, s, keys...)
	now := time.Now().UTC().Truncate(time.Millisecond)
	k := keys[0]
	grant := &policy.Grant{ID: strings.Repeat("ab", 32), Key: k.ID, CreatedAt: now, Grantee: "app", Operations: []policy.Operation{policy.OpSign}, Issuer: "owner"}
	_, err1 := s.CreateCredentialKey(ctx, newKey("credentials"))
	_, err2 := s.ReserveMessages(ctx, k.ID, 1, 100)
	if err := errors.Join(err1, err2,
		s.CreateAlias(ctx, kms.Alias{Name: "other", KeyID: k.ID, CreatedAt: now, UpdatedAt: now}, 10),
		s.ChangeGrants(ctx, k.ID, func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error) { return []*policy.Grant{grant}, nil }),
		s.CreateCredential(ctx, &kms.Credential{AccessKey: "AK", User: "app", CreatedAt: now, Sealed: []byte("s")}, 10),
		s.CreateToken(ctx, &kms.Token{User: "app", ExpiresAt: now.Add(time.Hour), Sealed: []byte("s")}, now),
		s.CreatePair(ctx, &kms.WrappingPair{ID: uuid.New(), Spec: kms.RSA2048, KeyID: k.ID, CreatedAt: now, ExpiresAt: now.Add(time.Hour), Sealed: []byte("s"), PublicKey: []byte("p")}, 2),
		s.SetAuditHead(ctx, []byte("anchor"), []byte("head"), nil),
		s.SetClockMark(ctx, kms.ClockMark{Boot: "boot", Wall: now}),
		s.CreateAlias(kms.WithPending(ctx, &kms.Pending{Lines: func(kms.Change) []byte { return []byte("line\n") }, Committed: func() {}}),
			kms.Alias{Name: "recorded", KeyID: k.ID, CreatedAt: now, UpdatedAt: now}, 10),
		s.change(ctx, func(txn *transaction) error {
			return errors.Join(txn.Set(fillerKey, []byte("f")), txn.Set([]byte("xnothing"), nil))
		}, func() {}),
	); err != nil {
		t.Fatal(err)
	}
	return keys
}

// TestSnapshotRestores loads a snapshot of a database with entries of all kinds into another directory: it is whole, everything
// in it can be decoded, and its entries are the same. A snapshot with any entry lost, changed or added is refused.
func TestSnapshotRestores(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	keys := populate(t, s)
	state, pairs := snapshot(t, s, nil)
	if found, err := checked(pairs); err != nil || !reflect.DeepEqual(found, state) || state.Entries != uint64(len(pairs)-1) || state.Change != s.state.change {
		t.Fatalf("snapshot of %d entries is %+v, it was %+v (%v)", len(pairs), found, state, err)
	}
	letters := map[byte]bool{}
	for _, p := range pairs {
		letters[p.key[0]] = true
	}
	if !maps.Equal(letters, kindsPresent()) {
		t.Errorf("the database has entries of kinds %q, and those known are %q", slices.Sorted(maps.Keys(letters)), slices.Sorted(maps.Keys(kindsPresent())))
	}
	dir := filepath.Join(t.TempDir(), "db")
	found, err := Load(dir, setAll(pairs))
	if err != nil || found.Change != state.Change || found.AuditHead != "head" || len(found.Outbox) != 1 {
		t.Fatalf("loaded %+v (%v)", found, err)
	}
	restored := open(t, Options{Dir: dir})
	if got, err := restored.Key(ctx, keys[0].ID); err != nil || !equal(got, keys[0]) {
		t.Errorf("key is %+v (%v)", got, err)
	}
	sealed := map[string]int{}
	counts, err := restored.Decode(ctx, func(s Sealed) error {
		sealed[s.Ref.ID.String()]++
		return nil
	})
	want := Counts{"keys": 5, "aliases": 2, "grants": 1, "access keys": 1, "tokens": 1, "wrapping keys": 1, "unsent records": 1}
	if err != nil || !maps.Equal(counts, want) || len(sealed) != 7 {
		t.Errorf("decoded %v, want %v, %d sealed keys (%v)", counts, want, len(sealed), err)
	}
	for i := range pairs {
		lost := slices.Delete(slices.Clone(pairs), i, i+1)
		changed := slices.Clone(pairs)
		changed[i].value = append(bytes.Clone(changed[i].value), 'x')
		for what, damaged := range map[string][]pair{"lost": lost, "changed": changed} {
			if _, err := checked(damaged); err == nil {
				t.Errorf("entry %q is %s, and the snapshot accepted", pairs[i].key, what)
			}
			if _, err := Load(filepath.Join(t.TempDir(), "db"), setAll(damaged)); err == nil {
				t.Errorf("entry %q is %s, and loaded", pairs[i].key, what)
			}
		}
	}
	if _, err := checked(append(slices.Clone(pairs), pair{[]byte("~"), nil})); err == nil {
		t.Error("an entry is added, and the snapshot accepted")
	}
	if _, err := Load(dir, setAll(pairs)); err == nil {
		t.Error("a snapshot was loaded over a database")
	}
}

func kindsPresent() map[byte]bool {
	present := map[byte]bool{}
	for letter := range kindsOfEntries {
		present[letter] = true
	}
	return present
}

func setAll(pairs []pair) func(func(key, value []byte) error) error {
	return func(set func(key, value []byte) error) error {
		for _, p := range pairs {
			if err := set(p.key, p.value); err != nil {
				return err
			}
		}
		return nil
	}
}

// TestDecodeFindsFaults changes entries, with a matching state record, so that only their meaning is wrong.
func TestDecodeFindsFaults(t *testing.T) {
	for what, change := range map[string]func(*transaction, *kms.Key) error{
		"an unknown kind": func(txn *transaction, _ *kms.Key) error { return txn.Set([]byte("!"), nil) },
		"material without a key": func(txn *transaction, _ *kms.Key) error {
			return txn.Set(materialKey(uuid.New(), 1), nil)
		},
		"a cut version of a key": func(txn *transaction, k *kms.Key) error { return txn.Set(materialKey(k.ID, 1), []byte{1}) },
		"an own alias of another key": func(txn *transaction, k *kms.Key) error {
			return txn.Set(aliasKey("wrong"), k.ID[:])
		},
		"an alias without a key": func(txn *transaction, k *kms.Key) error {
			return writeAlias(txn, &kms.Alias{Name: "n", KeyID: uuid.New()})
		},
		"an access key":        func(txn *transaction, k *kms.Key) error { return txn.Set(credentialName("AK"), []byte("{")) },
		"a token":              func(txn *transaction, k *kms.Key) error { return txn.Set([]byte("tshort"), []byte("{}")) },
		"a count":              func(txn *transaction, k *kms.Key) error { return txn.Set(messagesKey(k.ID, 1), []byte{1}) },
		"the audit log's head": func(txn *transaction, k *kms.Key) error { return txn.Set(auditHeadKey, []byte{1}) },
		"a record of a change": func(txn *transaction, k *kms.Key) error { return txn.Set(outboxKey(5), []byte{1}) },
	} {
		s := open(t, Options{InMemory: true})
		keys := populate(t, s)
		decode := func() error {
			_, err := s.Decode(ctx, func(Sealed) error { return nil })
			return err
		}
		if err := decode(); err != nil {
			t.Fatal(err)
		}
		if err := s.change(ctx, func(txn *transaction) error { return change(txn, keys[0]) }, func() {}); err != nil {
			t.Fatal(err)
		}
		if err := decode(); err == nil {
			t.Errorf("%s: it is decoded", what)
		}
	}
	s := open(t, Options{InMemory: true})
	populate(t, s)
	refused := errors.New("seal")
	if _, err := s.Decode(ctx, func(Sealed) error { return refused }); !errors.Is(err, refused) {
		t.Errorf("a refused seal: %v", err)
	}
}

// TestSnapshotIsOneMoment changes two keys in turn while snapshots are taken: each snapshot is the state after one change.
func TestSnapshotIsOneMoment(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir(), unsynced: true})
	a, b := newKey("a"), newKey("b")
	a.Description, b.Description = "", ""
	create(t, s, a, b)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			for _, id := range []kms.KeyID{a.ID, b.ID} { // a's number is never below b's
				if _, err := s.UpdateKey(ctx, id, func(k *kms.Key) error { k.Description = fmt.Sprintf("%09d", n); return nil }); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 20 {
		_, pairs := snapshot(t, s, runtime.Gosched)
		if _, err := checked(pairs); err != nil {
			t.Error(err)
		}
		number := map[kms.KeyID]string{}
		for _, p := range pairs {
			if p.key[0] == 'r' {
				id, _ := idOf(p.key)
				r, err := decodeRecord(id, p.value)
				if err != nil {
					t.Fatal(err)
				}
				number[id] = r.key.Description
			}
		}
		if number[a.ID] < number[b.ID] {
			t.Errorf("a is at %s and b at %s: no such moment was", number[a.ID], number[b.ID])
		}
	}
	close(stop)
	wg.Wait()
}

// TestPurgeInterruptsSnapshot destroys a key while a snapshot is taken whose reader waits: the snapshot ends with an error, and the
// sealed bytes leave the files. A snapshot whose reader goes on is waited for.
func TestPurgeInterruptsSnapshot(t *testing.T) {
	interrupted := make(chan struct{})
	s := open(t, Options{Dir: t.TempDir(), unsynced: true, failpoint: func(step string) {
		if step == "a snapshot is interrupted" {
			close(interrupted)
		}
	}})
	for _, waits := range []bool{true, false} {
		s.snapshots.limit = time.Minute
		if waits {
			s.snapshots.limit = time.Millisecond
		}
		key := newKey("doomed")
		create(t, s, key)
		begun, resume := make(chan struct{}), make(chan struct{})
		var once sync.Once
		ended := make(chan error, 1)
		go func() {
			ended <- s.Snapshot(ctx, func(*State) error { return nil }, func(_, _ []byte) error {
				once.Do(func() { close(begun); <-resume })
				return nil
			})
		}()
		<-begun
		destroyed := make(chan error, 1)
		go func() {
			_, err := s.DestroyKeys(ctx, []kms.KeyID{key.ID}, func(*kms.Key) bool { return true })
			destroyed <- err
		}()
		if waits {
			<-interrupted
		}
		close(resume)
		if err := <-ended; waits != errors.Is(err, errPurged) || !waits && err != nil {
			t.Errorf("the snapshot ended with %v", err)
		}
		if err := <-destroyed; err != nil {
			t.Error(err)
		}
		if _, err := s.Key(ctx, key.ID); codeOf(err) != kms.CodeNotFound {
			t.Errorf("the key: %v", err)
		}
	}
}

// TestSnapshotEnds checks the errors of a snapshot: of its reader, of its context, of a closed database.
func TestSnapshotEnds(t *testing.T) {
	s := open(t, Options{InMemory: true})
	populate(t, s)
	failed := errors.New("reader")
	none := func(*State) error { return nil }
	if err := s.Snapshot(ctx, func(*State) error { return failed }, nil); !errors.Is(err, failed) {
		t.Errorf("an error of begin: %v", err)
	}
	if err := s.Snapshot(ctx, none, func(_, _ []byte) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("an error of entry: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	if err := s.Snapshot(canceled, none, func(_, _ []byte) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the context: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Snapshot(ctx, none, func(_, _ []byte) error { return nil }); err == nil {
		t.Error("a snapshot of a closed database")
	}
}

// TestAdvanceMessages skips numbers of every version of symmetric keys, also of those that encrypted nothing, in more than one transaction, with one
// record.
func TestAdvanceMessages(t *testing.T) {
	s := open(t, Options{InMemory: true})
	used, fresh, signer := newKey("used"), newKey("fresh"), newKey("signer")
	used.Versions[0].PublicKey, fresh.Versions[0].PublicKey = nil, nil
	second := used.Versions[0]
	second.Number = 2
	used.Versions = append(used.Versions, second)
	signer.Spec, signer.Usage = kms.ECP256, kms.SignVerify
	external := newKey("external") // its material comes after the restore, and may be what it had
	external.Origin, external.State, external.Versions = kms.OriginExternal, kms.PendingImport, nil
	create(t, s, used, fresh, signer, external)
	if _, err := s.ReserveMessages(ctx, used.ID, 1, 100); err != nil {
		t.Fatal(err)
	}
	credentials := newKey("credentials")
	credentials.Versions[0].PublicKey = nil
	if _, err := s.CreateCredentialKey(ctx, credentials); err != nil {
		t.Fatal(err)
	}
	records := 0
	pending := kms.WithPending(ctx, &kms.Pending{Lines: func(kms.Change) []byte { records++; return []byte("l\n") }, Committed: func() {}})
	if err := s.AdvanceMessages(pending, 1000); err != nil || records != 1 {
		t.Fatalf("%d records (%v)", records, err)
	}
	for _, c := range []struct {
		id      kms.KeyID
		version uint32
		want    uint64
	}{{used.ID, 1, 1100}, {used.ID, 2, 1000}, {fresh.ID, 1, 1000}, {external.ID, 1, 1000}, {credentials.ID, 1, 1000}, {signer.ID, 1, 0}} {
		if first, err := s.ReserveMessages(ctx, c.id, c.version, 1); err != nil || first != c.want {
			t.Errorf("version %d of %s goes on at %d, want %d (%v)", c.version, c.id, first, c.want, err)
		}
	}
	if err := s.AdvanceMessages(ctx, 1<<64-1); err == nil {
		t.Error("a count overflowed")
	}
	empty := open(t, Options{InMemory: true})
	if err := empty.AdvanceMessages(pending, 1); err != nil || records != 2 {
		t.Errorf("without keys: %d records (%v)", records, err)
	}
}
