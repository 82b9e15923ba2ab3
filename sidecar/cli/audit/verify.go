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
	client "github.com/keyside/keyside/sidecar/client/old"
)

// auditDirs are the flags that name the files of a node that does not run.
type auditDirs struct{ dir, data, config string }

func (d *auditDirs) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&d.dir, "dir", "", "folder of `keyside up`, of an export, or of the audit log alone")
	f.StringVar(&d.data, "data", "", "folder of the `database`, beside --dir with the audit log")
	f.StringVar(&d.config, "config", "", "the sidecar's configuration `file`, which names both folders")
	cmd.MarkFlagsMutuallyExclusive("dir", "config")
	cmd.MarkFlagsMutuallyExclusive("data", "config")
}

// files returns what the flags name; ok is false where they name nothing.
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
		return f, false, verb.Failf(verb.ExitUsage, "--data needs --dir: the folder of the audit log")
	}
	return f, false, nil
}

func auditVerify() *cobra.Command {
	var dirs auditDirs
	var keyText string
	cmd := &cobra.Command{
		Use: "verify", Short: "find every record that was changed, deleted, added or moved",
		Long: `Find every record that was changed, deleted, added or moved, and say which: in the log of a running sidecar up to now, or with
--dir or --config in the files of one that does not run, or in an export, of which nothing is changed. Exit code 6 says that
something is wrong. What is signed is held to the verifier key that you give, or else to the one that the database names; whoever
can write the database can name another there. A whole node that was rolled back to an older state, database and all, verifies:
keep exports, or their checkpoints, elsewhere.`,
		Example: `  keyside audit verify
  keyside audit verify --dir stopped`,
	}
	dirs.add(cmd)
	cmd.Flags().StringVar(&keyText, "key", "", "the verifier `key` that you trust, as audit export prints it, or a file with it")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
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
		} else if report, err = c.VerifyAudit(ctx, text); err != nil {
			return err
		} else if key != nil {
			from = "you"
		}
		if s.JSON {
			err = verb.PrintJSON(cmd.OutOrStdout(), report)
		} else {
			err = printReport(cmd, report, from)
		}
		if err == nil && !report.OK() {
			err = verb.Failf(verb.ExitBadData, "the audit log does not verify: %d findings", len(report.Findings)+report.More)
		}
		return err
	})
}

// readVerifier reads a verifier key, which is given as itself or as a file.
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

// verifyFiles verifies files, and returns the report as the sidecar would have answered it.
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

// printReport prints a report for people: what is wrong to standard output, and on what its word rests.
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
		fmt.Fprintf(w, "records %d to %d of %s are what they were, %d of them signed\n", r.First, r.Records, verb.Harmless(r.Origin), max(r.Signed, r.First-1)-(r.First-1))
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", verb.Harmless(n))
	}
	for _, k := range r.Keys {
		cmd.PrintErrf("verifier key, of %s: %s\n", from, verb.Harmless(k))
	}
	return nil
}

// exported are the names of files in an export.
var exported = regexp.MustCompile(`^(audit-\d{8}\.(jsonl|leaves|checkpoint)|checkpoint|` + audit.KeysName + `)$`)

func auditExport() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "export --out DIR", Short: "copy the log to a folder that can be verified elsewhere, and print its verifier key",
		Long: `Copy the log, up to a checkpoint that the HSM signs for this, to a new folder: files of JSON lines, their checkpoints, and what
audit verify --dir needs to verify them on any machine. The verifier key is printed: hand it to the auditor on another way than the
folder, once.`,
		Example: `  keyside audit export --out audit-of-today
  keyside audit verify --dir audit-of-today`,
	}
	cmd.Flags().StringVar(&out, "out", "", "new `folder` for it (required)")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		if out == "" {
			return verb.Failf(verb.ExitUsage, "--out is needed: the folder to make")
		}
		if err := os.Mkdir(out, 0o700); errors.Is(err, os.ErrExist) {
			return verb.Failf(verb.ExitExists, "%s exists: choose another name", out)
		} else if err != nil {
			return err
		}
		if err := c.ExportAudit(ctx, func(r io.Reader) error { return unpack(r, out) }); err != nil {
			return errors.Join(err, os.RemoveAll(out))
		}
		report, _, err := verifyFiles(ctx, sidecar.AuditFiles{Audit: out}, nil)
		if err != nil {
			return err
		}
		if s.JSON {
			err = verb.PrintJSON(cmd.OutOrStdout(), report)
		} else {
			cmd.PrintErrf("records %d to %d are in %s\n", report.First, report.Records, out)
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.Join(report.Keys, "\n"))
		}
		if err == nil && !report.OK() {
			err = verb.Failf(verb.ExitBadData, "what was exported does not verify: keyside audit verify --dir %s says why", verb.ShellQuote(out))
		}
		return err
	})
}

// unpack writes the files of an export into a folder.
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
			return fmt.Errorf("the sidecar sent a file called %q, which belongs to no export", h.Name)
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
		Use: "accept-loss", Short: "have a log go on from which records are missing, on record for good",
		Long: `Have the log of a sidecar that does not run go on although records are missing or changed. Run it as the sidecar's user. First
restore its files from where they were copied to, if they were: what is accepted here is lost. A record in the log says what was
accepted, when, and by which uid, and audit verify says it from then on. A log that verifies is left as it is.`,
		Example: `  keyside audit accept-loss --dir stopped`,
	}
	dirs.add(cmd)
	yes.Add(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		files, named, err := dirs.files()
		if err == nil && !named {
			err = verb.Failf(verb.ExitUsage, "--dir or --config is needed: whose log it is")
		}
		if err != nil {
			return verb.Explain(err)
		}
		report, from, err := verifyFiles(cmd.Context(), files, nil)
		if err != nil {
			return verb.Explain(err)
		}
		if report.OK() {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "nothing is missing: the log is left as it is")
			return err
		}
		if err := printReport(cmd, report, from); err != nil {
			return err
		}
		if err := yes.Confirm(cmd, verb.Confirmation{
			Word: "yes", Always: true, Text: "This will be on record as accepted. Nothing brings back what is missing afterwards but a copy of the files.",
		}); err != nil {
			return err
		}
		log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
		by := policy.Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), PID: int32(os.Getpid()), Known: true}
		if _, err := files.AcceptLoss(cmd.Context(), by, log); err != nil {
			return verb.Explain(err)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "accepted, on record; the sidecar can be started")
		return err
	}
	return cmd
}
