// Package audit has the verbs that query, export and verify the audit log.
package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// Commands returns the verbs about the audit log.
func Commands() []*cobra.Command { return []*cobra.Command{auditCommand()} }

func auditCommand() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use: "audit", Short: "Query, export and verify the audit log",
		Long: `Query, export and verify the audit log, which has a record of every operation, allowed or refused. Administrators and auditors may
read it, and reading it is recorded, too.`,
	}, auditTail(), auditQuery(), auditExport(), auditVerify(), auditAcceptLoss())
}

// auditFilter is the flags that select records.
type auditFilter struct {
	client.AuditQuery
	key, since, until string
}

func (f *auditFilter) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.Principal, "principal", "", "`name` of the principal")
	flags.StringVar(&f.key, "key", "", "id or alias of the `key`, also as the source of a re-encryption")
	flags.StringVar(&f.Operation, "operation", "", "`name` of the operation: any of its names (decrypt, decrypt-data, decryptData, Decrypt)")
	flags.StringVar(&f.Decision, "decision", "", "`allow`; deny: for lack of a right; undecided: malformed, or refused before a decision")
	flags.StringVar(&f.Outcome, "outcome", "", "ok, or the `code` of a failure")
	flags.StringVar(&f.RequestID, "request", "", "`id` of the request, as in responses and errors")
	verb.CompleteKeyFlag(cmd, "key")
	verb.CompleteFlag(cmd, "operation", audit.OperationNames())
	verb.CompleteFlag(cmd, "decision", decisions)
	verb.CompleteFlag(cmd, "outcome", audit.Outcomes())
}

// decisions are the values of --decision.
var decisions = []string{"allow", "deny", "undecided"}

// query returns the query that the flags describe. A misspelt word is an error, because no records would look like innocence.
func (f *auditFilter) query(ctx context.Context, s *verb.Session) (q client.AuditQuery, err error) {
	q = f.AuditQuery
	if q.Operation != "" && !audit.KnowsOperation(q.Operation) {
		return q, verb.Failf(verb.ExitUsage, "--operation %q is not an operation%s", q.Operation, verb.DidYouMean(q.Operation, audit.OperationNames()))
	}
	if q.Decision, err = verb.Optional("--decision", q.Decision, decisions); err != nil {
		return q, err
	}
	if q.Outcome, err = verb.Optional("--outcome", q.Outcome, audit.Outcomes()); err != nil {
		return q, verb.Failf(verb.ExitUsage, "--outcome %q is neither ok nor an error code%s", f.Outcome, verb.DidYouMean(f.Outcome, audit.Outcomes()))
	}
	if f.key != "" {
		if q.KeyID, err = s.Resolve(ctx, f.key); err != nil {
			return q, err
		}
	}
	now := time.Now()
	if q.Since, err = parseMoment("--since", f.since, now); err != nil {
		return q, err
	}
	q.Until, err = parseMoment("--until", f.until, now)
	return q, err
}

// parseMoment parses a time, or a duration before now. It returns the zero time for an empty text.
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(form, text, time.Local); err == nil {
			return t, nil
		}
	}
	d, err := verb.ParseDuration(text)
	if err != nil {
		return time.Time{}, verb.Failf(verb.ExitUsage, "%s %q is neither a time such as 2030-12-31T00:00:00Z or 2030-12-31, nor a duration ago such as 24h or 90d", flag, text)
	}
	return now.Add(-d), nil
}

// reads makes cmd a verb that prints the selected records, and new ones if f.Follow is set.
func (f *auditFilter) reads(cmd *cobra.Command) *cobra.Command {
	f.add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		q, err := f.query(ctx, s)
		if err != nil {
			return err
		}
		printEntry, found := entryPrinter(s.Out(), s.JSON), false
		err = s.ReadAuditLog(ctx, q, func(e *client.AuditEntry) error {
			found = true
			return printEntry(e)
		})
		switch {
		case err == nil && !found && !f.Follow:
			return noRecords(ctx, s, &q)
		case f.Follow && ctx.Err() != nil:
			return nil
		case f.Follow && err == nil:
			return verb.Failf(verb.ExitUnavailable, "the sidecar stopped")
		}
		return err
	})
}

// recentRecords is the number of records whose principals an error suggests.
const recentRecords = 10_000

// noRecords says that no records match, or that a principal is in none at all, which is a misspelt name.
func noRecords(ctx context.Context, s *verb.Session, q *client.AuditQuery) error {
	if q.Principal == "" {
		s.Note("no records match")
		return nil
	}
	names := map[string]bool{}
	collect := func(e *client.AuditEntry) error {
		var r struct {
			Principal string `json:"principal"`
		}
		err := json.Unmarshal(e.Entry, &r)
		names[r.Principal] = true
		return err
	}
	if err := s.ReadAuditLog(ctx, client.AuditQuery{Principal: q.Principal, Last: 1}, collect); err != nil {
		return err
	}
	if names[q.Principal] {
		s.Note("no records match")
		return nil
	}
	if err := s.ReadAuditLog(ctx, client.AuditQuery{Last: recentRecords}, collect); err != nil {
		return err
	}
	return verb.Failf(verb.ExitNotFound, "no record has the principal %q%s", q.Principal, verb.DidYouMean(q.Principal, verb.Words(names)))
}

func auditTail() *cobra.Command {
	var f auditFilter
	cmd := &cobra.Command{
		Use: "tail", Short: "Show the last records, with -f also new ones",
		Long: `Show the last records; with -f also new ones, until Ctrl-C. The request is audited once; the records that it shows are not.`,
		Example: `  keyside audit tail -n 5
  timeout 1 keyside audit tail -f --decision deny || test $? = 124`,
	}
	cmd.Flags().IntVarP(&f.Last, "last", "n", 10, "number of records to begin with")
	cmd.Flags().BoolVarP(&f.Follow, "follow", "f", false, "also show new records, until Ctrl-C")
	return f.reads(cmd)
}

func auditQuery() *cobra.Command {
	var f auditFilter
	cmd := &cobra.Command{
		Use: "query", Short: "Show selected records",
		Long: `Show selected records, oldest first. Flags are combined. --json prints one JSON value per line: the record as it is in the log,
with its number, file and line.`,
		Example: `  keyside audit query --since 24h --decision deny
  keyside audit query --key app --operation decrypt --last 100 --json`,
	}
	cmd.Flags().StringVar(&f.since, "since", "", "`time` of the first record: a time such as 2030-12-31T00:00:00Z, or a duration ago such as 24h or 90d")
	cmd.Flags().StringVar(&f.until, "until", "", "`time` of the last record")
	cmd.Flags().IntVarP(&f.Last, "last", "n", 0, "only the last N records (default: all)")
	return f.reads(cmd)
}

// auditRow is the columns of a record for people. A longer word moves the rest of its line.
const auditRow = "%-24s  %8v  %-28s  %-16s  %-36s  %-18s  %s\n"

// entryPrinter returns a function that prints records, under a heading.
func entryPrinter(w io.Writer, asJSON bool) func(*client.AuditEntry) error {
	heading := !asJSON
	return func(e *client.AuditEntry) error {
		if asJSON {
			_, err := fmt.Fprintf(w, `{"record":%d,"file":%q,"line":%d,"entry":%s}`+"\n", e.Record, e.File, e.Line, e.Entry)
			return err
		}
		var r struct {
			Time      time.Time `json:"time"`
			Operation string    `json:"operation"`
			Principal string    `json:"principal"`
			KeyID     string    `json:"key_id"`
			Target    string    `json:"target"`
			By        string    `json:"by"`
			Outcome   string    `json:"outcome"`
		}
		if err := json.Unmarshal(e.Entry, &r); err != nil {
			return fmt.Errorf("record %d: %w", e.Record, err)
		}
		if heading {
			heading = false
			if _, err := fmt.Fprintf(w, auditRow, "TIME", "RECORD", "OPERATION", "PRINCIPAL", "KEY OR TARGET", "OUTCOME", "BY"); err != nil {
				return err
			}
		}
		name := r.Operation
		if op, known := policy.ParseOperation(name); known {
			name = op.Name()
		}
		line := fmt.Sprintf(auditRow, r.Time.UTC().Format("2006-01-02T15:04:05.000Z"), e.Record, verb.Harmless(name), verb.Dash(verb.Harmless(r.Principal)),
			verb.Dash(verb.Harmless(cmp.Or(r.KeyID, r.Target))), verb.Harmless(r.Outcome), verb.Harmless(r.By))
		_, err := io.WriteString(w, strings.TrimRight(line, " \n")+"\n")
		return err
	}
}
