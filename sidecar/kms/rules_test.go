package kms

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/keyside/keyside/policy"
)

var (
	allSpecs = []KeySpec{
		AES128, AES192, AES256, RSA2048, RSA3072, RSA4096, ECP256, ECP384, ECP521, Secp256k1, HMAC256, HMAC384, HMAC512, SM2, SM4,
	}
	allStates = []KeyState{Enabled, Disabled, PendingImport, PendingDeletion, Archived, Unavailable}
	allKinds  = []kind{symmetricKey, decryptingKey, signingKey, ellipticKey, agreementKey, macKey}
)

// TestTablesAreTotal holds that no operation on a key is left without an answer for some state or kind of key.
func TestTablesAreTotal(t *testing.T) {
	for _, op := range policy.Operations {
		row, ok := operations[op]
		if ok != op.AboutKey() {
			t.Errorf("%s has a row: %t, is about a key: %t", op, ok, op.AboutKey())
			continue
		}
		for _, state := range allStates {
			if _, has := row.states[state]; ok && !has {
				t.Errorf("%s has no rule for a key that is %s", op, state)
			}
		}
		for _, k := range allKinds {
			if _, has := row.kinds[k]; ok && !has {
				t.Errorf("%s has no rule for kind %d", op, k)
			}
		}
	}
	for op := range operations {
		if !slices.Contains(policy.Operations, op) {
			t.Errorf("%s has rules, and no caller can ask for it", op)
		}
	}
	for _, spec := range allSpecs {
		row := spec.row()
		if row.name != spec {
			t.Errorf("%s has no row", spec)
		}
		for _, u := range row.uses {
			if (u.kind == signingKey || u.kind == ellipticKey) && len(row.signing) == 0 {
				t.Errorf("%s signs, but has no algorithms", spec)
			}
			if (u.kind == symmetricKey || u.kind == decryptingKey) && len(row.encryption) == 0 {
				t.Errorf("%s encrypts, but has no algorithms", spec)
			}
			if (u.kind == macKey) != (row.mac != "") {
				t.Errorf("%s for %s has the MAC algorithm %q", spec, u.usage, row.mac)
			}
			if asymmetric := u.kind != symmetricKey && u.kind != macKey; asymmetric != row.asymmetric() || row.bits == 0 {
				t.Errorf("%s for %s: asymmetric is %t, having a public key form is not, or it has no bits", spec, u.usage, asymmetric)
			}
		}
		for _, alg := range row.signing {
			if schemes[alg].hash == 0 {
				t.Errorf("%s of %s has no scheme", alg, spec)
			}
		}
	}
	if len(specs) != len(allSpecs) {
		t.Errorf("%d specs have a row, allSpecs in rules_test.go lists %d", len(specs), len(allSpecs))
	}
}

// TestTablesHaveCodes holds that the code of every refusal in a table is in the closed list.
func TestTablesHaveCodes(t *testing.T) {
	for op, row := range operations {
		refusals := slices.AppendSeq(slices.Collect(maps.Values(row.states)), maps.Values(row.kinds))
		for _, e := range refusals {
			if e != nil && (!slices.Contains(Codes, e.Code) || e.Message == "") {
				t.Errorf("%s is refused with %v", op, e)
			}
		}
	}
}

// TestNoRuleRefuses holds that what a table does not know is refused, as an internal error.
func TestNoRuleRefuses(t *testing.T) {
	for name, err := range map[string]error{
		"operation":     checkState("delete-everything", Enabled),
		"default key":   coreRules.checkKey("delete-everything", &Key{Service: "obs", State: Enabled}),
		"state":         checkState(policy.OpEncryptData, "Frozen"),
		"usage":         checkKind(policy.OpEncryptData, AES256, SignVerify),
		"spec":          checkKind(policy.OpEncryptData, SM4, EncryptDecrypt),
		"operationKind": checkKind("delete-everything", AES256, EncryptDecrypt),
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
func (noAudit) Line(*AuditRecord) []byte                   { return nil }

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
