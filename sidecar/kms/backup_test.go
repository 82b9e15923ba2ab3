package kms_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

var operator = policy.Caller{UID: 7, Known: true}

// TestReapply makes changes again that came after a backup: what was taken away then is taken away, in the order of the records, and
// nothing else happens. Each has a record with the operator who restores. A second time does nothing.
func TestReapply(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := func(alias string) *kms.Key { return w.create(t, kms.CreateKeyInput{Alias: alias}) }
	granted, disabled, enabledAgain, scheduled, canceled, destroyed, kept := key("granted"), key("disabled"), key("enabled"), key("scheduled"), key("canceled"), key("destroyed"), key("kept")
	archived := key("archived")
	if _, err := w.ArchiveKey(admin, archived.ID); err != nil {
		t.Fatal(err)
	}
	external := w.external(t, "external", kms.AES256)
	if err := w.imports(t, external, bytes.Repeat([]byte{1}, 32), time.Time{}); err != nil {
		t.Fatal(err)
	}
	revoked := w.grant(t, admin, kms.CreateGrantInput{KeyID: granted.ID, Grantee: "app", Operations: ops(policy.OpEncryptData)})
	stays := w.grant(t, admin, kms.CreateGrantInput{KeyID: granted.ID, Grantee: "app", Operations: ops(policy.OpDecryptData)})
	gone, stayed := w.credential(t, kms.CreateCredentialInput{User: "app"}), w.credential(t, kms.CreateCredentialInput{User: "other"})
	unknown := uuid.NewString()
	lost := []kms.Lost{
		{Operation: policy.OpRevokeGrant, KeyID: granted.ID.String(), Target: revoked.ID + " to user app: encrypt-data"},
		{Operation: policy.OpRetireGrant, KeyID: unknown, Target: revoked.ID},
		{Operation: policy.OpDeleteCredential, Target: gone.AccessKey},
		{Operation: policy.OpDeleteCredential, Target: "AAAAAAAAAAAAAAAAAAAA"},
		{Operation: policy.OpDisableKey, KeyID: disabled.ID.String()},
		{Operation: policy.OpDisableKey, KeyID: unknown},
		{Operation: policy.OpDisableKey, KeyID: enabledAgain.ID.String()},
		{Operation: policy.OpEnableKey, KeyID: enabledAgain.ID.String()},
		{Operation: policy.OpScheduleDeletion, KeyID: scheduled.ID.String()},
		{Operation: policy.OpScheduleDeletion, KeyID: canceled.ID.String()},
		{Operation: policy.OpCancelDeletion, KeyID: canceled.ID.String()},
		{Operation: policy.OpScheduleDeletion, KeyID: archived.ID.String()},
		{Operation: policy.OpDestroyKey, KeyID: destroyed.ID.String()},
		{Operation: policy.OpDeleteMaterial, KeyID: external.String()},
		{Operation: policy.OpTagKey, KeyID: kept.ID.String()},
		{Operation: policy.OpCreateKey, KeyID: unknown},
	}
	w.audit.records = nil
	for range 2 {
		if err := w.Reapply(context.Background(), operator, lost); err != nil {
			t.Fatal(err)
		}
		var changed []string
		for _, r := range w.audit.records {
			if r.Outcome == "ok" {
				changed = append(changed, string(r.Operation)+" by "+r.Principal)
				if r.Principal == "restore" && (r.Caller != operator || r.By != "administrator") {
					t.Errorf("%s is recorded for %+v by %q", r.Operation, r.Caller, r.By)
				}
			}
		}
		want := []string{
			"revoke-grant by restore", "delete-credential by restore", "disable-key by restore", "disable-key by restore", "disable-key by restore",
			"enable-key by restore", "disable-key by restore",
			"schedule-key-deletion by restore", "destroy-key by scheduler", "delete-imported-key-material by restore",
		}
		if !slices.Equal(changed, want) {
			t.Errorf("records are %q, want %q", changed, want)
		}
	}
	if grants := w.store.Grants(granted.ID); len(grants) != 1 || grants[0].ID != stays.ID {
		t.Errorf("grants are %v", grants)
	}
	if list, err := w.ListCredentials(admin); err != nil || len(list) != 1 || list[0].AccessKey != stayed.AccessKey {
		t.Errorf("access keys are %v (%v)", list, err)
	}
	for id, want := range map[kms.KeyID]kms.KeyState{
		granted.ID: kms.Enabled, disabled.ID: kms.Disabled, enabledAgain.ID: kms.Enabled, scheduled.ID: kms.Disabled, canceled.ID: kms.Disabled, archived.ID: kms.Disabled,
		kept.ID: kms.Enabled, external: kms.PendingImport,
	} {
		if k := w.stored(t, id); k.State != want {
			t.Errorf("%s is %s, want %s", k.Alias, k.State, want)
		}
	}
	if _, err := w.store.Store.Key(context.Background(), destroyed.ID); !is(err, kms.CodeNotFound) {
		t.Errorf("the destroyed key: %v", err)
	}
	w.store.down = errors.New("disk")
	if err := w.Reapply(context.Background(), operator, lost); err == nil {
		t.Error("without a database everything is made again")
	}
}

// TestReapplied lists the operations that a restore makes again: each takes something away.
func TestReapplied(t *testing.T) {
	want := []policy.Operation{
		policy.OpCancelDeletion, policy.OpDeleteCredential, policy.OpDeleteMaterial, policy.OpDestroyKey, policy.OpDisableKey, policy.OpExpireMaterial,
		policy.OpRetireGrant, policy.OpRevokeGrant, policy.OpScheduleDeletion,
	}
	var have []policy.Operation
	for _, op := range slices.Concat(policy.Operations, policy.Scheduled) {
		if kms.Reapplied(op) {
			have = append(have, op)
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("made again are %q, want %q", have, want)
	}
}

// TestRecordRestore skips message numbers and records the restore in the same transaction.
func TestRecordRestore(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	w.encrypt(t, key.ID)
	before := w.store.reserved(t, key.ID, 1)
	in := kms.Restored{Caller: operator, Backup: "of today", Warning: "what is lost", Numbers: 5000}
	if err := w.RecordRestore(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	if got := w.store.reserved(t, key.ID, 1); got != before+5000 {
		t.Errorf("%d numbers are reserved, want %d", got, before+5000)
	}
	r := w.audit.last(t)
	if r.Operation != policy.OpRestoreBackup || r.Outcome != "ok" || r.Decision != "allow" || r.Caller != operator || r.Target != "of today" || r.Warning != "what is lost" || r.Change == 0 {
		t.Errorf("record is %+v", r)
	}
	w.audit.notReady = errors.New("disk")
	if err := w.RecordRestore(context.Background(), in); err == nil {
		t.Error("a restore without a record")
	}
}

// TestScheduledBackup records a backup of the scheduler with its outcome.
func TestScheduledBackup(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	for _, want := range []error{nil, errors.New("disk is full")} {
		err := w.ScheduledBackup(context.Background(), func(context.Context) (string, error) { return "name", want })
		if (err == nil) != (want == nil) {
			t.Errorf("%v became %v", want, err)
		}
		outcome := "ok"
		if want != nil {
			outcome = string(kms.CodeInternal)
		}
		if r := w.audit.last(t); r.Operation != policy.OpCreateBackup || r.Principal != "scheduler" || r.Target != "name" || r.KeyID != "" || r.Outcome != outcome {
			t.Errorf("record is %+v", r)
		}
	}
	w.audit.notReady = errors.New("disk")
	err := w.ScheduledBackup(context.Background(), func(context.Context) (string, error) {
		t.Error("a backup that cannot be recorded is made")
		return "", nil
	})
	if err == nil {
		t.Error("it succeeded")
	}
}

// TestCheckCredentials finds an access key that does not open.
func TestCheckCredentials(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	n := w.credential(t, kms.CreateCredentialInput{User: "app"})
	if err := w.CheckCredentials(context.Background()); err != nil {
		t.Fatal(err)
	}
	forged := n.Credential
	forged.AccessKey = "BBBBBBBBBBBBBBBBBBBB"
	if err := w.store.CreateCredential(context.Background(), &forged, 10); err != nil {
		t.Fatal(err)
	}
	if err := w.CheckCredentials(context.Background()); err == nil {
		t.Error("a forged access key is not found")
	}
}

// TestDrill uses a key of each kind, and notices each wrong answer of the HSM.
func TestDrill(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	for _, c := range []struct {
		spec  kms.KeySpec
		usage kms.KeyUsage
		op    string // whose answer is changed
	}{
		{kms.AES256, kms.EncryptDecrypt, "decrypt"}, {kms.RSA2048, kms.EncryptDecrypt, "decrypt-rsa"}, {kms.RSA2048, kms.SignVerify, "sign"},
		{kms.ECP256, kms.SignVerify, "sign"}, {kms.ECP384, kms.KeyAgreement, "derive"}, {kms.HMAC256, kms.GenerateVerifyMAC, "mac"},
	} {
		key := w.create(t, kms.CreateKeyInput{Alias: string(c.spec) + string(c.usage), Spec: c.spec, Usage: c.usage})
		v := key.Current()
		drill := func() error { return kms.Drill(context.Background(), w.hsm, key.Ref(v), v.PublicKey) }
		if err := drill(); err != nil {
			t.Errorf("%s: %v", key.Alias, err)
		}
		calls := 0
		w.hsm.hook = func(a *answer) {
			if calls++; a.op == c.op && (c.op != "mac" || calls > 1) {
				a.output, a.plaintext = slices.Clone(a.output), slices.Clone(a.plaintext)
				for _, b := range [][]byte{a.output, a.plaintext} {
					if len(b) > 0 {
						b[len(b)-1] ^= 1
					}
				}
			}
		}
		if drill() == nil {
			t.Errorf("%s: a wrong answer of %s is not noticed", key.Alias, c.op)
		}
		w.hsm.hook, w.hsm.down = nil, kms.Errorf(kms.CodeKeyUnavailable, "down")
		if drill() == nil {
			t.Errorf("%s works without an HSM", key.Alias)
		}
		w.hsm.down = nil
	}
	if err := kms.Drill(context.Background(), w.hsm, kms.KeyRef{Spec: kms.SM4, Usage: kms.EncryptDecrypt}, nil); err == nil {
		t.Error("a key of an unknown kind works")
	}
}
