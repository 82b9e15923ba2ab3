package keyside

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// readAudit answers with the records that a query selects, one client.AuditEntry a line. The query is audited, the records
// that it returns are not: following the log would else never come to an end.
func (d *Dialect) readAudit(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	q := audit.Query{
		Since: timeIn(x, since), Until: timeIn(x, until), Principal: string(x.Text(principal)), Key: string(x.Text(recordedKey)),
		Operation: string(x.Text(recordedName)), Decision: string(x.Text(decision)), Outcome: string(x.Text(outcome)),
		RequestID: string(x.Text(requestID)), Last: int(x.Number(last)), Follow: x.Flag(follow, false),
	}
	if q.Operation != "" && !audit.KnowsOperation(q.Operation) { // an empty result would look like innocence
		return d.cfg.Core.Refuse(ctx, policy.OpReadAudit, kms.Invalid(recordedName.Name, kms.ReasonUnknown, "%q is not an operation", q.Operation))
	}
	if q.Outcome != "" && !slices.Contains(audit.Outcomes(), q.Outcome) {
		return d.cfg.Core.Refuse(ctx, policy.OpReadAudit, kms.Invalid(outcome.Name, kms.ReasonUnknown, "%q is not an outcome", q.Outcome))
	}
	return d.stream(ctx, policy.OpReadAudit, x, describe(&q), func(ctx context.Context, w io.Writer) error {
		return d.cfg.Audit.Read(ctx, q, func(e audit.Entry) error {
			line, err := json.Marshal(&client.AuditEntry{Record: e.Record, File: e.File, Line: e.Line, Entry: jsontext.Value(e.JSON)})
			if err == nil {
				_, err = w.Write(append(line, '\n'))
			}
			return err
		})
	})
}

// describe returns a query in words, for its own record.
func describe(q *audit.Query) string {
	words := []string{"query"}
	if q.Follow {
		words[0] = "tail"
	}
	for _, f := range []struct{ name, value string }{
		{"principal", q.Principal}, {"key", q.Key}, {"operation", q.Operation}, {"decision", q.Decision}, {"outcome", q.Outcome}, {"request", q.RequestID},
	} {
		if f.value != "" {
			words = append(words, f.name+"="+f.value)
		}
	}
	return strings.Join(words, " ")
}

// verifyAudit verifies the log up to now and answers with an audit.Report. One verification runs at a time, because each
// reads the whole log.
func (d *Dialect) verifyAudit(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	var keys []audit.VerifierKey
	if text := string(x.Text(verifierKey)); text != "" {
		key, _ := audit.ParseVerifier(text) // its form is checked
		keys = append(keys, key)
	}
	x.Media = "application/json"
	return d.stream(ctx, policy.OpReadAudit, x, "verify", func(ctx context.Context, w io.Writer) error {
		select {
		case d.verifying <- struct{}{}:
			defer func() { <-d.verifying }()
		case <-ctx.Done():
			return ctx.Err()
		}
		report, err := d.cfg.Audit.Verify(ctx, keys)
		if err != nil {
			return err
		}
		return json.MarshalWrite(w, report)
	})
}

// exportAudit answers with a tar archive.
func (d *Dialect) exportAudit(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	return d.stream(ctx, policy.OpReadAudit, x, "export", func(ctx context.Context, w io.Writer) error {
		_, err := d.cfg.Audit.Export(ctx, w)
		return err
	})
}
