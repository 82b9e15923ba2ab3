package kms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

var (
	app   = callAs(policy.Principal{Name: "app"})
	other = callAs(policy.Principal{Name: "other"})
	third = callAs(policy.Principal{Name: "third"})
)

func ops(names ...policy.Operation) []policy.Operation { return names }

// grant makes a grant that must be made.
func (w *world) grant(t testing.TB, ctx context.Context, in kms.CreateGrantInput) *policy.Grant {
	t.Helper()
	g, err := w.CreateGrant(ctx, in)
	if err != nil {
		t.Fatalf("grant %+v: %v", in, err)
	}
	return g
}

// onlyGrant makes a grant the only one of its key.
func (w *world) onlyGrant(t testing.TB, g *policy.Grant) {
	t.Helper()
	if err := w.store.Store.ChangeGrants(context.Background(), g.Key, func(*kms.Key, []*policy.Grant) ([]*policy.Grant, error) {
		return []*policy.Grant{g}, nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestEveryGrant holds that a grant of one operation allows that one on that key, and no other anywhere, from the moment it is
// made until the moment it is revoked.
func TestEveryGrant(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	aes := w.create(t, kms.CreateKeyInput{Spec: kms.AES256})
	far := w.create(t, kms.CreateKeyInput{Alias: "far"})
	data, dataKey := w.ciphertexts(t, aes)
	farData, farKey := w.ciphertexts(t, far)
	allowed := func(err error) bool { return !is(err, kms.CodeDenied) }
	for _, op := range policy.Operations {
		if !op.Grantable() {
			_, err := w.CreateGrant(admin, kms.CreateGrantInput{KeyID: aes.ID, Grantee: "app", Operations: ops(op)})
			wantCode(t, err, kms.CodeInvalidRequest)
			continue
		}
		in := kms.CreateGrantInput{KeyID: aes.ID, Grantee: "app", Operations: ops(op)}
		if op == policy.OpCreateGrant || op == policy.OpReEncrypt { // which are no use alone
			in.Operations = append(in.Operations, policy.OpDecryptData, policy.OpEncryptData)
		}
		g := w.grant(t, admin, in)
		for name, do := range w.everyCall(aes, data, dataKey) {
			want := slices.Contains(in.Operations, name) || slices.Contains(ofAnybody, name)
			if name == policy.OpRetireGrant { // of a grant that is not this one
				want = false
			}
			if name == policy.OpCreateGrant { // of a right that it has not itself
				want = false
			}
			if got := allowed(do(app)); got != want {
				t.Errorf("with a grant of %v, %s is allowed: %v", in.Operations, name, got)
			}
			if slices.Contains(in.Operations, name) && name.AboutKey() && allowed(w.everyCall(far, farData, farKey)[name](app)) {
				t.Errorf("with a grant of %s, it is allowed on another key", name)
			}
			if !slices.Contains(ofAnybody, name) && allowed(do(other)) {
				t.Errorf("a grant to app lets other %s", name)
			}
			w.onlyGrant(t, g) // what the operations on grants left
		}
		wantCode(t, w.RevokeGrant(admin, aes.ID, g.ID), "ok")
		for _, name := range in.Operations {
			if allowed(w.everyCall(aes, data, dataKey)[name](app)) {
				t.Errorf("%s is still allowed after the grant was revoked", name)
			}
		}
	}
}

// TestGrantIsNamed holds that the audit record of what a grant allowed names the grant, and that of a refusal what is missing.
func TestGrantIsNamed(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	g := w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData)})
	if rec := w.audit.last(t); !strings.Contains(rec.Target, g.ID) || !strings.Contains(rec.Target, "user app: encrypt-data") || rec.KeyID != key.ID.String() {
		t.Errorf("a grant is audited as %+v", rec)
	}
	_, err := w.Encrypt(app, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
	wantCode(t, err, "ok")
	if rec := w.audit.last(t); rec.By != "grant "+g.ID || rec.Decision != "allow" {
		t.Errorf("an operation by a grant is audited as %+v", rec)
	}
	_, err = w.DescribeKey(app, key.ID)
	wantCode(t, err, kms.CodeDenied)
	if rec := w.audit.last(t); rec.By != "missing permission describe-key" || rec.Missing != policy.OpDescribeKey || rec.Decision != "deny" {
		t.Errorf("a refusal is audited as %+v", rec)
	}
}

// TestTwoRights holds that a right to decrypt data opens no data key, nor the other way round.
func TestTwoRights(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	data, dataKey := w.ciphertexts(t, key)
	w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpDecryptData)})
	w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "other", Operations: ops(policy.OpDecryptDataKey)})
	for _, c := range []struct {
		ctx        context.Context
		ciphertext []byte
		data, key  kms.Code
	}{
		{app, data, "ok", kms.CodeDenied}, {app, dataKey, kms.CodeInvalidCiphertext, kms.CodeDenied},
		{other, data, kms.CodeDenied, kms.CodeInvalidCiphertext}, {other, dataKey, kms.CodeDenied, "ok"},
	} {
		_, err := w.Decrypt(c.ctx, kms.DecryptInput{Ciphertext: c.ciphertext})
		wantCode(t, err, c.data)
		_, err = w.DecryptDataKey(c.ctx, kms.DecryptInput{Ciphertext: c.ciphertext})
		wantCode(t, err, c.key)
	}
}

// TestReEncryptRights holds what it takes to move a ciphertext: re-encrypt on both keys, and what decrypts and encrypts it.
func TestReEncryptRights(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	from := w.create(t, kms.CreateKeyInput{Alias: "from"})
	to := w.create(t, kms.CreateKeyInput{Alias: "to"})
	data, dataKey := w.ciphertexts(t, from)
	const re = policy.OpReEncrypt
	for _, c := range []struct {
		from, to []policy.Operation
		data     bool
		dataKey  bool
	}{
		{ops(re, policy.OpDecryptData), ops(re, policy.OpEncryptData), true, false},
		{ops(re, policy.OpDecryptDataKey), ops(re, policy.OpEncryptDataKey), false, true},
		{ops(re, policy.OpDecryptData, policy.OpDecryptDataKey), ops(re, policy.OpEncryptData), true, false},
		{ops(re), ops(re, policy.OpEncryptData, policy.OpEncryptDataKey), false, false},
		{ops(re, policy.OpDecryptData, policy.OpDecryptDataKey), ops(re), false, false},
		{ops(policy.OpDecryptData, policy.OpDecryptDataKey), ops(re, policy.OpEncryptData, policy.OpEncryptDataKey), false, false},
		{ops(re, policy.OpDecryptData, policy.OpDecryptDataKey), ops(policy.OpEncryptData, policy.OpEncryptDataKey), false, false},
		{ops(re, policy.OpDecryptData, policy.OpDecryptDataKey), ops(policy.OpSign), false, false},
	} {
		a := w.grant(t, admin, kms.CreateGrantInput{KeyID: from.ID, Grantee: "app", Operations: c.from})
		b := w.grant(t, admin, kms.CreateGrantInput{KeyID: to.ID, Grantee: "app", Operations: c.to})
		for ciphertext, want := range map[string]bool{string(data): c.data, string(dataKey): c.dataKey} {
			code := kms.CodeDenied
			if want {
				code = "ok"
			}
			_, err := w.ReEncrypt(app, kms.ReEncryptInput{
				Source: kms.DecryptInput{Ciphertext: []byte(ciphertext)}, Destination: kms.EncryptInput{KeyID: to.ID},
			})
			if !is(err, code) {
				t.Errorf("from %v to %v: %v, want %s", c.from, c.to, err, code)
			}
			if rec := w.audit.last(t); want && rec.By != "grant "+a.ID+", grant "+b.ID {
				t.Errorf("audited as %+v", rec)
			}
		}
		wantCode(t, w.RevokeGrant(admin, from.ID, a.ID), "ok")
		wantCode(t, w.RevokeGrant(admin, to.ID, b.ID), "ok")
	}
}

// TestConstraints holds when a constrained grant allows its operation.
func TestConstraints(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	ab, abc := map[string]string{"a": "b"}, map[string]string{"a": "b", "c": "d"}
	at := func(c policy.Caller) context.Context {
		return kms.WithCall(context.Background(), &kms.Call{Principal: policy.Principal{Name: "app"}, Caller: c})
	}
	inUnit := policy.Caller{UID: 7, GID: 8, PID: 9, Known: true, Process: &policy.Process{Unit: "a.service", Groups: []uint32{9}}}
	for name, c := range map[string]struct {
		limits  policy.Constraints
		ctx     context.Context
		context map[string]string
		allowed bool
	}{
		"none":                          {policy.Constraints{}, app, abc, true},
		"subset, the same":              {policy.Constraints{Context: ab}, app, ab, true},
		"subset, more":                  {policy.Constraints{Context: ab}, app, abc, true},
		"subset, less":                  {policy.Constraints{Context: abc}, app, ab, false},
		"subset, another value":         {policy.Constraints{Context: ab}, app, map[string]string{"a": "c"}, false},
		"subset, none":                  {policy.Constraints{Context: ab}, app, nil, false},
		"exact, the same":               {policy.Constraints{Context: ab, Exact: true}, app, ab, true},
		"exact, more":                   {policy.Constraints{Context: ab, Exact: true}, app, abc, false},
		"exact, none":                   {policy.Constraints{Exact: true}, app, nil, true},
		"exact, none but there is some": {policy.Constraints{Exact: true}, app, ab, false},
		"source uid":                    {policy.Constraints{Source: "uid:7"}, app, nil, true},
		"source gid":                    {policy.Constraints{Source: "gid:8"}, app, nil, true},
		"another uid":                   {policy.Constraints{Source: "uid:8"}, app, nil, false},
		"source group":                  {policy.Constraints{Source: "gid:9"}, at(inUnit), nil, true},
		"source unit":                   {policy.Constraints{Source: "unit:a.service"}, at(inUnit), nil, true},
		"source unit and uid":           {policy.Constraints{Source: "unit:a.service,uid:7"}, at(inUnit), nil, true},
		"source unit, another uid":      {policy.Constraints{Source: "uid:8,unit:a.service"}, at(inUnit), nil, false},
		"another unit":                  {policy.Constraints{Source: "unit:b.service"}, at(inUnit), nil, false},
		"unknown unit":                  {policy.Constraints{Source: "unit:a.service"}, app, nil, false},
		"no kernel":                     {policy.Constraints{Source: "uid:0"}, at(policy.Caller{}), nil, false},
		"later":                         {policy.Constraints{Expires: w.clock.Now().Add(time.Hour)}, app, nil, true},
	} {
		g := w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData), Constraints: c.limits})
		_, err := w.Encrypt(c.ctx, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x"), Context: c.context})
		want := kms.CodeDenied
		if c.allowed {
			want = "ok"
		}
		if !is(err, want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if name == "later" {
			w.clock.advance(time.Hour)
			_, err := w.Encrypt(app, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
			wantCode(t, err, kms.CodeDenied)
			w.clock.advance(-time.Hour)
		}
		wantCode(t, w.RevokeGrant(admin, key.ID, g.ID), "ok")
	}
	for _, bad := range []policy.Constraints{
		{Source: "pid:1"}, {Source: "uid:x"}, {Source: "uid:01"}, {Source: "exe:/bin/a"}, {Source: "uid:1,uid:2"}, {Expires: w.clock.Now().Add(-time.Second)}, {Context: map[string]string{"": "x"}},
	} {
		_, err := w.CreateGrant(admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData), Constraints: bad})
		wantCode(t, err, kms.CodeInvalidRequest)
	}
	_, err := w.CreateGrant(admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpSign, policy.OpEncryptData),
		Constraints: policy.Constraints{Context: ab}})
	wantCode(t, err, kms.CodeInvalidRequest) // a signature has no context
}

// TestDelegation holds that a grantee grants no more than it has, and that its own grants outlive its right.
func TestDelegation(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	ab := map[string]string{"a": "b"}
	later := w.clock.Now().Add(time.Hour)
	limits := policy.Constraints{Context: ab, Expires: later, Source: "uid:7"}
	parent := w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Constraints: limits,
		Operations: ops(policy.OpCreateGrant, policy.OpEncryptData, policy.OpDescribeKey)})
	w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpDecryptData),
		Constraints: policy.Constraints{Context: ab, Exact: true}})

	for name, c := range map[string]struct {
		ops    []policy.Operation
		limits policy.Constraints
		ok     bool
	}{
		"the same":              {ops(policy.OpEncryptData), limits, true},
		"tighter context":       {ops(policy.OpEncryptData), policy.Constraints{Context: map[string]string{"a": "b", "c": "d"}, Expires: later, Source: "uid:7"}, true},
		"exact":                 {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Exact: true, Expires: later, Source: "uid:7"}, true},
		"sooner":                {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Expires: later.Add(-time.Minute), Source: "uid:7"}, true},
		"handing on":            {ops(policy.OpEncryptData, policy.OpCreateGrant), limits, true},
		"of the other grant":    {ops(policy.OpDecryptData), policy.Constraints{Context: ab, Exact: true, Expires: later, Source: "uid:7"}, true},
		"looser than the other": {ops(policy.OpDecryptData), limits, false},
		"no context":            {ops(policy.OpEncryptData), policy.Constraints{Expires: later, Source: "uid:7"}, false},
		"another context":       {ops(policy.OpEncryptData), policy.Constraints{Context: map[string]string{"a": "x"}, Expires: later, Source: "uid:7"}, false},
		"exactly none":          {ops(policy.OpEncryptData), policy.Constraints{Exact: true, Expires: later, Source: "uid:7"}, false},
		"later":                 {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Expires: later.Add(time.Second), Source: "uid:7"}, false},
		"for ever":              {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Source: "uid:7"}, false},
		"from anywhere":         {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Expires: later}, false},
		"from there and a unit": {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Expires: later, Source: "unit:a.service,uid:7"}, true},
		"from the unit alone":   {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Expires: later, Source: "unit:a.service"}, false},
		"from elsewhere":        {ops(policy.OpEncryptData), policy.Constraints{Context: ab, Expires: later, Source: "gid:8"}, false},
		"what it has not":       {ops(policy.OpEncryptData, policy.OpCreateDataKey), limits, false},
		"retire-grant":          {ops(policy.OpEncryptData, policy.OpRetireGrant), limits, false},
	} {
		g, err := w.CreateGrant(app, kms.CreateGrantInput{KeyID: key.ID, Grantee: "other", Operations: c.ops, Constraints: c.limits})
		want := kms.CodeDenied
		if c.ok {
			want = "ok"
		}
		if !is(err, want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
		if err == nil && (g.Parent != parent.ID || g.Issuer != "app") {
			t.Errorf("%s: grant is %+v", name, g)
		}
		if err == nil && name != "handing on" {
			wantCode(t, w.RetireGrant(app, key.ID, g.ID), "ok") // who made it may
		}
	}

	wantCode(t, w.RevokeGrant(app, key.ID, parent.ID), kms.CodeDenied)
	wantCode(t, w.RetireGrant(app, key.ID, parent.ID), kms.CodeDenied)
	wantCode(t, w.RevokeGrant(admin, key.ID, parent.ID), "ok")
	_, err := w.CreateGrant(app, kms.CreateGrantInput{KeyID: key.ID, Grantee: "other", Operations: ops(policy.OpDecryptData),
		Constraints: policy.Constraints{Context: ab, Exact: true, Expires: later, Source: "uid:7"}})
	wantCode(t, err, kms.CodeDenied)
	_, err = w.Encrypt(other, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x"), Context: ab})
	wantCode(t, err, "ok") // by what app granted while it could
	_, err = w.CreateGrant(other, kms.CreateGrantInput{KeyID: key.ID, Grantee: "third", Operations: ops(policy.OpEncryptData), Constraints: limits})
	wantCode(t, err, "ok")
}

// TestRetire holds who may retire a grant, and that the list of retirable grants says the same.
func TestRetire(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpCreateGrant, policy.OpEncryptData, policy.OpRetireGrant)})
	for name, c := range map[string]struct {
		in     kms.CreateGrantInput
		issuer context.Context
		may    map[string]bool
	}{
		"plain":     {kms.CreateGrantInput{Grantee: "other", Operations: ops(policy.OpEncryptData)}, app, map[string]bool{"app": true}},
		"retiring":  {kms.CreateGrantInput{Grantee: "other", Operations: ops(policy.OpEncryptData), Retiring: "third"}, app, map[string]bool{"app": true, "third": true}},
		"grantee":   {kms.CreateGrantInput{Grantee: "other", Operations: ops(policy.OpEncryptData, policy.OpRetireGrant)}, app, map[string]bool{"app": true, "other": true}},
		"account":   {kms.CreateGrantInput{Grantee: "acc", Account: true, Operations: ops(policy.OpEncryptData, policy.OpRetireGrant)}, admin, map[string]bool{"app": true, "other": true, "third": true}},
		"the owner": {kms.CreateGrantInput{Grantee: "other", Operations: ops(policy.OpEncryptData)}, admin, map[string]bool{}},
	} {
		for who, ctx := range map[string]context.Context{"app": app, "other": other, "third": third, "owner": admin} {
			c.in.KeyID = key.ID
			g := w.grant(t, c.issuer, c.in)
			page, err := w.ListRetirableGrants(ctx, 0, 0)
			wantCode(t, err, "ok")
			listed := slices.ContainsFunc(page.Grants, func(x *policy.Grant) bool { return x.ID == g.ID })
			if who != "owner" && listed != c.may[who] {
				t.Errorf("%s: %s is told that it may retire it: %v", name, who, listed)
			}
			want := kms.CodeDenied
			if c.may[who] || who == "owner" {
				want = "ok"
			}
			if err := w.RetireGrant(ctx, key.ID, g.ID); !is(err, want) {
				t.Errorf("%s: %s retires it: %v, want %s", name, who, err, want)
			}
			if want != "ok" {
				wantCode(t, w.RevokeGrant(admin, key.ID, g.ID), "ok")
			}
		}
	}
	wantCode(t, w.RetireGrant(admin, key.ID, strings.Repeat("0", 64)), grantNotFound)
	wantCode(t, w.RetireGrant(app, key.ID, strings.Repeat("0", 64)), kms.CodeDenied)
	wantCode(t, w.RetireGrant(app, uuid.New(), strings.Repeat("0", 64)), kms.CodeDenied)
	far := w.create(t, kms.CreateKeyInput{Alias: "far"})
	g := w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData)})
	wantCode(t, w.RevokeGrant(admin, far.ID, g.ID), grantNotFound)
}

// TestGrantLimits holds how many grants a key can have, that those which have expired make room, and which input is refused.
func TestGrantLimits(t *testing.T) {
	w := newWorld(t, kms.Limits{Grants: 3})
	key := w.create(t, kms.CreateKeyInput{})
	in := kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData)}
	short := in
	short.Constraints.Expires = w.clock.Now().Add(time.Minute)
	w.grant(t, admin, short)
	w.grant(t, admin, in)
	named := in
	named.Name = "once"
	first := w.grant(t, admin, named)
	_, err := w.CreateGrant(admin, in) // without a name the same again is another grant
	wantCode(t, err, tooManyGrants)
	if again := w.grant(t, admin, named); again.ID != first.ID {
		t.Errorf("a grant with a name was made twice: %s and %s", first.ID, again.ID)
	}
	named.Operations = ops(policy.OpDecryptData)
	_, err = w.CreateGrant(admin, named) // the name alone does not make it the same
	wantCode(t, err, tooManyGrants)
	w.clock.advance(time.Minute)
	if page, err := w.ListGrants(admin, key.ID, 0, 0); err != nil || page.Total != 3 {
		t.Errorf("an expired grant is not listed: %+v, %v", page, err)
	}
	w.grant(t, admin, in)
	_, err = w.CreateGrant(admin, in)
	wantCode(t, err, tooManyGrants)
	if usage, err := w.Quotas(admin); err != nil || usage.MaxGrants != 3 || usage.Grants != 3 {
		t.Errorf("quotas are %+v, %v", usage, err)
	}
	for offset, want := range map[int]int{0: 2, 2: 1, 3: 0, 9: 0} {
		page, err := w.ListGrants(admin, key.ID, offset, 2)
		if err != nil || len(page.Grants) != want || page.Total != 3 || (page.Next == 2) != (offset == 0) {
			t.Errorf("page from %d: %+v, %v", offset, page, err)
		}
	}
	for _, c := range []struct {
		change func(*kms.CreateGrantInput)
		want   kms.Code
	}{
		{func(in *kms.CreateGrantInput) { in.Operations = nil }, kms.CodeInvalidRequest},
		{func(in *kms.CreateGrantInput) { in.Operations = ops("fly") }, kms.CodeInvalidRequest},
		{func(in *kms.CreateGrantInput) { in.Operations = ops(policy.OpCreateGrant) }, onlyCreateGrant},
		{func(in *kms.CreateGrantInput) { in.Operations = ops(policy.OpCreateGrant, policy.OpCreateGrant) }, onlyCreateGrant},
		{func(in *kms.CreateGrantInput) { in.Grantee = "no-such-user" }, unknownGrantee},
		{func(in *kms.CreateGrantInput) { in.Grantee = "" }, unknownGrantee},
		{func(in *kms.CreateGrantInput) { in.Grantee, in.Account = "another", true }, unknownGrantee},
		{func(in *kms.CreateGrantInput) { in.Retiring = "no-such-user" }, "InvalidGrant/retiring/unknown"},
		{func(in *kms.CreateGrantInput) { in.Name = "a b" }, kms.CodeInvalidRequest},
		{func(in *kms.CreateGrantInput) { in.KeyID = uuid.New() }, kms.CodeNotFound},
	} {
		bad := in
		c.change(&bad)
		_, err := w.CreateGrant(admin, bad)
		wantCode(t, err, c.want)
		_, err = w.CreateGrant(other, bad)
		wantCode(t, err, kms.CodeDenied)
	}
	made := w.credential(t, kms.CreateCredentialInput{User: "with-access-key"})
	fresh := w.create(t, kms.CreateKeyInput{Alias: "fresh"})
	w.grant(t, admin, kms.CreateGrantInput{KeyID: fresh.ID, Grantee: made.User, Operations: ops(policy.OpEncryptData)})
}

// TestGrantsGoWithTheKey holds that a destroyed key leaves no grants, and that those of others and of restarts stay.
func TestGrantsGoWithTheKey(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	doomed, stays := w.create(t, kms.CreateKeyInput{Alias: "doomed"}), w.create(t, kms.CreateKeyInput{Alias: "stays"})
	for _, key := range []*kms.Key{doomed, stays} {
		w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpDescribeKey)})
	}
	_, err := w.ScheduleKeyDeletion(admin, doomed.ID, 7)
	wantCode(t, err, "ok")
	_, err = w.DescribeKey(app, doomed.ID)
	wantCode(t, err, "ok")
	w.clock.advance(day(7))
	w.RunDue(admin)
	if grants, total := w.store.FindGrants(func(*policy.Grant) bool { return true }, 0, 9); total != 1 || grants[0].Key != stays.ID {
		t.Errorf("grants left: %d", total)
	}
	_, err = w.DescribeKey(app, doomed.ID)
	wantCode(t, err, kms.CodeDenied)
	_, err = w.DescribeKey(app, stays.ID)
	wantCode(t, err, "ok")
}

// TestStatesRefuseAlike holds that a key's state refuses those who have a right the same way, whatever gives it to them, and
// tells nothing to the others.
func TestStatesRefuseAlike(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	encrypt := func(ctx context.Context) error {
		_, err := w.Encrypt(ctx, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
		return err
	}
	unknown := func(ctx context.Context) error {
		_, err := w.Encrypt(ctx, kms.EncryptInput{KeyID: uuid.New(), Plaintext: []byte("x")})
		return err
	}
	w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData)})
	for state, want := range map[kms.KeyState]kms.Code{
		kms.Enabled: "ok", kms.Disabled: kms.CodeKeyDisabled, kms.PendingDeletion: kms.CodeKeyPendingDeletion, kms.PendingImport: kms.CodeKeyPendingImport,
	} {
		w.set(key.ID, func(k *kms.Key) { k.State = state })
		for name, ctx := range map[string]context.Context{"app": app, "owner": admin} {
			if err := encrypt(ctx); !is(err, want) {
				t.Errorf("%s uses a key that is %s: %v, want %s", name, state, err, want)
			}
		}
		if err := encrypt(other); fmt.Sprint(err) != fmt.Sprint(unknown(other)) {
			t.Errorf("who has no right learns that the key is %s: %v", state, err)
		}
		if err := unknown(app); !is(err, kms.CodeDenied) {
			t.Errorf("a grantee of another key learns that the key does not exist: %v", err)
		}
	}
}

// TestPolicies holds that the operator's policies count, that forbid wins, and that others replace them while it runs.
func TestPolicies(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Alias: "prod"})
	encrypt := func(ctx context.Context) error {
		_, err := w.Encrypt(ctx, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x"), Context: map[string]string{"env": "prod"}})
		return err
	}
	use := func(text string) {
		t.Helper()
		p, err := policy.ParsePolicies(policy.Text{Name: "own.cedar", Body: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		w.SetPolicies(p)
	}
	wantCode(t, encrypt(app), kms.CodeDenied)
	use(`permit (principal == User::"app", action == Action::"encrypt-data", resource) when { resource.hasTag("env") && resource.getTag("env") == "prod" };`)
	wantCode(t, encrypt(app), kms.CodeDenied)
	_, err := w.SetTags(admin, key.ID, []kms.Tag{{Key: "env", Value: "prod"}})
	wantCode(t, err, "ok")
	wantCode(t, encrypt(app), "ok")
	if rec := w.audit.last(t); rec.By != "policy own.cedar:1" {
		t.Errorf("decided by %q", rec.By)
	}
	w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData)})
	use(`@id("freeze") forbid (principal, action == Action::"encrypt-data", resource) when { resource.alias == "prod" };`)
	for _, ctx := range []context.Context{app, admin} {
		wantCode(t, encrypt(ctx), kms.CodeDenied)
		if rec := w.audit.last(t); rec.By != "encrypt is forbidden by policy freeze" {
			t.Errorf("refused by %q", rec.By)
		}
	}
	w.SetPolicies(nil)
	wantCode(t, encrypt(app), "ok")
}

// TestCanI holds that an explanation is what happens, that it does nothing, and that only some may ask about others.
func TestCanI(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Alias: "k"})
	g := w.grant(t, admin, kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpEncryptData),
		Constraints: policy.Constraints{Context: map[string]string{"a": "b"}}})
	ask := func(ctx context.Context, in kms.CanIInput) *kms.CanIOutput {
		t.Helper()
		before := w.state(t, key.ID)
		out, err := w.CanI(ctx, in)
		wantCode(t, err, "ok")
		if w.state(t, key.ID) != before {
			t.Error("a question changed something")
		}
		return out
	}
	for _, name := range []string{"k", key.ID.String()} {
		if out := ask(app, kms.CanIInput{Operation: policy.OpEncryptData, Key: name, Context: map[string]string{"a": "b"}}); !out.Decision.Allow || out.Decision.By != "grant "+g.ID {
			t.Errorf("answer is %+v", out)
		}
	}
	for _, in := range []kms.CanIInput{{Operation: policy.OpEncryptData, Key: "k"}, {Operation: policy.OpEncryptData, Key: "k", As: "app"}} {
		ctx := app
		if in.As != "" {
			ctx = admin
		}
		if out := ask(ctx, in); out.Decision.Allow || len(out.Hints) != 1 || !strings.Contains(out.Hints[0], "another encryption context") {
			t.Errorf("answer is %+v", out)
		}
	}
	disks := kms.WithCall(context.Background(), &kms.Call{Principal: policy.Principal{Name: "disks", Service: "evs"}, Caller: policy.Caller{Known: true}})
	for _, ctx := range []context.Context{other, disks} {
		known, unknown := ask(ctx, kms.CanIInput{Operation: policy.OpEncryptData, Key: "k"}), ask(ctx, kms.CanIInput{Operation: policy.OpEncryptData, Key: "nothing"})
		if known.Decision != unknown.Decision || len(known.Hints)+len(unknown.Hints) > 0 {
			t.Errorf("who has no right learns whether the key is there: %+v, %+v", known, unknown)
		}
	}
	w.set(key.ID, func(k *kms.Key) { k.State = kms.Disabled })
	if out := ask(admin, kms.CanIInput{Operation: policy.OpSign, Key: "k"}); !out.Decision.Allow || len(out.Hints) != 1 {
		t.Errorf("answer is %+v", out)
	}
	for _, c := range []struct {
		ctx  context.Context
		in   kms.CanIInput
		want kms.Code
	}{
		{app, kms.CanIInput{Operation: policy.OpSign, Key: "k", As: "owner"}, kms.CodeDenied},
		{admin, kms.CanIInput{Operation: "fly"}, kms.CodeInvalidRequest},
		{admin, kms.CanIInput{Operation: policy.OpRotateKey, Key: "k"}, kms.CodeInvalidRequest},
		{admin, kms.CanIInput{Operation: policy.OpSign}, kms.CodeInvalidRequest},
		{admin, kms.CanIInput{Operation: policy.OpSign, Key: "k", As: "no-such-user"}, "InvalidRequest/as/unknown"},
		{callAs(policy.Principal{Name: "a", Role: policy.Auditor}), kms.CanIInput{Operation: policy.OpSign, Key: "k", As: "app"}, "ok"},
	} {
		_, err := w.CanI(c.ctx, c.in)
		wantCode(t, err, c.want)
	}
}

// TestGrantsWithoutLog holds that grants which are issued and revoked while the log fails are answered as what they are, and that
// each has its record in the outbox.
func TestGrantsWithoutLog(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.AES256})
	in := kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Name: "n", Operations: []policy.Operation{policy.OpEncryptData}}
	made, err := w.CreateGrant(admin, in)
	wantCode(t, err, "ok")
	recorded := w.store.LastRecorded()
	w.audit.down = errors.New("disk full")
	_, err = w.CreateGrant(admin, in) // the same again changes nothing
	wantCode(t, err, kms.CodeInternal)
	if w.store.LastRecorded() != recorded {
		t.Error("a grant that is there already is recorded as a change")
	}
	in.Name = "m"
	_, err = w.CreateGrant(admin, in)
	wantCode(t, err, "ok")
	wantCode(t, w.RevokeGrant(admin, key.ID, made.ID), "ok")
	if left := w.store.Grants(key.ID); len(left) != 1 || left[0].Name != "m" {
		t.Errorf("grants are %v", left)
	}
	outbox, err := w.store.AuditOutbox()
	if err != nil || len(outbox) != 4 || outbox[w.store.LastRecorded()] == nil {
		t.Errorf("the outbox has %d changes (%v), want the key, two grants and a revocation", len(outbox), err)
	}
}

// TestParentGoesMeanwhile holds that a grant is not stored as the child of one that is revoked while the HSM seals it: it becomes
// another one's, or is refused.
func TestParentGoesMeanwhile(t *testing.T) {
	for name, second := range map[string]bool{"with another": true, "without": false} {
		w := newWorld(t, kms.Limits{})
		key := w.create(t, kms.CreateKeyInput{})
		lead := kms.CreateGrantInput{KeyID: key.ID, Grantee: "app", Operations: ops(policy.OpCreateGrant, policy.OpEncryptData)}
		parent := w.grant(t, admin, lead)
		want := ""
		if second {
			want = w.grant(t, admin, lead).ID
		}
		revoked := false
		w.hsm.hook = func(a *answer) {
			if a.op == "tenant-mac" && !revoked {
				revoked = true
				wantCode(t, w.RevokeGrant(admin, key.ID, parent.ID), "ok")
			}
		}
		g, err := w.CreateGrant(app, kms.CreateGrantInput{KeyID: key.ID, Grantee: "other", Operations: ops(policy.OpEncryptData)})
		switch {
		case second && (err != nil || g.Parent != want):
			t.Errorf("%s: %+v (%v), want a child of %s", name, g, err, want)
		case !second:
			wantCode(t, err, kms.CodeDenied)
		}
		if err := w.restart(t, kms.Limits{}).CheckGrants(admin); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
