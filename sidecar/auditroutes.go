package sidecar

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	client "github.com/keyside/keyside/sidecar/client/old"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The fields of requests about the audit log.
var (
	timeForm = dialect.Form{
		OK:     func(text []byte) bool { _, err := time.Parse(time.RFC3339Nano, string(text)); return err == nil },
		Reason: "must be a time such as 2030-12-31T00:00:00Z",
	}
	verifierForm = dialect.Form{
		OK:     func(text []byte) bool { _, err := audit.ParseVerifier(string(text)); return err == nil },
		Reason: "must be a verifier key, NAME+KEYID+BASE64",
	}

	sinceField     = &dialect.TextField{Name: "since", Form: &timeForm, Code: invalid}
	untilField     = &dialect.TextField{Name: "until", Form: &timeForm, Code: invalid}
	principalField = &dialect.TextField{Name: "principal", Low: 1, High: 64, Code: invalid}
	keyIDField     = &dialect.TextField{Name: "key_id", Low: 36, High: 36, Code: invalid}
	actionField    = &dialect.TextField{Name: "operation", Low: 1, High: 64, Code: invalid}
	decisionField  = &dialect.TextField{Name: "decision", Values: []string{"allow", "deny"}, Code: invalid}
	outcomeField   = &dialect.TextField{Name: "outcome", Low: 1, High: 64, Code: invalid}
	requestField   = &dialect.TextField{Name: "request_id", Low: 1, High: 64, Code: invalid}
	lastField      = &dialect.NumberField{Name: "last", Low: 0, High: 100_000, Code: invalid}
	followField    = &dialect.FlagField{Name: "follow", Code: invalid}
	verifierField  = &dialect.TextField{Name: "key", Low: 1, High: 1024, Form: &verifierForm, Code: invalid}

	auditQueryFields = dialect.Fields(
		sinceField, untilField, principalField, keyIDField, actionField, decisionField, outcomeField, requestField, lastField, followField,
	)
	auditVerifyFields = dialect.Fields(verifierField)
)

// queryAudit answers with records, one client.AuditEntry a line. What it was asked is on record, what it answers is not: who
// follows would else never come to an end.
func (o *own) queryAudit(ctx context.Context, x *dialect.Exchange) error {
	since, _ := time.Parse(time.RFC3339Nano, string(x.Text(sinceField))) // the form is checked
	until, _ := time.Parse(time.RFC3339Nano, string(x.Text(untilField)))
	q := audit.Query{
		Since: since, Until: until, Principal: string(x.Text(principalField)), Key: string(x.Text(keyIDField)),
		Operation: string(x.Text(actionField)), Decision: string(x.Text(decisionField)), Outcome: string(x.Text(outcomeField)),
		RequestID: string(x.Text(requestField)), Last: int(x.Number(lastField)), Follow: x.Flag(followField, false),
	}
	return o.streamAudit(ctx, x, asked(&q), func(ctx context.Context, w io.Writer) error {
		return o.audit.Read(ctx, q, func(e audit.Entry) error {
			line, err := json.Marshal(&client.AuditEntry{Record: e.Record, File: e.File, Line: e.Line, Entry: jsontext.Value(e.JSON)})
			if err == nil {
				_, err = w.Write(append(line, '\n'))
			}
			return err
		})
	})
}

// asked is a query in words, for its record.
func asked(q *audit.Query) string {
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

// verifyAudit verifies the log up to now, and answers with an audit.Report.
func (o *own) verifyAudit(ctx context.Context, x *dialect.Exchange) error {
	var keys []audit.VerifierKey
	if text := string(x.Text(verifierField)); text != "" {
		v, err := audit.ParseVerifier(text)
		if err != nil {
			return kms.Errorf(kms.CodeInvalidRequest, "%v", err).In(verifierField.Name)
		}
		keys = append(keys, v)
	}
	return o.streamAudit(ctx, x, "verify", func(ctx context.Context, w io.Writer) error {
		select { // it reads everything
		case o.verifier <- struct{}{}:
			defer func() { <-o.verifier }()
		case <-ctx.Done():
			return ctx.Err()
		}
		report, err := o.audit.Verify(ctx, keys)
		if err != nil {
			return err
		}
		return json.MarshalWrite(w, report)
	})
}

// exportAudit answers with a tar archive.
func (o *own) exportAudit(ctx context.Context, x *dialect.Exchange) error {
	return o.streamAudit(ctx, x, "export", func(ctx context.Context, w io.Writer) error {
		_, err := o.audit.Export(ctx, w)
		return err
	})
}

// readmitEvery is how often a reader's right to read on is looked at.
const readmitEvery = 2 * time.Second

// readmit ends what runs under a context when whose call it is may read no more: his process has ended, his access key or token
// is good no more, or other policies count. It returns why, once that is known.
func (o *own) readmit(ctx context.Context, cancel context.CancelFunc) (why func() error) {
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
			if refused = o.readmitNow(ctx); refused != nil {
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

func (o *own) readmitNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readmitEvery) // an answer that ends meanwhile is no refusal
	defer cancel()
	if !kms.CallerFrom(ctx).Known {
		return o.core.Refuse(ctx, policy.OpReadAudit, kms.Errorf(kms.CodeDenied, "the process that asked has ended"))
	}
	return o.core.Readmit(ctx, policy.OpReadAudit)
}

// streamAudit decides and records an operation on the log. Its answer ends before the process does, and with the right to it.
func (o *own) streamAudit(ctx context.Context, x *dialect.Exchange, target string, write func(context.Context, io.Writer) error) error {
	if err := o.core.AdmitAbout(ctx, policy.OpReadAudit, target); err != nil {
		return err
	}
	id, call := x.RequestID, kms.CallFrom(ctx)
	x.Stream = func(ctx context.Context, w io.Writer) error {
		ctx, cancel := context.WithCancel(kms.WithCall(ctx, call))
		defer cancel()
		defer context.AfterFunc(o.draining, cancel)()
		why := o.readmit(ctx, cancel)
		err := write(ctx, w)
		if refused := why(); refused != nil {
			err = refused
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			o.log.Warn("the audit log was not read to its end", slog.String("request_id", id), slog.String("operation", target), slog.Any("error", err))
		}
		return err
	}
	return nil
}
