package kms

import (
	"context"
	"log/slog"
)

// Change is a transaction of the store that has an audit record.
type Change struct {
	Number   uint64
	Previous uint64 // number of the last change before it that has a record, 0 for none
	Part     bool   // the operation needs further transactions
}

// Pending is the audit record of an operation until its change is durable. The store keeps the finished record in the
// transaction that makes the change, so that neither exists without the other.
type Pending struct {
	// Lines returns the records of a change as lines of the audit log, nil for a change without one. The store calls it inside
	// the transaction, after everything else that can refuse the change.
	Lines func(Change) []byte
	// Committed is called when the transaction of the last Lines is durable.
	Committed func()
}

type pendingKey struct{}

// WithPending returns a context whose transactions have the audit records that p makes.
func WithPending(ctx context.Context, p *Pending) context.Context {
	return context.WithValue(ctx, pendingKey{}, p)
}

// PendingFrom returns the pending records of a context, or nil.
func PendingFrom(ctx context.Context) *Pending {
	p, _ := ctx.Value(pendingKey{}).(*Pending)
	return p
}

// recorded returns the context for the transaction that makes the operation's change. Other transactions of the operation must not
// get it.
func (s *Service) recorded(ctx context.Context, r *request) context.Context {
	var staged *AuditRecord
	var part bool
	return WithPending(ctx, &Pending{
		Lines: func(c Change) []byte {
			outcome := outcomeOK
			if part = c.Part; part {
				outcome = outcomeBegun
			}
			staged = s.recordOf(r, outcome, c)
			return s.auditor.Line(staged)
		},
		Committed: func() { r.changes, r.changed = append(r.changes, staged), !part },
	})
}

// recordOf returns the record of an operation's change.
func (s *Service) recordOf(r *request, outcome string, c Change) *AuditRecord {
	record := s.record(r, outcome, "")
	record.Change, record.PreviousChange = c.Number, c.Previous
	return record
}

// logChange writes the record of a change that is durable. If that fails, the outcome of the operation is still what it is: the
// log writes the record before any other operation is admitted.
func (s *Service) logChange(ctx context.Context, record *AuditRecord) {
	record.InFlight = int(s.inFlight.Load())
	if err := s.auditor.Record(context.WithoutCancel(ctx), record); err != nil {
		s.log.LogAttrs(ctx, slog.LevelError, "record of a change is not yet in the audit log; operations are refused until it is",
			slog.Uint64("change", record.Change), slog.String("error", err.Error()))
	}
}
