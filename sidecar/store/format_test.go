package store

import (
	"archive/zip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/kms"
)

// unpack brings a database from testdata to a new directory.
func unpack(t *testing.T, name string) string {
	t.Helper()
	archive, err := zip.OpenReader(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	dir := t.TempDir()
	if err := os.CopyFS(dir, archive); err != nil {
		t.Fatal(err)
	}
	return dir
}

var goldenTime = time.UnixMilli(1767322800123).UTC()

func goldenID(n byte) kms.KeyID { return uuid.UUID{0: 0x6b, 6: 0x40, 8: 0x80, 15: n} }

// golden1 is what testdata/format1.zip has. It was written by the last version that wrote format 1.
var golden1 = []*kms.Key{
	{
		ID: goldenID(1), Alias: "orders/aes", Description: "für Bestellungen", Spec: kms.AES256, Usage: kms.EncryptDecrypt,
		Origin: kms.OriginKMS, State: kms.Enabled, CreatedAt: goldenTime,
		Versions: []kms.KeyVersion{
			{Number: 1, CreatedAt: goldenTime, Sealed: []byte("sealed material of orders, version 1"), Root: 1, Protection: kms.ProtectionHSM},
			{
				Number: 2, CreatedAt: goldenTime.Add(time.Hour), Sealed: []byte("sealed material of orders, version 2"), Root: 2,
				Protection: kms.ProtectionHSM,
			},
		},
	},
	{
		ID: goldenID(2), Alias: "release", Spec: kms.RSA2048, Usage: kms.SignVerify, Origin: kms.OriginKMS, State: kms.Disabled,
		CreatedAt: goldenTime.Add(time.Second),
		Versions: []kms.KeyVersion{{
			Number: 1, CreatedAt: goldenTime.Add(time.Second), Sealed: []byte("sealed material of release"), Root: 1,
			Protection: kms.ProtectionModuleUnenforced, PublicKey: []byte("public key of release"),
		}},
	},
	{
		ID: goldenID(3), Alias: "imported", Spec: kms.AES256, Usage: kms.EncryptDecrypt, Origin: kms.OriginExternal,
		State: kms.PendingImport, CreatedAt: goldenTime.Add(2 * time.Second),
	},
}

// golden2 is what testdata/format2.zip has.
var golden2 = []*kms.Key{
	{
		ID: goldenID(1), Alias: "orders/aes", Description: "für Bestellungen", Spec: kms.AES256, Usage: kms.EncryptDecrypt,
		Origin: kms.OriginKMS, State: kms.Enabled, CreatedAt: goldenTime,
		Versions: []kms.KeyVersion{
			{Number: 1, CreatedAt: goldenTime, Sealed: []byte("sealed material of orders, version 1"), Root: 1, Protection: kms.ProtectionHSM},
			{
				Number: 2, CreatedAt: goldenTime.Add(time.Hour), Sealed: []byte("sealed material of orders, version 2"), Root: 2,
				Protection: kms.ProtectionHSM,
			},
		},
		Rotation: kms.Rotation{
			Enabled: true, Interval: 30, Next: goldenTime.AddDate(0, 0, 30).Add(time.Hour), Last: goldenTime.Add(time.Hour), Count: 1,
		},
		Tags: []kms.Tag{{Key: "empty", Value: ""}, {Key: "größe", Value: "überall"}},
	},
	{
		ID: goldenID(2), Alias: "release", Spec: kms.RSA2048, Usage: kms.SignVerify, Origin: kms.OriginKMS, State: kms.PendingDeletion,
		CreatedAt: goldenTime.Add(time.Second), DeletionAt: goldenTime.AddDate(0, 0, 7),
		Versions: []kms.KeyVersion{{
			Number: 1, CreatedAt: goldenTime.Add(time.Second), Sealed: []byte("sealed material of release"), Root: 1,
			Protection: kms.ProtectionModuleUnenforced, PublicKey: []byte("public key of release"),
		}},
	},
	{
		ID: goldenID(3), Alias: "imported", Spec: kms.AES256, Usage: kms.EncryptDecrypt, Origin: kms.OriginExternal,
		State: kms.PendingImport, CreatedAt: goldenTime.Add(2 * time.Second),
		Versions: []kms.KeyVersion{{Number: 1, CreatedAt: goldenTime.Add(time.Minute), Root: 1, Protection: kms.ProtectionDriver}},
	},
	{
		ID: goldenID(4), Alias: "obs/default", Spec: kms.AES256, Usage: kms.EncryptDecrypt, Origin: kms.OriginKMS, State: kms.Enabled,
		CreatedAt: goldenTime.Add(3 * time.Second), Service: "obs",
		Versions: []kms.KeyVersion{{
			Number: 1, CreatedAt: goldenTime.Add(3 * time.Second), Sealed: []byte("sealed material of obs"), Root: 1, Protection: kms.ProtectionHSM,
		}},
	},
}

var goldenAliases = []kms.Alias{
	{Name: "alias/new", KeyID: goldenID(1), CreatedAt: goldenTime, UpdatedAt: goldenTime.Add(time.Minute)},
	{Name: "alias/old", KeyID: goldenID(1), CreatedAt: goldenTime, UpdatedAt: goldenTime},
}

func checkGolden(t *testing.T, s *Store, want []*kms.Key) {
	t.Helper()
	listed, total, err := s.ListKeys(ctx, kms.KeyFilter{}, 0, 100)
	if err != nil || total != len(want) {
		t.Fatalf("%d keys (%v), want %d", total, err, len(want))
	}
	for i, k := range want {
		if got, err := s.Key(ctx, k.ID); err != nil || !equal(got, k) {
			t.Errorf("key is %+v (%v), want %+v", got, err, k)
		}
		if !equal(listed[i], withoutMaterial(k)) {
			t.Errorf("key %d of the list is %+v", i, listed[i])
		}
		if err := s.CheckNew(ctx, k.Alias, 100); codeOf(err) != kms.CodeAlreadyExists {
			t.Errorf("alias of %s: %v", k.Alias, err)
		}
	}
}

// TestFormat1 holds that a database of format 1 opens, with all that it had, and that no file has its records any more.
func TestFormat1(t *testing.T) {
	s := open(t, Options{Dir: unpack(t, "format1.zip"), Tenant: "golden"})
	checkGolden(t, s, golden1)
	if n, err := s.ReserveMessages(ctx, goldenID(1), 1, 0); err != nil || n != 1<<20 {
		t.Errorf("%d messages are reserved (%v), want 2^20", n, err)
	}
	var secrets [][]byte
	for _, k := range golden1 {
		for _, v := range k.Versions {
			secrets = append(secrets, v.Sealed)
		}
	}
	checkNoFormat1(t, s, secrets)
}

// TestFormat2 holds that a database of format 2 opens, with all that it had. It is that of a process that was killed when it
// had removed a key, but not yet from the files.
func TestFormat2(t *testing.T) {
	dir := unpack(t, "format2.zip")
	secret := []byte("sealed material of a key that was destroyed")
	if len(holds(t, dir, secret)) == 0 {
		t.Fatal("testdata does not have what is to be purged")
	}
	s := open(t, Options{Dir: dir, Tenant: "golden"})
	checkGolden(t, s, golden2)
	if files := holds(t, dir, secret); len(files) > 0 {
		t.Errorf("a destroyed key is in %s", files)
	}
	if n, err := s.ReserveMessages(ctx, goldenID(1), 1, 0); err != nil || n != 1<<20 {
		t.Errorf("%d messages are reserved (%v), want 2^20", n, err)
	}
	id := goldenID(1)
	aliases, _, err := s.ListAliases(ctx, &id, "", 9)
	if err != nil || len(aliases) != 2 || *aliases[0] != goldenAliases[0] || *aliases[1] != goldenAliases[1] {
		t.Errorf("aliases are %v (%v)", aliases, err)
	}
	if keys, defaults, _ := s.CountKeys(ctx); keys != 3 || defaults != 1 {
		t.Errorf("%d and %d keys, want 3 and 1", keys, defaults)
	}
	due, next, _ := s.DueKeys(ctx, goldenTime.AddDate(0, 0, 7), 9)
	if len(due) != 1 || due[0] != goldenID(2) || !next.Equal(golden2[0].Rotation.Next) {
		t.Errorf("due are %v, then %s", due, next)
	}
}

// checkNoFormat1 looks for entries of format 1, and in the files for sealed bytes in Base64, which only they had.
func checkNoFormat1(t *testing.T, s *Store, secrets [][]byte) {
	t.Helper()
	s.db.View(func(txn *badger.Txn) error {
		for _, letter := range []byte("kox") {
			for key := range keysFrom(txn, []byte{letter}, nil) {
				t.Errorf("entry %x is still there", key)
			}
		}
		return nil
	})
	var records [][]byte
	for _, secret := range secrets {
		records = append(records, inBase64(secret))
	}
	if files := containing(t, s.opts.Dir, records); len(files) > 0 {
		t.Errorf("records of format 1 are in %s", files)
	}
}
