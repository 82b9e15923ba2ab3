package kms_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

func (w *world) credential(t testing.TB, in kms.CreateCredentialInput) *kms.NewCredential {
	t.Helper()
	n, err := w.CreateCredential(admin, in)
	wantCode(t, err, "ok")
	return n
}

// signedBy says whether an access key's secret is what the service verifies with.
func signedBy(s *kms.Service, accessKey string, secret []byte) (policy.Principal, error) {
	return s.Authenticate(context.Background(), accessKey, func(b []byte) bool { return bytes.Equal(b, secret) })
}

// TestCredential makes an access key, uses it, in another process too, and takes it away.
func TestCredential(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	for _, who := range []policy.Principal{
		{Name: "terraform", Role: policy.Administrator}, {Name: "obs", Service: "obs"}, {Name: "someone@example.com"},
	} {
		n := w.credential(t, kms.CreateCredentialInput{User: who.Name, Role: who.Role, Service: who.Service})
		if !regexp.MustCompile(`^[A-Z0-9]{20}$`).MatchString(n.AccessKey) || !regexp.MustCompile(`^[A-Za-z0-9]{40}$`).Match(n.Secret) {
			t.Errorf("access key %q, secret of %d characters", n.AccessKey, len(n.Secret))
		}
		if rec := w.audit.last(t); rec.Operation != policy.OpCreateCredential || rec.Target != n.AccessKey || rec.Outcome != "ok" {
			t.Errorf("audited as %+v", rec)
		}
		if bytes.Contains(n.Sealed, n.Secret) {
			t.Error("the secret is stored in the clear")
		}
		for _, s := range []*kms.Service{w.Service, w.Service, w.restart(t, kms.Limits{})} {
			if p, err := signedBy(s, n.AccessKey, n.Secret); err != nil || p != who {
				t.Errorf("%+v signs as %+v, %v", who, p, err)
			}
			wrong := slices.Clone(n.Secret)
			wrong[0]++
			_, err := signedBy(s, n.AccessKey, wrong)
			wantCode(t, err, kms.CodeUnauthenticated)
		}
		wantCode(t, w.DeleteCredential(admin, n.AccessKey), "ok")
		if rec := w.audit.last(t); rec.Target != n.AccessKey {
			t.Errorf("audited as %+v", rec)
		}
		for _, s := range []*kms.Service{w.Service, w.restart(t, kms.Limits{})} {
			_, err := signedBy(s, n.AccessKey, n.Secret)
			wantCode(t, err, kms.CodeUnauthenticated)
		}
		wantCode(t, w.DeleteCredential(admin, n.AccessKey), kms.CodeNotFound)
	}
}

// TestUnknownAndWrongAreOne holds that an unknown access key cannot be told from a wrong signature: the answer
// is the same, and a verification with a secret takes place for both.
func TestUnknownAndWrongAreOne(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	n := w.credential(t, kms.CreateCredentialInput{User: "signer", Role: policy.Administrator})
	var answers []string
	for _, accessKey := range []string{n.AccessKey, "AAAAAAAAAAAAAAAAAAAA", "", "short", strings.Repeat("A", 5000), "<script>%%%%%%%%%%%%"} {
		verified := 0
		_, err := w.Authenticate(context.Background(), accessKey, func(secret []byte) bool {
			verified++
			return len(secret) != len(n.Secret)
		})
		wantCode(t, err, kms.CodeUnauthenticated)
		if verified != 1 {
			t.Errorf("%.20q: verified %d times", accessKey, verified)
		}
		answers = append(answers, err.Error())
	}
	if len(slices.Compact(answers)) != 1 {
		t.Errorf("answers differ: %q", answers)
	}
	if _, err := w.Authenticate(context.Background(), "AAAAAAAAAAAAAAAAAAAA", func([]byte) bool { return true }); err == nil {
		t.Error("an access key that does not exist was verified")
	}
}

// TestCredentialInput refuses what cannot be recorded, and what makes no sense.
func TestCredentialInput(t *testing.T) {
	w := newWorld(t, kms.Limits{Credentials: 2})
	for _, in := range []kms.CreateCredentialInput{
		{}, {User: "-x"}, {User: "a b"}, {User: "a\nb"}, {User: strings.Repeat("a", 65)}, {User: "ü"},
		{User: "a", Service: "OBS"}, {User: "a", Service: "obs/x"}, {User: "a", Service: "1"}, {User: "a", Service: strings.Repeat("a", 33)},
		{User: "a", Service: "obs", Role: policy.Administrator},
	} {
		_, err := w.CreateCredential(admin, in)
		wantCode(t, err, kms.CodeInvalidRequest)
	}
	w.credential(t, kms.CreateCredentialInput{User: "a"})
	w.credential(t, kms.CreateCredentialInput{User: "b"})
	_, err := w.CreateCredential(admin, kms.CreateCredentialInput{User: "c"})
	wantCode(t, err, kms.CodeQuotaExceeded)
	list, err := w.ListCredentials(admin)
	if wantCode(t, err, "ok"); len(list) != 2 || list[0].User != "a" || list[1].User != "b" {
		t.Errorf("listed %+v", list)
	}
	if n, defaults, _ := w.store.CountKeys(admin); n != 0 || defaults != 0 {
		t.Errorf("the credential key is counted as one of the customers'")
	}
	bare, err := kms.New(kms.Config{Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = bare.CreateCredential(admin, kms.CreateCredentialInput{User: "a"})
	wantCode(t, err, kms.CodeInternal)
	_, err = signedBy(bare, list[0].AccessKey, nil)
	wantCode(t, err, kms.CodeUnauthenticated)
}

// TestChangedRecords holds that whoever can write the database can neither raise rights, nor swap secrets, nor make a token
// live longer: each record opens only as it was made.
func TestChangedRecords(t *testing.T) {
	other := []byte("keyside")
	for name, change := range map[string]func(a, b *kms.Credential){
		"administrator":  func(a, _ *kms.Credential) { a.Role = policy.Administrator },
		"user":           func(a, _ *kms.Credential) { a.User = "root" },
		"service":        func(a, _ *kms.Credential) { a.Service = "evs" },
		"moved letters":  func(a, _ *kms.Credential) { a.User, a.Service = "appo", "bs" },
		"creation":       func(a, _ *kms.Credential) { a.CreatedAt = a.CreatedAt.Add(time.Millisecond) },
		"access key":     func(a, _ *kms.Credential) { a.AccessKey = strings.Repeat("B", 20) },
		"other's secret": func(a, b *kms.Credential) { a.Sealed = b.Sealed },
		"cut":            func(a, _ *kms.Credential) { a.Sealed = a.Sealed[:20] },
		"empty":          func(a, _ *kms.Credential) { a.Sealed = nil },
		"another format": func(a, _ *kms.Credential) { a.Sealed[0]++ },
		"no version":     func(a, _ *kms.Credential) { a.Sealed[4]++ },
		"garbage":        func(a, _ *kms.Credential) { a.Sealed = append(a.Sealed, other...) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, kms.Limits{})
			a := w.credential(t, kms.CreateCredentialInput{User: "signer", Service: "obs"})
			b := w.credential(t, kms.CreateCredentialInput{User: "root", Role: policy.Administrator})
			changed := a.Credential
			change(&changed, &b.Credential)
			if err := errors.Join(w.store.DeleteCredential(admin, a.AccessKey, false), w.store.CreateCredential(admin, &changed, 10)); err != nil {
				t.Fatal(err)
			}
			s := w.restart(t, kms.Limits{})
			for _, secret := range [][]byte{a.Secret, b.Secret} {
				_, err := signedBy(s, changed.AccessKey, secret)
				wantCode(t, err, kms.CodeUnauthenticated)
			}
			if changed.User == "signer" {
				_, err := s.CreateToken(admin, kms.CreateTokenInput{User: "signer"})
				wantCode(t, err, kms.CodeInvalidCiphertext)
			}
		})
	}
	for name, change := range map[string]func(a *kms.Token){
		"administrator": func(a *kms.Token) { a.Role = policy.Administrator },
		"user":          func(a *kms.Token) { a.User = "root" },
		"service":       func(a *kms.Token) { a.Service = "evs" },
		"expiry":        func(a *kms.Token) { a.ExpiresAt = a.ExpiresAt.Add(time.Hour) },
		"another token": func(a *kms.Token) { a.Hash = sha256.Sum256(bytes.Repeat([]byte("t"), 43)) },
	} {
		t.Run("token "+name, func(t *testing.T) {
			w := newWorld(t, kms.Limits{})
			n, err := w.CreateToken(admin, kms.CreateTokenInput{})
			wantCode(t, err, "ok")
			changed := n.Token
			changed.Role = policy.None
			change(&changed)
			if err := w.store.CreateToken(admin, &changed, time.Time{}); err != nil {
				t.Fatal(err)
			}
			text := string(n.Text)
			if changed.Hash != n.Hash {
				text = strings.Repeat("t", 43)
			}
			_, err = w.restart(t, kms.Limits{}).AuthenticateToken(context.Background(), text)
			if name == "administrator" {
				wantCode(t, err, "ok") // it was one before, and says so again
				return
			}
			wantCode(t, err, kms.CodeUnauthenticated)
		})
	}
}

// TestEncryptedDataIsNoCredential holds that what a caller has encrypted for itself does not pass for a secret, even under
// the same key.
func TestEncryptedDataIsNoCredential(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	if _, err := w.store.CreateCredentialKey(admin, key); err != nil { // as a writer of the database would
		t.Fatal(err)
	}
	secret := bytes.Repeat([]byte("s"), 40)
	c := kms.Credential{AccessKey: strings.Repeat("A", 20), User: "x", Role: policy.Administrator, CreatedAt: time.UnixMilli(1)}
	out, err := w.Encrypt(admin, kms.EncryptInput{
		KeyID: key.ID, Plaintext: secret, AAD: []byte("keyside credential v1\x00"),
	})
	wantCode(t, err, "ok")
	c.Sealed = append([]byte{1, 0, 0, 0, 1}, out.Ciphertext[112:]...)
	if err := w.store.CreateCredential(admin, &c, 10); err != nil {
		t.Fatal(err)
	}
	_, err = signedBy(w.Service, c.AccessKey, secret)
	wantCode(t, err, kms.CodeUnauthenticated)
}

// TestHSMAway tells an HSM that cannot open a secret from a wrong signature, and needs it only once for each.
func TestHSMAway(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	n := w.credential(t, kms.CreateCredentialInput{User: "signer"})
	token, err := w.CreateToken(admin, kms.CreateTokenInput{})
	wantCode(t, err, "ok")
	for _, down := range []*kms.Error{
		kms.Errorf(kms.CodeKeyUnavailable, "away"), kms.Errorf(kms.CodeDeadlineExceeded, "too late"),
	} {
		w.hsm.down = down
		_, err := signedBy(w.Service, n.AccessKey, n.Secret)
		wantCode(t, err, kms.CodeKeyUnavailable)
		_, err = w.AuthenticateToken(context.Background(), string(token.Text))
		wantCode(t, err, kms.CodeKeyUnavailable)
		_, err = signedBy(w.Service, "AAAAAAAAAAAAAAAAAAAA", n.Secret)
		wantCode(t, err, kms.CodeUnauthenticated)
	}
	w.hsm.down = nil
	_, err = signedBy(w.Service, n.AccessKey, n.Secret)
	wantCode(t, err, "ok")
	_, err = w.AuthenticateToken(context.Background(), string(token.Text))
	wantCode(t, err, "ok")
	w.hsm.down = errors.New("away again")
	_, err = signedBy(w.Service, n.AccessKey, n.Secret)
	wantCode(t, err, "ok")
	_, err = w.AuthenticateToken(context.Background(), string(token.Text))
	wantCode(t, err, "ok")
}

// TestToken holds whose rights a token has, how long it lives, and what ends it early.
func TestToken(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	clock := &fakeClock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	s, err := kms.New(kms.Config{
		Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Credentials: w.store, Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	who := func(n *kms.NewToken) policy.Principal {
		t.Helper()
		p, err := s.AuthenticateToken(context.Background(), string(n.Text))
		wantCode(t, err, "ok")
		return p
	}
	own, err := s.CreateToken(admin, kms.CreateTokenInput{})
	wantCode(t, err, "ok")
	if p := who(own); p.Name != "owner" || p.Role != policy.Administrator {
		t.Errorf("the caller's own token makes %+v", p)
	}
	if life := own.ExpiresAt.Sub(clock.Now()); life < 59*time.Minute || life > time.Hour {
		t.Errorf("it lives %s", life)
	}
	w.credential(t, kms.CreateCredentialInput{User: "limited", Dialects: []string{"a"}})
	_, err = s.CreateToken(admin, kms.CreateTokenInput{User: "limited"}) // it would be one for every dialect
	wantCode(t, err, kms.CodeInvalidRequest)
	credential := w.credential(t, kms.CreateCredentialInput{User: "disks", Service: "evs"})
	others, err := s.CreateToken(admin, kms.CreateTokenInput{User: "disks", TTL: 24 * time.Hour})
	wantCode(t, err, "ok")
	if p := who(others); p != (policy.Principal{Name: "disks", Service: "evs"}) {
		t.Errorf("another's token makes %+v", p)
	}
	if rec := w.audit.last(t); rec.Operation != policy.OpCreateTokenFor || rec.Target != "disks" {
		t.Errorf("audited as %+v", rec)
	}
	clock.now = own.ExpiresAt.Add(-2 * time.Millisecond)
	who(own)
	clock.now = own.ExpiresAt
	for range 2 {
		_, err = s.AuthenticateToken(context.Background(), string(own.Text))
		wantCode(t, err, kms.CodeTokenExpired)
	}
	who(others)
	wantCode(t, s.DeleteCredential(admin, credential.AccessKey), "ok")
	_, err = s.AuthenticateToken(context.Background(), string(others.Text))
	wantCode(t, err, kms.CodeUnauthenticated)

	for _, token := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 5000)} {
		_, err = s.AuthenticateToken(context.Background(), token)
		wantCode(t, err, kms.CodeUnauthenticated)
	}
	for _, in := range []kms.CreateTokenInput{
		{TTL: 24*time.Hour + 1}, {TTL: -time.Hour}, {TTL: 1}, {User: "a b"},
	} {
		_, err = s.CreateToken(admin, in)
		wantCode(t, err, kms.CodeInvalidRequest)
	}
	_, err = s.CreateToken(admin, kms.CreateTokenInput{User: "unknown"})
	wantCode(t, err, kms.CodeNotFound)
	w.credential(t, kms.CreateCredentialInput{User: "two", Service: "evs"})
	w.credential(t, kms.CreateCredentialInput{User: "two", Service: "obs"})
	_, err = s.CreateToken(admin, kms.CreateTokenInput{User: "two"})
	wantCode(t, err, kms.CodeInvalidRequest)
}

// TestTokenForOthers holds that the permission to create tokens is one for tokens of the caller, and that a token of another user,
// an administrator in particular, takes a permission of its own.
func TestTokenForOthers(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	w.credential(t, kms.CreateCredentialInput{User: "root", Role: policy.Administrator})
	policies, err := policy.ParsePolicies(policy.Text{Name: "tokens.cedar", Body: []byte(`
permit (principal == User::"self", action == Action::"create-token", resource);
permit (principal == User::"others", action == Action::"create-token-for-others", resource);`)})
	if err != nil {
		t.Fatal(err)
	}
	w.SetPolicies(policies)
	for _, c := range []struct {
		caller, user string
		want         kms.Code
		op           policy.Operation
	}{
		{"self", "", "ok", policy.OpCreateToken}, {"self", "self", "ok", policy.OpCreateToken},
		{"self", "root", kms.CodeDenied, policy.OpCreateTokenFor}, {"self", "unknown", kms.CodeDenied, policy.OpCreateTokenFor},
		{"others", "root", "ok", policy.OpCreateTokenFor}, {"others", "", kms.CodeDenied, policy.OpCreateToken},
	} {
		_, err := w.CreateToken(callAs(policy.Principal{Name: c.caller}), kms.CreateTokenInput{User: c.user})
		if wantCode(t, err, c.want); w.audit.last(t).Operation != c.op {
			t.Errorf("%s asks for a token of %q: audited as %+v", c.caller, c.user, w.audit.last(t))
		}
	}
}

// TestTokenOfOtherAccount holds that a token does not give the grants of another account.
func TestTokenOfOtherAccount(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	for account, code := range map[string]kms.Code{"": "ok", "acc": "ok", "other": kms.CodeInvalidRequest} {
		ctx := kms.WithCall(context.Background(), &kms.Call{
			Principal: policy.Principal{Name: "partner", Account: account, Role: policy.Administrator}, Caller: policy.Caller{Known: true},
		})
		_, err := w.CreateToken(ctx, kms.CreateTokenInput{})
		wantCode(t, err, code)
	}
}

// TestReadmit holds that what was admitted may go on without a record until the right to it, or the credential, is gone, with one.
func TestReadmit(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	wantCode(t, w.Readmit(context.Background(), policy.OpReadAudit), kms.CodeDenied)
	wantCode(t, w.AdmitAbout(admin, policy.OpReadAudit, "tail"), "ok")
	admitted := w.audit.last(t)
	wantCode(t, w.Readmit(admin, policy.OpReadAudit), "ok")
	if last := w.audit.last(t); last != admitted {
		t.Errorf("recorded as %+v", last)
	}
	call := *kms.CallFrom(admin)
	call.Valid = func(context.Context) error { return kms.Errorf(kms.CodeTokenExpired, "token has expired") }
	wantCode(t, w.Readmit(kms.WithCall(context.Background(), &call), policy.OpReadAudit), kms.CodeTokenExpired)
	if last := w.audit.last(t); last.Operation != policy.OpReadAudit || last.Decision != "deny" || last.Outcome != string(kms.CodeTokenExpired) {
		t.Errorf("recorded as %+v", last)
	}
	forbid, err := policy.ParsePolicies(policy.Text{Name: "p.cedar", Body: []byte(`@id("no") forbid (principal, action == Action::"read-audit-log", resource);`)})
	if err != nil {
		t.Fatal(err)
	}
	w.SetPolicies(forbid)
	wantCode(t, w.Readmit(admin, policy.OpReadAudit), kms.CodeDenied)
	if last := w.audit.last(t); last.Decision != "deny" || !strings.Contains(last.By, "forbidden") {
		t.Errorf("recorded as %+v", last)
	}
}

// TestDeletedMeanwhile holds that a request that was opening a secret while it was deleted does not bring it back.
func TestDeletedMeanwhile(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	n := w.credential(t, kms.CreateCredentialInput{User: "signer"})
	w.hsm.hook = func(a *answer) {
		if a.op == "decrypt" {
			w.hsm.hook = nil
			wantCode(t, w.DeleteCredential(admin, n.AccessKey), "ok")
		}
	}
	_, err := signedBy(w.Service, n.AccessKey, n.Secret)
	wantCode(t, err, "ok") // it had begun before
	_, err = signedBy(w.Service, n.AccessKey, n.Secret)
	wantCode(t, err, kms.CodeUnauthenticated)

	n = w.credential(t, kms.CreateCredentialInput{User: "signer"})
	w.hsm.hook = func(a *answer) {
		if a.op == "encrypt" {
			w.hsm.hook = nil
			wantCode(t, w.DeleteCredential(admin, n.AccessKey), "ok")
		}
	}
	_, err = w.CreateToken(admin, kms.CreateTokenInput{User: "signer"})
	wantCode(t, err, kms.CodeBusy)
}

// TestTokenOfDeletedAccessKey holds that a request which was signed before its access key was deleted makes no token after
// it: that would have the rights of the access key for another day.
func TestTokenOfDeletedAccessKey(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	n := w.credential(t, kms.CreateCredentialInput{User: "signer", Role: policy.Administrator})
	signed := kms.WithCall(context.Background(), &kms.Call{
		Principal: policy.Principal{Name: "signer", Role: policy.Administrator}, AccessKey: n.AccessKey,
	})
	made, err := w.CreateToken(signed, kms.CreateTokenInput{})
	if wantCode(t, err, "ok"); made.User != "signer" || made.Role != policy.Administrator {
		t.Errorf("the access key's token is %+v", made.Token)
	}
	wantCode(t, w.DeleteCredential(admin, n.AccessKey), "ok")
	for _, user := range []string{"", "signer"} {
		_, err = w.CreateToken(signed, kms.CreateTokenInput{User: user})
		wantCode(t, err, kms.CodeUnauthenticated)
	}
}

// TestServicePrincipal holds that a service does what it may with its own default key, and nothing with any other, nor
// anything else.
func TestServicePrincipal(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	obs := callAs(policy.Principal{Name: "storage", Service: "obs"})
	may := []policy.Operation{
		policy.OpDescribeKey, policy.OpEncryptData, policy.OpDecryptData, policy.OpCreateDataKey, policy.OpCreateDataKeyNoText,
		policy.OpEncryptDataKey, policy.OpDecryptDataKey,
	}
	for _, service := range []string{"obs", "evs", ""} {
		key := w.create(t, kms.CreateKeyInput{Alias: "key-of-" + service})
		data, dataKey := w.ciphertexts(t, key)
		w.set(key.ID, func(k *kms.Key) { k.Service = service })
		for op, do := range w.everyCall(key, data, dataKey) {
			if slices.Contains(ofAnybody, op) {
				continue
			}
			want := kms.CodeDenied
			if service == "obs" && slices.Contains(may, op) {
				want = "ok"
			}
			if err := do(obs); !is(err, want) {
				t.Errorf("%s with the default key of %q: %v, want %s", op, service, err, want)
			}
			rec := w.audit.last(t)
			if rec.Operation != op || (rec.Decision == "allow") != (want == "ok") || rec.By == "" {
				t.Errorf("%s with the default key of %q is audited as %+v", op, service, rec)
			}
		}
		unknown := &kms.Key{ID: uuid.New()}
		copy(data[8:24], unknown.ID[:])
		copy(dataKey[8:24], unknown.ID[:])
		for op, do := range w.everyCall(unknown, data, dataKey) {
			if slices.Contains(may, op) {
				wantCode(t, do(obs), kms.CodeDenied)
			}
		}
	}
	wantCode(t, w.Admit(obs, policy.OpEncryptData), kms.CodeDenied) // no key was looked at
	wantCode(t, w.Admit(obs, "list-projects"), "ok")
	if rec := w.audit.last(t); rec.Operation != "list-projects" || rec.Decision != "allow" {
		t.Errorf("audited as %+v", rec)
	}
}

// TestSealFormat opens records that were put together by hand, from the description of their format: later versions must
// open what this one stored.
func TestSealFormat(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key, err := w.store.CreateCredentialKey(admin, w.create(t, kms.CreateKeyInput{}))
	if err != nil {
		t.Fatal(err)
	}
	seal := func(secret []byte, bound string) []byte {
		iv, body, err := w.hsm.Encrypt(admin, key.Ref(key.Current()), secret, []byte(bound))
		if err != nil {
			t.Fatal(err)
		}
		return slices.Concat([]byte{1, 0, 0, 0, 1}, iv, body)
	}
	const at = "\x00\x00\x01\x9b\x7d\x1f\x0c\x40"
	ms := int64(0x019b7d1f0c40)
	secret := []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN")
	c := &kms.Credential{AccessKey: "AAAAAAAAAAAAAAAAAAAA", User: "ab", Service: "obs", CreatedAt: time.UnixMilli(ms)}
	c.Sealed = seal(secret, "keyside credential v1\x00\x00\x00\x00\x14AAAAAAAAAAAAAAAAAAAA\x00\x00\x00\x02ab\x00\x00\x00\x03obs\x00"+at)
	text := strings.Repeat("t", 43)
	tok := &kms.Token{Hash: sha256.Sum256([]byte(text)), User: "ab", Role: policy.Administrator, ExpiresAt: time.UnixMilli(ms + 1<<40)}
	const later = "\x00\x00\x02\x9b\x7d\x1f\x0c\x40"
	tok.Sealed = seal(tok.Hash[:], "keyside token v1\x00"+string(tok.Hash[:])+"\x00\x00\x00\x02ab\x00\x00\x00\x00\x01"+later)
	if err := errors.Join(w.store.CreateCredential(admin, c, 10), w.store.CreateToken(admin, tok, time.Time{})); err != nil {
		t.Fatal(err)
	}
	if p, err := signedBy(w.Service, c.AccessKey, secret); err != nil || p != (policy.Principal{Name: "ab", Service: "obs"}) {
		t.Errorf("access key: %+v, %v", p, err)
	}
	if p, err := w.AuthenticateToken(context.Background(), text); err != nil || p != (policy.Principal{Name: "ab", Role: policy.Administrator}) {
		t.Errorf("token: %+v, %v", p, err)
	}
}

// TestNamesakes holds that an access key with the name of a principal of the configuration does not give its grants, and that
// the principal itself can have one.
func TestNamesakes(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	for _, in := range []kms.CreateCredentialInput{
		{User: "app", Role: policy.Administrator}, {User: "app", Service: "obs"}, {User: "owner"}, {User: "owner", Role: policy.Auditor},
		{User: "else"},
	} {
		_, err := w.CreateCredential(admin, in)
		wantCode(t, err, kms.CodeInvalidRequest)
	}
	for _, in := range []kms.CreateCredentialInput{{User: "app"}, {User: "owner", Role: policy.Administrator}, {User: "new", Role: policy.Administrator}} {
		if made := w.credential(t, in); made.User != in.User {
			t.Errorf("made %+v", made)
		}
	}
}

// TestDeleteForgedCredential holds that the name in a record that was changed does not decide whose tokens go with it: all do.
func TestDeleteForgedCredential(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	mine := w.credential(t, kms.CreateCredentialInput{User: "thief"})
	w.credential(t, kms.CreateCredentialInput{User: "victim"})
	changed := mine.Credential
	changed.User = "victim"
	if err := errors.Join(w.store.DeleteCredential(admin, mine.AccessKey, false), w.store.CreateCredential(admin, &changed, 10)); err != nil {
		t.Fatal(err)
	}
	again, err := w.CreateToken(admin, kms.CreateTokenInput{})
	wantCode(t, err, "ok")
	s := w.restart(t, kms.Limits{})
	wantCode(t, s.DeleteCredential(admin, mine.AccessKey), "ok")
	_, err = s.AuthenticateToken(admin, string(again.Text))
	wantCode(t, err, kms.CodeUnauthenticated)
	// Without the HSM an access key is deleted as well, by the name that its record has.
	other := w.credential(t, kms.CreateCredentialInput{User: "other"})
	s = w.restart(t, kms.Limits{})
	w.hsm.hook = func(a *answer) { a.plaintext = nil }
	wantCode(t, s.DeleteCredential(admin, other.AccessKey), "ok")
}

// TestCredentialDialects holds that an access key of some dialects authenticates in their calls alone, that the limit is sealed, and
// that such an access key makes no other.
func TestCredentialDialects(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	made, err := w.CreateCredential(admin, kms.CreateCredentialInput{User: "limited", Role: policy.Administrator, Dialects: []string{"one", "two"}})
	wantCode(t, err, "ok")
	in := func(name, accessKey string) context.Context {
		call := *kms.CallFrom(admin)
		call.Dialect, call.AccessKey = name, accessKey
		return kms.WithCall(context.Background(), &call)
	}
	verified := 0
	accept := func([]byte) bool { verified++; return true }
	for name, want := range map[string]kms.Code{"one": "ok", "two": "ok", "three": kms.CodeUnauthenticated, "": kms.CodeUnauthenticated} {
		_, err := w.Authenticate(in(name, ""), made.AccessKey, accept)
		wantCode(t, err, want)
	}
	_, err = w.Authenticate(context.Background(), made.AccessKey, accept)
	wantCode(t, err, kms.CodeUnauthenticated)
	if verified != 5 {
		t.Errorf("the signature was checked %d times", verified)
	}
	_, err = w.CreateCredential(in("one", made.AccessKey), kms.CreateCredentialInput{User: "other"})
	wantCode(t, err, kms.CodeDenied)
	_, err = w.CreateToken(in("one", made.AccessKey), kms.CreateTokenInput{})
	wantCode(t, err, kms.CodeDenied)
	c, err := w.store.Credential(admin, made.AccessKey)
	wantCode(t, err, "ok")
	wantCode(t, w.DeleteCredential(admin, made.AccessKey), "ok")
	c.Dialects = nil // whoever writes the database
	wantCode(t, w.store.CreateCredential(admin, c, 10), "ok")
	_, err = w.Authenticate(in("three", ""), made.AccessKey, accept)
	wantCode(t, err, kms.CodeUnauthenticated)
}
