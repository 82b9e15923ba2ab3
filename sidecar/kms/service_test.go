package kms_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// operations does each operation once on a key, as well as it can be done.
func (w *world) operations(key *kms.Key, data, dataKey []byte) map[policy.Operation]func(context.Context) error {
	sign := kms.SignInput{KeyID: key.ID, Algorithm: kms.ECDSASHA256, Message: []byte("message")}
	if key.Spec == kms.RSA2048 {
		sign.Algorithm = kms.RSAPSSSHA256
	}
	encrypt := kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("secret")}
	decrypt := kms.DecryptInput{Ciphertext: data}
	if key.Spec == kms.RSA2048 && key.Usage == kms.EncryptDecrypt {
		encrypt.Algorithm = kms.RSAOAEPSHA256
		decrypt.Algorithm, decrypt.KeyID = kms.RSAOAEPSHA256, &key.ID
	}
	mac := kms.MACInput{KeyID: key.ID, Algorithm: kms.HMACSHA256, Message: []byte("message")}
	pair := func(ctx context.Context, spec kms.KeySpec) error {
		_, err := w.GenerateDataKeyPair(ctx, kms.DataKeyPairInput{KeyID: key.ID, Spec: spec})
		return err
	}
	calls := map[policy.Operation]func(context.Context) error{
		policy.OpDescribeKey: func(ctx context.Context) error { _, err := w.DescribeKey(ctx, key.ID); return err },
		policy.OpEnableKey:   func(ctx context.Context) error { _, err := w.EnableKey(ctx, key.ID); return err },
		policy.OpDisableKey:  func(ctx context.Context) error { _, err := w.DisableKey(ctx, key.ID); return err },
		policy.OpEncryptData: func(ctx context.Context) error { _, err := w.Encrypt(ctx, encrypt); return err },
		policy.OpDecryptData: func(ctx context.Context) error {
			_, err := w.Decrypt(ctx, decrypt)
			return err
		},
		policy.OpReEncrypt: func(ctx context.Context) error {
			_, err := w.ReEncrypt(ctx, kms.ReEncryptInput{Source: decrypt, Destination: encrypt})
			return err
		},
		policy.OpCreateRSAKeyPair: func(ctx context.Context) error { return pair(ctx, kms.RSA2048) },
		policy.OpCreateECKeyPair:  func(ctx context.Context) error { return pair(ctx, kms.ECP256) },
		policy.OpGenerateMAC:      func(ctx context.Context) error { _, err := w.GenerateMAC(ctx, mac); return err },
		policy.OpVerifyMAC:        func(ctx context.Context) error { _, err := w.VerifyMAC(ctx, mac, []byte("x")); return err },
		policy.OpDeriveSharedSecret: func(ctx context.Context) error {
			_, err := w.DeriveSharedSecret(ctx, kms.DeriveInput{KeyID: key.ID, PublicKey: ecPublic(kms.ECP256)})
			return err
		},
		policy.OpCreateDataKey: func(ctx context.Context) error {
			_, err := w.GenerateDataKey(ctx, kms.DataKeyInput{KeyID: key.ID, Bytes: 32})
			return err
		},
		policy.OpCreateDataKeyNoText: func(ctx context.Context) error {
			_, err := w.GenerateDataKey(ctx, kms.DataKeyInput{KeyID: key.ID, Bytes: 32, WithoutPlaintext: true})
			return err
		},
		policy.OpEncryptDataKey: func(ctx context.Context) error { _, err := w.EncryptDataKey(ctx, encrypt); return err },
		policy.OpDecryptDataKey: func(ctx context.Context) error {
			_, err := w.DecryptDataKey(ctx, kms.DecryptInput{Ciphertext: dataKey})
			return err
		},
		policy.OpSign: func(ctx context.Context) error { _, err := w.Sign(ctx, sign); return err },
		policy.OpVerify: func(ctx context.Context) error {
			_, err := w.Verify(ctx, kms.VerifyInput{
				KeyID: key.ID, Algorithm: sign.Algorithm, Message: sign.Message, Signature: []byte("x"),
			})
			return err
		},
		policy.OpGetPublicKey: func(ctx context.Context) error { _, err := w.PublicKey(ctx, key.ID); return err },
	}
	maps.Copy(calls, w.changes(key.ID))
	maps.Copy(calls, w.onGrants(key.ID))
	return calls
}

// changes does each operation on a key once that has nothing to do with its material.
func (w *world) changes(id kms.KeyID) map[policy.Operation]func(context.Context) error {
	withAlias := func(do func() error) error {
		now := time.Now()
		_ = w.store.Store.CreateAlias(context.Background(), kms.Alias{Name: "other", KeyID: id, CreatedAt: now, UpdatedAt: now}, 10)
		return do()
	}
	return map[policy.Operation]func(context.Context) error{
		policy.OpScheduleDeletion:  func(ctx context.Context) error { _, err := w.ScheduleKeyDeletion(ctx, id, 7); return err },
		policy.OpCancelDeletion:    func(ctx context.Context) error { _, err := w.CancelKeyDeletion(ctx, id); return err },
		policy.OpUpdateAlias:       func(ctx context.Context) error { _, err := w.UpdateAlias(ctx, id, "renamed"); return err },
		policy.OpUpdateDescription: func(ctx context.Context) error { _, err := w.UpdateDescription(ctx, id, "text"); return err },
		policy.OpSetDeletionProtection: func(ctx context.Context) error {
			_, err := w.SetDeletionProtection(ctx, id, kms.DeletionProtection{Description: "text"})
			return err
		},
		policy.OpCreateKeyVersion: func(ctx context.Context) error { _, err := w.CreateKeyVersion(ctx, id); return err },
		policy.OpEnableRotation:   func(ctx context.Context) error { _, err := w.EnableRotation(ctx, id, 0); return err },
		policy.OpUpdateRotation:   func(ctx context.Context) error { _, err := w.UpdateRotation(ctx, id, 30); return err },
		policy.OpDisableRotation:  func(ctx context.Context) error { _, err := w.DisableRotation(ctx, id); return err },
		policy.OpGetRotation:      func(ctx context.Context) error { _, err := w.RotationStatus(ctx, id); return err },
		policy.OpTagKey: func(ctx context.Context) error {
			_, err := w.SetTags(ctx, id, []kms.Tag{{Key: "a", Value: "b"}})
			return err
		},
		policy.OpUntagKey:    func(ctx context.Context) error { _, err := w.DeleteTags(ctx, id, []string{"a"}, false); return err },
		policy.OpListKeyTags: func(ctx context.Context) error { _, err := w.KeyTags(ctx, id); return err },
		policy.OpCreateAlias: func(ctx context.Context) error {
			_, err := w.CreateAlias(ctx, id, "alias-"+uuid.NewString())
			return err
		},
		policy.OpAssociateAlias: func(ctx context.Context) error {
			return withAlias(func() error { _, err := w.AssociateAlias(ctx, "other", id); return err })
		},
		policy.OpDeleteAlias: func(ctx context.Context) error {
			return withAlias(func() error { return w.DeleteAliases(ctx, id, []string{"other"}) })
		},
		policy.OpGetImportParameters: func(ctx context.Context) error {
			_, err := w.GetImportParameters(ctx, kms.ImportParametersInput{KeyID: id, Algorithm: kms.WrapOAEPSHA256})
			return err
		},
		policy.OpImportMaterial: func(ctx context.Context) error {
			_, err := w.ImportKeyMaterial(ctx, kms.ImportInput{KeyID: id, Token: []byte("token")})
			return err
		},
		policy.OpDeleteMaterial: func(ctx context.Context) error { _, err := w.DeleteImportedKeyMaterial(ctx, id); return err },
	}
}

// onGrants does each operation on a key's grants once.
func (w *world) onGrants(id kms.KeyID) map[policy.Operation]func(context.Context) error {
	withGrant := func(do func(id string) error) error {
		g := &policy.Grant{
			ID: fmt.Sprintf("%064x", time.Now().UnixNano()), Key: id, CreatedAt: time.Now(), Grantee: "app", Issuer: "owner",
			Operations: []policy.Operation{policy.OpEncryptData},
		}
		_ = w.store.Store.ChangeGrants(context.Background(), id, func(_ *kms.Key, grants []*policy.Grant) ([]*policy.Grant, error) {
			return []*policy.Grant{g}, nil
		})
		err := do(g.ID)
		_ = w.store.Store.ChangeGrants(context.Background(), id, func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error) { return nil, nil })
		return err
	}
	return map[policy.Operation]func(context.Context) error{
		policy.OpCreateGrant: func(ctx context.Context) error {
			_, err := w.CreateGrant(ctx, kms.CreateGrantInput{KeyID: id, Grantee: "app", Operations: []policy.Operation{policy.OpSign}})
			return err
		},
		policy.OpListGrants: func(ctx context.Context) error { _, err := w.ListGrants(ctx, id, 0, 0); return err },
		policy.OpRevokeGrant: func(ctx context.Context) error {
			return withGrant(func(grant string) error { return w.RevokeGrant(ctx, id, grant) })
		},
		policy.OpRetireGrant: func(ctx context.Context) error {
			return withGrant(func(grant string) error { return w.RetireGrant(ctx, id, grant) })
		},
	}
}

// keyKind is a spec with a usage.
type keyKind struct {
	spec  kms.KeySpec
	usage kms.KeyUsage
}

// keyKinds has one of each kind that the rules tell apart, and both specs that sign.
var keyKinds = []keyKind{
	{kms.AES256, kms.EncryptDecrypt}, {kms.RSA2048, kms.EncryptDecrypt}, {kms.RSA2048, kms.SignVerify},
	{kms.ECP256, kms.SignVerify}, {kms.ECP256, kms.KeyAgreement}, {kms.HMAC256, kms.GenerateVerifyMAC},
}

// byKind has the answers of using an Enabled key, for keyKinds in their order.
var byKind = map[policy.Operation]string{
	policy.OpEncryptData:         "ok ok InvalidKeyUsage/sign_verify InvalidKeyUsage/elliptic InvalidKeyUsage/key_agreement InvalidKeyUsage/mac",
	policy.OpDecryptData:         "ok ok InvalidCiphertext InvalidCiphertext InvalidCiphertext InvalidCiphertext",
	policy.OpReEncrypt:           "ok ok InvalidCiphertext InvalidCiphertext InvalidCiphertext InvalidCiphertext",
	policy.OpCreateDataKey:       "ok InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/mac",
	policy.OpCreateDataKeyNoText: "ok InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/mac",
	policy.OpCreateRSAKeyPair:    "ok InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/mac",
	policy.OpCreateECKeyPair:     "ok InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/mac",
	policy.OpEncryptDataKey:      "ok InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/asymmetric InvalidKeyUsage/mac",
	policy.OpDecryptDataKey:      "ok InvalidCiphertext InvalidCiphertext InvalidCiphertext InvalidCiphertext InvalidCiphertext",
	policy.OpSign:                "InvalidKeyUsage/symmetric InvalidKeyUsage/encrypt_decrypt ok ok InvalidKeyUsage/key_agreement InvalidKeyUsage/mac",
	policy.OpVerify:              "InvalidKeyUsage/symmetric InvalidKeyUsage/encrypt_decrypt ok ok InvalidKeyUsage/key_agreement InvalidKeyUsage/mac",
	policy.OpCreateKeyVersion:    "InvalidKeyUsage/symmetric ok ok ok ok InvalidKeyUsage/mac",
	policy.OpGetPublicKey:        "InvalidKeyUsage/symmetric ok ok ok ok InvalidKeyUsage/mac",
	policy.OpGenerateMAC:         "InvalidKeyUsage/symmetric InvalidKeyUsage/encrypt_decrypt InvalidKeyUsage/sign_verify InvalidKeyUsage/sign_verify InvalidKeyUsage/key_agreement ok",
	policy.OpVerifyMAC:           "InvalidKeyUsage/symmetric InvalidKeyUsage/encrypt_decrypt InvalidKeyUsage/sign_verify InvalidKeyUsage/sign_verify InvalidKeyUsage/key_agreement ok",
	policy.OpDeriveSharedSecret:  "InvalidKeyUsage/symmetric InvalidKeyUsage/encrypt_decrypt InvalidKeyUsage/sign_verify InvalidKeyUsage/sign_verify ok InvalidKeyUsage/mac",
}

// TestOperationsByStateAndKind runs every operation on keys of every kind in every state. Each row has the answers for
// Enabled, Disabled, PendingImport, PendingDeletion and Archived.
func TestOperationsByStateAndKind(t *testing.T) {
	all := func(code string) string { return strings.Repeat(code+" ", 5) }
	rotation := func(spec kms.KeySpec, symmetric string) string {
		code := map[kms.KeySpec]string{kms.AES256: symmetric, kms.HMAC256: "InvalidKeyUsage/mac"}[spec]
		return cmp.Or(code, "InvalidKeyUsage/asymmetric") + " KeyDisabled InvalidOrigin/external KeyPendingDeletion KeyArchived"
	}
	states := []kms.KeyState{kms.Enabled, kms.Disabled, kms.PendingImport, kms.PendingDeletion, kms.Archived}
	for n, k := range keyKinds {
		rows := map[policy.Operation]string{
			policy.OpDescribeKey: all("ok"),
			policy.OpEnableKey:   "KeyNotDisabled ok KeyNotDisabled KeyNotDisabled ok",
			policy.OpDisableKey:  "ok KeyNotEnabled KeyNotEnabled KeyNotEnabled KeyNotEnabled",

			policy.OpScheduleDeletion: "ok ok ok KeyPendingDeletion ok",
			policy.OpCancelDeletion:   "KeyNotPendingDeletion KeyNotPendingDeletion KeyNotPendingDeletion ok KeyNotPendingDeletion",
			policy.OpGetRotation:      all("ok"),
			policy.OpCreateGrant:      "ok KeyDisabled KeyPendingImport KeyPendingDeletion KeyArchived",
			policy.OpListGrants:       all("ok"),
			policy.OpRevokeGrant:      all("ok"),
			policy.OpRetireGrant:      all("ok"),
			policy.OpListKeyTags:      all("ok"),
			policy.OpEnableRotation:   rotation(k.spec, "ok"),
			policy.OpUpdateRotation:   rotation(k.spec, "RotationDisabled"),
			policy.OpDisableRotation:  rotation(k.spec, "RotationDisabled"),

			policy.OpGetImportParameters: all("InvalidOrigin/generated"), policy.OpImportMaterial: all("InvalidOrigin/generated"),
			policy.OpDeleteMaterial: all("InvalidOrigin/generated"),
		}
		for _, op := range []policy.Operation{
			policy.OpUpdateAlias, policy.OpUpdateDescription, policy.OpSetDeletionProtection, policy.OpTagKey, policy.OpUntagKey, policy.OpCreateAlias,
			policy.OpAssociateAlias, policy.OpDeleteAlias,
		} {
			rows[op] = "ok ok ok KeyPendingDeletion ok"
		}
		for op, answers := range byKind {
			code := strings.Fields(answers)[n]
			archived := "KeyArchived"
			if k.spec == kms.AES256 && (op == policy.OpDecryptData || op == policy.OpDecryptDataKey) {
				archived = "ok"
			}
			if rows[op] = code + " KeyDisabled KeyPendingImport KeyPendingDeletion " + archived; code == "InvalidCiphertext" {
				// Nothing can be decrypted by a key that encrypts nothing: a header that names it is no ciphertext, in any state.
				rows[op] = all(code)
			}
		}
		for i, state := range states {
			w := newWorld(t, kms.Limits{})
			key := w.create(t, kms.CreateKeyInput{Spec: k.spec, Usage: k.usage})
			data, dataKey := w.ciphertexts(t, key)
			for op, do := range w.operations(key, data, dataKey) {
				w.set(key.ID, func(k *kms.Key) { k.State, k.Rotation = state, kms.Rotation{} })
				t.Run(fmt.Sprintf("%s/%s/%s/%s", k.spec, k.usage, state, op), func(t *testing.T) {
					code := kms.Code(strings.Fields(rows[op])[i])
					err := do(admin)
					wantCode(t, err, code)
					rec := w.audit.last(t)
					if rec.Operation != op || !recorded(&rec, err) || rec.KeyID != key.ID.String() || rec.Decision != "allow" {
						if (op == policy.OpDecryptData || op == policy.OpDecryptDataKey) && code == kms.CodeInvalidCiphertext {
							return // these may not know a key
						}
						t.Errorf("audited as %+v", rec)
					}
				})
			}
		}
	}
}

// ciphertexts makes data and a data key with a symmetric key, or headers that name a key of another kind. For an RSA key
// that decrypts, the data is a block.
func (w *world) ciphertexts(t *testing.T, key *kms.Key) (data, dataKey []byte) {
	source := key
	if key.Spec != kms.AES256 {
		source = w.create(t, kms.CreateKeyInput{Alias: "symmetric"})
	}
	d, err := w.Encrypt(admin, kms.EncryptInput{KeyID: source.ID, Plaintext: []byte("secret")})
	wantCode(t, err, "ok")
	k, err := w.GenerateDataKey(admin, kms.DataKeyInput{KeyID: source.ID, Bytes: 16})
	wantCode(t, err, "ok")
	copy(d.Ciphertext[8:24], key.ID[:])
	copy(k.Ciphertext[8:24], key.ID[:])
	if key.Spec == kms.RSA2048 && key.Usage == kms.EncryptDecrypt {
		d, err = w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("secret")})
		wantCode(t, err, "ok")
	}
	return d.Ciphertext, k.Ciphertext
}

// ecPublic returns the public half of a new elliptic key.
func ecPublic(spec kms.KeySpec) []byte {
	made, err := newHSM().MakeKey(context.Background(), kms.KeyRef{Spec: spec})
	if err != nil {
		panic(err)
	}
	return made.PublicKey
}

// set changes a stored key behind the service's back.
func (w *world) set(id kms.KeyID, change func(*kms.Key)) {
	_, err := w.store.Store.UpdateKey(context.Background(), id, func(k *kms.Key) error { change(k); return nil })
	if err != nil {
		panic(err)
	}
}

// state tells what an operation on a key might have changed.
func (w *world) state(t testing.TB, id kms.KeyID) string {
	t.Helper()
	n, defaults, err := w.store.CountKeys(admin)
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.store.Store.Key(admin, id)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(n, defaults, w.store.reserved(t, id, 1), *k)
}

// ofAnybody is what every principal may do.
var ofAnybody = []policy.Operation{"list-projects", "list-domains", "list-regions", "list-algorithms", "get-account-status", policy.OpListRetirableGrants, policy.OpCanI}

// everyCall does every operation of the service once.
func (w *world) everyCall(key *kms.Key, data, dataKey []byte) map[policy.Operation]func(context.Context) error {
	calls := w.operations(key, data, dataKey)
	calls[policy.OpCreateKey] = func(ctx context.Context) error {
		_, err := w.CreateKey(ctx, kms.CreateKeyInput{Alias: "another"})
		return err
	}
	calls[policy.OpListKeys] = func(ctx context.Context) error { _, err := w.ListKeys(ctx, kms.ListKeysInput{}); return err }
	calls[policy.OpListTags] = func(ctx context.Context) error { _, err := w.ListTags(ctx); return err }
	calls[policy.OpFindKeys] = func(ctx context.Context) error { _, err := w.FindKeys(ctx, kms.FindKeysInput{}); return err }
	calls[policy.OpListAliases] = func(ctx context.Context) error {
		_, err := w.ListAliases(ctx, kms.ListAliasesInput{KeyID: &key.ID})
		return err
	}
	calls[policy.OpGetQuotas] = func(ctx context.Context) error { _, err := w.Quotas(ctx); return err }
	calls[policy.OpGetInstances] = func(ctx context.Context) error { _, err := w.CountKeys(ctx); return err }
	calls[policy.OpGenRandom] = func(ctx context.Context) error { _, err := w.Random(ctx, 16); return err }
	calls[policy.OpCreateCredential] = func(ctx context.Context) error {
		_, err := w.CreateCredential(ctx, kms.CreateCredentialInput{User: "app"})
		return err
	}
	calls[policy.OpConfirmDeletions] = func(ctx context.Context) error { _, err := w.ConfirmDeletions(ctx); return err }
	calls[policy.OpListCredentials] = func(ctx context.Context) error { _, err := w.ListCredentials(ctx); return err }
	calls[policy.OpDeleteCredential] = func(ctx context.Context) error {
		return w.DeleteCredential(ctx, "AAAAAAAAAAAAAAAAAAAA")
	}
	calls[policy.OpCreateToken] = func(ctx context.Context) error {
		_, err := w.CreateToken(ctx, kms.CreateTokenInput{})
		return err
	}
	calls[policy.OpCreateTokenFor] = func(ctx context.Context) error {
		_, err := w.CreateToken(ctx, kms.CreateTokenInput{User: "signer"})
		return err
	}
	calls[policy.OpReadAudit] = func(ctx context.Context) error { return w.AdmitAbout(ctx, policy.OpReadAudit, "tail") }
	calls[policy.OpCreateBackup] = func(ctx context.Context) error { return w.Admit(ctx, policy.OpCreateBackup) }
	for _, op := range ofAnybody {
		calls[op] = func(ctx context.Context) error { return w.Admit(ctx, op) }
	}
	calls[policy.OpListRetirableGrants] = func(ctx context.Context) error {
		_, err := w.ListRetirableGrants(ctx, 0, 0)
		return err
	}
	calls[policy.OpCanI] = func(ctx context.Context) error {
		_, err := w.CanI(ctx, kms.CanIInput{Operation: policy.OpEncryptData, Key: key.ID.String()})
		return err
	}
	calls[policy.OpCanIForOthers] = func(ctx context.Context) error {
		_, err := w.CanI(ctx, kms.CanIInput{Operation: policy.OpEncryptData, Key: key.ID.String(), As: "another-user"})
		return err
	}
	return calls
}

// TestRefusals holds that no operation runs without a caller, without a right or without an audit log, that each refusal
// is recorded, and that it changes nothing.
func TestRefusals(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.AES256})
	unknown := &kms.Key{ID: uuid.New(), Spec: kms.AES256}
	data, dataKey := w.ciphertexts(t, key)
	calls := w.everyCall(key, data, dataKey)
	for _, op := range policy.Operations {
		if calls[op] == nil && op != policy.OpHSMStatus {
			t.Errorf("%s is not tested here", op)
		}
	}
	for op, do := range calls {
		for name, ctx := range map[string]context.Context{"no call": context.Background(), "anonymous": anonymous(), "user": user} {
			if name == "user" && slices.Contains(ofAnybody, op) {
				continue
			}
			wantCode(t, do(ctx), kms.CodeDenied)
			if rec := w.audit.last(t); rec.Operation != op || rec.Decision != "deny" || rec.Outcome != "Denied" || rec.By == "" {
				t.Errorf("%s by %s is audited as %+v", op, name, rec)
			}
			if do := w.everyCall(unknown, data, dataKey)[op]; do(ctx).Error() != w.everyCall(key, data, dataKey)[op](ctx).Error() {
				t.Errorf("%s by %s tells whether the key is there", op, name)
			}
		}
	}
	if n, _, _ := w.store.CountKeys(admin); n != 1 {
		t.Errorf("there are %d keys, want 1", n)
	}
}

// TestNoAuditNoAnswer holds that an operation whose record cannot be written fails, unless it made a change, whose record is in the
// outbox; and that none begins while the log is known to be down.
func TestNoAuditNoAnswer(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.AES256})
	data, dataKey := w.ciphertexts(t, key)
	for op, do := range w.everyCall(key, data, dataKey) {
		w.audit.down = errors.New("disk full")
		recorded := w.store.LastRecorded()
		if err := do(admin); w.store.LastRecorded() > recorded {
			wantCode(t, err, "ok")
		} else {
			wantCode(t, err, kms.CodeInternal)
		}
		wantCode(t, do(anonymous()), kms.CodeInternal)
		w.audit.down = nil
		w.audit.notReady = errors.New("disk full")
		before := w.state(t, key.ID)
		wantCode(t, do(admin), kms.CodeInternal)
		if after := w.state(t, key.ID); after != before {
			t.Errorf("%s did something while the audit log was down: %s became %s", op, before, after)
		}
		w.audit.notReady = nil
		w.set(key.ID, func(k *kms.Key) { k.State = kms.Enabled })
	}
	wantCode(t, w.Refuse(admin, policy.OpSign, kms.Errorf(kms.CodeInvalidRequest, "x")), kms.CodeInvalidRequest)
	if rec := w.audit.last(t); rec.Operation != policy.OpSign || rec.Outcome != "InvalidRequest" {
		t.Errorf("refusal of a dialect is audited as %+v", rec)
	}
	w.audit.down = errors.New("disk full")
	wantCode(t, w.Refuse(admin, policy.OpSign, kms.Errorf(kms.CodeInvalidRequest, "x")), kms.CodeInternal)
}

// TestAuditRecord holds what a record says, and that it says nothing of the content.
func TestAuditRecord(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.AES256})
	_, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("topsecret"), AAD: []byte("topsecret")})
	wantCode(t, err, "ok")
	rec := w.audit.last(t)
	if rec.Time.IsZero() || rec.Latency <= 0 {
		t.Errorf("no time in %+v", rec)
	}
	rec.Time, rec.Latency = rec.Time.Truncate(0), 0
	want := kms.AuditRecord{
		Time: rec.Time, RequestID: "req-1", Operation: policy.OpEncryptData, Trace: "encryptData", Dialect: "test", Tenant: "test", Principal: "owner",
		Caller: policy.Caller{UID: 7, GID: 8, PID: 9, Known: true}, KeyID: key.ID.String(), Version: 1,
		Decision: "allow", By: "administrator", Outcome: "ok", Protect: kms.ProtectionHSM,
	}
	if rec != want {
		t.Errorf("got  %+v\nwant %+v", rec, want)
	}
}

// TestHostileHSM holds that no answer of an HSM that cannot be right gets through, and that none is stored.
func TestHostileHSM(t *testing.T) {
	var lastIV []byte
	for name, tamper := range map[string]func(*answer){
		"encrypt: short IV":         func(a *answer) { a.iv = a.iv[:11] },
		"encrypt: zero IV":          func(a *answer) { clear(a.iv) },
		"encrypt: same IV again":    func(a *answer) { lastIV = append(lastIV, a.iv...)[:12]; a.iv = lastIV },
		"encrypt: short ciphertext": func(a *answer) { a.output = a.output[:len(a.output)-1] },
		"encrypt: long ciphertext":  func(a *answer) { a.output = append(a.output, 0) },
		"encrypt: no ciphertext":    func(a *answer) { a.output = nil },
		"decrypt: short plaintext":  func(a *answer) { a.plaintext = a.plaintext[1:] },
		"decrypt: long plaintext":   func(a *answer) { a.plaintext = append(a.plaintext, 0) },
		"datakey: short":            func(a *answer) { a.plaintext = a.plaintext[1:] },
		"datakey: zero":             func(a *answer) { clear(a.plaintext) },
		"datakey: other length":     func(a *answer) { a.output = a.output[:len(a.output)-1] },
		"random: short":             func(a *answer) { a.output = a.output[1:] },
		"random: zero":              func(a *answer) { clear(a.output) },
		"sign: bit flipped":         func(a *answer) { a.output[len(a.output)/2] ^= 1 },
		"sign: empty":               func(a *answer) { a.output = nil },
		"decrypt-rsa: too long":     func(a *answer) { a.plaintext = make([]byte, 191) },
		"mac: short":                func(a *answer) { a.output = a.output[1:] },
		"mac: long":                 func(a *answer) { a.output = append(a.output, 0) },
		"mac: zero":                 func(a *answer) { clear(a.output) },
		"mac: none":                 func(a *answer) { a.output = nil },
		"derive: short":             func(a *answer) { a.output = a.output[1:] },
		"derive: long":              func(a *answer) { a.output = append(a.output, 0) },
		"derive: zero":              func(a *answer) { clear(a.output) },
		"derive: none":              func(a *answer) { a.output = nil },
		"make: nothing":             func(a *answer) { a.sealed = nil },
		"make: empty":               func(a *answer) { a.sealed.Sealed = nil },
		"make: huge":                func(a *answer) { a.sealed.Sealed = make([]byte, 1<<20) },
		"make: protection":          func(a *answer) { a.sealed.Protection = "trust me" },
		"make: no public key":       func(a *answer) { a.sealed.PublicKey = nil },
		"make: other public key":    func(a *answer) { a.sealed.PublicKey = rsaPublic() },
		"make: garbage public key":  func(a *answer) { a.sealed.PublicKey = []byte("key") },
		"import: nothing":           func(a *answer) { a.sealed = nil },
		"import: empty":             func(a *answer) { a.sealed.Sealed = nil },
		"import: protection":        func(a *answer) { a.sealed.Protection = "trust me" },
		"import: public key":        func(a *answer) { a.sealed.PublicKey = rsaPublic() },
		"import: no check value":    func(a *answer) { a.sealed.CheckValue = nil },
		"import: zero check value":  func(a *answer) { clear(a.sealed.CheckValue) },
		"import: opened nowhere":    func(a *answer) { a.sealed.OpenedIn = "" },
		"tenant-mac: short":         func(a *answer) { a.output = a.output[1:] },
		"tenant-mac: zero":          func(a *answer) { clear(a.output) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, kms.Limits{})
			op, _, _ := strings.Cut(name, ":")
			aes := w.create(t, kms.CreateKeyInput{Spec: kms.AES256})
			ec := w.create(t, kms.CreateKeyInput{Spec: kms.ECP256})
			rsa := w.create(t, kms.CreateKeyInput{Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
			mac := w.create(t, kms.CreateKeyInput{Spec: kms.HMAC256})
			agree := w.create(t, kms.CreateKeyInput{Alias: "agree", Spec: kms.ECP256, Usage: kms.KeyAgreement})
			block, err := w.Encrypt(admin, kms.EncryptInput{KeyID: rsa.ID, Algorithm: kms.RSAOAEPSHA256, Plaintext: []byte("plain")})
			wantCode(t, err, "ok")
			c, err := w.Encrypt(admin, kms.EncryptInput{KeyID: aes.ID, Plaintext: []byte("plain")})
			wantCode(t, err, "ok")
			external := w.external(t, "external", kms.AES256)
			material := in(w.parameters(t, external, kms.WrapOAEPSHA256), ours)
			w.hsm.hook = func(a *answer) {
				if a.op == op {
					tamper(a)
				}
			}
			do := map[string]func() error{
				"encrypt": func() error {
					var err error
					for range 2 { // the second time the IV is not new
						_, err = w.Encrypt(admin, kms.EncryptInput{KeyID: aes.ID, Plaintext: []byte("plain")})
					}
					return err
				},
				"decrypt": func() error { _, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: c.Ciphertext}); return err },
				"datakey": func() error {
					_, err := w.GenerateDataKey(admin, kms.DataKeyInput{KeyID: aes.ID, Bytes: 32})
					return err
				},
				"random": func() error { _, err := w.Random(admin, 32); return err },
				"sign": func() error {
					_, err := w.Sign(admin, kms.SignInput{KeyID: ec.ID, Algorithm: kms.ECDSASHA256, Message: []byte("m")})
					return err
				},
				"decrypt-rsa": func() error {
					_, err := w.Decrypt(admin, kms.DecryptInput{KeyID: &rsa.ID, Algorithm: kms.RSAOAEPSHA256, Ciphertext: block.Ciphertext})
					return err
				},
				"mac": func() error {
					in := kms.MACInput{KeyID: mac.ID, Algorithm: kms.HMACSHA256, Message: []byte("m")}
					_, err := w.VerifyMAC(admin, in, make([]byte, 32)) // the MAC that a broken HSM would give
					wantCode(t, err, kms.CodeInternal)
					_, err = w.GenerateMAC(admin, in)
					return err
				},
				"derive": func() error {
					_, err := w.DeriveSharedSecret(admin, kms.DeriveInput{KeyID: agree.ID, PublicKey: ecPublic(kms.ECP256)})
					return err
				},
				"import": func() error { _, err := w.ImportKeyMaterial(admin, material); return err },
				"tenant-mac": func() error {
					_, err := w.ImportKeyMaterial(admin, material)
					wantCode(t, err, kms.CodeInternal)
					_, err = w.GetImportParameters(admin, kms.ImportParametersInput{KeyID: external, Algorithm: kms.WrapOAEPSHA256})
					return err
				},
				"make": func() error {
					_, err := w.GetImportParameters(admin, kms.ImportParametersInput{KeyID: external, Algorithm: kms.WrapOAEPSHA256})
					if name != "make: other public key" { // that one fits
						wantCode(t, err, kms.CodeInternal)
					}
					_, err = w.CreateKey(admin, kms.CreateKeyInput{Alias: "new", Spec: kms.ECP256})
					return err
				},
			}[op]
			wantCode(t, do(), kms.CodeInternal)
			if n, _, _ := w.store.CountKeys(admin); n != 6 {
				t.Errorf("there are %d keys, want 6", n)
			}
			if key := w.stored(t, external); key.State != kms.PendingImport || key.CheckValue != nil {
				t.Errorf("the external key is %+v", key)
			}
		})
	}
}

// TestPublicKeyOfAnotherSize holds that a key of another size than the spec's is not taken for it.
func TestPublicKeyOfAnotherSize(t *testing.T) {
	made := newHSM()
	p384, err := made.MakeKey(context.Background(), kms.KeyRef{Spec: kms.ECP384})
	if err != nil {
		t.Fatal(err)
	}
	for spec, public := range map[kms.KeySpec][]byte{kms.RSA3072: rsaPublic(), kms.ECP256: p384.PublicKey} {
		w := newWorld(t, kms.Limits{})
		w.hsm.hook = func(a *answer) { a.sealed.PublicKey = public }
		_, err := w.CreateKey(admin, kms.CreateKeyInput{Alias: "a", Spec: spec})
		wantCode(t, err, kms.CodeInternal)
	}
}

func rsaPublic() []byte {
	h := newHSM()
	sealed, err := h.MakeKey(context.Background(), kms.KeyRef{Spec: kms.RSA2048})
	if err != nil {
		panic(err)
	}
	return sealed.PublicKey
}

// TestSwappedSeals holds that exchanging the sealed material of two keys in the database makes neither work as the other.
func TestSwappedSeals(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	a, b := w.create(t, kms.CreateKeyInput{Alias: "a"}), w.create(t, kms.CreateKeyInput{Alias: "b"})
	c, err := w.Encrypt(admin, kms.EncryptInput{KeyID: a.ID, Plaintext: []byte("plain")})
	wantCode(t, err, "ok")
	sealedA, sealedB := a.Versions[0].Sealed, b.Versions[0].Sealed
	swap := func(id kms.KeyID, sealed []byte) {
		w.set(id, func(k *kms.Key) {
			k.Versions = []kms.KeyVersion{k.Versions[0]}
			k.Versions[0].Sealed = sealed
		})
	}
	swap(a.ID, sealedB)
	swap(b.ID, sealedA)
	for _, id := range []kms.KeyID{a.ID, b.ID} {
		_, err := w.Encrypt(admin, kms.EncryptInput{KeyID: id, Plaintext: []byte("plain")})
		wantCode(t, err, kms.CodeKeyUnavailable)
	}
	_, err = w.Decrypt(admin, kms.DecryptInput{Ciphertext: c.Ciphertext})
	wantCode(t, err, kms.CodeKeyUnavailable)
	swap(a.ID, sealedA)
	out, err := w.Decrypt(admin, kms.DecryptInput{Ciphertext: c.Ciphertext})
	wantCode(t, err, "ok")
	if !bytes.Equal(out.Plaintext, []byte("plain")) {
		t.Errorf("decrypted %q", out.Plaintext)
	}
}

// TestEndedContext holds that a request whose time is over does nothing and says so.
func TestEndedContext(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	ctx, cancel := context.WithCancel(admin)
	cancel()
	_, err := w.CreateKey(ctx, kms.CreateKeyInput{Alias: "late"})
	wantCode(t, err, kms.CodeDeadlineExceeded)
	if rec := w.audit.last(t); rec.Outcome != "DeadlineExceeded" {
		t.Errorf("audited as %+v", rec)
	}
}

// TestUnderway holds that a record says how many operations are still to be recorded, and that none stays counted, also where
// one ended in a panic.
func TestUnderway(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	if rec := w.audit.last(t); rec.InFlight != 0 {
		t.Errorf("one operation alone is recorded among %d", rec.InFlight)
	}
	encrypt := func() {
		_, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("p")})
		wantCode(t, err, "ok")
	}
	w.hsm.hook = func(*answer) {
		w.hsm.hook = nil
		_, err := w.DescribeKey(admin, key.ID)
		wantCode(t, err, "ok")
		if rec := w.audit.last(t); rec.InFlight != 1 {
			t.Errorf("an operation beside another is recorded among %d", rec.InFlight)
		}
	}
	encrypt()
	w.hsm.hook = func(*answer) { panic("in the HSM") }
	func() {
		defer func() { recover() }()
		encrypt()
	}()
	w.hsm.hook = nil
	encrypt()
	if rec := w.audit.last(t); rec.InFlight != 0 {
		t.Errorf("afterwards an operation is recorded among %d", rec.InFlight)
	}
}
