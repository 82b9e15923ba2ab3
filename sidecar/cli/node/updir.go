package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// softhsmModules are the paths of SoftHSM's module in distributions.
var softhsmModules = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
}

// Drivers and modes of up.
const (
	driverSoft    = "soft"
	driverSoftHSM = "softhsm"
	modeViaHSMD   = "via-hsmd"
	modeDirect    = "direct"
)

// tokenLabel is the label of the token that up initializes, and upTenant the tenant whose keys it holds.
const (
	tokenLabel = "keyside"
	upTenant   = "default"
)

// upDir is the directory with all state of keyside up.
type upDir string

func (d upDir) path(name string) string { return filepath.Join(string(d), name) }

// createdName is the file that says that the sidecar's database was created. From then on a missing database is a loss.
const createdName = "database-created"

// hasServed reports whether the sidecar has served from this directory.
func (d upDir) hasServed() bool {
	_, err := os.Stat(d.path(createdName))
	return err == nil
}

// createFlag returns the flag that lets the sidecar create its database, until it has served for the first time.
func (d upDir) createFlag() []string {
	if d.hasServed() {
		return nil
	}
	return []string{"--create"}
}

// remember records that the database was created.
func (d upDir) remember() error {
	if d.hasServed() {
		return nil
	}
	return os.WriteFile(d.path(createdName), nil, 0o600)
}

// openUpDir creates the directory if it does not exist, and denies other users access.
func openUpDir(path string) (upDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(abs, &st); err != nil {
		return "", err
	}
	if int(st.Uid) != os.Getuid() {
		return "", verb.Failf(verb.ExitUsage, "%s belongs to uid %d, not to you (uid %d): choose a directory of your own", abs, st.Uid, os.Getuid())
	}
	if st.Mode&0o077 == 0 {
		return upDir(abs), nil
	}
	entries, err := os.ReadDir(abs)
	if err != nil {
		return "", err
	}
	_, err = os.Stat(filepath.Join(abs, "driver"))
	switch {
	case len(entries) == 0 || err == nil:
		return upDir(abs), os.Chmod(abs, 0o700)
	case st.Mode&0o022 != 0:
		return "", verb.Failf(verb.ExitUsage, "other users may write to %s: run chmod 700 %s, or choose another directory", abs, abs)
	default:
		return upDir(abs), nil
	}
}

// lock locks the directory for this process. The kernel releases the lock when the process exits.
func (d upDir) lock() (*os.File, error) {
	f, err := os.OpenFile(d.path("up.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid, _ := os.ReadFile(f.Name())
		return nil, errors.Join(verb.Failf(verb.ExitExists, "another keyside up (pid %s) already runs on %s: use it, or stop it first",
			strings.TrimSpace(string(pid)), d), f.Close())
	}
	if err := f.Truncate(0); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := fmt.Fprintln(f, os.Getpid()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// prepare does the steps of the first run that are not done yet. Each step works under a temporary name and then renames it, so
// that an interrupted step is repeated and a finished one is not.
func (d upDir) prepare(ctx context.Context, o upOptions) (*upSidecar, error) {
	if err := d.checkDriver(o.driver); err != nil {
		return nil, err
	}
	if err := errors.Join(d.checkKeys(o.driver), d.makePIN()); err != nil {
		return nil, err
	}
	values := upValues{Dir: d, Driver: o.driver, Tenant: upTenant, Token: tokenLabel, UID: os.Getuid(), Direct: o.mode == modeDirect, Listen: o.listen}
	if o.driver == driverSoftHSM {
		if err := d.makeToken(ctx, o.module); err != nil {
			return nil, err
		}
		sum, err := fileSHA256(o.module)
		if err != nil {
			return nil, err
		}
		values.Module, values.ModuleSHA256 = o.module, sum
	}
	if err := d.writeConfig("hsmd.yaml", hsmdYAML, values); err != nil {
		return nil, err
	}
	if err := d.writeConfig("sidecar.yaml", sidecarYAML, values); err != nil {
		return nil, err
	}
	config, err := d.adaptConfig(o, values)
	if err == nil && config.HSM.Via != nil {
		err = d.checkHSMD()
	}
	return config, err
}

// checkDriver records the driver of the directory and refuses another one, because its keys are only in that driver.
func (d upDir) checkDriver(driver string) error {
	was, err := os.ReadFile(d.path("driver"))
	if errors.Is(err, fs.ErrNotExist) {
		return verb.WriteFile(d.path("driver"), []byte(driver+"\n"), true)
	}
	if err != nil {
		return err
	}
	switch got := strings.TrimSpace(string(was)); {
	case got == driver:
	case got != driverSoft && got != driverSoftHSM:
		return verb.Failf(verb.ExitFailure, "%s names no driver: restore it from a backup, or write into it the one that holds the keys, %s or %s",
			d.path("driver"), driverSoft, driverSoftHSM)
	default:
		return verb.Failf(verb.ExitUsage, "%s was created with --driver %s, which holds its keys: use that driver, or another directory", d, got)
	}
	return nil
}

// checkKeys refuses to create a new token, or a new file of the soft driver, beside a database whose keys it would not open.
func (d upDir) checkKeys(driver string) error {
	keys := d.path("soft.keys")
	if driver == driverSoftHSM {
		keys = d.path("tokens")
	}
	switch _, err := os.Stat(keys); {
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !d.hasServed():
		return nil
	}
	return verb.Failf(verb.ExitFailure, "%s does not exist, and the database needs its keys: restore it from a backup", keys)
}

// makePIN creates the PIN of the token, or the passphrase of the soft driver, if it does not exist: 160 random bits.
func (d upDir) makePIN() error {
	if _, err := os.Stat(d.path("pin")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, keys := range []string{"tokens", "soft.keys"} {
		if _, err := os.Stat(d.path(keys)); err == nil {
			return verb.Failf(verb.ExitFailure, "%s does not exist but %s does: restore the file from a backup, because no other PIN opens the keys",
				d.path("pin"), d.path(keys))
		}
	}
	return verb.WriteFile(d.path("pin"), []byte(randomPIN()), true)
}

func randomPIN() string {
	b := make([]byte, 20)
	_, _ = rand.Read(b) // never returns an error
	return hex.EncodeToString(b)
}

// makeToken initializes a SoftHSM token in tokens/. It works in tokens.new, so that tokens/ holds a complete token or does not
// exist. The security officer's PIN is random and not stored, because it is never needed again.
func (d upDir) makeToken(ctx context.Context, module string) error {
	if err := verb.WriteFile(d.path("softhsm2.conf"), softhsmConf(d.path("tokens")), true); err != nil {
		return err
	}
	if _, err := os.Stat(d.path("tokens")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fresh, conf := d.path("tokens.new"), d.path("softhsm2.conf.new")
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := verb.WriteFile(conf, softhsmConf(fresh), true); err != nil {
		return err
	}
	pin, err := os.ReadFile(d.path("pin"))
	if err != nil {
		return err
	}
	if err := initToken(ctx, module, conf, string(pin)); err != nil {
		return err
	}
	if err := syncFilesystem(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, d.path("tokens")); err != nil {
		return err
	}
	return errors.Join(os.Remove(conf), verb.SyncDir(string(d)))
}

// initToken runs driver init-token as a separate process, because SoftHSM reads its settings from the environment and no module
// is loaded into this process. Both PINs go through standard input.
func initToken(ctx context.Context, module, conf, pin string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe, "driver", "init-token", "--module", module, "--label", tokenLabel)
	cmd.Env = []string{"SOFTHSM2_CONF=" + conf}
	cmd.Stdin = strings.NewReader(randomPIN() + "\n" + pin + "\n")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initialize the SoftHSM token: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

func softhsmConf(tokens string) []byte {
	return fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
}

// quoteYAML quotes a string. Every JSON string is a YAML string.
func quoteYAML(v any) (string, error) {
	b, err := json.Marshal(fmt.Sprint(v))
	return string(b), err
}

func fileSHA256(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// findModule returns the path of the module: asked, or else that of SoftHSM in a distribution.
func findModule(asked string) (string, error) {
	places := softhsmModules
	if asked != "" {
		places = []string{asked}
	}
	for _, p := range places {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return filepath.EvalSymlinks(p)
		}
	}
	if asked != "" {
		return "", verb.Failf(verb.ExitUsage, "no module at %s: check --module", asked)
	}
	return "", verb.Failf(verb.ExitUsage, "SoftHSM's module does not exist: install it (apt-get install softhsm2), name it with --module, or use --driver soft")
}

// syncFilesystem syncs the whole file system of path, because SoftHSM syncs none of its files.
func syncFilesystem(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
