package keyside

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

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
	return d.streamAudit(ctx, x, describe(&q), func(ctx context.Context, w io.Writer) error {
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
	return d.streamAudit(ctx, x, "verify", func(ctx context.Context, w io.Writer) error {
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
	return d.streamAudit(ctx, x, "export", func(ctx context.Context, w io.Writer) error {
		_, err := d.cfg.Audit.Export(ctx, w)
		return err
	})
}

// streamAudit authorizes and records an operation on the log. Its stream ends before the process does, and when the caller
// loses the right to it.
func (d *Dialect) streamAudit(ctx context.Context, x *dialect.Exchange, target string, write func(context.Context, io.Writer) error) error {
	if err := d.cfg.Core.AdmitAbout(ctx, policy.OpReadAudit, target); err != nil {
		return err
	}
	id, call := x.RequestID, kms.CallFrom(ctx)
	x.Stream = func(ctx context.Context, w io.Writer) error {
		ctx, cancel := context.WithCancel(kms.WithCall(ctx, call))
		defer cancel()
		defer context.AfterFunc(d.cfg.Draining, cancel)()
		stop := d.readmit(ctx, cancel)
		err := write(ctx, w)
		if refused := stop(); refused != nil {
			err = refused
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			d.cfg.Logger.Warn("the audit log was not read to its end", slog.String("request_id", id), slog.String("operation", target), slog.Any("error", err))
		}
		return err
	}
	return nil
}

// readmitEvery is how often the right of a caller that reads a stream is checked.
const readmitEvery = 2 * time.Second

// readmit calls cancel when the caller of ctx loses the right to read on: its process exits, its access key or token becomes
// invalid, or policies change. The returned function ends the checks and returns the refusal, if there was one.
func (d *Dialect) readmit(ctx context.Context, cancel context.CancelFunc) (stop func() error) {
	var refused error
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(readmitEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			if refused = d.readmitNow(ctx); refused != nil {
				cancel()
				return
			}
		}
	}()
	return func() error {
		cancel()
		<-done
		return refused
	}
}

func (d *Dialect) readmitNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readmitEvery) // the end of the response is no refusal
	defer cancel()
	if !kms.CallerFrom(ctx).Known {
		return d.cfg.Core.Refuse(ctx, policy.OpReadAudit, kms.Errorf(kms.CodeDenied, "the calling process has exited"))
	}
	return d.cfg.Core.Readmit(ctx, policy.OpReadAudit)
}
