package kms

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// OpUnserved is the operation in the record of a request for no operation: for an unknown path, or from a web page. It is
// also that of a record that only states how many requests of one source were refused.
const OpUnserved policy.Operation = "unserved"

// Every process that can connect, and every web page in a browser on the node, can cause refusals at no cost: without a
// principal, or by more requests than are served. So that they cannot fill the audit log and the disk, Config.Refusals per
// source and refusalPeriod are recorded one by one. The others are counted, and one record per period and source states their
// number.
const (
	// DefaultRefusals is Config.Refusals of an empty configuration.
	DefaultRefusals = 10
	refusalPeriod   = time.Second
	// refusalSources limits the memory for sources. Further ones count as one.
	refusalSources = 1024
)

// refusals counts refusals that are not recorded one by one.
type refusals struct {
	atOnce int

	mu      sync.Mutex
	sources map[source]*counted
	pending *time.Timer
}

// source is what can cause refusals: a user of the socket, or a principal, or the port as a whole.
type source struct {
	caller    policy.Caller // only ids of the user
	principal string
}

// counted is the refusals of a source in a period, which begins with the first of any source.
type counted struct {
	recorded int
	codes    map[Code]int // not recorded
}

// sourceOf returns the source of a call.
func sourceOf(c *Call) source {
	from := source{principal: c.Principal.Name}
	if c.Caller.Socket || c.Caller.Known {
		from.caller = policy.Caller{UID: c.Caller.UID, GID: c.Caller.GID, Known: c.Caller.Known, Socket: c.Caller.Socket}
	}
	return from
}

// countable reports whether a refusal may be counted instead of recorded: it had no effect, and no right was used.
func (r *request) countable(e *Error) bool {
	return r.call != nil && !r.begun && r.sourceID == nil && (r.call.Principal.Name == "" || e.Code == CodeBusy)
}

// one reports whether to record a refusal. If not, it counts it, and calls flush once the period is over.
func (f *refusals) one(from source, code Code, flush func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.sources[from] == nil && len(f.sources) >= refusalSources {
		from = source{}
	}
	c := f.sources[from]
	if c == nil {
		if f.sources == nil {
			f.sources = map[source]*counted{}
		}
		c = new(counted)
		f.sources[from] = c
	}
	if f.pending == nil {
		f.pending = time.AfterFunc(refusalPeriod, flush)
	}
	if c.recorded < f.atOnce {
		c.recorded++
		return true
	}
	if c.codes == nil {
		c.codes = map[Code]int{}
	}
	c.codes[code]++
	return false
}

// take returns what was counted since the last call, and forgets all sources.
func (f *refusals) take() map[source]*counted {
	f.mu.Lock()
	defer f.mu.Unlock()
	taken := f.sources
	f.sources = nil
	if f.pending != nil {
		f.pending.Stop()
		f.pending = nil
	}
	return taken
}

// flushRefusals records the numbers of counted refusals.
func (s *Service) flushRefusals() {
	for from, c := range s.refusals.take() {
		n, most := 0, Code("")
		var each []string
		for _, code := range slices.Sorted(maps.Keys(c.codes)) {
			n += c.codes[code]
			each = append(each, fmt.Sprintf("%d %s", c.codes[code], code))
			if most == "" || c.codes[code] > c.codes[most] {
				most = code
			}
		}
		if n == 0 {
			continue
		}
		ctx := WithCall(context.Background(), &Call{
			RequestID: uuid.NewString(), Caller: from.caller, Principal: policy.Principal{Name: from.principal},
		})
		r := s.newRequest(ctx, OpUnserved)
		r.decided, r.decision = true, policy.Decision{Reason: "refused by dialect"}
		r.warning = fmt.Sprintf("%d more were refused and not recorded one by one: %s", n, strings.Join(each, ", "))
		if err := s.auditor.Record(ctx, s.record(&r, string(most), "")); err != nil {
			s.log.Error("refusals not recorded", slog.Int("refusals", n), slog.Any("error", err))
		}
	}
}

// Refuse audits a request that a dialect refused before the core saw it, or counts it if there are many. It returns err as
// the answer, or another error if the refusal could not be recorded.
func (s *Service) Refuse(ctx context.Context, op policy.Operation, err error) error {
	r := s.newRequest(ctx, op)
	r.decided, r.decision = true, policy.Decision{Reason: "refused by dialect"}
	return s.finish(ctx, &r, AsError(err))
}
