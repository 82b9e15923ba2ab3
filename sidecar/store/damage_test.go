package store

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestOpenRefusals holds which databases are not opened, and that the message says what to do.
func TestOpenRefusals(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	create(t, s, newKey("a"))
	refuse := func(name string, o Options, words ...string) {
		t.Helper()
		other, err := Open(o)
		if err == nil {
			other.Close()
			t.Errorf("%s: opened", name)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: message %q lacks %q", name, err, w)
			}
		}
	}
	refuse("second process", Options{Dir: dir, Tenant: "default"}, "in use by another process", fmt.Sprint("pid ", os.Getpid()), "stop that process")
	s.Close()
	refuse("other tenant", Options{Dir: dir, Tenant: "other"}, `belongs to tenant "default"`, "configuration")
	refuse("no tenant", Options{Dir: t.TempDir(), Create: true}, "tenant")
	refuse("no directory", Options{Dir: filepath.Join(os.DevNull, "db"), Create: true, Tenant: "default"}, "database directory")

	tamper(t, dir, func(txn *transaction) error { return txn.Set(countKey(), appendUint64(nil, 2)) })
	refuse("index short of a key", Options{Dir: dir, Tenant: "default"}, "damaged")
	tamper(t, dir, func(txn *transaction) error {
		return errors.Join(txn.Set(countKey(), appendUint64(nil, 1)), txn.Set(schemaKey(), []byte(`{"format":99,"tenant":"default"}`)))
	})
	refuse("newer format", Options{Dir: dir, Tenant: "default"}, "newer than this program")
	tamper(t, dir, func(txn *transaction) error { return txn.Delete(schemaKey()) })
	refuse("no schema", Options{Dir: dir, Tenant: "default"}, "no database of Keyside")
}

// tamper changes a database behind the store's back, as a writer who also knows the state record.
func tamper(t *testing.T, dir string, change func(*transaction) error) {
	t.Helper()
	db, err := badger.Open(badgerOptions(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}))
	if err != nil {
		t.Fatal(err)
	}
	txn := newTransaction(db)
	err = change(txn)
	if recorded, stateErr := readState(txn); stateErr == nil {
		_, stateErr = txn.seal(recorded)
		err = errors.Join(err, stateErr)
	}
	if err := errors.Join(err, txn.txn.Commit(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestMigration holds that an old database is brought up to date once, step by step, also after a step that failed.
func TestMigration(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	k := newKey("a")
	create(t, s, k)
	s.Close()
	var steps []string
	fail := true
	step := func(name string) migration {
		return func(*Store) error {
			steps = append(steps, name)
			if name == "4 to 5" && fail {
				fail = false
				return errors.New("power cut")
			}
			return nil
		}
	}
	newer := Options{Dir: dir, Tenant: "default", migrations: append(slices.Clone(migrations), step("3 to 4"), step("4 to 5"))}
	if _, err := Open(newer); err == nil || !strings.Contains(err.Error(), "migrate from format 4") {
		t.Fatalf("a migration that fails: %v", err)
	}
	for range 2 {
		s := open(t, newer)
		if got, err := s.Key(ctx, k.ID); err != nil || !equal(got, k) {
			t.Errorf("migrated key is %+v (%v)", got, err)
		}
		s.Close()
	}
	if want := []string{"3 to 4", "4 to 5", "4 to 5"}; !slices.Equal(steps, want) {
		t.Errorf("steps were %v, want %v", steps, want)
	}
	if _, err := Open(Options{Dir: dir, Tenant: "default"}); err == nil {
		t.Error("an old program opens a new database")
	}
}

// TestDamagedRecord holds that a record that is not what was written stops the start: it is no key and no absence either.
func TestDamagedRecord(t *testing.T) {
	good, err := encodeRecord(newRecord(newKey("a"), 1))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "unknown format": append([]byte{9}, good[1:]...), "longer": append(bytes.Clone(good), 'x'),
		"of another key":  good,
		"twice a member":  bytes.Replace(good, []byte(`"state"`), []byte(`"state":"Enabled","state"`), 1),
		"unknown member":  bytes.Replace(good, []byte(`"state"`), []byte(`"granted":"all","state"`), 1),
		"without a state": bytes.Replace(good, []byte(`"state":"Enabled",`), nil, 1),
	} {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		k := newKey("a")
		create(t, s, k)
		s.Close()
		if name != "of another key" {
			value = bytes.Replace(value, good[bytes.Index(good, []byte(`"id":"`))+6:][:36], []byte(k.ID.String()), 1)
		}
		tamper(t, dir, func(txn *transaction) error { return txn.Set(recordKey(k.ID), value) })
		if s, err := Open(Options{Dir: dir, Tenant: "default"}); err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
		} else if !strings.Contains(err.Error(), k.ID.String()) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: message names no key and no way out: %v", name, err)
		}
	}
}

// TestDamagedMaterial holds that material that is not what was written refuses its key and is named, while the key can still
// be listed and destroyed and other keys work.
func TestDamagedMaterial(t *testing.T) {
	sealed := sealedKey("a").Versions[0].Sealed
	for name, damage := range map[string]func(txn *transaction, key, other []byte) error{
		"missing": func(txn *transaction, key, _ []byte) error { return txn.Delete(key) },
		"empty":   func(txn *transaction, key, _ []byte) error { return txn.Set(key, nil) },
		"cut":     func(txn *transaction, key, _ []byte) error { return txn.Set(key, encodeMaterial(key, sealed[1:])) },
		"of another key": func(txn *transaction, key, other []byte) error {
			return txn.Set(key, encodeMaterial(other, sealed))
		},
		"one bit": func(txn *transaction, key, _ []byte) error {
			value := encodeMaterial(key, sealed)
			value[20] ^= 1
			return txn.Set(key, value)
		},
		"unknown format": func(txn *transaction, key, _ []byte) error {
			value := encodeMaterial(key, sealed)
			value[0]++
			return txn.Set(key, value)
		},
	} {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		k, other := sealedKey("a"), sealedKey("b")
		k.Versions[0].Sealed = sealed
		create(t, s, k, other)
		s.Close()
		tamper(t, dir, func(txn *transaction) error {
			return damage(txn, materialKey(k.ID, 1), materialKey(other.ID, 1))
		})
		s = open(t, Options{Dir: dir})
		if got, err := s.Key(ctx, k.ID); err == nil || codeOf(err) != "" || !strings.Contains(err.Error(), k.ID.String()+", version 1") {
			t.Errorf("%s: key is %+v (%v)", name, got, err)
		}
		if _, err := s.UpdateKey(ctx, k.ID, func(*kms.Key) error { return nil }); err == nil {
			t.Errorf("%s: key is updated", name)
		}
		if keys, _, err := s.ListKeys(ctx, kms.KeyFilter{}, 0, 10); err != nil || len(keys) != 2 {
			t.Errorf("%s: %d keys are listed (%v)", name, len(keys), err)
		}
		if got, err := s.Key(ctx, other.ID); err != nil || !equal(got, other) {
			t.Errorf("%s: another key is %+v (%v)", name, got, err)
		}
		if gone, err := s.DestroyKeys(ctx, []kms.KeyID{k.ID}, all); err != nil || len(gone) != 1 {
			t.Errorf("%s: destroyed %v (%v)", name, gone, err)
		}
	}
}

// TestDamagedAlias holds that an alias that is not what was written is an error, and not one that does not exist.
func TestDamagedAlias(t *testing.T) {
	for name, damage := range map[string]func(txn *transaction, key kms.KeyID) error{
		"empty":          func(txn *transaction, _ kms.KeyID) error { return txn.Set(nameKey("n"), nil) },
		"cut":            func(txn *transaction, _ kms.KeyID) error { return txn.Set(nameKey("n"), []byte("{")) },
		"unknown member": func(txn *transaction, _ kms.KeyID) error { return txn.Set(nameKey("n"), []byte(`{"owner":"me"}`)) },
		"missing":        func(txn *transaction, _ kms.KeyID) error { return txn.Delete(nameKey("n")) },
	} {
		dir := t.TempDir()
		s := open(t, Options{Dir: dir})
		k := newKey("a")
		create(t, s, k)
		if err := s.CreateAlias(ctx, kms.Alias{Name: "n", KeyID: k.ID}, 9); err != nil {
			t.Fatal(err)
		}
		s.Close()
		tamper(t, dir, func(txn *transaction) error { return damage(txn, k.ID) })
		s = open(t, Options{Dir: dir})
		if _, err := s.Alias(ctx, "n"); err == nil || (codeOf(err) == kms.CodeNotFound && name != "missing") {
			t.Errorf("%s: %v", name, err)
		}
		if aliases, _, err := s.ListAliases(ctx, &k.ID, "", 9); err == nil || codeOf(err) != "" {
			t.Errorf("%s: list is %v (%v)", name, aliases, err)
		}
	}
}

// TestDamagedFile holds that a table with one bit flipped stops the start.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, unsynced: true})
	for i := range 200 {
		create(t, s, newKey(fmt.Sprint("key-", i)))
	}
	s.Close()
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatalf("tables: %v %v", tables, err)
	}
	content, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/3] ^= 1
	if err := os.WriteFile(tables[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(Options{Dir: dir, Tenant: "default"}); err == nil {
		s.Close()
		t.Error("a damaged database is opened")
	} else if !strings.Contains(err.Error(), "backup") {
		t.Errorf("message does not say what to do: %v", err)
	}
}

// TestEmptyLogs holds that the empty files that a kill leaves behind do not keep a database closed.
func TestEmptyLogs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	k := newKey("a")
	create(t, s, k)
	crashed := leftByKill(t, s)
	for _, name := range []string{"00007.mem", "00009.mem", "000004.vlog", tryPrefix + "1"} {
		if err := os.WriteFile(filepath.Join(crashed, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := open(t, Options{Dir: crashed}).Key(ctx, k.ID); err != nil || !equal(got, k) {
		t.Errorf("key is %+v (%v)", got, err)
	}
	if _, err := os.Stat(filepath.Join(crashed, tryPrefix+"1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file of a merge that was cut short: %v", err)
	}
}

// FuzzKeyRecord holds that whatever decodes is a whole key, which encodes to what decodes to it again.
func FuzzKeyRecord(f *testing.F) {
	k := newKey("a")
	good, err := encodeRecord(newRecord(k, 7))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte{recordFormat, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(k.ID, b)
		if err != nil {
			if r.key != nil {
				t.Fatal("a key beside an error")
			}
			return
		}
		again, err := encodeRecord(r)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := decodeRecord(k.ID, again)
		if err != nil || !equal(r2.key, r.key) || r2.sequence != r.sequence || !slices.Equal(r2.sizes, r.sizes) {
			t.Fatalf("%q decodes, but its like does not: %v", b, err)
		}
	})
}
