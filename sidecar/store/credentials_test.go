package store

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

func newCredential(accessKey, user string, second int64) *kms.Credential {
	return &kms.Credential{
		AccessKey: accessKey, User: user, Role: map[string]policy.Role{"root": policy.Administrator, "audit": policy.Auditor}[user], CreatedAt: time.Unix(second, 123e6).UTC(), Sealed: []byte("sealed " + user),
	}
}

func newToken(n byte, user string, second int64) *kms.Token {
	return &kms.Token{Hash: [32]byte{n, 31: n}, User: user, Service: "obs", ExpiresAt: time.Unix(second, 5e6).UTC(), Sealed: []byte{n}}
}

// TestCredentialsOutliveTheProcess holds that access keys, tokens and the key that seals them are whole after the database
// was opened again, and that none of them is among the customers' keys.
func TestCredentialsOutliveTheProcess(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	if _, err := s.CredentialKey(ctx); codeOf(err) != kms.CodeNotFound {
		t.Errorf("credential key of a new database: %v", err)
	}
	key := newKey("credentials")
	for _, k := range []*kms.Key{key, newKey("another")} {
		if got, err := s.CreateCredentialKey(ctx, k); err != nil || got.ID != key.ID {
			t.Errorf("credential key %v, %v; want the first one", got, err)
		}
	}
	create(t, s, newKey("customer"))
	first, second := newCredential("ZZZ", "root", 1), newCredential("AAA", "app", 2)
	token := newToken(7, "app", 3)
	for _, c := range []*kms.Credential{first, second} {
		if err := s.CreateCredential(ctx, c, 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CreateToken(ctx, token, time.Time{}); err != nil {
		t.Fatal(err)
	}
	s.Close()

	s = open(t, Options{Dir: dir})
	if got, err := s.CredentialKey(ctx); err != nil || !equal(got, key) {
		t.Errorf("credential key %+v, %v", got, err)
	}
	if list, err := s.ListCredentials(ctx); err != nil || !reflect.DeepEqual(list, []*kms.Credential{first, second}) {
		t.Errorf("listed %+v, %v; want them in order of creation", list, err)
	}
	if got, err := s.Credential(ctx, "AAA"); err != nil || !reflect.DeepEqual(got, second) {
		t.Errorf("access key %+v, %v", got, err)
	}
	if got, err := s.Token(ctx, token.Hash); err != nil || !reflect.DeepEqual(got, token) {
		t.Errorf("token %+v, %v", got, err)
	}
	if n, defaults, err := s.CountKeys(ctx); n != 1 || defaults != 0 || err != nil {
		t.Errorf("%d keys and %d default keys, %v", n, defaults, err)
	}
	if err := s.CreateCredential(ctx, newCredential("BBB", "c", 3), 2); codeOf(err) != kms.CodeQuotaExceeded {
		t.Errorf("one more than the quota: %v", err)
	}
	if err := s.CreateCredential(ctx, newCredential("AAA", "c", 3), 10); err == nil {
		t.Error("an access key was replaced")
	}
}

// TestDeleteCredential holds that a user's tokens go with its access key, and no others.
func TestDeleteCredential(t *testing.T) {
	s := open(t, Options{InMemory: true})
	if err := s.DeleteCredential(ctx, "AAA", false); codeOf(err) != kms.CodeNotFound {
		t.Errorf("delete an unknown access key: %v", err)
	}
	for _, err := range []error{
		s.CreateCredential(ctx, newCredential("AAA", "a", 1), 10), s.CreateCredential(ctx, newCredential("BBB", "b", 1), 10),
		s.CreateToken(ctx, newToken(1, "a", 9), time.Time{}), s.CreateToken(ctx, newToken(2, "b", 9), time.Time{}),
		s.CreateToken(ctx, newToken(3, "a", 9), time.Time{}), s.DeleteCredential(ctx, "AAA", false),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range map[byte]kms.Code{1: kms.CodeNotFound, 2: "", 3: kms.CodeNotFound} {
		if _, err := s.Token(ctx, newToken(n, "", 0).Hash); codeOf(err) != want {
			t.Errorf("token %d: %v", n, err)
		}
	}
	if _, err := s.Credential(ctx, "AAA"); codeOf(err) != kms.CodeNotFound {
		t.Errorf("deleted access key: %v", err)
	}
	if _, err := s.Credential(ctx, "BBB"); err != nil {
		t.Error(err)
	}
}

// TestDeleteWithManyTokens deletes the access key of a user who has more tokens than one transaction can remove.
func TestDeleteWithManyTokens(t *testing.T) {
	s := open(t, Options{InMemory: true})
	if err := s.CreateCredential(ctx, newCredential("AAA", "a", 1), 10); err != nil {
		t.Fatal(err)
	}
	const tokens = 2*tokenBatch + 1
	for first := 0; first < tokens; first += tokenBatch {
		err := s.change(ctx, func(txn *transaction) error {
			for n := first; n < min(first+tokenBatch, tokens); n++ {
				if err := write(txn, tokenName([32]byte{byte(n >> 8), byte(n)}), storedToken{User: "a", ExpiresMS: 1 << 50}); err != nil {
					return err
				}
			}
			return nil
		}, func() {})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteCredential(ctx, "AAA", false); err != nil {
		t.Fatal(err)
	}
	for n := range tokens {
		if _, err := s.Token(ctx, [32]byte{byte(n >> 8), byte(n)}); codeOf(err) != kms.CodeNotFound {
			t.Fatalf("token %d of a deleted user: %v", n, err)
		}
	}
	if _, err := s.Credential(ctx, "AAA"); codeOf(err) != kms.CodeNotFound {
		t.Errorf("deleted access key: %v", err)
	}
}

// TestExpiredTokensGo holds that a new token takes the place of those that have ended, however many there are.
func TestExpiredTokensGo(t *testing.T) {
	s := open(t, Options{InMemory: true})
	for n := range 5 {
		if err := s.CreateToken(ctx, newToken(byte(n), "a", int64(n)), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CreateToken(ctx, newToken(9, "a", 9), time.Unix(3, 0)); err != nil {
		t.Fatal(err)
	}
	var left []byte
	for n := range byte(10) {
		if _, err := s.Token(ctx, newToken(n, "", 0).Hash); err == nil {
			left = append(left, n)
		}
	}
	if !slices.Equal(left, []byte{3, 4, 9}) {
		t.Errorf("left are %v, want those that had not ended", left)
	}
}

// TestDamagedCredentials holds that what is not exactly a record is an error, never an access key or a token.
func TestDamagedCredentials(t *testing.T) {
	for name, value := range map[string]string{
		"empty": "", "no json": "{", "unknown member": `{"user":"a","root":true}`, "list": `[]`,
	} {
		s := open(t, Options{InMemory: true})
		set := func(key []byte) {
			if err := s.change(ctx, func(txn *transaction) error { return txn.Set(key, []byte(value)) }, func() {}); err != nil {
				t.Fatal(err)
			}
		}
		set(credentialName("AAA"))
		set(tokenName([32]byte{}))
		set([]byte{credentialKeyLetter})
		_, err1 := s.Credential(ctx, "AAA")
		_, err2 := s.Token(ctx, [32]byte{})
		_, err3 := s.CredentialKey(ctx)
		_, err4 := s.ListCredentials(ctx)
		for i, err := range []error{err1, err2, err3, err4} {
			if err == nil || codeOf(err) == kms.CodeNotFound {
				t.Errorf("%s, %d: %v", name, i, err)
			}
		}
	}
	s := open(t, Options{InMemory: true})
	err := s.change(ctx, func(txn *transaction) error {
		return errors.Join(txn.Set([]byte("tshort"), []byte("{}")), txn.Set(tokenName([32]byte{5}), []byte("{")))
	}, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateToken(ctx, newToken(1, "a", 1), time.Time{}); err != nil {
		t.Errorf("damaged tokens keep new ones from being made: %v", err)
	}
	if _, err := s.Token(ctx, [32]byte{5}); codeOf(err) != kms.CodeNotFound {
		t.Errorf("a damaged token is still there: %v", err)
	}
}
