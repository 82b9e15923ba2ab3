package sidecar

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/backup"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// A restore works on a copy beside the database's place, which gets its name once everything is done: until then there is no
// database, and no sidecar starts. A restore that was cut short is begun again.
const (
	restoringSuffix = ".restoring"
	replacedSuffix  = ".replaced-" // followed by the time: the database that was there before
)

// Since a backup was made, each key version may have got message numbers that the restored database does not know of: a
// block, and as many as a node can use in that time, at most mostSkipped.
const (
	skippedBlock     = 1 << 20
	skippedPerSecond = 1 << 14
	mostSkipped      = 1 << 28
)

func skippedNumbers(since time.Duration) uint64 {
	if since < 0 || since > mostSkipped/skippedPerSecond*time.Second {
		return skippedBlock + mostSkipped
	}
	return skippedBlock + uint64(since.Seconds()*skippedPerSecond)
}

// RestoreReport is what a restore did.
type RestoreReport struct {
	BackupReport
	Replaced  string // where the database is that was there before; empty: there was none
	Reapplied []audit.Change
	Lost      []audit.Change // made after the backup, and not made again
	NoLog     bool           // there was no audit log, so that nothing is known of what was lost
}

// RestoreBackup makes the database in files.Data from a backup, and has the audit log in files.Audit continue with it. A database that is known to have had
// later changes than the backup is replaced only if replaceNewer says so; it is kept beside the new one.
func (o *Offline) RestoreBackup(ctx context.Context, path string, files AuditFiles, replaceNewer bool) (*RestoreReport, error) {
	return o.restore(ctx, path, files, replaceNewer, false)
}

// DrillBackup restores a backup into a temporary directory, starts a core on it, and uses every key version once.
func (o *Offline) DrillBackup(ctx context.Context, path string) (*RestoreReport, error) {
	return inTemporary(func(dir string) (*RestoreReport, error) {
		return o.restore(ctx, path, AuditFiles{Audit: filepath.Join(dir, "audit"), Data: filepath.Join(dir, "db")}, false, true)
	})
}

func (o *Offline) restore(ctx context.Context, path string, files AuditFiles, replaceNewer, use bool) (*RestoreReport, error) {
	for _, dir := range []string{files.Audit, filepath.Dir(files.Data)} {
		if err := checkOwnDirectory(dir, os.Geteuid()); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	release, err := files.claim()
	if err != nil {
		return nil, err
	}
	release()
	staged := files.Data + restoringSuffix
	if err := os.RemoveAll(staged); err != nil {
		return nil, err
	}
	header, err := o.load(ctx, path, staged)
	if err != nil {
		return nil, err
	}
	checked, err := o.check(ctx, header, staged, use)
	if err != nil {
		return nil, err
	}
	r := &restoring{Offline: o, files: files, staged: staged, report: &RestoreReport{BackupReport: *checked}}
	release, err = files.claim() // a node that was started while the backup was read keeps its database
	if err != nil {
		return nil, err
	}
	defer release()
	if err := r.findNewer(replaceNewer); err != nil {
		return nil, err
	}
	moveAside := func(ctx context.Context) error {
		defer release() // the log claims the files from then on
		return r.moveAside(ctx)
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"move aside", moveAside}, {"continue the log", r.continueLog}, {"reapply", r.reapply}, {"publish", r.publish}} {
		err := o.failpoint(step.name)
		if err == nil {
			err = step.do(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
	return r.report, nil
}

// checkOwnDirectory refuses a directory of another user, and root as the user who creates one below such a directory: the sidecar could not write
// what was made there.
func checkOwnDirectory(dir string, uid int) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if errors.Is(err, os.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && int(st.Uid) != uid && (at == dir || uid == 0) {
			return fmt.Errorf("%s belongs to uid %d: run this as that user, the sidecar's", at, st.Uid)
		}
		return nil
	}
}

// restoring is a restore in progress.
type restoring struct {
	*Offline
	files  AuditFiles
	staged string
	report *RestoreReport
	found  *store.State   // of the restored database
	had    uint64         // number of the last change that the database is known to have had
	lost   []audit.Change // with records in the log
	by     policy.Caller
}

// findNewer finds out what the database had after the backup, as far as its own files, its anchor and the audit log say.
func (r *restoring) findNewer(replace bool) (err error) {
	header := &r.report.Header
	r.by = r.caller()
	if r.found, err = store.Inspect(r.staged); err != nil {
		return err
	}
	node, err := store.AnchoredNode(r.files.anchor())
	if err != nil {
		return err
	}
	if r.had, err = store.AnchoredChange(r.files.anchor()); err != nil {
		return err
	}
	present, err := store.Inspect(r.files.Data)
	var corrupt *store.CorruptError
	switch {
	case err == nil:
		node, r.had = present.Node, max(r.had, present.Change)
	case !errors.Is(err, store.ErrAbsent) && !errors.As(err, &corrupt):
		return err
	}
	if node != (uuid.UUID{}) && node != header.Node {
		return fmt.Errorf("%s and %s are of another node than the backup: choose another directory", r.files.Data, r.files.Audit)
	}
	has, err := audit.HasRecords(r.files.Audit)
	if err != nil {
		return err
	}
	r.report.NoLog = !has
	if r.lost, err = audit.ChangesAfter(r.files.Audit, []byte(r.found.AuditAnchor), r.found.Recorded); err != nil {
		return err
	}
	for _, c := range r.lost {
		r.had = max(r.had, c.Number)
	}
	if r.had > header.Change && !replace {
		return &NewerError{Dir: r.files.Data, Had: r.had, Backup: header.Change, Lost: r.lost}
	}
	return nil
}

// NewerError refuses to replace a database by an older backup.
type NewerError struct {
	Dir         string
	Had, Backup uint64 // numbers of the last change
	Lost        []audit.Change
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the database in %s had change %d, and the backup ends at change %d: nothing was changed", e.Dir, e.Had, e.Backup)
}

// moveAside moves the present database out of the way.
func (r *restoring) moveAside(context.Context) error {
	entries, err := os.ReadDir(r.files.Data)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(entries) == 0:
		return os.Remove(r.files.Data)
	}
	r.report.Replaced = r.files.Data + replacedSuffix + r.now().UTC().Format(backupTime)
	if err := os.Rename(r.files.Data, r.report.Replaced); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(r.files.Data))
}

func (o *Offline) now() time.Time {
	if o.cfg.Clock != nil {
		return o.cfg.Clock.Now()
	}
	return time.Now()
}

// logOptions are those of the audit log.
func (r *restoring) logOptions(s *store.Store) audit.Options {
	return audit.Options{
		Dir: r.files.Audit, Sync: true, Tenant: r.cfg.Tenant, Logger: r.log, Clock: r.cfg.Clock, Heads: s,
		MaxFileSize: int64(r.cfg.Audit.FileSize) << 20,
	}
}

// open opens the staged database.
func (r *restoring) open() (*store.Store, error) {
	return store.Open(store.Options{Dir: r.staged, Tenant: r.cfg.Tenant, Logger: r.log})
}

// continueLog has the audit log continue with the restored database: what is missing from either is accepted, on record for good,
// and no change gets the number of one that was lost.
func (r *restoring) continueLog(ctx context.Context) error {
	s, err := r.open()
	if err != nil {
		return err
	}
	err = audit.SkipRemoved(ctx, r.files.Audit, s)
	if err == nil {
		_, err = audit.AcceptLoss(ctx, r.logOptions(s), r.found.Change, max(r.had, r.found.Change), r.by)
	}
	return errors.Join(err, s.Close())
}

// reapply records the restore, and makes changes again that took something away.
func (r *restoring) reapply(ctx context.Context) error {
	var again []kms.Lost
	for _, c := range r.lost {
		if !kms.Reapplied(c.Operation) {
			r.report.Lost = append(r.report.Lost, c)
			continue
		}
		r.report.Reapplied = append(r.report.Reapplied, c)
	}
	for _, c := range r.lost {
		again = append(again, kms.Lost{Operation: c.Operation, KeyID: c.KeyID, Target: c.Target})
	}
	s, err := r.open()
	if err != nil {
		return err
	}
	l, err := audit.Open(r.logOptions(s))
	if err != nil {
		return errors.Join(err, s.Close())
	}
	core, err := r.core(s, l)
	if err == nil {
		err = core.RecordRestore(ctx, r.record())
	}
	if err == nil {
		err = core.Reapply(ctx, r.by, again)
	}
	if core != nil {
		err = errors.Join(err, core.Close(ctx))
	}
	return errors.Join(err, l.Close(), s.Close())
}

// record is what the record of the restore says.
func (r *restoring) record() kms.Restored {
	h := &r.report.Header
	in := kms.Restored{
		Caller: r.by, Backup: fmt.Sprintf("backup of %s at change %d, node %s", h.Created.UTC().Format(time.RFC3339), h.Change, h.Node),
		Numbers: skippedNumbers(r.now().Sub(h.Created)),
	}
	switch {
	case r.report.NoLog:
		in.Warning = "the audit log was missing: changes after the backup are lost and not known"
	case r.had > h.Change:
		in.Warning = fmt.Sprintf("changes %d to %d are lost: %d with a record were made again, %d were not", h.Change+1, r.had, len(r.report.Reapplied), len(r.report.Lost))
	}
	return in
}

// publish gives the restored database its name, and opens it as the sidecar does, which renews the anchor.
func (r *restoring) publish(ctx context.Context) error {
	if err := os.Rename(r.staged, r.files.Data); err != nil {
		return err
	}
	if err := syncDirectory(filepath.Dir(r.files.Data)); err != nil {
		return err
	}
	s, err := store.Open(store.Options{
		Dir: r.files.Data, Anchor: r.files.anchor(), Tenant: r.cfg.Tenant, Logger: r.log, Check: r.files.checkChanges,
	})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		return fmt.Errorf("the restored database does not open: %w", err)
	}
	report, _, err := r.files.Verify(ctx, nil)
	if err == nil && !report.OK() {
		open := report.Findings[slices.IndexFunc(report.Findings, func(f audit.Finding) bool { return f.Accepted == "" })]
		err = fmt.Errorf("the audit log does not verify: run keyside audit verify --dir; the first finding is %s", open)
	}
	return err
}

// BackupConfiguration writes the files of the configuration in a backup into dir, which is created.
func (o *Offline) BackupConfiguration(ctx context.Context, path, dir string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	in, err := backup.Open(f)
	if err != nil {
		return err
	}
	key, err := openDataKey(ctx, o.hsm, &in.Header)
	if err != nil {
		return err
	}
	defer clear(key)
	root, err := os.MkdirTemp(filepath.Dir(dir), ".configuration-")
	if err != nil {
		return err
	}
	write := func(name, content []byte) error {
		to := filepath.Join(root, filepath.FromSlash(string(name)))
		if !filepath.IsLocal(string(name)) {
			return backup.ErrContent
		}
		return errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, content, 0o600))
	}
	if err := in.Read(key, write, func(_, _ []byte) error { return nil }); err != nil {
		return errors.Join(err, os.RemoveAll(root))
	}
	return os.Rename(root, dir)
}
