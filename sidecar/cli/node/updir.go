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

// softhsmModules are the places where distributions put SoftHSM's module.
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

// tokenLabel is the label of the token that up initialises, and upTenant the tenant whose keys it holds.
const (
	tokenLabel = "keyside"
	upTenant   = "default"
)

// upDir is the folder with all state of `keyside up`.
type upDir string

func (d upDir) path(name string) string { return filepath.Join(string(d), name) }

// openUpDir makes the folder if it is missing and closes it to other users.
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
		return "", verb.Failf(verb.ExitUsage, "%s belongs to uid %d, not to you (uid %d): choose a folder of your own", abs, st.Uid, os.Getuid())
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
		return "", verb.Failf(verb.ExitUsage, "other users may write to %s: run chmod 700 %s, or choose another folder", abs, abs)
	default:
		return upDir(abs), nil
	}
}

// lock takes the folder for this process. The kernel releases it when the process ends, however it ends.
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

// prepare does what is still missing of the first run. Each step is done under a temporary name and renamed, so one that
// was killed is done again and one that was done is left alone.
func (d upDir) prepare(ctx context.Context, o upOptions) (*upSidecar, error) {
	if err := d.checkDriver(o.driver); err != nil {
		return nil, err
	}
	if err := d.makePIN(); err != nil {
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
	return d.adaptConfig(o, values)
}

// checkDriver records which driver the folder is for and refuses another: its keys live nowhere else.
func (d upDir) checkDriver(driver string) error {
	was, err := os.ReadFile(d.path("driver"))
	if errors.Is(err, fs.ErrNotExist) {
		return writeAtomic(d.path("driver"), []byte(driver+"\n"))
	}
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(was)); got != driver {
		return verb.Failf(verb.ExitUsage, "%s was made with --driver %s and its keys live there: use that driver, or another folder", d, got)
	}
	return nil
}

// makePIN makes the PIN of the token, or the passphrase of the soft driver: 160 random bits, once.
func (d upDir) makePIN() error {
	if _, err := os.Stat(d.path("pin")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, keys := range []string{"tokens", "soft.keys"} {
		if _, err := os.Stat(d.path(keys)); err == nil {
			return verb.Failf(verb.ExitFailure, "%s is missing while %s is there: restore the file from a backup, no other PIN opens the keys",
				d.path("pin"), d.path(keys))
		}
	}
	return writeAtomic(d.path("pin"), []byte(randomPIN()))
}

func randomPIN() string {
	b := make([]byte, 20)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return hex.EncodeToString(b)
}

// makeToken initialises a SoftHSM token in tokens/. The work is done in tokens.new, so that a token is there whole or
// not at all. The security officer's PIN is random and forgotten: nothing here ever needs it again.
func (d upDir) makeToken(ctx context.Context, module string) error {
	if err := writeAtomic(d.path("softhsm2.conf"), softhsmConf(d.path("tokens"))); err != nil {
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
	if err := writeAtomic(conf, softhsmConf(fresh)); err != nil {
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

// initToken runs the init-token verb as a process of its own, because SoftHSM takes its settings from the environment and
// a module is not loaded into this process. Both PINs go through its standard input.
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
		return fmt.Errorf("initialise the SoftHSM token: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

func softhsmConf(tokens string) []byte {
	return fmt.Appendf(nil, "directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", tokens)
}

// quoteYAML quotes a string; every JSON string is one of YAML.
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

// findModule returns the module to use: the one asked for, or SoftHSM's where a distribution puts it.
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
	return "", verb.Failf(verb.ExitUsage, "SoftHSM's module was not found: install it (apt-get install softhsm2), name it with --module, or use --driver soft")
}

// writeAtomic replaces a file of 0600 in one step.
func writeAtomic(path string, content []byte) error {
	o, err := verb.CreateOutput(path, true)
	if err != nil {
		return err
	}
	if _, err := o.Write(content); err != nil {
		return errors.Join(err, o.Discard())
	}
	return o.Commit()
}

// syncFilesystem writes out everything of the file system that holds path: SoftHSM syncs none of its files.
func syncFilesystem(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
