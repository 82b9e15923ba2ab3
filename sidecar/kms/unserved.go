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

// OpUnserved is the operation in the record of a request for no operation: for an unknown path, or from a web page.
const OpUnserved policy.Operation = "unserved"

// Every process that can reach a port, and every web page in a browser on the node, can cause such refusals at no cost. So
// that they cannot fill the audit log, unservedAtOnce per unservedPeriod are recorded one by one. The others are counted, and
// one record per period states their number.
const (
	unservedAtOnce = 10
	unservedPeriod = 10 * time.Second
)

// unserved counts refused requests for no operation.
type unserved struct {
	mu      sync.Mutex
	began   time.Time // the period
	n       int       // recorded in it
	counted int       // not recorded
	pending *time.Timer
}

// one reports whether to record a refusal. If not, it counts it, and calls flush later.
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

// take returns the number counted since the last call.
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

// RefuseUnserved audits a refused request for no operation, or counts it if there are many. It returns err as the answer, or
// CodeInternal if recording failed.
func (s *Service) RefuseUnserved(ctx context.Context, err error) error {
	if !s.unserved.one(s.clock.Now(), s.flushUnserved) {
		return err
	}
	return s.Refuse(ctx, OpUnserved, err)
}

// flushUnserved records the number of counted refusals.
func (s *Service) flushUnserved() {
	counted := s.unserved.take()
	if counted == 0 {
		return
	}
	ctx := WithCall(context.Background(), &Call{RequestID: uuid.NewString()})
	r := s.newRequest(ctx, OpUnserved)
	r.decided, r.decision = true, policy.Decision{Reason: "refused by dialect"}
	r.warning = fmt.Sprintf("%d more were refused and not recorded one by one", counted)
	if err := s.auditor.Record(ctx, s.record(&r, string(CodeDenied), "")); err != nil {
		s.log.Error("refusals not recorded", slog.Int("refusals", counted), slog.Any("error", err))
	}
}
