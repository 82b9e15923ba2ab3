package pkcs11

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// labels returns the labels of all objects on the token that begin so, sorted.
func labels(t *testing.T, d *Driver, prefix string) []string {
	t.Helper()
	d.pinned.Lock()
	defer d.pinned.Unlock()
	found, err := d.pinned.find(onToken())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, h := range found {
		label, err := d.pinned.attribute(h, p11.CKA_LABEL)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(label), prefix) {
			all = append(all, string(label))
		}
	}
	slices.Sort(all)
	return all
}

func TestTokenHoldsTheTenantsKeysOnly(t *testing.T) {
	d := tenanted(t, "three", "")
	for _, spec := range []driver.KeySpec{driver.AES256, driver.HMAC512, driver.RSA2048, driver.ECP384} {
		newKey(t, d, "three", spec)
	}
	want := []string{"keyside/three/audit/1", "keyside/three/mac/1", "keyside/three/root/1"}
	if got := labels(t, d, "keyside/three/"); !slices.Equal(got, want) {
		t.Errorf("token has %q, want %q", got, want)
	}
	if got := labels(t, d, provisional); len(got) != 0 {
		t.Errorf("token has %q", got)
	}
}

func TestAuditKeyIsItsPublicKey(t *testing.T) {
	d := tenanted(t, "audit", "")
	tenant, err := d.DescribeTenant(t.Context(), &driver.DescribeTenantRequest{Tenant: "audit"})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.ParsePKIXPublicKey(tenant.AuditPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("checkpoint"))
	res, err := d.Execute(t.Context(), "audit", &driver.Op{Kind: driver.AuditSign, Data: digest[:]})
	if err != nil || !ecdsa.VerifyASN1(pub.(*ecdsa.PublicKey), digest[:], res.GetData()) {
		t.Errorf("signature does not verify: %v", err)
	}
}

func TestSomeKeysOfATenantAreUnavailable(t *testing.T) {
	d := tenanted(t, "some", "")
	err := d.withStore(true, func(s *session, _ *store) error {
		parts, err := d.findParts(s, "some")
		return errors.Join(err, s.destroy(parts[purposeMAC][1]))
	})
	if err != nil {
		t.Fatal(err)
	}
	d.tenants.forgetAll()
	wantCode(t, second(d.DescribeTenant(t.Context(), &driver.DescribeTenantRequest{Tenant: "some"})), driver.KeyUnavailable)
	wantCode(t, d.Health(t.Context(), "some"), driver.KeyUnavailable)
}

// TestUnreadableLabelIsNoAnswer reads a tenant's key through a session that the module has closed. If the driver took it for absent, it
// would create the key again, and refuse both because they have the same label.
func TestUnreadableLabelIsNoAnswer(t *testing.T) {
	d := tenanted(t, "unreadable", "")
	s, err := d.openSession(0)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := d.findParts(s, "unreadable")
	if err != nil {
		t.Fatal(err)
	}
	d.closeSession(s)
	_, _, ok, err := d.partOf(s, parts[purposeRoot][1], "unreadable")
	var ce *callError
	if ok || !errors.As(err, &ce) || ce.rv != p11.CKR_SESSION_HANDLE_INVALID {
		t.Errorf("%t, %v", ok, err)
	}
}

// TestHalfMadeCopyIsNoSecondKey asks for a tenant while its keys are being copied. What SoftHSM shows of a copy that is not
// whole yet, one more object of the token with the same label, is put there for real.
func TestHalfMadeCopyIsNoSecondKey(t *testing.T) {
	d := tenanted(t, "copied", "")
	s, err := d.openSession(p11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer d.closeSession(s)
	d.pinned.Lock() // as whoever makes copies does
	unlock := sync.OnceFunc(d.pinned.Unlock)
	defer unlock()
	parts, err := d.findParts(s, "copied")
	if err != nil {
		t.Fatal(err)
	}
	half, err := s.copyObject(parts[purposeAudit][1], []*p11.Attribute{onToken()})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, second(d.findParts(s, "copied")), driver.KeyUnavailable)
	answered := make(chan error, 1)
	go func() {
		answered <- second(d.InitTenant(context.Background(), &driver.InitTenantRequest{Tenant: "copied"}))
	}()
	waitFor(t, func() bool { return len(answered) > 0 || waitsForLock("completeTenant") })
	err = s.destroy(half)
	unlock()
	if err := errors.Join(err, <-answered); err != nil {
		t.Error(err)
	}
}

// waitsForLock reports whether a goroutine waits for a mutex in a function.
func waitsForLock(function string) bool {
	stacks := make([]byte, 1<<20)
	for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		state, calls, _ := strings.Cut(stack, "\n")
		if strings.Contains(state, "[sync.Mutex.Lock") && strings.Contains(calls, "."+function+"(") {
			return true
		}
	}
	return false
}

// TestNamedKeyIsNeverDestroyed fails to sync a key that has its label, under which it may be in use. The process must exit, so that
// no caller learns that the key exists before the next process has synced it.
func TestNamedKeyIsNeverDestroyed(t *testing.T) {
	d, exit := opened(t, tokenMain, "")
	tenant := &driver.InitTenantRequest{Tenant: "named"}
	if err := second(d.InitTenant(t.Context(), tenant)); err != nil {
		t.Fatal(err)
	}
	label := tenantLabel("named", purposeRoot, 2)
	err := d.withStore(true, func(s *session, st *store) error {
		h, _, err := d.generateTenantKey(s, label, purposeRoot)
		if err != nil {
			return err
		}
		gone := &store{path: filepath.Join(t.TempDir(), "gone"), dir: st.dir}
		_, err = attempt(t.Context(), d, func() (struct{}, error) {
			return struct{}{}, d.labelTenantKey(s, gone, h, "named", label, time.Now())
		})
		wantCode(t, err, driver.Lost)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := labels(t, d, label); !slices.Equal(got, []string{label}) {
		t.Errorf("token has %q", got)
	}
	wantCode(t, second(d.InitTenant(t.Context(), tenant)), driver.Lost)
	waitFor(t, func() bool { return exit.Load() == ExitModuleGone })
}

// TestStoreIsSyncedAtStart starts on a store that cannot be synced: whether the keys that a former process named would
// outlive a power cut is not known then.
func TestStoreIsSyncedAtStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("loop", filepath.Join(dir, "loop")); err != nil {
		t.Fatal(err)
	}
	_, err := openDriver(settings(tokenMain, "store: "+dir+"\n"), []byte(testPIN), slog.New(slog.DiscardHandler), func(int) {})
	wantCode(t, err, driver.Device)
}

func TestWeakTenantKeyIsRefused(t *testing.T) {
	d := tenanted(t, "weak", "")
	label := tenantLabel("weak", purposeRoot, 2)
	err := d.withStore(true, func(s *session, _ *store) error {
		spec := specOf(driver.AES256)
		_, err := s.generate(spec.generate, spec.template(uses{wrap: true, unwrap: true}, true, onToken(),
			p11.NewAttribute(p11.CKA_VALUE_LEN, spec.Size()), p11.NewAttribute(p11.CKA_LABEL, label), p11.NewAttribute(p11.CKA_ID, labelID(label))))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d.tenants.forgetAll()
	wantCode(t, second(d.DescribeTenant(t.Context(), &driver.DescribeTenantRequest{Tenant: "weak"})), driver.KeyUnavailable)
}

func TestResealMovesToTheNewestRoot(t *testing.T) {
	d := tenanted(t, "reseal", "")
	keys := map[*driver.KeyIdentity]*driver.SealedKey{}
	for _, spec := range []driver.KeySpec{driver.AES256, driver.RSA2048, driver.ECP521, driver.HMAC384} {
		id, key := newKey(t, d, "reseal", spec)
		keys[id] = key
	}
	if err := d.withStore(true, func(s *session, st *store) error { return d.createTenantKey(s, st, "reseal", purposeRoot, 2) }); err != nil {
		t.Fatal(err)
	}
	d.tenants.forgetAll()
	for id, key := range keys {
		moved, err := d.Reseal(t.Context(), &driver.ResealRequest{Tenant: "reseal", Key: id, Sealed: key.Sealed})
		if err != nil {
			t.Fatalf("%s: %v", id.Spec, err)
		}
		if key.Root != 1 || moved.Root != 2 || string(moved.PublicKey) != string(key.PublicKey) {
			t.Errorf("%s: root %d became %d, or the public key changed", id.Spec, key.Root, moved.Root)
		}
		k, err := d.live.get(t.Context(), "reseal", moved.Sealed, id)
		if err != nil {
			t.Fatalf("%s: %v", id.Spec, err)
		}
		d.live.put(k)
	}
}

// killRounds is how many processes are killed.
const killRounds = 8

// TestKilledWhileMakingTenants kills a process that makes tenants, again and again. What it acknowledged is whole, what
// it did not can be made, and nothing unfinished stays.
func TestKilledWhileMakingTenants(t *testing.T) {
	var made []string
	for round := range killRounds {
		cmd := child(t, "tenants")
		cmd.Env = append(cmd.Env, fmt.Sprintf("KEYSIDE_PKCS11_TEST_ROUND=%d", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if made = append(made, lines.Text()); len(made)%2 == 0 {
				time.AfterFunc(rand.N(120*time.Millisecond), func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
	}
	if out, err := child(t, "finished").CombinedOutput(); err != nil { // starts, which sweeps
		t.Fatalf("%v: %s", err, out)
	}
	d, _ := opened(t, tokenKilled, "")
	for _, name := range made {
		if _, err := d.DescribeTenant(t.Context(), &driver.DescribeTenantRequest{Tenant: name}); err != nil {
			t.Errorf("%s was acknowledged: %v", name, err)
		}
	}
	for round := range killRounds {
		for n := range 20 {
			name := tenantName(round, n)
			if _, err := d.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: name}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !slices.Contains(made, name) {
				break // the one in the making when the kill came
			}
		}
	}
	for _, label := range labels(t, d, "") {
		if !strings.HasPrefix(label, "keyside/round-") {
			t.Errorf("object %q was left", label)
		}
	}
}

func tenantName(round, n int) string { return fmt.Sprintf("round-%d-%d", round, n) }

func init() {
	children["tenants"] = func() int {
		d, err := openDriver(settings(tokenKilled, ""), []byte(testPIN), slog.New(slog.DiscardHandler), os.Exit)
		if err != nil {
			return report(err)
		}
		var round int
		_, _ = fmt.Sscan(os.Getenv("KEYSIDE_PKCS11_TEST_ROUND"), &round)
		for n := range 20 {
			if _, err := d.InitTenant(context.Background(), &driver.InitTenantRequest{Tenant: tenantName(round, n)}); err != nil {
				return report(err)
			}
			fmt.Println(tenantName(round, n))
		}
		return 0
	}
	children["finished"] = func() int {
		_, err := openDriver(settings(tokenKilled, ""), []byte(testPIN), slog.New(slog.DiscardHandler), os.Exit)
		return report(err)
	}
}
