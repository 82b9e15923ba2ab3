package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
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
	refuse("no tenant", Options{Dir: t.TempDir()}, "tenant")
	refuse("no directory", Options{Dir: filepath.Join(os.DevNull, "db"), Tenant: "default"}, "database directory")

	tamper(t, dir, func(txn *badger.Txn) error { return txn.Set(countKey(), appendUint64(nil, 2)) })
	refuse("index short of a key", Options{Dir: dir, Tenant: "default"}, "damaged")
	tamper(t, dir, func(txn *badger.Txn) error {
		return errors.Join(txn.Set(countKey(), appendUint64(nil, 1)), txn.Set(schemaKey(), []byte(`{"format":99,"tenant":"default"}`)))
	})
	refuse("newer format", Options{Dir: dir, Tenant: "default"}, "newer than this program")
	tamper(t, dir, func(txn *badger.Txn) error { return txn.Delete(schemaKey()) })
	refuse("no schema", Options{Dir: dir, Tenant: "default"}, "no database of keyside's")
}

// tamper changes a database behind the store's back.
func tamper(t *testing.T, dir string, change func(*badger.Txn) error) {
	t.Helper()
	db, err := badger.Open(badgerOptions(Options{Dir: dir, Logger: slog.New(slog.DiscardHandler)}))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(change), db.Close()); err != nil {
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
		return func(*badger.DB) error {
			steps = append(steps, name)
			if name == "2 to 3" && fail {
				fail = false
				return errors.New("power cut")
			}
			return nil
		}
	}
	newer := Options{Dir: dir, Tenant: "default", migrations: []migration{step("1 to 2"), step("2 to 3")}}
	if _, err := Open(newer); err == nil || !strings.Contains(err.Error(), "migrate from format 2") {
		t.Fatalf("a migration that fails: %v", err)
	}
	for range 2 {
		s := open(t, newer)
		if got, err := s.Key(ctx, k.ID); err != nil || !equal(got, k) {
			t.Errorf("migrated key is %+v (%v)", got, err)
		}
		s.Close()
	}
	if want := []string{"1 to 2", "2 to 3", "2 to 3"}; !slices.Equal(steps, want) {
		t.Errorf("steps were %v, want %v", steps, want)
	}
	if _, err := Open(Options{Dir: dir, Tenant: "default"}); err == nil {
		t.Error("an old program opens a new database")
	}
}

// TestDamagedRecord holds that a record that is not what was written stops the start: it is no key and no absence either.
func TestDamagedRecord(t *testing.T) {
	good, err := encodeRecord(record{newKey("a"), 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)-1], "unknown format": append([]byte{2}, good[1:]...), "longer": append(bytes.Clone(good), 'x'),
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
		tamper(t, dir, func(txn *badger.Txn) error { return txn.Set(recordKey(k.ID), value) })
		if s, err := Open(Options{Dir: dir, Tenant: "default"}); err == nil {
			s.Close()
			t.Errorf("%s: opened", name)
		} else if !strings.Contains(err.Error(), k.ID.String()) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("%s: message names no key and no way out: %v", name, err)
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

// FuzzKeyRecord holds that whatever decodes is a whole key, which encodes to what decodes to it again.
func FuzzKeyRecord(f *testing.F) {
	k := newKey("a")
	good, err := encodeRecord(record{k, 7})
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
		if err != nil || !equal(r2.key, r.key) || r2.sequence != r.sequence {
			t.Fatalf("%q decodes, but its like does not: %v", b, err)
		}
	})
}
