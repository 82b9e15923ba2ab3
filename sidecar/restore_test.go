package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/backup"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/store"
)

// backUp writes a backup of a running node.
func (n *node) backUp(c *client.Client) (path string) {
	n.t.Helper()
	path = filepath.Join(n.dir, "a.backup")
	f, err := os.Create(path)
	if err == nil {
		err = c.CreateBackup(n.t.Context(), func(r io.Reader) error { _, err := io.Copy(f, r); return err })
	}
	if err = errors.Join(err, f.Close()); err != nil {
		n.t.Fatal(err)
	}
	return path
}

// offline opens the node's HSM for work on backups.
func (n *node) offline() *Offline {
	n.t.Helper()
	o, err := OpenOffline(n.t.Context(), n.cfg, "", n.logger())
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = o.Close(context.Background()) })
	return o
}

func (n *node) place() AuditFiles { return AuditFiles{Audit: n.cfg.Audit.Dir, Data: n.cfg.Data} }

// elsewhere is another node with the same HSM, whose database and audit log are in a directory of their own.
func (n *node) elsewhere(name string) *node {
	other := node{t: n.t, dir: n.dir, cfg: n.cfg}
	other.cfg.Data, other.cfg.Audit.Dir = filepath.Join(n.dir, name, "db"), filepath.Join(n.dir, name, "audit")
	other.cfg.Create = false
	return &other
}

// content is what a test looks for in a restored node.
type content struct {
	keys                      []string // one of each kind
	text                      []byte   // under the first
	granted, revoked, deleted string   // a key, a grant on it and an access key that are gone after the backup
	disabled, late            string   // keys
}

// fill gives a node keys of several kinds, with RSA keys of every kind, and what belongs to keys.
func (n *node) fill(c *client.Client, withRSA bool) *content {
	n.t.Helper()
	ctx, x := n.t.Context(), &content{}
	for _, k := range []client.CreateKeyRequest{
		{Alias: "aes"}, {Alias: "disabled"}, {Alias: "external", Origin: "external"},
		{Alias: "ec", Spec: "EC_P256"}, {Alias: "hmac", Spec: "HMAC_256"}, {Alias: "agreement", Spec: "EC_P256", Usage: "KEY_AGREEMENT"},
		{Alias: "rsa", Spec: "RSA_2048", Usage: "SIGN_VERIFY"}, {Alias: "rsa-crypt", Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"},
	} {
		if strings.HasPrefix(k.Spec, "RSA") && !withRSA {
			continue
		}
		x.keys = append(x.keys, must(c.CreateKey(ctx, k)).ID)
	}
	x.granted, x.disabled = x.keys[0], x.keys[1]
	x.text = must(c.Encrypt(ctx, client.EncryptRequest{KeyID: x.keys[0], Plaintext: []byte("hello")})).Ciphertext
	x.deleted = must(c.CreateCredential(ctx, "app", "none")).AccessKey
	must(c.CreateAlias(ctx, x.keys[0], "further"))
	if withRSA {
		must(c.GetImportParameters(ctx, client.ImportParametersRequest{KeyID: x.keys[2], Algorithm: "RSAES_OAEP_SHA_256"}))
	}
	x.revoked = must(c.CreateGrant(ctx, client.CreateGrantRequest{KeyID: x.granted, Grantee: "app", Operations: []string{"encrypt"}})).ID
	return x
}

// takeAway makes changes after a backup, and a key that the backup does not have.
func (n *node) takeAway(c *client.Client, x *content) {
	n.t.Helper()
	ctx := n.t.Context()
	if err := errors.Join(c.RevokeGrant(ctx, x.granted, x.revoked), c.DeleteCredential(ctx, x.deleted)); err != nil {
		n.t.Fatal(err)
	}
	must(c.DisableKey(ctx, x.disabled))
	x.late = must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "late"})).ID
	must(c.Encrypt(ctx, client.EncryptRequest{KeyID: x.keys[0], Plaintext: []byte("later")}))
}

// check looks at a restored node. reapplied says that the changes after the backup were made again.
func (x *content) check(t *testing.T, c *client.Client, reapplied bool) {
	t.Helper()
	ctx := t.Context()
	if got := must(c.Decrypt(ctx, client.DecryptRequest{Ciphertext: x.text})); string(got.Plaintext) != "hello" {
		t.Errorf("decrypted %q", got.Plaintext)
	}
	grants, credentials := must(c.ListGrants(ctx, client.ListGrantsRequest{KeyID: x.granted})), must(c.ListCredentials(ctx))
	state := must(c.DescribeKey(ctx, x.disabled)).State
	if gone := len(grants.Grants) == 0 && len(credentials) == 0 && state == client.Disabled; gone != reapplied {
		t.Errorf("there are %d grants and %d access keys, and the disabled key is %s", len(grants.Grants), len(credentials), state)
	}
	if _, err := c.DescribeKey(ctx, x.late); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a key that was created after the backup: %v", err)
	}
	number := func() uint64 {
		sealed := must(c.Encrypt(ctx, client.EncryptRequest{KeyID: x.keys[0], Plaintext: []byte("n")})).Ciphertext
		return uint64(sealed[32])<<24 | uint64(sealed[33])<<16 | uint64(sealed[34])<<8 | uint64(sealed[35])
	}
	if n := number(); n < skippedBlock {
		t.Errorf("message numbers go on at %d", n)
	}
	report := must(c.VerifyAuditLog(ctx, ""))
	if !report.OK() || len(report.Findings) == 0 {
		t.Errorf("the audit log: %+v", report)
	}
	text := fmt.Sprint(report.Findings)
	if !strings.Contains(text, "accepted this loss") {
		t.Errorf("it does not say what was lost: %s", text)
	}
}

// TestRestore restores a backup in place, beside a log that knows what came after it, and in another directory without a log.
func TestRestore(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, stop := n.run()
	x := n.fill(c, true)
	path := n.backUp(c)
	o := n.offline()
	report, err := o.VerifyBackup(t.Context(), path)
	if err != nil || report.Counts["keys"] != 8 || report.Counts["grants"] != 1 || report.Counts["access keys"] != 1 || report.Seals != 9 || report.Header.Keys != 8 {
		t.Fatalf("verified %+v (%v)", report, err) // 7 keys with material, the credential key, a wrapping key
	}
	if drill, err := o.DrillBackup(t.Context(), path); err != nil || drill.Used != 8 || drill.Seals != 9 {
		t.Errorf("drilled %+v (%v)", drill, err)
	}
	n.takeAway(c, x)
	if _, err := o.RestoreBackup(t.Context(), path, n.place(), true); !errors.Is(err, ErrAuditRuns) {
		t.Errorf("a running node is restored: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	var newer *NewerError
	if _, err := o.RestoreBackup(t.Context(), path, n.place(), false); !errors.As(err, &newer) || newer.Had <= newer.Backup || len(newer.Lost) != 4 {
		t.Fatalf("a newer database is replaced: %v", err)
	}

	lost := n.elsewhere("lost")
	restored, err := o.RestoreBackup(t.Context(), path, lost.place(), false)
	if err != nil || !restored.NoLog || restored.Replaced != "" || len(restored.Reapplied) != 0 {
		t.Fatalf("without a log: %+v (%v)", restored, err)
	}
	c2, stop2 := lost.run()
	x.check(t, c2, false)
	if err := stop2(); err != nil {
		t.Fatal(err)
	}

	restored, err = o.RestoreBackup(t.Context(), path, n.place(), true)
	if err != nil || restored.NoLog || len(restored.Reapplied) != 3 || len(restored.Lost) != 1 || restored.Lost[0].KeyID != x.late {
		t.Fatalf("in place: %+v (%v)", restored, err)
	}
	if _, err := store.Inspect(restored.Replaced); err != nil {
		t.Errorf("the database from before: %v", err)
	}
	n.cfg.Create = false
	c3, stop3 := n.run()
	x.check(t, c3, true)
	if err := stop3(); err != nil {
		t.Fatal(err)
	}
	c4, _ := n.run() // and once more, as any node
	x.check(t, c4, true)
	for _, op := range []policy.Operation{policy.OpRestoreBackup, policy.OpCreateBackup} {
		records := 0
		if err := c4.ReadAuditLog(t.Context(), client.AuditQuery{Operation: string(op)}, func(*client.AuditEntry) error { records++; return nil }); err != nil || records != 1 {
			t.Errorf("%d records of %s (%v)", records, op, err)
		}
	}
}

// TestRestoreInterrupted ends a restore before each of its steps: no sidecar starts then, and another restore completes.
func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c, stop := n.run()
	x := n.fill(c, false)
	path := n.backUp(c)
	n.takeAway(c, x)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	n.cfg.Create = false
	o := n.offline()
	cut := errors.New("power cut")
	for _, step := range []string{"continue the log", "reapply", "publish"} {
		o.failpoint = func(now string) error {
			if now == step {
				return cut
			}
			return nil
		}
		if _, err := o.RestoreBackup(t.Context(), path, n.place(), true); !errors.Is(err, cut) {
			t.Fatalf("%s: %v", step, err)
		}
		n.refusesToStart("there is no database")
	}
	o.failpoint = func(string) error { return nil }
	if _, err := o.RestoreBackup(t.Context(), path, n.place(), true); err != nil {
		t.Fatal(err)
	}
	c, _ = n.run()
	x.check(t, c, true)
}

// TestRestoreRefuses a backup of another tenant, of another HSM, one that is damaged, and a directory of another node.
func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	n, other := newNode(t), newNode(t)
	c, stop := n.run()
	n.fill(c, false)
	path := n.backUp(c)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	_, stop = other.run()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, o *Offline, path, want string) {
		t.Helper()
		_, err1 := o.VerifyBackup(t.Context(), path)
		_, err2 := o.DrillBackup(t.Context(), path)
		_, err3 := o.RestoreBackup(t.Context(), path, n.elsewhere("refused").place(), true)
		for _, err := range []error{err1, err2, err3} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if _, err := os.Stat(n.elsewhere("refused").cfg.Data); err == nil {
			t.Errorf("%s: there is a database", what)
		}
	}
	refused("another HSM", other.offline(), path, "this HSM does not open the backup")
	good := n.offline()
	good.cfg.Tenant = "acme"
	refused("another tenant", good, path, `is of tenant "test"`)
	good.cfg.Tenant = "test"
	if _, err := good.RestoreBackup(t.Context(), path, other.place(), true); err == nil || !strings.Contains(err.Error(), "of another node") {
		t.Errorf("another node's directory: %v", err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(n.dir, "bad.backup")
	for what, damage := range map[string]func([]byte) []byte{
		"cut off":              func(b []byte) []byte { return b[:len(b)-1] },
		"a flipped bit":        func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"another time":         func(b []byte) []byte { return bytes.Replace(b, []byte(`"created":"20`), []byte(`"created":"19`), 1) },
		"another change":       func(b []byte) []byte { return bytes.Replace(b, []byte(`"change":`), []byte(`"change":1`), 1) },
		"not a backup at all":  func([]byte) []byte { return []byte("keyside") },
		"an empty file":        func([]byte) []byte { return nil },
		"something at its end": func(b []byte) []byte { return append(b, file...) },
	} {
		if err := os.WriteFile(bad, damage(bytes.Clone(file)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := good.VerifyBackup(t.Context(), bad); !errors.Is(err, backup.ErrContent) && !errors.Is(err, backup.ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := good.RestoreBackup(t.Context(), bad, n.elsewhere("refused").place(), true); err == nil {
		t.Error("a damaged backup is restored")
	}
}

// TestBackupConfiguration checks that a backup has the configuration and the policies, without the source of the PIN.
func TestBackupConfiguration(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	policies := filepath.Join(n.dir, "policies")
	text := fmt.Appendf(nil, `# a comment
socket: %[1]s/kms.sock
data: %[1]s/db
audit: {dir: %[1]s/audit}
tenant: test
owner: %[2]d
policy: {dir: %[1]s/policies}
hsm:
  init: true
  driver: {name: soft, kind: soft, settings: {file: %[1]s/keys}, credential: {file: %[1]s/pin}}
`, n.dir, os.Getuid())
	file := filepath.Join(n.dir, "sidecar.yaml")
	allow := `permit (principal, action == Action::"list-keys", resource);`
	if err := errors.Join(os.Mkdir(policies, 0o700), os.WriteFile(filepath.Join(policies, "p.cedar"), []byte(allow), 0o600), os.WriteFile(file, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	cfg, err := LoadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Create = true
	n.cfg = cfg
	c, stop := n.run()
	path := n.backUp(c)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(n.dir, "configuration")
	if err := n.offline().BackupConfiguration(t.Context(), path, out); err != nil {
		t.Fatal(err)
	}
	got, err1 := os.ReadFile(filepath.Join(out, "sidecar.yaml"))
	got2, err2 := os.ReadFile(filepath.Join(out, "policies", "p.cedar"))
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(got), "# a comment") || !strings.Contains(string(got), "tenant: test") || string(got2) != allow {
		t.Errorf("configuration is\n%s\n%s", got, got2)
	}
	if strings.Contains(string(got), "credential") || strings.Contains(string(got), "pin") {
		t.Errorf("it says where the PIN is:\n%s", got)
	}
	for _, text := range []string{"hsm: {via: {socket: /s, uid: 1}}\n", "hsm:\n  driver: {name: soft}\n", "tenant: t\n", ""} {
		if got, err := withoutCredential([]byte(text)); err != nil || string(got) != text {
			t.Errorf("%q became %q (%v)", text, got, err)
		}
	}
}

// TestScheduledBackups moves the clock: backups are made when they are due, verified, and the oldest deleted; other files stay. A directory
// that is lost makes the node unhealthy until it is back.
func TestScheduledBackups(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	clock := &movingClock{}
	dir := filepath.Join(n.dir, "backups")
	n.cfg.Backups = BackupsConfig{Directory: dir, Every: time.Hour, Keep: 2}
	n.cfg.Clock = clock
	foreign := []string{"keyside-test-00000000-20200101T000000Z-5.backup", "other.backup", "keyside-test-1.part"}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range foreign {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := func() (names []string) {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil
		}
		for _, e := range entries {
			if !slices.Contains(foreign, e.Name()) {
				names = append(names, e.Name())
			}
		}
		return names
	}
	c, stop := n.run()
	await := func(what string, is func() bool) {
		t.Helper()
		deadline := time.NewTimer(20 * time.Second)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for !is() {
			select {
			case <-tick.C:
			case <-deadline.C:
				t.Fatalf("%s: not in time; %q\n%s", what, own(), n.log.String())
			}
		}
	}
	complete := func(want int) func() bool {
		return func() bool {
			names := own()
			return len(names) == want && !slices.ContainsFunc(names, func(s string) bool { return strings.HasSuffix(s, partSuffix) })
		}
	}
	await("the first", complete(1))
	first := own()[0]
	clock.move(61 * time.Minute)
	await("the second", complete(2))
	clock.move(61 * time.Minute)
	await("the third", func() bool { return complete(2)() && !slices.Contains(own(), first) })
	o := n.offline()
	for _, name := range own() {
		if _, err := o.VerifyBackup(t.Context(), filepath.Join(dir, name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	prefix := strings.Join(strings.Split(first, "-")[:3], "-")
	future := []string{prefix + "-20990101T000000Z-9.backup", prefix + "-20990101T010000Z-9.backup"} // the clock was set back since
	for _, name := range future {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clock.move(61 * time.Minute)
	await("one beside a later date", func() bool {
		return complete(2)() && slices.Contains(own(), future[1]) && !slices.Contains(own(), future[0])
	})
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	clock.move(61 * time.Minute)
	await("unhealthy", func() bool {
		h, err := c.Health(t.Context())
		return err == nil && !h.OK() && h.Checks["backup"] == "unavailable" && h.Checks["store"] == "ok"
	})
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(dir, prefix+"-77"+partSuffix) // of a killed process
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	clock.move(backupRetry)
	await("healthy again", func() bool { h, err := c.Health(t.Context()); return err == nil && h.OK() && complete(2)() })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	for _, name := range foreign {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	last := own()
	c, _ = n.run() // none is due
	must(c.CountKeys(t.Context()))
	clock.move(30 * time.Minute)
	if !slices.Equal(own(), last) {
		t.Errorf("%q became %q", last, own())
	}
	for text, want := range map[string]string{
		"backups: {directory: here}": "backups.directory", "backups: {every: 1h}": "backups.directory", "backups: {directory: /b, every: 1s}": "backups.every",
		"backups: {directory: /b, keep: -1}": "backups.keep",
	} {
		if _, err := ParseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// movingClock is the system's clock, moved.
type movingClock struct{ ahead atomic.Int64 }

func (c *movingClock) Now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *movingClock) move(by time.Duration) { c.ahead.Add(int64(by)) }
