package kms

import (
	"context"
	"slices"
	"testing"

	"github.com/keyside/keyside/policy"
)

var (
	allSpecs = []KeySpec{
		AES128, AES192, AES256, RSA2048, RSA3072, RSA4096, ECP256, ECP384, ECP521, Secp256k1, HMAC256, HMAC384, HMAC512, SM2, SM4,
	}
	allStates = []KeyState{Enabled, Disabled, PendingImport, PendingDeletion, Unavailable}
	allKinds  = []kind{symmetricKey, decryptingKey, signingKey, ellipticKey, agreementKey, macKey}
	// withoutKey are the operations that are about no one key.
	withoutKey = []policy.Operation{
		policy.OpCreateKey, policy.OpListKeys, policy.OpGenRandom, policy.OpHSMStatus, policy.OpReadAudit, policy.OpListTags, policy.OpFindKeys,
		policy.OpListAliases, policy.OpGetInstances, policy.OpGetQuotas, policy.OpCreateCredential, policy.OpListCredentials,
		policy.OpDeleteCredential, policy.OpCreateToken, "list-projects", "list-domains",
		policy.OpListRetirableGrants, policy.OpCanI, policy.OpCanIForOthers,
	}
	// ofAnyKind are the operations on a key that have nothing to do with its material.
	ofAnyKind = []policy.Operation{
		policy.OpDescribeKey, policy.OpEnableKey, policy.OpDisableKey, policy.OpScheduleDeletion, policy.OpCancelDeletion,
		policy.OpUpdateAlias, policy.OpUpdateDescription, policy.OpGetRotation, policy.OpTagKey, policy.OpUntagKey,
		policy.OpListKeyTags, policy.OpCreateAlias, policy.OpDeleteAlias, policy.OpAssociateAlias,
		policy.OpCreateGrant, policy.OpListGrants, policy.OpRevokeGrant, policy.OpRetireGrant,
	}
)

// TestTablesAreTotal holds that no operation on a key is left without an answer for some state or kind of key.
func TestTablesAreTotal(t *testing.T) {
	for _, op := range policy.Operations {
		if slices.Contains(withoutKey, op) == op.AboutKey() {
			t.Errorf("%s is about a key for policy: %v", op, op.AboutKey())
		}
		if slices.Contains(withoutKey, op) {
			continue
		}
		for _, state := range allStates {
			if _, ok := states[op][state]; !ok {
				t.Errorf("states has no entry for %s with a key that is %s", op, state)
			}
		}
		if _, ok := onDefaultKey[op]; !ok {
			t.Errorf("onDefaultKey has no entry for %s", op)
		}
		if slices.Contains(ofAnyKind, op) {
			continue
		}
		for _, k := range allKinds {
			if _, ok := kinds[op][k]; !ok {
				t.Errorf("kinds has no entry for %s with kind %d", op, k)
			}
		}
	}
	for _, spec := range allSpecs {
		if _, ok := usages[spec]; !ok {
			t.Errorf("usages has no entry for %s", spec)
		}
		for _, u := range usages[spec] {
			if (u.kind == signingKey || u.kind == ellipticKey) && len(algorithms[spec]) == 0 {
				t.Errorf("%s signs, but has no algorithms", spec)
			}
			asymmetric := u.kind != symmetricKey && u.kind != macKey
			if asymmetric != (moduli[spec] != 0 || fieldSizes[spec] != 0) {
				t.Errorf("%s for %s: asymmetric is %t, having a public key form is not", spec, u.usage, asymmetric)
			}
		}
	}
	for spec, algs := range algorithms {
		for _, alg := range algs {
			if schemes[alg].hash == 0 {
				t.Errorf("%s of %s has no scheme", alg, spec)
			}
		}
	}
}

// TestTablesHaveMessages holds that every code in a table has words for the client, and is in the closed list.
func TestTablesHaveMessages(t *testing.T) {
	check := func(code Code) {
		if code != allowed && (refusals[code] == "" || !slices.Contains(Codes, code)) {
			t.Errorf("code %s has no message or is not in Codes", code)
		}
	}
	for _, row := range states {
		for _, code := range row {
			check(code)
		}
	}
	for _, row := range kinds {
		for _, code := range row {
			check(code)
		}
	}
	for _, code := range onDefaultKey {
		check(code)
	}
}

// TestNoRuleRefuses holds that what a table does not know is refused, as an internal error.
func TestNoRuleRefuses(t *testing.T) {
	for name, err := range map[string]error{
		"operation":     checkState("delete-everything", Enabled),
		"default key":   checkKey("delete-everything", &Key{Service: "obs", State: Enabled}),
		"state":         checkState(policy.OpEncryptData, "Frozen"),
		"usage":         checkKind(policy.OpEncryptData, AES256, SignVerify),
		"spec":          checkKind(policy.OpEncryptData, SM4, EncryptDecrypt),
		"operationKind": checkKind(policy.OpDescribeKey, AES256, EncryptDecrypt),
	} {
		if err == nil || AsError(err).Code != CodeInternal {
			t.Errorf("unknown %s: %v, want an internal error", name, err)
		}
	}
	for _, spec := range allSpecs {
		if checkAlgorithm(spec, "SM2DSA_SM3") == nil {
			t.Errorf("%s takes an algorithm that is in no table", spec)
		}
	}
}

// oneKey is a store of one key.
type oneKey struct {
	Store
	key Key
}

func (o *oneKey) UpdateKey(_ context.Context, _ KeyID, change func(*Key) error) (*Key, error) {
	k := o.key
	if err := change(&k); err != nil {
		return nil, err
	}
	o.key = k
	return &k, nil
}

func (o *oneKey) Key(context.Context, KeyID) (*Key, error) { return &o.key, nil }
func (o *oneKey) Grants(KeyID) []*policy.Grant             { return nil }

type noAudit struct{}

func (noAudit) Record(context.Context, *AuditRecord) error { return nil }
func (noAudit) Ready(context.Context) error                { return nil }

// TestChangeIsDecidedForTheKey holds that who is allowed an operation for some keys changes none of the others: that is
// found out inside the transaction, and not when the change is made.
func TestChangeIsDecidedForTheKey(t *testing.T) {
	ctx := WithCall(context.Background(), &Call{Principal: policy.Principal{Name: "storage", Service: "obs"}})
	for service, want := range map[string]Code{"obs": "", "evs": CodeDenied, "": CodeDenied} {
		store := &oneKey{key: Key{Alias: "before", State: Enabled, Service: service}}
		s, err := New(Config{Store: store, HSM: struct{ HSM }{}, Auditor: noAudit{}, Tenant: "test"})
		if err != nil {
			t.Fatal(err)
		}
		// No operation that changes keys is allowed for some alone. One that reads is, and serves as such a one here.
		_, err = s.change(ctx, policy.OpDescribeKey, KeyID{}, nil, func(_ *request, key *Key) error {
			key.Alias = "after"
			return nil
		})
		if changed := store.key.Alias == "after"; changed != (want == "") || err != nil && AsError(err).Code != want {
			t.Errorf("key of %q: changed %t, %v", service, changed, err)
		}
	}
}
