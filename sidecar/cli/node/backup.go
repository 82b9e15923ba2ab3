package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/backup"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

func backupCommand() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use: "backup", Short: "Back up the database, verify backups and restore them",
		Long: `Back up the database, verify backups and restore them. A backup has the sealed keys with all that belongs to them, grants, access keys, the head
of the audit log, and the configuration without the source of the PIN. It is encrypted, and only the HSM of its tenant opens it. Also
keep elsewhere: the HSM's token with its PIN (or the shares of its root), and the audit log (audit export).`,
	}, backupCreate(), backupVerify(), backupRestore(), backupDrill())
}

// backupView is a backup for programs.
type backupView struct {
	File    string    `json:"file"`
	Tenant  string    `json:"tenant"`
	Node    string    `json:"node"`
	Created time.Time `json:"created"`
	Change  uint64    `json:"change"`
	Keys    int       `json:"keys"`

	Counts map[string]int `json:"counts,omitempty"`
	Seals  int            `json:"seals,omitzero"`
	Used   int            `json:"used,omitzero"`
}

func viewOf(file string, h *backup.Header) backupView {
	return backupView{File: file, Tenant: h.Tenant, Node: h.Node.String(), Created: h.Created, Change: h.Change, Keys: h.Keys}
}

func (v *backupView) String() string {
	return fmt.Sprintf("backup of tenant %s at %s: change %d, %d keys", v.Tenant, verb.When(v.Created), v.Change, v.Keys)
}

func backupCreate() *cobra.Command {
	var out string
	var force bool
	cmd := &cobra.Command{
		Use: "create --out FILE", Short: "Write a backup of a running sidecar's database",
		Long: `Write a backup of a running sidecar's database, as it is at one moment; requests are served meanwhile. The file appears complete and synced to
disk, or not at all. With --out - it goes to standard output, and is complete only if the exit code is 0. The right to do so
is create-backup, which administrators have. keyside backup verify checks the file.`,
		Example: `  keyside backup create --out today.backup`,
	}
	cmd.Flags().StringVar(&out, "out", "", "`file` for the backup; - for standard output (required)")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		switch {
		case out == "":
			return verb.Failf(verb.ExitUsage, "--out is missing: name the file to write")
		case out != "-":
			return createBackup(ctx, s, out, force)
		case verb.IsTerminal(cmd.OutOrStdout()):
			return verb.Failf(verb.ExitUsage, "standard output is a terminal: name a file, or use a pipe")
		}
		return s.CreateBackup(ctx, func(r io.Reader) error { return copyBackup(cmd, cmd.OutOrStdout(), r) })
	})
}

func createBackup(ctx context.Context, s *verb.Session, out string, force bool) error {
	dst, err := verb.CreateOutput(out, force)
	if err != nil {
		return err
	}
	var begin head
	err = s.CreateBackup(ctx, func(r io.Reader) error { return copyBackup(s.Cmd, io.MultiWriter(dst, &begin), r) })
	if err != nil {
		return errors.Join(err, dst.Discard())
	}
	in, err := backup.Open(&begin.Buffer)
	if err != nil {
		return errors.Join(fmt.Errorf("the sidecar sent something else: %w", err), dst.Discard())
	}
	if err := dst.Commit(); err != nil {
		return err
	}
	view := viewOf(out, &in.Header)
	return s.Print(view, view.String())
}

// head keeps the first bytes that are written to it.
type head struct{ bytes.Buffer }

// headSize is enough for the header of a backup, in bytes.
const headSize = 32 << 10

func (h *head) Write(p []byte) (int, error) {
	h.Buffer.Write(p[:min(len(p), headSize-min(h.Len(), headSize))])
	return len(p), nil
}

// copyBackup copies a backup, with a progress bar at a terminal. Its length is not known before.
func copyBackup(cmd *cobra.Command, dst io.Writer, src io.Reader) error {
	if verb.IsTerminal(cmd.ErrOrStderr()) {
		bar := progressbar.DefaultBytes(-1, "backup")
		defer func() { _ = bar.Exit() }()
		src = io.TeeReader(src, bar)
	}
	_, err := io.Copy(dst, src)
	return err
}

// backupHSM are the flags of the verbs that open the HSM themselves.
type backupHSM struct {
	dir, config, hsmdConfig string
	json                    bool
}

func (o *backupHSM) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.config, "config", "", "the sidecar's configuration `file`, which names the HSM (default: sidecar.yaml in the directory)")
	f.StringVar(&o.hsmdConfig, "hsmd-config", "", "hsmd's configuration `file`, whose driver is started if hsmd does not run (default: hsmd.yaml beside the sidecar's)")
	f.BoolVar(&o.json, "json", false, "print JSON for programs")
}

// with opens the HSM for work on a backup.
func (o *backupHSM) with(cmd *cobra.Command, do func(*sidecar.Config, *sidecar.Offline) error) error {
	path := o.config
	if path == "" {
		path = filepath.Join((&doctor{dir: o.dir}).folder(), "sidecar.yaml")
	}
	config, err := sidecar.LoadConfig(path)
	if err != nil {
		return verb.Failf(verb.ExitUsage, "%w: name the sidecar's configuration with --config", err)
	}
	ctx := cmd.Context()
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	offline, err := sidecar.OpenOffline(ctx, config, cmp.Or(o.hsmdConfig, filepath.Join(filepath.Dir(path), "hsmd.yaml")), log)
	if err != nil {
		return verb.Failf(verb.ExitUnavailable, "cannot open the HSM: %w; run keyside doctor", err)
	}
	defer func() { _ = offline.Close(context.WithoutCancel(ctx)) }()
	end := showProgress(cmd, offline)
	err = do(&config, offline)
	end()
	var newer *sidecar.NewerError
	switch {
	case errors.Is(err, backup.ErrFormat), errors.Is(err, backup.ErrContent):
		return verb.Failf(verb.ExitBadData, "%w", err)
	case errors.Is(err, sidecar.ErrAuditRuns):
		return verb.Failf(verb.ExitUnavailable, "%w", err)
	case errors.As(err, &newer):
		for _, c := range newer.Lost[:min(len(newer.Lost), shownLost)] {
			cmd.PrintErrf("would be lost: change %s\n", verb.Harmless(c.String()))
		}
		return verb.Failf(verb.ExitExists, "%w; restore a newer backup, or add --replace-newer to lose these changes", err)
	}
	return verb.Explain(err)
}

// showProgress shows a bar for each stage at a terminal.
func showProgress(cmd *cobra.Command, o *sidecar.Offline) (end func()) {
	var bar *progressbar.ProgressBar
	end = func() {
		if bar != nil {
			_ = bar.Exit()
		}
	}
	if !verb.IsTerminal(cmd.ErrOrStderr()) {
		return end
	}
	var now string
	o.Progress = func(stage string, done, total int64) {
		if stage != now {
			end()
			bar, now = progressbar.Default(total, stage), stage
		}
		_ = bar.Set64(min(done, total))
	}
	return end
}

func backupVerify() *cobra.Command {
	var hsm backupHSM
	var configuration string
	cmd := &cobra.Command{
		Use: "verify FILE", Short: "Check a whole backup: every entry, every seal with the HSM",
		Long: `Check a whole backup: that nothing was changed or cut off, that every entry can be decoded, that the entries are those of the database at that
change, and, with the HSM, every sealed key, grant and access key. It works in a temporary directory ($TMPDIR), which needs about twice the
room of the file. The sidecar may run or not. Run it as the sidecar's user, whom hsmd knows. The exit code is 6 if the backup is
damaged.`,
		Example: `  keyside backup create --out today.backup --force
  keyside backup verify today.backup`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return hsm.with(cmd, func(_ *sidecar.Config, o *sidecar.Offline) error {
				report, err := o.VerifyBackup(cmd.Context(), args[0])
				if err == nil && configuration != "" {
					err = o.BackupConfiguration(cmd.Context(), args[0], configuration)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return printBackup(cmd, &hsm, args[0], report, fmt.Sprintf("it verifies: the HSM opens all %d sealed keys", report.Seals))
			})
		},
	}
	hsm.add(cmd)
	cmd.Flags().StringVar(&hsm.dir, "dir", "", "`directory` of keyside up (default: that of $KEYSIDE_SOCKET, else .dev, else /etc/keyside)")
	cmd.Flags().StringVar(&configuration, "configuration", "", "new `directory` for the configuration that is in the backup")
	return cmd
}

// printBackup prints what a backup contains, and a last line.
func printBackup(cmd *cobra.Command, hsm *backupHSM, file string, report *sidecar.BackupReport, last string) error {
	view := viewOf(file, &report.Header)
	view.Counts, view.Seals, view.Used = report.Counts, report.Seals, report.Used
	if hsm.json {
		return verb.PrintJSON(cmd.OutOrStdout(), view)
	}
	w := cmd.OutOrStdout()
	fmt.Fprintln(w, view.String())
	for _, what := range slices.Sorted(maps.Keys(view.Counts)) {
		fmt.Fprintf(w, "  %d %s\n", view.Counts[what], what)
	}
	_, err := fmt.Fprintln(w, last)
	return err
}

func backupDrill() *cobra.Command {
	var hsm backupHSM
	cmd := &cobra.Command{
		Use: "drill FILE", Short: "Restore a backup into a temporary directory and use every key version",
		Long: `Restore a backup into a temporary directory ($TMPDIR), and let the HSM use every version of every key once: encrypt and decrypt, sign, compute
a MAC, or derive. The results are checked. The sidecar's own database does not change. Run it as the sidecar's user.`,
		Example: `  keyside backup create --out today.backup --force
  keyside backup drill today.backup`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return hsm.with(cmd, func(_ *sidecar.Config, o *sidecar.Offline) error {
				report, err := o.DrillBackup(cmd.Context(), args[0])
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				return printBackup(cmd, &hsm, args[0], &report.BackupReport, fmt.Sprintf("restored and tried: %d sealed keys open, and all %d key versions work", report.Seals, report.Used))
			})
		},
	}
	hsm.add(cmd)
	cmd.Flags().StringVar(&hsm.dir, "dir", "", "`directory` of keyside up (default: that of $KEYSIDE_SOCKET, else .dev, else /etc/keyside)")
	return cmd
}

// restoreView is a restore for programs.
type restoreView struct {
	backupView
	Data      string         `json:"data"`
	Audit     string         `json:"audit"`
	Replaced  string         `json:"replaced,omitzero"`
	Reapplied []audit.Change `json:"reapplied"`
	Lost      []audit.Change `json:"lost"`
	NoLog     bool           `json:"no_log"`
}

func backupRestore() *cobra.Command {
	var hsm backupHSM
	var replace bool
	cmd := &cobra.Command{
		Use: "restore FILE --dir DIR", Short: "Restore the database of a stopped sidecar from a backup",
		Long: `Restore the database of a stopped sidecar from a backup: into DIR/db, with the audit log in DIR/audit, or with --config alone into the
directories that it names. First the whole backup is verified. A database that had later changes is replaced only with
--replace-newer, and kept beside the new one. If the audit log is there, revocations, deletions of access keys, disabled keys and destructions since the
backup are made again from its records, and other changes are listed as lost. If it is not, put it back first. Message numbers of all keys jump,
so that none is used twice. What is lost is on record in the audit log for good. Run it as the sidecar's user.`,
		Example: `  keyside backup create --out today.backup --force
  keyside backup restore today.backup --dir restored --config .dev/sidecar.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if hsm.dir == "" && hsm.config == "" {
				return verb.Failf(verb.ExitUsage, "--dir or --config is missing: name where to restore to")
			}
			return hsm.with(cmd, func(config *sidecar.Config, o *sidecar.Offline) error {
				files := sidecar.AuditFiles{Audit: config.Audit.Dir, Data: config.Data}
				if hsm.dir != "" {
					files = sidecar.AuditFiles{Audit: filepath.Join(hsm.dir, "audit"), Data: filepath.Join(hsm.dir, "db")}
				}
				report, err := o.RestoreBackup(cmd.Context(), args[0], files, replace)
				if err != nil {
					return err
				}
				return printRestore(cmd, &hsm, args[0], files, report)
			})
		},
	}
	hsm.add(cmd)
	cmd.Flags().StringVar(&hsm.dir, "dir", "", "`directory` of keyside up, or a new one")
	cmd.Flags().BoolVar(&replace, "replace-newer", false, "replace a database that had later changes than the backup")
	return cmd
}

// shownLost is how many lost changes are printed for people.
const shownLost = 50

func printRestore(cmd *cobra.Command, hsm *backupHSM, file string, files sidecar.AuditFiles, report *sidecar.RestoreReport) error {
	if hsm.json {
		view := restoreView{
			backupView: viewOf(file, &report.Header), Data: files.Data, Audit: files.Audit, Replaced: report.Replaced,
			Reapplied: append([]audit.Change{}, report.Reapplied...), Lost: append([]audit.Change{}, report.Lost...), NoLog: report.NoLog,
		}
		view.Counts, view.Seals = report.Counts, report.Seals
		return verb.PrintJSON(cmd.OutOrStdout(), view)
	}
	if err := printBackup(cmd, hsm, file, &report.BackupReport, "restored to "+files.Data); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	for _, c := range report.Reapplied {
		fmt.Fprintf(w, "made again: change %s\n", verb.Harmless(c.String()))
	}
	for _, c := range report.Lost[:min(len(report.Lost), shownLost)] {
		fmt.Fprintf(w, "lost: change %s\n", verb.Harmless(c.String()))
	}
	if more := len(report.Lost) - shownLost; more > 0 {
		fmt.Fprintf(w, "lost: %d more changes; --json lists all\n", more)
	}
	if report.NoLog {
		cmd.PrintErrln("there was no audit log: what was revoked, disabled or destroyed after the backup is not known and counts again")
	}
	if report.Replaced != "" {
		cmd.PrintErrf("the database from before is in %s: delete it when it is not needed any more\n", report.Replaced)
	}
	return nil
}
