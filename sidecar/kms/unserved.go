package kms

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// OpUnserved is on record for a request that no operation is for: of a path that nothing serves, or of a web page.
const OpUnserved policy.Operation = "unserved"

// Anybody who reaches a port, and every web page that a browser on the node shows, can cause such refusals, at no cost. So that
// they cannot fill the audit log, unservedAtOnce are recorded one by one, and the others are counted: one record in every
// unservedPeriod says how many there were.
const (
	unservedAtOnce = 10
	unservedPeriod = 10 * time.Second
)

// unserved counts refusals that nobody can be asked about.
type unserved struct {
	mu      sync.Mutex
	began   time.Time // the period
	n       int       // recorded in it
	counted int       // not recorded
	pending *time.Timer
}

// one reports whether a refusal is to be recorded. If not, it is counted, and flush will be called.
func (u *unserved) one(now time.Time, flush func()) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if now.Sub(u.began) >= unservedPeriod || now.Before(u.began) {
		u.began, u.n = now, 0
	}
	if u.n < unservedAtOnce {
		u.n++
		return true
	}
	u.counted++
	if u.pending == nil {
		u.pending = time.AfterFunc(unservedPeriod, flush)
	}
	return false
}

// take returns how many were counted since the last time.
func (u *unserved) take() (counted int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	counted, u.counted = u.counted, 0
	if u.pending != nil {
		u.pending.Stop()
		u.pending = nil
	}
	return counted
}

// RefuseUnserved audits a request that is for no operation, or counts it where there are many of them, and returns what to
// answer: err, or CodeInternal if it could not be recorded.
func (s *Service) RefuseUnserved(ctx context.Context, err error) error {
	if !s.unserved.one(s.clock.Now(), s.flushUnserved) {
		return err
	}
	return s.Refuse(ctx, OpUnserved, err)
}

// flushUnserved records how many refusals were counted.
func (s *Service) flushUnserved() {
	counted := s.unserved.take()
	if counted == 0 {
		return
	}
	ctx := WithCall(context.Background(), &Call{RequestID: uuid.NewString()})
	r := s.newRequest(ctx, OpUnserved)
	r.decided, r.decision = true, policy.Decision{Reason: "refused by dialect"}
	r.warning = fmt.Sprintf("%d more were refused, and are not recorded one by one", counted)
	if err := s.auditor.Record(ctx, s.record(&r, string(CodeDenied), "")); err != nil {
		s.log.Error("refusals not recorded", slog.Int("refusals", counted), slog.Any("error", err))
	}
}
