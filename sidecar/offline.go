package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/procattr"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/backup"
	"github.com/keyside/keyside/sidecar/hsm"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// Offline has the HSM of a sidecar, for verbs that work on backups. The sidecar may run or not.
type Offline struct {
	cfg     Config
	log     *slog.Logger
	backend *hsm.Backend
	hsm     *hsm.HSM
	// Progress is told how much of a stage is done, of total: of "read" in bytes, of "check" in keys.
	Progress func(stage string, done, total int64)

	failpoint func(step string) error // called between two durable steps of a restore; for tests
}

// OpenOffline opens the HSM that a configuration names. Where hsmd does not run, it starts the driver that hsmd's configuration
// names, if that can be read.
func OpenOffline(ctx context.Context, cfg Config, hsmdConfig string, log *slog.Logger) (*Offline, error) {
	procattr.PrivateFiles()
	o := &Offline{cfg: cfg, log: log, Progress: func(string, int64, int64) {}, failpoint: func(string) error { return nil }}
	var err error
	o.backend, err = hsm.Open(hsm.Options{
		Name: cfg.HSM.name(), Start: func(ctx context.Context) (hsmd.Backend, error) { return dialOffline(ctx, cfg.HSM, hsmdConfig, log) },
		Tenant: cfg.Tenant, Data: cfg.Data, Logger: log,
	})
	if err != nil {
		return nil, err
	}
	if o.hsm, err = o.backend.Ready(ctx, 1); err != nil {
		return nil, errors.Join(err, o.backend.Close(context.WithoutCancel(ctx)))
	}
	return o, nil
}

func dialOffline(ctx context.Context, c HSMConfig, hsmdConfig string, log *slog.Logger) (hsmd.Backend, error) {
	if c.Via == nil {
		return c.Dial(ctx, log)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.Via.Socket)
	if err == nil {
		_ = conn.Close()
		return c.Dial(ctx, log)
	}
	file, loadErr := hsmd.LoadConfig(hsmdConfig)
	if loadErr != nil {
		return nil, errors.Join(fmt.Errorf("hsmd does not run (%w), and its driver cannot be started", err), loadErr)
	}
	at := slices.IndexFunc(file.Drivers, func(d hsmd.DriverConfig) bool { return c.Via.Name == "" || d.Name == c.Via.Name })
	if at < 0 {
		return nil, fmt.Errorf("%s has no driver %q", hsmdConfig, c.Via.Name)
	}
	return plugins.Start(ctx, file.Drivers[at].Config, log)
}

// Close closes the HSM.
func (o *Offline) Close(ctx context.Context) error { return o.backend.Close(ctx) }

// BackupReport is what a backup contains.
type BackupReport struct {
	Header backup.Header
	Counts store.Counts
	Seals  int // sealed keys that the HSM opened
	Used   int // of them, those that did an operation
}

// VerifyBackup reads a whole backup into a temporary directory, decodes every entry, and lets the HSM check every seal.
func (o *Offline) VerifyBackup(ctx context.Context, path string) (*BackupReport, error) {
	return inTemporary(func(dir string) (*BackupReport, error) {
		header, err := o.load(ctx, path, filepath.Join(dir, "db"))
		if err != nil {
			return nil, err
		}
		return o.check(ctx, header, filepath.Join(dir, "db"), false)
	})
}

func inTemporary[T any](do func(dir string) (T, error)) (T, error) {
	dir, err := os.MkdirTemp("", "keyside-backup-")
	if err != nil {
		var none T
		return none, err
	}
	out, err := do(dir)
	return out, errors.Join(err, os.RemoveAll(dir))
}

// load reads a backup into a new database in dir.
func (o *Offline) load(ctx context.Context, path, dir string) (*backup.Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	in, err := backup.Open(&progressReader{f, func(done int64) { o.Progress("read", done, info.Size()) }, 0})
	if err != nil {
		return nil, err
	}
	h := &in.Header
	if h.Tenant != o.cfg.Tenant {
		return nil, fmt.Errorf("the backup is of tenant %q, and the configuration of tenant %q", h.Tenant, o.cfg.Tenant)
	}
	key, err := openDataKey(ctx, o.hsm, h)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	found, err := store.Load(dir, func(set func(key, value []byte) error) error {
		return in.Read(key, func(_, _ []byte) error { return nil }, func(name, value []byte) error {
			return errors.Join(ctx.Err(), set(name, value))
		})
	})
	if err == nil && (found.Change != h.Change || found.Node != h.Node || found.Tenant != h.Tenant || found.Format != h.Format) {
		err = backup.ErrContent
	}
	return h, err
}

// progressReader tells how much was read.
type progressReader struct {
	io.Reader
	tell func(done int64)
	done int64
}

func (r *progressReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.done += int64(n)
	r.tell(r.done)
	return n, err
}

// checkedAtOnce is the number of seals that the HSM checks concurrently.
const checkedAtOnce = 8

// check decodes every entry of a database that no process has open, and lets the HSM open every sealed key, and with use do
// an operation with it.
func (o *Offline) check(ctx context.Context, header *backup.Header, dir string, use bool) (*BackupReport, error) {
	s, err := store.Open(store.Options{Dir: dir, Tenant: o.cfg.Tenant, Logger: o.log})
	if err != nil {
		return nil, err
	}
	report := &BackupReport{Header: *header}
	report.Counts, err = o.checkSeals(ctx, s, use, report)
	if err == nil {
		var core *kms.Service
		if core, err = o.core(s, noAuditor{}); err == nil {
			err = errors.Join(core.CheckGrants(ctx), core.CheckCredentials(ctx))
		}
	}
	return report, errors.Join(err, s.Close())
}

func (o *Offline) checkSeals(ctx context.Context, s *store.Store, use bool, report *BackupReport) (store.Counts, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	todo := make(chan store.Sealed)
	var mu sync.Mutex
	var work sync.WaitGroup
	for range checkedAtOnce {
		work.Go(func() {
			for sealed := range todo {
				used, err := o.checkSeal(ctx, sealed, use)
				if err != nil {
					cancel(fmt.Errorf("key %s, version %d: %w", sealed.Ref.ID, sealed.Ref.Version, err))
				}
				mu.Lock()
				report.Seals++
				if used {
					report.Used++
				}
				o.Progress("check", int64(report.Seals), int64(report.Header.Keys))
				mu.Unlock()
			}
		})
	}
	counts, err := s.Decode(ctx, func(sealed store.Sealed) error {
		select {
		case todo <- sealed:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(todo)
	work.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return counts, err
}

func (o *Offline) checkSeal(ctx context.Context, sealed store.Sealed, use bool) (used bool, err error) {
	if err := o.hsm.CheckSeal(ctx, sealed.Ref, sealed.PublicKey); err != nil {
		return false, err
	}
	if !use || sealed.Ref.Usage == kms.Unwrap {
		return false, nil
	}
	err = kms.Drill(ctx, o.hsm, sealed.Ref, sealed.PublicKey)
	return err == nil, errors.Join(err, o.hsm.DestroyKey(ctx, sealed.Ref)) // of the driver's memory
}

// core returns a core over a database that no process has open.
func (o *Offline) core(s *store.Store, auditor kms.Auditor) (*kms.Service, error) {
	return kms.New(kms.Config{
		Store: s, Credentials: s, HSM: o.hsm, Auditor: auditor, Tenant: o.cfg.Tenant, Limits: o.cfg.Limits, Account: o.cfg.huawei().DomainID,
		Clock: o.cfg.Clock, Logger: o.log,
	})
}

// noAuditor keeps no record: it is for a core that only reads.
type noAuditor struct{}

// Record implements kms.Auditor.
func (noAuditor) Record(context.Context, *kms.AuditRecord) error { return nil }

// Line implements kms.Auditor.
func (noAuditor) Line(*kms.AuditRecord) []byte { return nil }

// Ready implements kms.Auditor.
func (noAuditor) Ready(context.Context) error { return nil }

// caller is this process as records name it.
func (o *Offline) caller() policy.Caller {
	return policy.Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid()), Known: true}
}
