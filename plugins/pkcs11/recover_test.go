package pkcs11

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// encryption is an encrypt operation and the way back.
type encryption struct {
	d      *Driver
	tenant string
	op     *driver.Op
}

func newEncryption(t *testing.T, d *Driver, tenant string) encryption {
	t.Helper()
	id, key := newKey(t, d, tenant, driver.AES256)
	return encryption{d, tenant, &driver.Op{Kind: driver.Encrypt, Key: id, Sealed: key.Sealed, Data: []byte("attack at dawn"), Aad: []byte("aad")}}
}

func (e encryption) decryptOp(t *testing.T) *driver.Op {
	t.Helper()
	res, err := e.d.Execute(t.Context(), e.tenant, e.op)
	if err != nil {
		t.Fatal(err)
	}
	return &driver.Op{Kind: driver.Decrypt, Key: e.op.Key, Sealed: e.op.Sealed, Data: res.Data, Iv: res.Iv, Aad: e.op.Aad}
}

func (e encryption) works(t *testing.T) {
	t.Helper()
	res, err := e.d.Execute(t.Context(), e.tenant, e.decryptOp(t))
	if err != nil || !bytes.Equal(res.GetData(), e.op.Data) {
		t.Fatalf("got %q, %v", res.GetData(), err)
	}
}

func TestCorruptCiphertextClimbsNoRung(t *testing.T) {
	d := tenanted(t, "corrupt", "")
	e := newEncryption(t, d, "corrupt")
	op := e.decryptOp(t)
	generation := d.generation.Load()
	open, _, _ := d.pool.usage()
	for i := range 10_000 {
		bad := &driver.Op{Kind: op.Kind, Key: op.Key, Sealed: op.Sealed, Iv: op.Iv, Aad: op.Aad, Data: bytes.Clone(op.Data)}
		bad.Data[i%len(bad.Data)] ^= 1 << (i % 8)
		if _, err := d.Execute(t.Context(), "corrupt", bad); driver.CodeOf(err) != driver.BadCiphertext {
			t.Fatalf("ciphertext %d: %v", i, err)
		}
	}
	e.works(t)
	if now, _, _ := d.pool.usage(); now != open || d.generation.Load() != generation || d.live.count() != 1 {
		t.Errorf("%d sessions were %d, generation %d was %d, %d live keys", now, open, d.generation.Load(), generation, d.live.count())
	}
}

func TestRecoversFromLostSessions(t *testing.T) {
	d := tenanted(t, "lost", "")
	e := newEncryption(t, d, "lost")
	e.works(t)
	generation := d.generation.Load()
	if err := d.lib.ctx.CloseAllSessions(d.slot); err != nil { // the login and all session objects go with them
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := d.Execute(context.Background(), "lost", e.op); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	e.works(t)
	if got := d.generation.Load(); got != generation+1 {
		t.Errorf("generation %d, was %d", got, generation)
	}
	if _, err := d.MakeKey(t.Context(), &driver.MakeKeyRequest{Tenant: "lost", Key: identity(driver.ECP256, driver.SignVerify)}); err != nil {
		t.Error(err)
	}
}

func TestRecoversFromALogout(t *testing.T) {
	d := tenanted(t, "logout", "")
	e := newEncryption(t, d, "logout")
	e.works(t)
	if err := d.lib.ctx.Logout(p11.SessionHandle(d.pinned.h)); err != nil {
		t.Fatal(err)
	}
	e.works(t)
	if _, err := d.Execute(t.Context(), "logout", &driver.Op{Kind: driver.TenantMAC, Data: []byte("x")}); err != nil {
		t.Error(err)
	}
}

func TestRecoversFromALostObject(t *testing.T) {
	d := tenanted(t, "object", "")
	e := newEncryption(t, d, "object")
	e.works(t)
	generation := d.generation.Load()
	for _, k := range d.live.keys {
		if err := d.pinned.destroy(k.handle); err != nil {
			t.Fatal(err)
		}
	}
	e.works(t)
	if d.generation.Load() != generation {
		t.Error("one lost object cost a login")
	}
}

func TestRecoversFromAnOperationLeftActive(t *testing.T) {
	d := tenanted(t, "active", "")
	e := newEncryption(t, d, "active")
	e.works(t)
	s, err := d.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.lib.ctx.DigestInit(p11.SessionHandle(s.h), []*p11.Mechanism{p11.NewMechanism(p11.CKM_SHA256, nil)}); err != nil {
		t.Fatal(err)
	}
	d.pool.put(s)
	e.works(t)
}

func TestModuleGoneEndsTheProcess(t *testing.T) {
	d, exit := opened(t, tokenMain, "")
	cause := &callError{rv: p11.CKR_DEVICE_REMOVED, function: "C_Encrypt"}
	if d.recoverFrom(failure{err: cause}) {
		t.Error("a module that is gone is worth another try")
	}
	_, err := d.Execute(t.Context(), "any", &driver.Op{Kind: driver.Random, Length: 1})
	wantCode(t, err, driver.Lost) // so that the host keeps the request for the next process
	waitFor(t, func() bool { return exit.Load() == ExitModuleGone })
}

// TestSickTokenHidesNoTenant moves the token's folder away, after which SoftHSM finds no object, without an error, and in
// that process never finds the token again.
func TestSickTokenHidesNoTenant(t *testing.T) {
	d, exit := opened(t, tokenSick, "")
	tenant := &driver.InitTenantRequest{Tenant: "sick"}
	if _, err := d.InitTenant(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	dir := tokenFolder(t, d)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	d.tenants.forgetAll()
	for name, err := range map[string]error{
		"describe": second(d.DescribeTenant(t.Context(), &driver.DescribeTenantRequest{Tenant: "sick"})),
		"init":     second(d.InitTenant(t.Context(), tenant)),
		"health":   d.Health(t.Context(), "sick"),
	} {
		if driver.CodeOf(err) != driver.Lost {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return exit.Load() == ExitModuleGone })
	if out, err := child(t, "healthy").CombinedOutput(); err != nil {
		t.Errorf("the next process: %v: %s", err, out)
	}
}

func init() {
	children["healthy"] = func() int {
		d, err := openDriver(settings(tokenSick, ""), []byte(testPIN), slog.New(slog.DiscardHandler), os.Exit)
		if err == nil {
			err = d.Health(context.Background(), "sick")
		}
		return report(err)
	}
}

// report prints a child's error and returns its exit code.
func report(err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// waitFor waits until a condition holds, up to five seconds.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("waited until the deadline")
		}
	}
}

func second[T any](_ T, err error) error { return err }

// tokenFolder returns the folder of the driver's token: the one that holds its serial number.
func tokenFolder(t *testing.T, d *Driver) string {
	t.Helper()
	dirs, err := os.ReadDir(tokenDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(tokenDir, dir.Name(), "token.object"))
		if err == nil && strings.Contains(string(b), d.info.SerialNumber) {
			return filepath.Join(tokenDir, dir.Name())
		}
	}
	t.Fatal("token's folder not found")
	return ""
}

func TestBlame(t *testing.T) {
	d := tenanted(t, "blame", "")
	s, err := d.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer d.pool.put(s)
	for _, c := range []struct {
		function string
		rv       uint
		data     bool
	}{
		{"C_Decrypt", p11.CKR_GENERAL_ERROR, true},
		{"C_Decrypt", p11.CKR_ENCRYPTED_DATA_INVALID, true},
		{"C_Encrypt", p11.CKR_GENERAL_ERROR, false},
		{"C_Decrypt", p11.CKR_FUNCTION_FAILED, false},
		{"C_Decrypt", p11.CKR_DEVICE_ERROR, false},
		{"C_UnwrapKey", p11.CKR_WRAPPED_KEY_INVALID, true},
	} {
		err := d.badDataError(s, &callError{c.rv, c.function}, driver.BadCiphertextError())
		if got := driver.CodeOf(err) == driver.BadCiphertext; got != c.data {
			t.Errorf("%s from %s: causedByData the data: %t", (&callError{rv: c.rv}).name(), c.function, got)
		}
	}
	setCanary := func(h handle) handle {
		return handle(d.pinned.canary.Swap(uint64(h)))
	}
	defer setCanary(setCanary(0))
	err = d.badDataError(s, &callError{p11.CKR_GENERAL_ERROR, "C_Decrypt"}, driver.BadCiphertextError())
	if driver.CodeOf(err) == driver.BadCiphertext {
		t.Error("with a dead canary, the data is still blamed")
	}
}

func TestHungCallEndsTheProcess(t *testing.T) {
	d, exit := opened(t, tokenMain, "watchdog: {floor: 80ms, ceiling: 100ms}\n")
	call := d.watchdog.watch()
	call.begin(callEncrypt, 32)
	waitFor(t, func() bool { return exit.Load() == ExitHung })
	_, err := d.Execute(t.Context(), "any", &driver.Op{Kind: driver.Random, Length: 1})
	wantCode(t, err, driver.Lost)
}

func TestReturnValues(t *testing.T) {
	for rv, want := range map[uint]class{
		p11.CKR_SESSION_HANDLE_INVALID: freshSession, p11.CKR_KEY_HANDLE_INVALID: findAgain, p11.CKR_USER_NOT_LOGGED_IN: loginAgain,
		p11.CKR_TOKEN_NOT_PRESENT: replaceProcess, p11.CKR_PIN_INCORRECT: never, p11.CKR_GENERAL_ERROR: unclear,
		p11.CKR_SESSION_COUNT: busy, p11.CKR_DEVICE_MEMORY: makeRoom, 0x80001234: unclear,
	} {
		if got := (&callError{rv: rv}).class(); got != want {
			t.Errorf("0x%x is class %d, want %d", rv, got, want)
		}
	}
	if name := (&callError{rv: 0x80001234}).name(); name != "CKR_0x80001234" {
		t.Errorf("a vendor's code is called %s", name)
	}
}

// TestUnopenableSealHoldsNothingUp opens a seal that is authentic and does not unwrap, as after its root was replaced.
func TestUnopenableSealHoldsNothingUp(t *testing.T) {
	d := tenanted(t, "unopenable", "")
	e := newEncryption(t, d, "unopenable")
	rec, err := driver.ParseSealRecord(e.op.Sealed)
	if err != nil {
		t.Fatal(err)
	}
	rec.Wrapped[0] ^= 1
	s, err := d.pool.get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := d.tenant("unopenable")
	if err != nil {
		t.Fatal(err)
	}
	if rec.MAC, err = tenantMAC(s, keys, driver.SealMACLabel, rec.Authenticated()); err != nil {
		t.Fatal(err)
	}
	d.pool.put(s)
	sealed, err := rec.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := d.Execute(context.Background(), "unopenable", &driver.Op{Kind: driver.Encrypt, Key: e.op.Key, Sealed: sealed, Data: []byte("x")})
		answered <- err
	}()
	select {
	case err := <-answered:
		wantCode(t, err, driver.KeyUnavailable)
	case <-time.After(10 * time.Second):
		t.Fatal("no answer")
	}
	e.works(t)
}

func TestRecoversFromForgottenSessions(t *testing.T) {
	d := tenanted(t, "forgotten", "fast_workers: 16\n")
	e := newEncryption(t, d, "forgotten")
	e.works(t)
	var all []*session
	for range 16 {
		s, err := d.pool.get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	for _, s := range all {
		if err := d.lib.ctx.CloseSession(p11.SessionHandle(s.h)); err != nil {
			t.Fatal(err)
		}
		d.pool.put(s)
	}
	generation := d.generation.Load()
	e.works(t)
	if d.generation.Load() != generation {
		t.Error("forgotten sessions cost a login")
	}
}

// TestPINThatBecameWrongIsTriedOnce changes the PIN under a running driver, as far as that can tell. A process that exited
// would be started again, and its successor would try the PIN again.
func TestPINThatBecameWrongIsTriedOnce(t *testing.T) {
	d, exit := opened(t, tokenNewPIN, "")
	if _, err := d.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: "pin"}); err != nil {
		t.Fatal(err)
	}
	e := newEncryption(t, d, "pin")
	e.works(t)
	d.pin[0] ^= 1
	if err := d.lib.ctx.Logout(p11.SessionHandle(d.pinned.h)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err := d.Execute(t.Context(), "pin", e.op)
		wantCode(t, err, driver.PINIncorrect)
		wantCode(t, second(d.MakeKey(t.Context(), &driver.MakeKeyRequest{Tenant: "pin", Key: identity(driver.AES256, driver.EncryptDecrypt)})), driver.PINIncorrect)
		wantCode(t, d.Health(t.Context(), ""), driver.PINIncorrect)
	}
	if d.failed.Load() || exit.Load() != 0 {
		t.Error("the driver gave its process up")
	}
	if logins := wrongLogins(d); logins != 1 {
		t.Errorf("%d wrong logins", logins)
	}
}

// wrongLogins returns how many C_Login failed.
func wrongLogins(d *Driver) uint64 {
	var counts driver.Counts
	counts.Add(&d.meter.calls[callLogin][0])
	return counts.Errors
}

func TestNoLoginAfterTheDrain(t *testing.T) {
	d, exit := opened(t, tokenMain, "")
	if err := d.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantCode(t, d.renew(d.generation.Load()), driver.Lost) // an operation that failed while the last session was given back
	if exit.Load() != 0 || d.failed.Load() {
		t.Error("the drained driver gave its process up")
	}
	if logins := wrongLogins(d); logins != 0 {
		t.Errorf("%d logins without a pin", logins)
	}
}

// TestRepeatedIVsAreRefused gives a module's generator that repeats itself away, though no IV is that of the message before.
func TestRepeatedIVsAreRefused(t *testing.T) {
	l := new(library)
	block := bytes.Repeat([]byte("abcdefghijkl0123456789AB"), 4)
	if err := l.newIVs(block); err != nil {
		t.Fatal(err)
	}
	wantCode(t, l.newIVs(block), driver.Device)
	wantCode(t, new(library).newIVs(make([]byte, len(block))), driver.Device)
}

// TestAbandonedKeysKeepTheirPlace makes RSA keys for callers who do not wait. What goes on inside the module must not take
// every control session.
func TestAbandonedKeysKeepTheirPlace(t *testing.T) {
	d := tenanted(t, "abandoned", "")
	for range 2 * controlSessions {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		id := identity(driver.RSA4096, driver.SignVerify)
		wantCode(t, second(d.MakeKey(ctx, &driver.MakeKeyRequest{Tenant: "abandoned", Key: id})), driver.Deadline)
		cancel()
		if _, busy, _ := d.control.usage(); busy > cap(d.making) {
			t.Fatalf("%d control sessions make keys without a waiting call", busy)
		}
	}
}
