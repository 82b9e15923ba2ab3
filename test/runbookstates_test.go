package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// runbook is the state of the node on which a page of docs/runbooks is tried.
type runbook struct {
	volume string                                   // size of a volume that the folder is; empty: a folder of the system's
	config func(o *operated, config map[string]any) // of the sidecar
	state  func(o *operated)
}

// runbooks returns the state for each page.
func runbooks() map[string]runbook {
	const sidecar, hsmd = "keyside-sidecar", "keyside-hsmd"
	return map[string]runbook{
		"KeysideDown": {state: func(o *operated) { o.units[sidecar].stop() }},
		"KeysideRestarting": {state: func(o *operated) {
			for range 3 {
				o.kill(o.units[sidecar].pid())
				o.serves()
			}
		}},
		"KeysideAuditUnavailable": {volume: "192m", state: func(o *operated) {
			o.fill(0)
			o.unhealthy("audit")
		}},
		"KeysideAuditFailures": {volume: "192m", state: func(o *operated) {
			o.fill(0)
			o.unhealthy("audit")
			o.remove("reserve")
		}},
		"KeysideAuditGap":       {state: (*operated).oweRecord},
		"KeysideHSMUnavailable": {state: (*operated).loseHSM},
		"KeysideDatabaseUnavailable": {volume: "192m", state: func(o *operated) {
			o.fill(16 << 20)
			o.unhealthy("store")
		}},
		"KeysideDiskFull": {volume: "192m", state: func(o *operated) {
			o.fill(0)
			o.unhealthy("audit")
		}},
		"KeysideDiskLow":       {volume: "192m", state: func(o *operated) { o.fill(64 << 20) }},
		"KeysideCheckpointOld": {state: (*operated).loseHSM},
		"KeysideDriverDown":    {state: (*operated).changePIN},
		"KeysideDriverRestarting": {state: func(o *operated) {
			for range 3 {
				o.kill(o.driver())
				o.serves()
			}
		}},
		"KeysideErrors":   {state: (*operated).failOnce},
		"KeysideOverload": {config: limitInFlight, state: (*operated).overload},
		"KeysideSlow":     {state: (*operated).serves},
		"KeysideConnectionsHigh": {config: func(_ *operated, config map[string]any) {
			config["connections"] = map[string]any{"socket": 20, "share": 50}
		}, state: (*operated).holdConnections},
		"KeysideDescriptorsHigh": {config: func(_ *operated, config map[string]any) {
			config["connections"] = map[string]any{"socket": 1000}
		}, state: func(o *operated) {
			o.units[sidecar].stop()
			o.units[sidecar].limit = "ulimit -n 512"
			o.refusesToStart()
		}},
		"KeysideImportsFailing":    {state: (*operated).failImport},
		"KeysideCertificateExpiry": {config: configureTLS, state: (*operated).renewCertificate},
		"KeysideBackupOld": {config: func(o *operated, config map[string]any) {
			config["backups"] = map[string]any{"directory": o.path("backups")}
		}, state: func(o *operated) {
			waitFor(o.T, "a backup has failed", func() bool { return strings.Contains(o.units[sidecar].output(), "scheduled backup failed") })
		}},
		"KeysideMessagesLow": {state: (*operated).serves},
		"KeysideClockJumped": {state: (*operated).jump},
		"database-missing": {state: func(o *operated) {
			o.units[sidecar].stop()
			o.rename("db", "root/db")
			o.refusesToStart()
		}},
		"database-damaged":    {state: (*operated).damage},
		"database-behind-log": {state: (*operated).goBack},
		"log-behind-database": {state: (*operated).cutLog},
	}
}

func (o *operated) path(parts ...string) string {
	return filepath.Join(append([]string{o.dir}, parts...)...)
}

func (o *operated) check(err error) {
	o.Helper()
	if err != nil {
		o.Fatal(err)
	}
}

func (o *operated) remove(name string) {
	o.Helper()
	o.check(os.RemoveAll(o.path(name)))
}

func (o *operated) rename(from, to string) {
	o.Helper()
	o.check(errors.Join(os.MkdirAll(filepath.Dir(o.path(to)), 0o700), os.Rename(o.path(from), o.path(to))))
}

func (o *operated) copy(from, to string) {
	o.Helper()
	if out, err := exec.Command("cp", "--archive", o.path(from), o.path(to)).CombinedOutput(); err != nil {
		o.Fatalf("%v: %s", err, out)
	}
}

func (o *operated) kill(pid int) {
	o.Helper()
	o.check(syscall.Kill(pid, syscall.SIGKILL))
	waitFor(o.T, "the process has ended", func() bool { return len(node.Stat(pid)) == 0 || node.Stat(pid)[0] == "Z" })
}

// driver returns the driver process.
func (o *operated) driver() (pid int) {
	o.Helper()
	waitFor(o.T, "hsmd has a driver process", func() bool {
		for _, p := range node.Descendants(o.units["keyside-hsmd"].pid()) {
			if node.Role(p) == "driver" {
				pid = p
			}
		}
		return pid != 0
	})
	return pid
}

// refusesToStart starts the sidecar, which must not work.
func (o *operated) refusesToStart() {
	o.Helper()
	if err := o.units["keyside-sidecar"].start(); err == nil {
		o.Fatal("the sidecar starts")
	}
}

// unhealthy uses the node until a check of /healthz has failed.
func (o *operated) unhealthy(check string) {
	o.Helper()
	waitFor(o.T, check+" is unavailable", func() bool {
		if check == "audit" { // which only a record finds
			_, _ = o.Decrypt(o.Context(), client.DecryptRequest{Ciphertext: o.sealed})
		}
		h, err := o.Health(o.Context())
		return err == nil && h.Checks[check] == "unavailable"
	})
}

// fill fills the volume but for some bytes. 64 MiB of it are the reserve.
func (o *operated) fill(free int64) {
	o.Helper()
	o.grow("reserve", 64<<20)
	var st unix.Statfs_t
	o.check(unix.Statfs(o.dir, &st))
	o.grow("filler", int64(st.Bavail)*st.Bsize-free)
	if free > 0 {
		return
	}
	f, err := os.OpenFile(o.path("filler"), os.O_APPEND|os.O_WRONLY, 0)
	o.check(err)
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		o.Fatal(err)
	}
}

func (o *operated) grow(name string, size int64) {
	o.Helper()
	f, err := os.Create(o.path(name))
	o.check(err)
	o.check(errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close()))
}

// oweRecord makes a change while the audit log cannot grow, until the reserve is deleted: a limit of file sizes stands for the full volume
// of the audit log.
func (o *operated) oweRecord() {
	o.Helper()
	o.check(os.WriteFile(o.path("reserve"), nil, 0o600))
	o.limitFiles(o.logSize() + 20)
	go func() {
		for err := error(nil); !errors.Is(err, fs.ErrNotExist) && o.Context().Err() == nil; _, err = os.Stat(o.path("reserve")) {
			select {
			case <-time.After(10 * time.Millisecond):
			case <-o.Context().Done():
			}
		}
		o.limitFiles(unix.RLIM_INFINITY)
	}()
	o.check(o.SetKeyDescription(o.Context(), o.key, "changed while the log is full"))
	o.unhealthy("audit")
}

func (o *operated) limitFiles(bytes uint64) {
	if err := unix.Prlimit(o.units["keyside-sidecar"].pid(), unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
		o.Error(err)
	}
}

// lastLog returns the last file of the audit log.
func (o *operated) lastLog() string {
	o.Helper()
	files, err := filepath.Glob(o.path("audit", "*.jsonl"))
	if err != nil || len(files) == 0 {
		o.Fatalf("no audit log: %v", err)
	}
	return files[len(files)-1]
}

func (o *operated) logSize() uint64 {
	o.Helper()
	info, err := os.Stat(o.lastLog())
	o.check(err)
	return uint64(info.Size())
}

func (o *operated) loseHSM() {
	o.Helper()
	o.units["keyside-hsmd"].stop()
	o.unhealthy("hsm")
}

// changePIN restarts hsmd with a wrong PIN; the right one is in /root.
func (o *operated) changePIN() {
	o.Helper()
	o.rename("pin", "root/pin")
	o.check(os.WriteFile(o.path("pin"), []byte("wrong"), 0o600))
	o.units["keyside-hsmd"].stop()
	o.check(o.units["keyside-hsmd"].start())
	o.unhealthy("hsm")
}

// failOnce makes one request fail: the volume of the database is read-only for a moment.
func (o *operated) failOnce() {
	o.Helper()
	db := o.path("db")
	o.check(unix.Mount(db, db, "", unix.MS_BIND, ""))
	o.Cleanup(func() { _ = unix.Unmount(db, unix.MNT_DETACH) })
	o.check(unix.Mount("", db, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	var failed *client.Error
	if err := o.SetKeyDescription(o.Context(), o.key, "on a read-only volume"); !errors.As(err, &failed) || failed.Code != "Internal" {
		o.Fatalf("a change on a read-only volume: %v", err)
	}
	o.check(unix.Unmount(db, unix.MNT_DETACH))
	o.serves()
}

func limitInFlight(_ *operated, config map[string]any) {
	config["in_flight"] = map[string]any{"total": 2, "principal": 1}
}

// overload sends more requests at once than the node takes.
func (o *operated) overload() {
	o.Helper()
	var refused sync.Map
	waitFor(o.T, "a request is refused", func() bool {
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				var e *client.Error
				if _, err := o.GenerateRandom(o.Context(), 32); errors.As(err, &e) {
					refused.Store(e.Code, true)
				}
			})
		}
		all.Wait()
		_, ok := refused.Load("Busy")
		return ok
	})
}

// holdConnections opens as many connections as one user may have, and tries one more.
func (o *operated) holdConnections() {
	o.Helper()
	o.Client.Close()
	for range 11 {
		conn, err := net.Dial("unix", o.path("kms.sock"))
		o.check(err)
		o.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
		o.check(err)
		_, err = conn.Read(make([]byte, 16))
		o.check(err)
	}
}

// failImport imports material that does not open.
func (o *operated) failImport() {
	o.Helper()
	key, err := o.CreateKey(o.Context(), client.CreateKeyRequest{Alias: "external", Origin: "external"})
	o.check(err)
	p, err := o.GetImportParameters(o.Context(), client.ImportParametersRequest{KeyID: key.ID, Algorithm: "RSAES_OAEP_SHA_256"})
	o.check(err)
	_, err = o.ImportKeyMaterial(o.Context(), client.ImportRequest{KeyID: key.ID, Token: p.Token, Material: make([]byte, 256)})
	var refused *client.Error
	if !errors.As(err, &refused) || refused.Code != "InvalidKeyMaterial" {
		o.Fatalf("an import of zeros: %v", err)
	}
}

// configureTLS gives the node a port with a certificate that expires in 5 days.
func configureTLS(o *operated, config map[string]any) {
	o.Helper()
	config["listen"] = freePort(o.T)
	config["tls"] = map[string]any{"certificate": o.path("tls.crt"), "key": o.path("tls.key")}
	o.certify("", 5)
}

// renewCertificate puts a certificate for 90 days into /root.
func (o *operated) renewCertificate() {
	o.Helper()
	o.check(os.MkdirAll(o.path("root"), 0o700))
	o.certify("root", 90)
}

// certify writes a certificate that signs itself, and its key, into a folder.
func (o *operated) certify(folder string, days int) {
	o.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	o.check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(days)), Subject: pkix.Name{CommonName: fmt.Sprint("for ", days, " days")},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, days), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	o.check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	o.check(err)
	o.check(errors.Join(
		os.WriteFile(o.path(folder, "tls.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600),
		os.WriteFile(o.path(folder, "tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
	))
}

// jump restarts the sidecar where more time has passed since boot: the clock is far behind the running time. A key is to be destroyed.
func (o *operated) jump() {
	o.Helper()
	doomed, err := o.CreateKey(o.Context(), client.CreateKeyRequest{Alias: "doomed"})
	o.check(err)
	_, err = o.ScheduleKeyDeletion(o.Context(), doomed.ID, 7)
	o.check(err)
	u := o.units["keyside-sidecar"]
	u.stop()
	u.under = "unshare --time --boottime 200000 --fork"
	o.check(u.start())
}

// goBack replaces the database by a copy from before a key was created.
func (o *operated) goBack() {
	o.Helper()
	o.units["keyside-sidecar"].stop()
	o.copy("db", "older")
	o.check(o.units["keyside-sidecar"].start())
	_, err := o.CreateKey(o.Context(), client.CreateKeyRequest{Alias: "lost"})
	o.check(err)
	o.units["keyside-sidecar"].stop()
	o.remove("db")
	o.rename("older", "db")
	o.refusesToStart()
}

// damage flips a bit of a table, after a backup was made and then a key.
func (o *operated) damage() {
	o.Helper()
	o.check(os.MkdirAll(o.path("backups"), 0o700))
	if out, err := o.do("keyside backup create --out /var/backups/keyside/node.backup"); err != nil {
		o.Fatalf("%v: %s", err, out)
	}
	_, err := o.CreateKey(o.Context(), client.CreateKeyRequest{Alias: "lost"})
	o.check(err)
	o.units["keyside-sidecar"].stop()
	tables, err := filepath.Glob(o.path("db", "*.sst"))
	if err != nil || len(tables) == 0 {
		o.Fatalf("no table: %v", err)
	}
	content, err := os.ReadFile(tables[0])
	o.check(err)
	content[len(content)/2] ^= 1
	o.check(os.WriteFile(tables[0], content, 0o600))
	o.refusesToStart()
}

// cutLog cuts off the last records of the audit log.
func (o *operated) cutLog() {
	o.Helper()
	o.units["keyside-sidecar"].stop()
	o.check(os.Truncate(o.lastLog(), int64(o.logSize()/2)))
	o.refusesToStart()
}
