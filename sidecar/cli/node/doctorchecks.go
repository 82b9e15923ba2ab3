package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// checkDriver checks what a driver needs to start: module, token store, PIN.
func (d *doctor) checkDriver(ctx context.Context, c plugins.Config) {
	var settings struct {
		Module       string `yaml:"module"`
		ModuleSHA256 string `yaml:"module_sha256"`
		File         string `yaml:"file"`
	}
	if c.Settings.Kind != 0 {
		_ = c.Settings.Decode(&settings) // the driver reads them strictly
	}
	switch c.Kind {
	case plugins.KindPKCS11:
		d.checkModule(settings.Module, settings.ModuleSHA256)
		d.checkTokenStore(c.Env["SOFTHSM2_CONF"])
	case plugins.KindSoft:
		d.checkKeyFile(settings.File)
	case plugins.KindExternal:
		d.checkModule(c.Command, c.SHA256)
	}
	pin, err := c.Credential.Load(ctx)
	clear(pin)
	switch {
	case err != nil && c.Credential.Systemd != "":
		d.unknown("pin", "", "%s: %s; only the service itself can read it", c.Name, oneLine(err))
	case err != nil:
		d.fail("pin", "the file must hold only the PIN, and only its owner may read it: chmod 600", "%s: %s", c.Name, oneLine(err))
	case len(pin) == 0:
		d.fail("pin", "give the driver a credential: file, systemd or command", "%s: no credential is configured", c.Name)
	default:
		d.ok("pin", "%s: readable only by its owner", c.Name)
	}
}

func (d *doctor) checkModule(path, want string) {
	got, err := fileSHA256(path)
	switch {
	case isMissing(err):
		d.fail("module", "install it (SoftHSM: apt-get install softhsm2), or correct its path", "%s does not exist", path)
	case err != nil:
		d.fail("module", "make it readable", "%v", err)
	case want != "" && !strings.EqualFold(got, want):
		d.fail("module", "if you upgraded it, put "+got+" in the configuration; if not, find out who changed it",
			"%s is not the one that is pinned", path)
	case want == "":
		d.ok("module", "%s, not pinned (its sha256 is %s)", path, got)
	default:
		d.ok("module", "%s, as pinned", path)
	}
}

// tokenDir matches the line of SoftHSM's configuration that names its directory of tokens.
var tokenDir = regexp.MustCompile(`(?m)^[ \t]*directories\.tokendir[ \t]*=[ \t]*(.*?)[ \t\r]*$`)

// checkTokenStore checks SoftHSM's directory of tokens.
func (d *doctor) checkTokenStore(conf string) {
	if conf == "" {
		return
	}
	text, err := os.ReadFile(conf)
	if err != nil {
		d.fail("token store", "SOFTHSM2_CONF of the driver's env must name SoftHSM's configuration", "%v", err)
		return
	}
	line := tokenDir.FindSubmatch(text)
	if line == nil {
		d.fail("token store", "add the line to SoftHSM's configuration", "%s has no directories.tokendir", conf)
		return
	}
	dir := string(line[1])
	tokens, err := os.ReadDir(dir)
	switch {
	case err != nil:
		d.fail("token store", "restore the directory from a backup: it holds the keys", "%v", err)
	case len(tokens) == 0:
		d.fail("token store", "initialize a token with softhsm2-util --init-token, or run keyside up", "%s holds no token", dir)
	default:
		d.ok("token store", "%s holds %d token(s)", dir, len(tokens))
	}
}

func (d *doctor) checkKeyFile(path string) {
	info, err := os.Stat(path)
	switch {
	case isMissing(err):
		d.unknown("key file", "", "%s does not exist yet; the driver creates it when it starts", path)
	case err != nil:
		d.fail("key file", "make it readable for the user that runs the driver", "%v", err)
	case info.Mode().Perm()&0o077 != 0:
		d.fail("key file", "chmod 600 "+path, "%s can be read by others (mode %04o)", path, info.Mode().Perm())
	default:
		d.ok("key file", "%s", path)
	}
}

// startSidecar is the fix if no sidecar answers.
const startSidecar = "start the sidecar: keyside sidecar --config sidecar.yaml, or keyside up"

// checkSidecar checks the sockets. It reports whether a sidecar answers.
func (d *doctor) checkSidecar(ctx context.Context) bool {
	if via := d.sidecar.HSM.Via; via != nil {
		d.checkSocket(ctx, "hsmd socket", via.Socket, via.UID, "start hsmd: keyside hsmd --config hsmd.yaml, or keyside up")
	}
	if d.socket == "" {
		d.socket = d.sidecar.Socket
	}
	running := d.checkSocket(ctx, "kms socket", d.socket, -1, startSidecar)
	if uid := int64(os.Getuid()); running && uid != d.sidecar.Owner {
		d.fail("caller", "run it as the owner, or change owner in sidecar.yaml", "you are uid %d and the owner is uid %d: all your requests are refused", uid, d.sidecar.Owner)
	} else {
		d.ok("caller", "uid %d, owner is uid %d", uid, d.sidecar.Owner)
	}
	return running
}

// checkSocket connects to a socket and checks the uid of its server; wantUID -1 accepts any uid.
func (d *doctor) checkSocket(ctx context.Context, check, path string, wantUID int64, start string) bool {
	ctx, cancel := within(ctx)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case isMissing(err):
		return d.fail(check, start, "%s does not exist: nothing runs", path)
	case errors.Is(err, unix.ECONNREFUSED):
		return d.fail(check, start+"; it removes the old socket", "%s is left over from a process that exited", path)
	case errors.Is(err, unix.EACCES):
		return d.fail(check, "join the socket's group, or change socket_mode and socket_group", "you may not connect to %s", path)
	case err != nil:
		return d.fail(check, start, "%v", err)
	}
	defer func() { _ = conn.Close() }()
	caller, err := peer.Creds(conn)
	switch {
	case err != nil || !caller.Known:
		return d.fail(check, "", "the kernel does not identify the server of %s", path)
	case wantUID >= 0 && int64(caller.UID) != wantUID && caller.UID != 0:
		return d.fail(check, "correct hsm.via.uid, or find out who serves the socket", "%s is served by uid %d and not by uid %d", path, caller.UID, wantUID)
	}
	return d.ok(check, "%s, served by pid %d of uid %d", path, caller.PID, caller.UID)
}

// checkDatabase checks the directory and its lock, which only the sidecar may hold.
func (d *doctor) checkDatabase(running bool) {
	dir := d.sidecar.Data
	if !d.checkWritable("database", dir) {
		return
	}
	f, err := os.Open(dir)
	if err != nil {
		d.fail("database", "make it readable for the user that runs the sidecar", "%v", err)
		return
	}
	defer func() { _ = f.Close() }()
	locked := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
	switch {
	case locked && !running:
		pid, _ := os.ReadFile(filepath.Join(dir, "LOCK"))
		d.fail("database", "stop that process, or give this sidecar its own data directory", "%s is in use by another process (pid %s)", dir, strings.TrimSpace(string(pid)))
	case locked:
		d.ok("database", "%s, in use by the sidecar", dir)
	default:
		d.ok("database", "%s", dir)
	}
}

// checkAudit checks the directory. If Keyside is stopped it also verifies the log, because a sidecar does not start otherwise.
func (d *doctor) checkAudit(ctx context.Context, running bool) {
	dir := d.sidecar.Audit.Dir
	if !d.checkWritable("audit", dir) {
		return
	}
	if running || !fileExists(d.sidecar.Data) {
		d.ok("audit", "%s", dir)
		return
	}
	report, _, err := sidecar.AuditFiles{Audit: dir, Data: d.sidecar.Data}.Verify(ctx, nil)
	switch {
	case err != nil:
		d.unknown("audit", "run keyside audit verify", "%s: %v", dir, err)
	case !report.OK():
		worst := report.Findings[slices.IndexFunc(report.Findings, func(f audit.Finding) bool { return f.Accepted == "" })]
		d.fail("audit", "keyside audit verify --config SIDECAR.YAML lists all findings; restore the files from a copy, or see keyside audit "+
			"accept-loss", "%s does not verify: %s", dir, worst)
	default:
		d.ok("audit", "%s, records %d to %d verify", dir, report.First, report.Records)
	}
}

// minFree is the free space below which a check fails, in bytes.
const minFree = 100 << 20

// checkWritable checks that a directory, or its parent if it does not exist, is writable and has free space. It adds a
// finding only if one of that is not so, and reports whether all is.
func (d *doctor) checkWritable(check, dir string) bool {
	at := dir
	if !fileExists(dir) {
		at = filepath.Dir(dir)
	}
	if err := unix.Access(at, unix.W_OK|unix.X_OK); err != nil {
		return d.fail(check, "make it writable for the user that runs the sidecar; tried as uid "+fmt.Sprint(os.Getuid()), "%s: %v", at, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err == nil && st.Bavail*uint64(st.Bsize) < minFree {
		return d.fail(check, "free disk space: operations that cannot be recorded are refused", "less than %d MiB are free for %s", minFree>>20, dir)
	}
	if at != dir {
		return d.unknown(check, "", "%s does not exist yet; the sidecar creates it when it starts", dir)
	}
	return true
}

// checkHealth asks the running sidecar, whose response depends on a real operation of the HSM.
func (d *doctor) checkHealth(ctx context.Context) {
	ctx, cancel := within(ctx)
	defer cancel()
	c := client.New(d.socket)
	defer c.Close()
	health, err := c.Health(ctx)
	if err != nil {
		d.fail("health", "look at the sidecar's log", "%v", err)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(health.Checks)) {
		if state := health.Checks[name]; state != statusOK {
			d.fail("health "+name, "look at the log of the sidecar and, for the HSM, of hsmd; keyside hsm status shows the last error", "%s", state)
		}
	}
	if clock := health.Clock; clock.Waiting > 0 {
		d.fail("clock", "compare the node's time with another clock: if it is right, run keyside key confirm-deletions; else correct it, and the keys wait "+
			"as long as was left of their periods", "it jumped by %s; keys that wait to be destroyed: %d", time.Duration(clock.Jumped)*time.Second, clock.Waiting)
	}
	status, err := c.GetHSMStatus(ctx)
	if err != nil {
		d.unknown("hsm", "", "only the owner may read its status: %s", oneLine(err))
		return
	}
	for _, layer := range status.Layers {
		for _, m := range layer.Members {
			if m.State != "ready" {
				d.fail("hsm", "look at the log of the process, which is restarted automatically", "%s: %s is %s: %s", layer.Layer, m.Name, m.State, verb.Dash(m.LastError))
			}
		}
	}
	if health.OK() {
		d.ok("canary", "tenant %s: its keys are in the HSM and work", health.Tenant)
	}
}

// checkProbe starts the driver, if Keyside is stopped and --probe allows the login.
func (d *doctor) checkProbe(ctx context.Context) {
	drivers := d.drivers()
	if !d.probe || len(drivers) == 0 {
		d.unknown("canary", "keyside doctor --probe starts the driver and logs in once", "token and keys were not checked, because Keyside is stopped")
		return
	}
	for _, c := range drivers {
		ctx, cancel := context.WithTimeout(ctx, startTimeout)
		err := probeDriver(ctx, c, d.sidecar.Tenant)
		cancel()
		if err != nil {
			d.fail("canary", probeFix(err), "%s: %s", c.Name, oneLine(err))
		} else {
			d.ok("canary", "%s: the keys of tenant %s exist and work", c.Name, d.sidecar.Tenant)
		}
	}
}

func probeDriver(ctx context.Context, c plugins.Config, tenant string) error {
	p, err := plugins.Start(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	_, err = p.DescribeTenant(ctx, &driver.DescribeTenantRequest{Tenant: tenant})
	if err == nil {
		err = p.Health(ctx, tenant)
	}
	return errors.Join(err, p.Close(ctx))
}

// probeFix returns the fix for a driver's error.
func probeFix(err error) string {
	switch driver.CodeOf(err) {
	case driver.PINIncorrect:
		return "correct the PIN in the source of the credential first: the token counts wrong attempts"
	case driver.PINLocked:
		return "the token is locked: the security officer has to unlock it"
	case driver.TenantUnknown:
		return "create the tenant's keys: keyside root init --generate --config sidecar.yaml"
	case driver.KeyUnavailable:
		return "restore the token from its backup: one of the tenant's keys does not exist"
	}
	return "see the error; for the driver's log run keyside hsmd or keyside sidecar in the foreground"
}
