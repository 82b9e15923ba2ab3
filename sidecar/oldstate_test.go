package sidecar

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/client"
)

// auditFiles returns the files of a stopped node.
func (n *node) auditFiles() AuditFiles {
	return AuditFiles{Audit: filepath.Join(n.dir, "audit"), Data: filepath.Join(n.dir, "db")}
}

func (n *node) createKeys(names ...string) {
	n.t.Helper()
	c, stop := n.run()
	for _, name := range names {
		must(c.CreateKey(n.t.Context(), client.CreateKeyRequest{Alias: name}))
	}
	if err := stop(); err != nil {
		n.t.Fatal(err)
	}
}

// TestDatabaseMovedAway starts without the database, which changes nothing, so that the database serves again when it is back.
func TestDatabaseMovedAway(t *testing.T) {
	n := newNode(t)
	n.createKeys("a")
	db := filepath.Join(n.dir, "db")
	if err := os.Rename(db, db+".away"); err != nil {
		t.Fatal(err)
	}
	before := n.audit()
	n.refusesToStart("there is no database", "says that there was one", "restore")
	if after := n.audit(); after != before {
		t.Error("the refused start changed the audit log")
	}
	if _, err := os.Stat(db); !os.IsNotExist(err) {
		t.Errorf("the refused start made a database: %v", err)
	}
	if err := os.Rename(db+".away", db); err != nil {
		t.Fatal(err)
	}
	n.createKeys("b")
	if report, _, err := n.auditFiles().Verify(t.Context(), nil); err != nil || len(report.Findings) > 0 {
		t.Errorf("%v, %v", report, err)
	}
}

// TestOlderDatabaseRestored starts with an older copy of the database beside the present log: it is refused with the lost changes named,
// and accepting the loss leads out, again and again.
func TestOlderDatabaseRestored(t *testing.T) {
	n := newNode(t)
	n.createKeys("a")
	db, copied := filepath.Join(n.dir, "db"), filepath.Join(n.dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(db)); err != nil {
		t.Fatal(err)
	}
	n.createKeys("b", "c")
	for round, name := range []string{"d", "e"} {
		if err := os.RemoveAll(db); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(db, os.DirFS(copied)); err != nil {
			t.Fatal(err)
		}
		n.refusesToStart("lacks changes that the audit log", "create-key of key ", "keyside audit accept-loss", "Restore a newer copy")
		report, _, err := n.auditFiles().Verify(t.Context(), nil)
		if err != nil || report.OK() || !slices.ContainsFunc(report.Findings, func(f audit.Finding) bool { return f.Kind == audit.LostChange }) {
			t.Fatalf("%v, %v", report, err)
		}
		by := policy.Caller{UID: uint32(os.Geteuid()), Known: true}
		if _, err := n.auditFiles().AcceptLoss(t.Context(), by, n.logger()); err != nil {
			t.Fatal(err)
		}
		n.createKeys(name)
		report, _, err = n.auditFiles().Verify(t.Context(), nil)
		if err != nil || !report.OK() {
			t.Fatalf("%v, %v", report, err)
		}
		accepted := 0
		for _, f := range report.Findings {
			if f.Kind == audit.Accepted && strings.Contains(f.Detail, "the database does not have this change") {
				accepted++
			}
		}
		if accepted != round+1 {
			t.Errorf("%d accepted losses are listed, want %d: %v", accepted, round+1, report.Findings)
		}
	}
}

// TestOlderDatabaseWithoutLostRecords restores a copy that lacks only changes which have no record, such as reserved message numbers.
func TestOlderDatabaseWithoutLostRecords(t *testing.T) {
	n := newNode(t)
	n.createKeys("a")
	db, copied := filepath.Join(n.dir, "db"), filepath.Join(n.dir, "copy")
	if err := os.CopyFS(copied, os.DirFS(db)); err != nil {
		t.Fatal(err)
	}
	n.createKeys()
	if err := os.RemoveAll(db); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(db, os.DirFS(copied)); err != nil {
		t.Fatal(err)
	}
	n.refusesToStart("ends at change ", "keyside audit accept-loss")
	report, _, err := n.auditFiles().Verify(t.Context(), nil)
	if err != nil || report.OK() {
		t.Fatalf("%v, %v", report, err)
	}
	if _, err := n.auditFiles().AcceptLoss(t.Context(), policy.Caller{UID: uint32(os.Geteuid()), Known: true}, n.logger()); err != nil {
		t.Fatal(err)
	}
	n.createKeys("b")
	if report, _, err = n.auditFiles().Verify(t.Context(), nil); err != nil || !report.OK() {
		t.Errorf("%v, %v", report, err)
	}
}
