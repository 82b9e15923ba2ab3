package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// acts are what a process does that is killed at every step of it. Each acts on the keys whose alias begins with its name.
var acts = map[string]func(s *Store) error{
	"destroy": func(s *Store) error {
		_, err := s.DestroyKeys(ctx, idsOf(s, "destroy"), all)
		return err
	},
	"drop": func(s *Store) error {
		_, err := s.UpdateKey(ctx, idsOf(s, "drop")[0], func(k *kms.Key) error {
			k.Versions[0].Sealed, k.State = nil, kms.PendingImport
			return nil
		})
		return err
	},
	"pairs": func(s *Store) error {
		_, _, err := s.DestroyPairs(ctx, pairTime.Add(time.Hour), 10)
		return err
	},
	"migrate": func(*Store) error { return nil }, // Open has done it
}

func idsOf(s *Store, act string) (ids []kms.KeyID) {
	keys, _, err := s.ListKeys(ctx, kms.KeyFilter{Name: act}, 0, 1000)
	if err != nil {
		panic(err)
	}
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	return ids
}

// dieAtArrow does an act, named with the number of the step at which it dies, like "destroy 3".
func dieAtArrow(dir, what string) error {
	var act string
	var last int
	if _, err := fmt.Sscan(what, &act, &last); err != nil {
		return err
	}
	steps := 0
	s, err := Open(Options{Dir: dir, Create: true, Tenant: "default", failpoint: func(step string) {
		if steps++; steps == last {
			fmt.Println(step)
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
	if err != nil {
		return err
	}
	return errors.Join(acts[act](s), s.Close())
}

// eachArrow makes a copy of the database for every step of an act, has a process die there, and calls check with the copy
// and with how many steps were taken.
func eachArrow(t *testing.T, dir, act string, check func(dir string, step int)) {
	t.Helper()
	for step := 1; ; step += 1 + step/4 { // at first one by one; then many are alike
		copied := filepath.Join(t.TempDir(), "db")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], copied, fmt.Sprint(act, " ", step), "failpoint")
		cmd.Env = append(os.Environ(), childVariable+"=1")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
			t.Fatalf("%s, step %d: %v: %s", act, step, err, out)
		}
		t.Logf("step %d: %s", step, out)
		check(copied, step)
		if err == nil {
			if step < 12 {
				t.Errorf("%s is done in less than %d steps", act, step)
			}
			return
		}
	}
}

// TestKilledDestroyer kills a process at each step of the destruction of keys, and checks that each key exists with all that
// belongs to it or not at all, and that destroyed material is purged when the database is served again.
func TestKilledDestroyer(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	var doomed []*kms.Key
	for i := range 3 {
		k := sealedKey(fmt.Sprint("destroy-", i))
		k.Tags = []kms.Tag{{Key: "n", Value: fmt.Sprint(i)}}
		doomed = append(doomed, k)
	}
	other := sealedKey("other")
	create(t, s, append(slices.Clone(doomed), other)...)
	for _, k := range doomed {
		if err := s.CreateAlias(ctx, kms.Alias{Name: k.Alias, KeyID: k.ID}, 9); err != nil {
			t.Fatal(err)
		}
		if _, err := s.ReserveMessages(ctx, k.ID, 1, 7); err != nil {
			t.Fatal(err)
		}
	}
	sink(t, s)
	s.Close()
	removed := 0
	eachArrow(t, s.opts.Dir, "destroy", func(dir string, step int) {
		s := open(t, Options{Dir: dir})
		defer s.Close()
		n, _, _ := s.CountKeys(ctx)
		for _, k := range doomed {
			got, err := s.Key(ctx, k.ID)
			_, aliasErr := s.Alias(ctx, k.Alias)
			messages, messagesErr := s.ReserveMessages(ctx, k.ID, 1, 0)
			newErr := s.CheckNew(ctx, k.Alias, 10)
			_, tagged, listErr := s.ListKeys(ctx, kms.KeyFilter{Tags: []kms.TagValues{{Key: "n", Values: []string{k.Tags[0].Value}}}}, 0, 1)
			switch n {
			case 4:
				if !equal(got, k) || errors.Join(err, aliasErr, messagesErr, listErr) != nil || messages != 7 || newErr == nil || tagged != 1 {
					t.Errorf("step %d: key is not whole: %+v (%v, %v, %v, %v), %d messages", step, got, err, aliasErr, newErr, listErr, messages)
				}
			case 1:
				removed++
				if codeOf(err) != kms.CodeNotFound || codeOf(aliasErr) != kms.CodeNotFound || messages != 0 || newErr != nil || tagged != 0 {
					t.Errorf("step %d: something is left: %+v (%v, %v, %v), %d messages, %d by tag", step, got, err, aliasErr, newErr, messages, tagged)
				}
				if files := holds(t, dir, k.Versions[0].Sealed); len(files) > 0 {
					t.Errorf("step %d: a destroyed key is in %s", step, files)
				}
			default:
				t.Fatalf("step %d: %d keys", step, n)
			}
		}
		if got, err := s.Key(ctx, other.ID); err != nil || !equal(got, other) {
			t.Errorf("step %d: key that stays is %+v (%v)", step, got, err)
		}
	})
	if removed == 0 {
		t.Error("nothing was ever removed")
	}
}

// TestKilledDropper does the same with the material of a key that lives on.
func TestKilledDropper(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	k := sealedKey("drop")
	create(t, s, k)
	secrets := [][]byte{k.Versions[0].Sealed, reseal(t, s, k.ID)}
	s.Close()
	eachArrow(t, s.opts.Dir, "drop", func(dir string, step int) {
		s := open(t, Options{Dir: dir})
		defer s.Close()
		got, err := s.Key(ctx, k.ID)
		if err != nil {
			t.Fatal(err)
		}
		files := holds(t, dir, secrets...)
		switch sealed := got.Versions[0].Sealed; {
		case got.State == kms.PendingImport && (len(sealed) > 0 || len(files) > 0):
			t.Errorf("step %d: material was dropped but is in the key or in %s", step, files)
		case got.State == kms.Enabled && string(sealed) != string(secrets[1]):
			t.Errorf("step %d: material is lost", step)
		}
	})
}

// format1Key is a key with its record as format 1 had it.
func format1Key(sequence int, sealed []byte) (*kms.Key, []byte) {
	k := newKey(fmt.Sprint("key-", sequence))
	k.Versions[0].Sealed = sealed
	text, err := json.Marshal(storedKey1{
		Sequence: uint32(sequence), ID: k.ID, Alias: k.Alias, Description: k.Description, Spec: k.Spec, Usage: k.Usage, Origin: k.Origin,
		State: k.State, CreatedMS: k.CreatedAt.UnixMilli(), Versions: []storedVersion1{{
			Number: 1, CreatedMS: k.CreatedAt.UnixMilli(), Sealed: sealed, Root: 1, Protection: kms.ProtectionHSM, PublicKey: []byte("public"),
		}},
	})
	if err != nil {
		panic(err)
	}
	return k, append([]byte{1}, text...)
}

// TestKilledMigration kills a process at each step of the migration from format 1, with more keys than one transaction
// migrates, and holds that the next start ends it, with every key whole and nothing of the old format in the files.
func TestKilledMigration(t *testing.T) {
	const n = migrationBatch + 30
	dir := t.TempDir()
	keys := make(map[kms.KeyID]*kms.Key)
	var secrets [][]byte
	tamper(t, dir, func(txn *transaction) error {
		for i := range n {
			k, record := format1Key(i+1, randomSealed())
			keys[k.ID] = k
			secrets = append(secrets, k.Versions[0].Sealed)
			order := appendUint64([]byte{'o'}, uint64(i+1))
			if err := errors.Join(
				txn.Set(append([]byte{'k'}, k.ID[:]...), record), txn.Set(order, append(k.ID[:], "AES_256\x00Enabled"...)),
				txn.Set(aliasKey(k.Alias), k.ID[:]), txn.Set(messagesKey(k.ID, 1), appendUint64(nil, 5)),
			); err != nil {
				return err
			}
		}
		return errors.Join(txn.Set(countKey(), appendUint64(nil, n)), txn.Set(schemaKey(), []byte(`{"format":1,"tenant":"default"}`)))
	})
	some := slices.Collect(maps.Values(keys))[:20]
	eachArrow(t, dir, "migrate", func(dir string, step int) {
		s := open(t, Options{Dir: dir})
		defer s.Close()
		if count, _, _ := s.CountKeys(ctx); count != n {
			t.Fatalf("step %d: %d keys, want %d", step, count, n)
		}
		for _, k := range some {
			got, err := s.Key(ctx, k.ID)
			messages, messagesErr := s.ReserveMessages(ctx, k.ID, 1, 0)
			if err != nil || !equal(got, k) || messagesErr != nil || messages != 5 {
				t.Fatalf("step %d: key is %+v (%v, %v) with %d messages, want %+v", step, got, err, messagesErr, messages, k)
			}
		}
		checkNoFormat1(t, s, secrets)
	})
}
