package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/store"
)

// AuditFiles is the audit log of a node that does not run, or an export of one.
type AuditFiles struct {
	Audit string // folder of the log
	Data  string // folder of the database; empty: there is none
}

// ErrAuditRuns says that a process writes the log.
var ErrAuditRuns = errors.New("a process writes this audit log: ask it through its socket, or stop it")

func (f AuditFiles) anchor() string { return filepath.Join(f.Audit, anchorName) }

// FindAuditFiles returns what is in a folder: one of `keyside up`, with audit and db in it, or one that is the log.
func FindAuditFiles(dir string) AuditFiles {
	f := AuditFiles{Audit: filepath.Join(dir, "audit"), Data: filepath.Join(dir, "db")}
	if info, err := os.Stat(f.Audit); err != nil || !info.IsDir() {
		return AuditFiles{Audit: dir}
	}
	if _, err := os.Stat(f.Data); err != nil {
		f.Data = ""
	}
	return f
}

// Verify verifies the log and changes nothing. Signatures count under the keys; without any, under those that the database or
// else the export itself names, and from says which.
func (f AuditFiles) Verify(ctx context.Context, keys []audit.VerifierKey) (report *audit.Report, from string, err error) {
	release, err := f.claim()
	if err != nil {
		return nil, "", err
	}
	defer release()
	src := audit.Source{Dir: f.Audit, Keys: keys}
	if f.Data != "" {
		found, err := store.Inspect(f.Data)
		if err != nil {
			return nil, "", err
		}
		if found.AuditAnchor == "" {
			return nil, "", fmt.Errorf("the database in %s knows of no audit log", f.Data)
		}
		src.Anchor, src.Head = []byte(found.AuditAnchor), []byte(found.AuditHead)
		src.Recorded, src.Outbox, src.Change = found.Recorded, found.Outbox, found.Change
		if src.Had, err = store.AnchoredChange(f.anchor()); err != nil {
			return nil, "", err
		}
		from = "the database"
	}
	if keys != nil {
		from = "you"
	} else if f.Data == "" {
		if src.Keys, err = f.exportedKeys(); err != nil {
			return nil, "", err
		}
		from = "the export itself"
	}
	report, err = audit.Verify(ctx, src)
	return report, from, err
}

// shownChanges is the number of lost changes that a refusal names.
const shownChanges = 5

// check refuses a log that lacks records of the database, or a database that lacks changes of the log. It changes neither.
func (f AuditFiles) check(found *store.State) error {
	if err := f.checkChanges(found); err != nil {
		return err
	}
	if found.AuditAnchor == "" {
		return nil
	}
	err := audit.Check(f.Audit, []byte(found.AuditAnchor), []byte(found.AuditHead), found.Recorded, found.Outbox)
	if err != nil {
		return fmt.Errorf("audit log in %s: %w", f.Audit, err)
	}
	return nil
}

// checkChanges refuses a database that lacks changes whose records the log has.
func (f AuditFiles) checkChanges(found *store.State) error {
	var anchor []byte
	if found.AuditAnchor != "" {
		anchor = []byte(found.AuditAnchor)
	}
	lost, err := audit.ChangesAfter(f.Audit, anchor, found.Recorded)
	if err != nil {
		return fmt.Errorf("audit log in %s: %w", f.Audit, err)
	}
	if len(lost) == 0 {
		return nil
	}
	var named strings.Builder
	for i, c := range lost[:min(len(lost), shownChanges)] {
		if i > 0 {
			named.WriteString("; ")
		}
		named.WriteString(c.String())
	}
	if more := len(lost) - shownChanges; more > 0 {
		fmt.Fprintf(&named, "; and %d more", more)
	}
	return fmt.Errorf("database %s ends at change %d and lacks changes that the audit log in %s has: %s. Nothing was changed. Restore a newer copy of "+
		"the database, or, if there is none, run `keyside audit accept-loss`, which leaves a record of it in the log for good", f.Data, found.Recorded, f.Audit, named.String())
}

// claim makes sure that no process writes the log, and that none begins to.
func (f AuditFiles) claim() (release func(), err error) {
	dir, err := os.Open(f.Audit)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		return nil, errors.Join(ErrAuditRuns, dir.Close())
	}
	return func() { _ = dir.Close() }, nil
}

// exportedKeys returns the keys that an export names.
func (f AuditFiles) exportedKeys() (keys []audit.VerifierKey, err error) {
	text, err := os.ReadFile(filepath.Join(f.Audit, audit.KeysName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("there is neither a database nor an export's verifier keys: give the key, or the folder of the database")
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		v, err := audit.ParseVerifier(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", audit.KeysName, err)
		}
		keys = append(keys, v)
	}
	return keys, nil
}

// belongTo refuses files of another user than the one with a uid: what root made among them the sidecar could not write.
func (f AuditFiles) belongTo(uid int) error {
	for _, dir := range []string{f.Audit, f.Data} {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != uid {
			return fmt.Errorf("%s belongs to uid %d: run this as that user, the sidecar's", dir, st.Uid)
		}
	}
	return nil
}

// AcceptLoss has the log of a node that does not run go on with what is there, on record, and returns what was accepted.
func (f AuditFiles) AcceptLoss(ctx context.Context, by policy.Caller, log *slog.Logger) (*audit.Report, error) {
	if f.Data == "" {
		return nil, errors.New("the folder of the database is needed")
	}
	if err := f.belongTo(os.Geteuid()); err != nil {
		return nil, err
	}
	release, err := f.claim()
	if err != nil {
		return nil, err
	}
	found, err := store.Inspect(f.Data)
	release()
	if err != nil {
		return nil, err
	}
	s, err := store.Open(store.Options{Dir: f.Data, Tenant: found.Tenant, Logger: log})
	if err != nil {
		return nil, err
	}
	had, err := store.AnchoredChange(f.anchor())
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	report, err := audit.AcceptLoss(ctx, audit.Options{Dir: f.Audit, Sync: true, Tenant: found.Tenant, Logger: log, Heads: s}, found.Change, had, by)
	return report, errors.Join(err, s.Close())
}
