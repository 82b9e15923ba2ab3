package audit

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// auditDirs are the flags that name the files of a stopped sidecar.
type auditDirs struct{ dir, data, config string }

func (d *auditDirs) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&d.dir, "dir", "", "`directory` of keyside up, of an export, or of the audit log alone")
	f.StringVar(&d.data, "data", "", "`directory` of the database, if --dir has only the audit log")
	f.StringVar(&d.config, "config", "", "the sidecar's configuration `file`, which names both directories")
	cmd.MarkFlagsMutuallyExclusive("dir", "config")
	cmd.MarkFlagsMutuallyExclusive("data", "config")
}

// files returns the files that the flags name. ok is false if no flag is set.
func (d *auditDirs) files() (f sidecar.AuditFiles, ok bool, err error) {
	switch {
	case d.config != "":
		c, err := sidecar.LoadConfig(d.config)
		if err != nil {
			return f, false, verb.Failf(verb.ExitUsage, "%w", err)
		}
		return sidecar.AuditFiles{Audit: c.Audit.Dir, Data: c.Data}, true, nil
	case d.dir != "":
		f = sidecar.FindAuditFiles(d.dir)
		if d.data != "" {
			f.Data = d.data
		}
		return f, true, nil
	case d.data != "":
		return f, false, verb.Failf(verb.ExitUsage, "--data needs --dir: the directory of the audit log")
	}
	return f, false, nil
}

func auditVerify() *cobra.Command {
	var dirs auditDirs
	var keyText string
	cmd := &cobra.Command{
		Use: "verify", Short: "Find records that were changed, deleted, added or moved",
		Long: `Find records that were changed, deleted, added or moved: in the log of a running sidecar up to now, or with --dir or --config in
the files of a stopped sidecar or an export. It also finds changes without a record, and changes that the database has lost. It changes
no file. The exit code is 6 if the log does not verify. Accepted losses are listed, too. Signatures are verified with the verifier key
that you give, or else with the key that the database names; anyone who can write the database can name another key there. A node that
was rolled back to an older state together with its database still verifies: keep exports, or their checkpoints, elsewhere.`,
		Example: `  keyside audit verify
  keyside audit verify --dir stopped`,
	}
	dirs.add(cmd)
	cmd.Flags().StringVar(&keyText, "key", "", "trusted verifier `key`, as printed by audit export, or a file with it")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		files, offline, err := dirs.files()
		if err != nil {
			return err
		}
		key, text, err := readVerifier(keyText)
		if err != nil {
			return err
		}
		var report *client.AuditReport
		from := "the database"
		if offline {
			if report, from, err = verifyFiles(ctx, files, key); err != nil {
				return err
			}
		} else if report, err = s.VerifyAuditLog(ctx, text); err != nil {
			return err
		} else if key != nil {
			from = "you"
		}
		if s.JSON {
			err = verb.PrintJSON(s.Out(), report)
		} else {
			err = printReport(cmd, report, from)
		}
		if err == nil && !report.OK() {
			err = verb.Failf(verb.ExitBadData, "the audit log does not verify: %d findings", len(report.Findings)+report.More)
		}
		return err
	})
}

// readVerifier parses a verifier key, or reads it from a file.
func readVerifier(given string) ([]audit.VerifierKey, string, error) {
	if given == "" {
		return nil, "", nil
	}
	text := given
	if b, err := os.ReadFile(given); err == nil {
		text = string(b)
	}
	text = strings.TrimSpace(text)
	v, err := audit.ParseVerifier(text)
	if err != nil {
		return nil, "", verb.Failf(verb.ExitUsage, "--key: %w", err)
	}
	return []audit.VerifierKey{v}, text, nil
}

// verifyFiles verifies files. It returns the report in the form of the API, and where the verifier key is from.
func verifyFiles(ctx context.Context, files sidecar.AuditFiles, key []audit.VerifierKey) (*client.AuditReport, string, error) {
	report, from, err := files.Verify(ctx, key)
	if errors.Is(err, sidecar.ErrAuditRuns) {
		return nil, "", verb.Failf(verb.ExitUnavailable, "%s: %w", files.Audit, err)
	}
	if err != nil {
		return nil, "", err
	}
	b, err := json.Marshal(report)
	out := new(client.AuditReport)
	if err == nil {
		err = json.Unmarshal(b, out)
	}
	return out, from, err
}

// printReport prints a report for people: findings and notes to standard output, verifier keys to standard error.
func printReport(cmd *cobra.Command, r *client.AuditReport, from string) error {
	w := cmd.OutOrStdout()
	for i := range r.Findings {
		f := &r.Findings[i]
		if _, err := fmt.Fprintln(w, verb.Harmless(audit.Finding{
			Kind: audit.Kind(f.Kind), File: f.File, Record: f.Record, Line: f.Line, Detail: f.Detail, Accepted: f.Accepted,
		}.String())); err != nil {
			return err
		}
	}
	if r.More > 0 {
		fmt.Fprintf(w, "and %d more\n", r.More)
	}
	if r.OK() {
		fmt.Fprintf(w, "records %d to %d of %s verify, %d of them signed\n", r.First, r.Records, verb.Harmless(r.Origin), max(r.Signed, r.First-1)-(r.First-1))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", verb.Harmless(n))
	}
	for _, k := range r.Keys {
		cmd.PrintErrf("verifier key, from %s: %s\n", from, verb.Harmless(k))
	}
	return nil
}

// exported matches the names of files in an export.
var exported = regexp.MustCompile(`^(audit-\d{8}\.(jsonl|leaves|checkpoint)|checkpoint|` + audit.KeysName + `)$`)

func auditExport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export --out DIR", Short: "Copy the log to a directory for an auditor; print the verifier key",
		Long: `Copy the log, up to a new checkpoint signed by the HSM, to a new directory: files of JSON lines, their checkpoints, and what audit
verify --dir needs to verify them on any machine. Give the printed verifier key to the auditor once, through another channel than
the directory.`,
		Example: `  keyside audit export --out audit-of-today
  keyside audit verify --dir audit-of-today`,
	}
	cmd.Flags().StringVar(&out, "out", "", "new `directory` (required)")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		if out == "" {
			return verb.Failf(verb.ExitUsage, "--out is missing: give the directory to create")
		}
		if err := os.Mkdir(out, 0o700); errors.Is(err, os.ErrExist) {
			return verb.Failf(verb.ExitExists, "%s exists: choose another name", out)
		} else if err != nil {
			return err
		}
		if err := s.ExportAuditLog(ctx, func(r io.Reader) error { return unpack(r, out) }); err != nil {
			return errors.Join(err, os.RemoveAll(out))
		}
		report, _, err := verifyFiles(ctx, sidecar.AuditFiles{Audit: out}, nil)
		if err != nil {
			return err
		}
		if !s.JSON {
			s.Note("records %d to %d are in %s", report.First, report.Records, out)
		}
		if err = s.Print(report, strings.Join(report.Keys, "\n")); err == nil && !report.OK() {
			err = verb.Failf(verb.ExitBadData, "the export does not verify: keyside audit verify --dir %s lists the findings", verb.ShellQuote(out))
		}
		return err
	})
}

// unpack writes the files of an export into a directory.
func unpack(r io.Reader, dir string) error {
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if !exported.MatchString(h.Name) || h.Typeflag != tar.TypeReg {
			return fmt.Errorf("the sidecar sent a file %q, which does not belong to an export", h.Name)
		}
		f, err := os.OpenFile(filepath.Join(dir, h.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, in)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
}

func auditAcceptLoss() *cobra.Command {
	var dirs auditDirs
	var yes verb.YesFlag
	cmd := &cobra.Command{
		Use: "accept-loss", Short: "Accept lost or changed records, or a database that lost changes",
		Long: `Accept lost or changed records in the log of a stopped sidecar, or changes that its database has lost, so that it starts again. Run it as
the sidecar's user. First restore the log or the database from a newer copy, if you have one: accepted losses are final. A record in the
log names what was accepted, when and by which uid, and audit verify reports it from then on. A log that verifies stays unchanged.`,
		Example: `  keyside audit accept-loss --dir stopped`,
	}
	dirs.add(cmd)
	yes.Add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		files, named, err := dirs.files()
		if err == nil && !named {
			err = verb.Failf(verb.ExitUsage, "--dir or --config is missing: name the log")
		}
		if err != nil {
			return verb.Explain(err)
		}
		report, from, err := verifyFiles(cmd.Context(), files, nil)
		if err != nil {
			return verb.Explain(err)
		}
		if report.OK() {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "nothing is lost: the log is unchanged")
			return err
		}
		if err := printReport(cmd, report, from); err != nil {
			return err
		}
		if err := yes.Confirm(cmd, verb.Confirmation{
			Word: "yes", Text: "The log will record that you accept this loss. Afterwards only a copy of the files can restore lost records.",
		}); err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		by := policy.Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid()), Known: true}
		if _, err := files.AcceptLoss(cmd.Context(), by, log); err != nil {
			return verb.Explain(err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "accepted and recorded; the sidecar can start")
		return err
	}
	return cmd
}
