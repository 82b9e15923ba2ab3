package kms_test

import (
	"bufio"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// The test binary is also the process that is killed: the variable says so, and at which point it kills itself (0: never).
const childVariable = "KEYSIDE_KMS_TEST_CHILD"

func TestMain(m *testing.M) {
	point := os.Getenv(childVariable)
	if point == "" {
		os.Exit(m.Run())
	}
	if err := liveUntilKilled(os.Args[1], point); err != nil {
		say("error %v", err)
		os.Exit(1)
	}
}

// say prints one line at once, so that it is out before what comes next can be killed.
func say(format string, a ...any) { os.Stdout.WriteString(fmt.Sprintf(format+"\n", a...)) }

// life is what the killed process does, step by step. Each step changes each key at most once.
type life struct {
	*kms.Service
	clock *fakeClock
	ids   map[string]kms.KeyID
	say   func(format string, a ...any)

	wrapped kms.ImportInput // of the key that is imported
	grants  map[string]string
}

func (l *life) grant(name string) error {
	g, err := l.CreateGrant(admin, kms.CreateGrantInput{
		KeyID: l.ids["lives"], Grantee: "app", Name: name, Operations: []policy.Operation{policy.OpEncryptData},
	})
	if err == nil {
		l.grants[name] = g.ID
	}
	return err
}

func (l *life) create(name string) error {
	key, err := l.CreateKey(admin, kms.CreateKeyInput{Alias: name})
	if err == nil {
		l.ids[name] = key.ID
	}
	return err
}

func (l *life) encrypt(name string) error {
	out, err := l.Encrypt(admin, kms.EncryptInput{KeyID: l.ids[name], Plaintext: []byte("secret")})
	if err == nil {
		l.say("ciphertext %x", out.Ciphertext)
	}
	return err
}

func (l *life) schedule(name string) error {
	_, err := l.ScheduleKeyDeletion(admin, l.ids[name], 7)
	return err
}

func (l *life) after(days int) error {
	l.clock.advance(day(days))
	l.RunDue(admin)
	return nil
}

var lifeSteps = []func(*life) error{
	func(l *life) error { return l.create("lives") },
	func(l *life) error { return l.encrypt("lives") },
	func(l *life) error { return l.grant("one") },
	func(l *life) error { return l.grant("two") },
	func(l *life) error { return l.RevokeGrant(admin, l.ids["lives"], l.grants["one"]) },
	func(l *life) error { _, err := l.EnableRotation(admin, l.ids["lives"], 30); return err },
	func(l *life) error { return l.create("dies") },
	func(l *life) error { return l.encrypt("dies") },
	func(l *life) error { return l.schedule("dies") },
	func(l *life) error { return l.after(31) }, // destroys the one, rotates the other
	func(l *life) error { return l.encrypt("lives") },
	func(l *life) error { return l.after(31) }, // rotates once more
	func(l *life) error { return l.encrypt("lives") },
	func(l *life) error {
		_, err := l.Resolve(callAs(policy.Principal{Name: "obs", Service: "obs"}), policy.OpEncryptData, "obs/default")
		return err
	},
	func(l *life) error { return l.schedule("lives") },
	func(l *life) error { return l.after(8) }, // destroys it, too
	func(l *life) error {
		key, err := l.CreateKey(admin, kms.CreateKeyInput{Alias: "imported", Origin: kms.OriginExternal})
		if err == nil {
			l.ids["imported"] = key.ID
		}
		return err
	},
	func(l *life) error {
		p, err := l.GetImportParameters(admin, kms.ImportParametersInput{KeyID: l.ids["imported"], Algorithm: kms.WrapOAEPSHA256})
		if err == nil {
			l.wrapped = in(p, ours)
			l.say("token %x %x", l.wrapped.Token, l.wrapped.Material)
		}
		return err
	},
	func(l *life) error { _, err := l.ImportKeyMaterial(admin, l.wrapped); return err },
	func(l *life) error { return l.encrypt("imported") },
	func(l *life) error { _, err := l.DeleteImportedKeyMaterial(admin, l.ids["imported"]); return err },
	func(l *life) error {
		l.wrapped.ExpiresAt = l.clock.Now().Add(time.Hour)
		_, err := l.ImportKeyMaterial(admin, l.wrapped)
		return err
	},
	func(l *life) error { return l.after(2) }, // destroys the material and the wrapping key
}

func liveUntilKilled(dir, point string) error {
	n, err := strconv.Atoi(point)
	if err != nil {
		return err
	}
	db, err := store.Open(store.Options{Dir: dir, Create: true, Tenant: "test"})
	if err != nil {
		return err
	}
	k := new(killer)
	k.left.Store(int64(n))
	l := &life{clock: newClock(), ids: make(map[string]kms.KeyID), grants: make(map[string]string), say: say}
	if l.Service, err = kms.New(kms.Config{
		Store: mortalStore{db, k}, HSM: mortalHSM{newHSM(), k}, Auditor: mortalAudit{k}, Tenant: "test", Clock: l.clock,
		Principals: named,
	}); err != nil {
		return err
	}
	say("open")
	for i, step := range lifeSteps {
		if err := step(l); err != nil {
			return err
		}
		say("done %d", i+1)
	}
	say("points %d", int64(n)-k.left.Load())
	return db.Close()
}

// snapshot says in words how each key is, by its alias.
func snapshot(t *testing.T, db kms.Store) map[string]string {
	t.Helper()
	keys, total, err := db.ListKeys(admin, kms.KeyFilter{}, 0, 100)
	if err != nil || total != len(keys) {
		t.Fatalf("%d keys of %d: %v", len(keys), total, err)
	}
	all := map[string]string{}
	for _, k := range keys {
		all[k.Alias] = fmt.Sprintf("%s, %d versions, rotation %t, rotated %d times, deletion %t, grants%s",
			k.State, len(k.Versions), k.Rotation.Enabled, k.Rotation.Count, !k.DeletionAt.IsZero(), names(db.Grants(k.ID)))
		if k.Origin == kms.OriginExternal {
			all[k.Alias] = fmt.Sprintf("%s, %d versions, bound %t, expires %t", k.State, len(k.Versions), k.CheckValue != nil, !k.MaterialExpiresAt.IsZero())
			continue
		}
		for i, v := range k.Versions {
			if v.Number != uint32(i+1) {
				t.Errorf("version %d of %s has number %d", i+1, k.Alias, v.Number)
			}
		}
		if k.Rotation.Count != len(k.Versions)-1 {
			t.Errorf("%s was rotated %d times and has %d versions", k.Alias, k.Rotation.Count, len(k.Versions))
		}
	}
	return all
}

// names are the names of grants, each with a space before it.
func names(grants []*policy.Grant) (all string) {
	for _, g := range grants {
		all += " " + g.Name
	}
	return all
}

// lifeSnapshots lives the life undisturbed and returns what there is after each step.
func lifeSnapshots(t *testing.T) []map[string]string {
	w := newWorld(t, kms.Limits{})
	l := &life{Service: w.Service, clock: w.clock, ids: make(map[string]kms.KeyID), grants: make(map[string]string), say: func(string, ...any) {}}
	all := []map[string]string{{}}
	for _, step := range lifeSteps {
		if err := step(l); err != nil {
			t.Fatal(err)
		}
		all = append(all, snapshot(t, w.store))
	}
	if got := all[12]["lives"]; got != "Enabled, 3 versions, rotation true, rotated 2 times, deletion false, grants two" || len(all[16]) != 1 {
		t.Fatalf("undisturbed, the key is %s, and in the end there are %v", got, all[16])
	}
	for step, want := range map[int]string{
		17: "PendingImport, 0 versions, bound false, expires false", 19: "Enabled, 1 versions, bound true, expires false",
		21: "PendingImport, 0 versions, bound true, expires false", 22: "Enabled, 1 versions, bound true, expires true",
		23: "PendingImport, 0 versions, bound true, expires false",
	} {
		if got := all[step]["imported"]; got != want {
			t.Fatalf("undisturbed, the external key is %s after step %d, want %s", got, step, want)
		}
	}
	return all
}

// said is what a killed process printed.
type said struct {
	opened      bool
	done        int
	ciphertexts [][]byte
	begun       map[string]bool // ids of keys whose destruction is on record
	wrapped     kms.ImportInput // token and material of the external key
	points      int             // that it came by; 0: it did not get to the end
}

// liveAndDie runs the life in a process of its own until it kills itself at a point, or is killed after some time.
func liveAndDie(t *testing.T, dir string, point int, after time.Duration) said {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), childVariable+"="+strconv.Itoa(point),
		rsaVariable+"="+base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PrivateKey(rsaKey())))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := said{begun: make(map[string]bool)}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch word, rest, _ := strings.Cut(lines.Text(), " "); word {
		case "open":
			s.opened = true
			if after > 0 {
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			}
		case "done":
			s.done, _ = strconv.Atoi(rest)
		case "points":
			s.points, _ = strconv.Atoi(rest)
		case "ciphertext":
			c, err := hex.DecodeString(rest)
			if err != nil {
				t.Fatal(err)
			}
			s.ciphertexts = append(s.ciphertexts, c)
		case "token":
			if _, err := fmt.Sscanf(rest, "%x %x", &s.wrapped.Token, &s.wrapped.Material); err != nil {
				t.Fatal(err)
			}
		case "audit":
			if f := strings.Fields(rest); f[0] == string(policy.OpDestroyKey) && f[1] == "begun" {
				s.begun[f[2]] = true
			}
		default:
			t.Errorf("child said %q", lines.Text())
		}
	}
	_ = cmd.Wait()
	return s
}

// checkRemains opens what a killed process left. Every key must be as after the last step that was acknowledged, or as
// after the one under way; nothing is lost that was encrypted; and the next service finishes what was due, once.
func checkRemains(t *testing.T, dir string, s said, after []map[string]string) {
	t.Helper()
	db, err := store.Open(store.Options{Dir: dir, Create: true, Tenant: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	before, next := after[s.done], after[min(s.done+1, len(after)-1)]
	got := snapshot(t, db)
	for _, name := range []string{"lives", "dies", "obs/default", "imported"} {
		if got[name] != before[name] && got[name] != next[name] {
			t.Errorf("after %d steps, %s is %q: neither %q nor %q", s.done, name, got[name], before[name], next[name])
		}
	}
	w := &world{hsm: newHSM(), audit: new(fakeAudit), clock: newClock()}
	w.clock.advance(day(70))
	if w.Service, err = kms.New(kms.Config{Store: db, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Clock: w.clock}); err != nil {
		t.Fatal(err)
	}
	w.tokenWorks(t, db, s)
	checkCiphertexts(t, w, db, s)
	if next := w.RunDue(admin); !next.IsZero() && next.Before(w.clock.Now()) {
		t.Errorf("after a look at what is due, something still is: %s", next)
	}
	for name, was := range got {
		is := snapshot(t, db)[name]
		switch {
		case strings.Contains(was, "deletion true"):
			if is != "" {
				t.Errorf("%s was due to be destroyed and is %q", name, is)
			}
		case strings.Contains(was, "rotation true"):
			if rotations(is) > rotations(was)+1 {
				t.Errorf("%s was %q and is %q", name, was, is)
			}
		}
	}
}

// tokenWorks imports once more with the token that the killed process gave out.
func (w *world) tokenWorks(t *testing.T, db *store.Store, s said) {
	t.Helper()
	if s.wrapped.Token == nil || s.done >= len(lifeSteps)-1 {
		return // there is none, or it may have ended
	}
	id, err := db.Named(admin, "imported")
	if err == nil {
		s.wrapped.KeyID, s.wrapped.Repeat = id, true
		_, err = w.ImportKeyMaterial(admin, s.wrapped)
	}
	if err != nil {
		t.Errorf("the token is of no use after a kill: %v", err)
	}
}

func rotations(snapshot string) (n int) {
	_, after, _ := strings.Cut(snapshot, "rotated ")
	_, _ = fmt.Sscan(after, &n)
	return n
}

// checkCiphertexts opens every ciphertext whose key is there, and holds that no key is gone without a record of the
// intent.
func checkCiphertexts(t *testing.T, w *world, db *store.Store, s said) {
	t.Helper()
	for _, c := range s.ciphertexts {
		id := kms.KeyID(c[8:24])
		key, err := db.Key(admin, id)
		if codeOf(err) == kms.CodeNotFound {
			if !s.begun[id.String()] {
				t.Errorf("key %s is gone, and nothing on record said that it would be", id)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		state := key.State
		if state == kms.PendingImport && s.done >= len(lifeSteps)-1 {
			continue // its material has expired, and so has the token
		}
		w.setIn(t, db, id, kms.Enabled)
		w.opens(t, c)
		w.setIn(t, db, id, state)
	}
}

func (w *world) setIn(t *testing.T, db *store.Store, id kms.KeyID, state kms.KeyState) {
	t.Helper()
	if _, err := db.UpdateKey(admin, id, func(k *kms.Key) error { k.State = state; return nil }); err != nil {
		t.Fatal(err)
	}
}

// undisturbed lives the life in a process that is not killed.
func undisturbed(t *testing.T, after []map[string]string) (points int, took time.Duration) {
	t.Helper()
	dir, start := t.TempDir(), time.Now()
	s := liveAndDie(t, dir, 0, 0)
	took = time.Since(start)
	if s.points < 50 || s.done != len(lifeSteps) {
		t.Fatalf("undisturbed, it says %+v", s)
	}
	checkRemains(t, dir, s, after)
	return s.points, took
}

// TestKilledAtEachWrite kills a process at every point of its life at which something was just written or is about to be.
func TestKilledAtEachWrite(t *testing.T) {
	after := lifeSnapshots(t)
	points, _ := undisturbed(t, after)
	for point := 1; point <= points; point++ {
		t.Run(strconv.Itoa(point), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := liveAndDie(t, dir, point, 0)
			if s.points != 0 {
				t.Fatal("it was not killed")
			}
			checkRemains(t, dir, s, after)
		})
	}
}

// TestKilledAtAnyTime kills processes at random times, which also finds the database in the midst of a commit.
func TestKilledAtAnyTime(t *testing.T) {
	after := lifeSnapshots(t)
	_, took := undisturbed(t, after)
	for range 20 {
		wait := time.Duration(rand.Int64N(int64(took)))
		t.Run(wait.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if s := liveAndDie(t, dir, 0, wait); s.opened {
				checkRemains(t, dir, s, after)
			}
		})
	}
}
