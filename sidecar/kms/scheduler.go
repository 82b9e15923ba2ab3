package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

const (
	// lookEvery is how often the scheduler reads the clock, which an operator may set meanwhile.
	lookEvery = time.Second
	// dueBatch is the maximum number of keys that are destroyed together. The store rewrites its files after each batch,
	// which costs the same for one key and for many.
	dueBatch = 256
	// hsmTimeout limits the calls of the HSM for one key.
	hsmTimeout = 30 * time.Second
	// A failed act is tried again after minRetry, doubled each time up to maxRetry.
	minRetry = time.Second
	maxRetry = 5 * time.Minute
	// After each act the scheduler rests for restFactor times the duration of the act, at most maxRest, and leaves
	// processors, HSM and database to the requests.
	restFactor = 4
	maxRest    = 10 * time.Second
)

// scheduler is what the scheduler remembers from one check of the due keys to the next. The schedules themselves are in the
// store.
type scheduler struct {
	mu      sync.Mutex
	retries map[KeyID]*retry    // of due keys
	waiting map[KeyID]time.Time // when keys are due whose destruction waits because the clock jumped
	clock   ClockReading        // of which waiting is
	common  retry               // of all rotations, while the HSM or the database fails
	files   retry               // of the purge of the database files; zero means that none is pending
	pairs   retry               // of the destruction of expired wrapping keys
	unclear atomic.Bool         // a purge of destroyed material may be pending
	looked  time.Time           // time of the last check
	right   bool                // schedules were fixed since the clock was last set back
	plans   retry               // of fixing schedules
}

// retry is when a failed act is tried next.
type retry struct {
	at   time.Time
	wait time.Duration
}

// backOff delays the next try, longer every time.
func (r *retry) backOff(now time.Time) {
	r.wait = min(max(minRetry, 2*r.wait), maxRetry)
	r.at = now.Add(r.wait)
}

// waits reports whether the next try is in the future. If it is further away than any delay, the clock was set back.
func (r *retry) waits(now time.Time) bool { return now.Before(r.at) && r.at.Sub(now) <= maxRetry }

// of returns a key's retry.
func (m *scheduler) of(id KeyID) *retry {
	r := m.retries[id]
	if r == nil {
		r = new(retry)
		m.retries[id] = r
	}
	return r
}

// Schedule destroys and rotates keys, and destroys expired material and wrapping keys, when they are due, until ctx ends.
// After each act it rests in proportion.
func (s *Service) Schedule(ctx context.Context) {
	for ctx.Err() == nil {
		next := s.runDue(ctx, func(took time.Duration) { sleep(ctx, min(restFactor*took, maxRest)) })
		wait := lookEvery
		if !next.IsZero() {
			wait = max(lookEvery/100, min(next.Sub(s.clock.Now()), lookEvery))
		}
		sleep(ctx, wait)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// RunDue performs every due act, without rest, and returns when the next act is due: zero for never.
func (s *Service) RunDue(ctx context.Context) (next time.Time) {
	return s.runDue(ctx, func(time.Duration) {})
}

func (s *Service) runDue(ctx context.Context, rest func(took time.Duration)) (next time.Time) {
	m := &s.scheduler
	m.mu.Lock()
	defer m.mu.Unlock()
	for {
		mark, err := s.clockMark(ctx)
		if err == nil {
			err = s.countWaiting(ctx, mark)
		}
		now := mark.Wall // not a later look, before which the clock may have jumped
		if now.IsZero() {
			now = s.now()
		}
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "clock cannot be compared with the running time: nothing is destroyed or rotated", slog.String("error", err.Error()))
			return now.Add(minRetry)
		}
		m.at(mark.reading())
		s.fixSchedules(ctx, now)
		clearing := s.clearFiles(ctx, now)
		ids, next, err := s.dueNow(ctx, now)
		if err != nil {
			s.log.LogAttrs(ctx, slog.LevelError, "due keys cannot be listed", slog.String("error", err.Error()))
			return now.Add(minRetry)
		}
		next = earlier(next, clearing)
		if ctx.Err() != nil {
			return next
		}
		if len(ids) == 0 {
			s.timed(rest, func() { next = earlier(next, s.destroyPairs(ctx, now)) })
			return next
		}
		doomed, expired, turning := s.sort(ctx, ids, now, mark)
		if len(doomed) > 0 && ctx.Err() == nil {
			s.timed(rest, func() { s.destroyDue(ctx, doomed) })
		}
		if len(expired) > 0 && ctx.Err() == nil {
			s.timed(rest, func() { s.expireDue(ctx, expired) })
		}
		for _, key := range turning {
			switch {
			case ctx.Err() != nil:
				return next
			case m.common.waits(s.now()):
				m.of(key.ID).at = m.common.at
			default:
				s.timed(rest, func() { s.rotateDue(ctx, key) })
			}
		}
	}
}

// sort reads due keys and tells those to destroy from those whose material is to be, and from those to rotate.
func (s *Service) sort(ctx context.Context, ids []KeyID, now time.Time, mark ClockMark) (doomed, expired, turning []*Key) {
	due := func(date time.Time, set ClockReading) bool {
		return !date.IsZero() && !mark.dueAt(date, set).After(now)
	}
	for _, id := range ids {
		key, err := s.store.Key(ctx, id)
		switch {
		case err != nil:
			s.scheduler.of(id).backOff(now)
			s.log.LogAttrs(ctx, slog.LevelError, "due key cannot be read",
				slog.String("key_id", id.String()), slog.String("error", err.Error()))
		case key.Due().IsZero() || key.Due().After(now):
			s.scheduler.of(id).backOff(now) // it was changed just now
		case mark.due(key).After(now):
			s.scheduler.waiting[id] = earlier(mark.due(key), now.Add(countEvery)) // what it waits for may end before, by a change
		case key.State == PendingDeletion && due(key.DeletionAt, key.DeletionClock):
			doomed = append(doomed, key)
		case due(key.MaterialExpiresAt, key.ExpiryClock):
			expired = append(expired, key)
		default:
			turning = append(turning, key)
		}
	}
	return doomed, expired, turning
}

func (s *Service) timed(rest func(took time.Duration), act func()) {
	start := s.clock.Now()
	act()
	rest(max(0, s.clock.Now().Sub(start)))
}

// dueNow returns some keys that are due and do not wait for another try, and when there will be more.
func (s *Service) dueNow(ctx context.Context, now time.Time) (ids []KeyID, next time.Time, err error) {
	m := &s.scheduler
	limit := dueBatch + len(m.retries) + len(m.waiting) // so that those that wait hide no other
	due, next, err := s.store.DueKeys(ctx, now, limit)
	if err != nil {
		return nil, time.Time{}, err
	}
	if len(due) < limit {
		m.keep(due)
	}
	for _, id := range due {
		r, until := m.retries[id], m.waiting[id]
		switch {
		case until.After(now):
			next = earlier(next, until)
		case r == nil || !r.waits(now):
			if len(ids) < dueBatch {
				ids = append(ids, id)
			}
		default:
			next = earlier(next, r.at)
		}
	}
	return ids, next, nil
}

// keep forgets the keys that are not due any more, where due are all that are.
func (m *scheduler) keep(due []KeyID) {
	if len(m.retries)+len(m.waiting) == 0 {
		return
	}
	retries, waiting := make(map[KeyID]*retry), make(map[KeyID]time.Time)
	for _, id := range due {
		if r := m.retries[id]; r != nil {
			retries[id] = r
		}
		if until, ok := m.waiting[id]; ok {
			waiting[id] = until
		}
	}
	m.retries, m.waiting = retries, waiting
}

// at forgets how long keys wait if the clock has jumped or was confirmed since.
func (m *scheduler) at(clock ClockReading) {
	if clock != m.clock || m.waiting == nil {
		m.clock, m.waiting = clock, make(map[KeyID]time.Time)
	}
}

// errNotDue ends an act whose reason has gone: the key was changed since it was found due.
var errNotDue = errors.New("not due any more")

// rotateDue rotates one key, or puts it off.
func (s *Service) rotateDue(ctx context.Context, key *Key) {
	r := s.scheduled(ctx, policy.OpRotateKey, key.ID)
	ctx, end := s.trace(ctx, &r)
	defer end()
	common, err := s.rotate(ctx, &r, key)
	m := &s.scheduler
	if err == nil {
		m.common = retry{}
		delete(m.retries, key.ID)
	} else {
		m.of(key.ID).backOff(s.now())
	}
	if common {
		m.common.backOff(s.now())
	}
	if !errors.Is(err, errNotDue) { // then nothing was done
		_ = s.finish(ctx, &r, err)
	}
}

// rotate gives a key a new version: the HSM makes it first, and the one transaction that stores it looks whether the key
// is still due, so that no period brings two. common means that other keys would fare no better.
func (s *Service) rotate(ctx context.Context, r *request, key *Key) (common bool, err error) {
	if err := s.ready(ctx); err != nil {
		return true, err
	}
	current := key.Current()
	if current == nil {
		return false, Errorf(CodeInternal, "internal error").Because(fmt.Errorf("key %s is enabled without material", key.ID))
	}
	making, cancel := context.WithTimeout(ctx, hsmTimeout)
	defer cancel()
	version, err := s.makeVersion(making, key, current.Number+1)
	if err != nil {
		code := AsError(err).Code
		return code == CodeKeyUnavailable || code == CodeBusy || code == CodeDeadlineExceeded, err
	}
	_, err = s.store.UpdateKey(s.recorded(ctx, r), key.ID, func(k *Key) error {
		if k.State != Enabled || !k.Rotation.Enabled || !k.Rotation.Next.Equal(key.Rotation.Next) {
			return errNotDue
		}
		k.Versions = append(slices.Clip(k.Versions), *version)
		k.Rotation = k.Rotation.done(version.CreatedAt)
		r.version = version
		return nil
	})
	if err != nil {
		r.version = nil
		return !errors.Is(err, errNotDue), err
	}
	return false, nil
}

// together does something for each of n, all at once: what each does last is to wait for the audit log's disk, which takes
// no longer for many records than for one.
func together(n int, do func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// settle delays the keys whose act failed, and clears the retries of the others.
func (m *scheduler) settle(keys []*Key, results []error, now time.Time) {
	for i, err := range results {
		if err == nil {
			delete(m.retries, keys[i].ID)
		} else {
			m.of(keys[i].ID).backOff(now)
		}
	}
}

// destroyDue destroys keys, or delays them. Destruction is irreversible: it starts only after an intent record.
func (s *Service) destroyDue(ctx context.Context, keys []*Key) {
	requests, results := make([]request, len(keys)), make([]error, len(keys))
	together(len(keys), func(i int) {
		requests[i] = s.scheduled(ctx, policy.OpDestroyKey, keys[i].ID)
		if results[i] = s.recordBegun(ctx, &requests[i]); results[i] != nil {
			s.report(ctx, &requests[i], AsError(results[i]))
		}
	})
	var ids []KeyID
	d := destruction{s: s, planned: make(map[KeyID]*request, len(keys)), at: make(map[KeyID]time.Time, len(keys))}
	for i, key := range keys {
		if results[i] == nil {
			ids = append(ids, key.ID)
			d.planned[key.ID], d.at[key.ID] = &requests[i], key.DeletionAt
		}
	}
	var destroyed []*Key
	var err error
	if len(ids) > 0 {
		destroyed, err = s.store.DestroyKeys(WithPending(ctx, &Pending{Lines: d.lines, Committed: d.committed}), ids, d.doomed)
	}
	for _, records := range d.changes {
		s.logChange(ctx, records)
	}
	together(len(keys), func(i int) {
		switch {
		case results[i] != nil:
			return // nothing was started
		case err != nil:
			results[i] = err // even if the key was removed, its material is not purged
		case !requests[i].changed:
			results[i] = errNotPendingDeletion // its deletion was canceled meanwhile
		}
		_ = s.finish(ctx, &requests[i], results[i])
	})
	if err != nil && len(destroyed) > 0 {
		s.scheduler.files.backOff(s.now())
	}
	s.forget(ctx, destroyed)
	s.scheduler.settle(keys, results, s.now())
}

// destruction is the destruction of keys that are due, many in a transaction.
type destruction struct {
	s        *Service
	planned  map[KeyID]*request
	at       map[KeyID]time.Time // when the deletion of each was due
	accepted []*request          // of the keys that the present transaction removes
	staged   *AuditRecord        // the first of their records
	changes  []*AuditRecord      // the first record of each durable transaction
}

// doomed reports whether a key is still to be destroyed, inside the transaction that does it.
func (d *destruction) doomed(key *Key) bool {
	r := d.planned[key.ID]
	if key.State != PendingDeletion || !key.DeletionAt.Equal(d.at[key.ID]) || key.IsDefault() {
		return false
	}
	d.accepted = append(d.accepted, r)
	return true
}

// lines returns the records of the keys that a transaction removes.
func (d *destruction) lines(c Change) (lines []byte) {
	next := &d.staged
	for _, r := range d.accepted {
		*next = d.s.recordOf(r, outcomeOK, c)
		lines, next = append(lines, d.s.auditor.Line(*next)...), &(*next).Next
	}
	return lines
}

func (d *destruction) committed() {
	for _, r := range d.accepted {
		r.changed = true
	}
	d.accepted, d.changes = nil, append(d.changes, d.staged)
}

// expireDue destroys the expired material of keys, or delays them. All keys go together, so that one purge of the database
// files is enough.
func (s *Service) expireDue(ctx context.Context, keys []*Key) {
	results := make([]error, len(keys))
	together(len(keys), func(i int) {
		r := s.scheduled(ctx, policy.OpExpireMaterial, keys[i].ID)
		ctx, end := s.trace(ctx, &r)
		defer end()
		results[i] = s.expireMaterial(ctx, &r, keys[i])
		_ = s.finish(ctx, &r, results[i])
	})
	s.scheduler.settle(keys, results, s.now())
}

// clearFiles has the store complete a purge that failed, and returns when to try again: zero for never.
func (s *Service) clearFiles(ctx context.Context, now time.Time) time.Time {
	files := &s.scheduler.files
	if s.scheduler.unclear.Swap(false) {
		files.backOff(now)
	}
	if *files == (retry{}) || files.waits(now) {
		return files.at
	}
	if _, err := s.store.DestroyKeys(ctx, nil, nil); err != nil {
		files.backOff(now)
		s.log.LogAttrs(ctx, slog.LevelError, "destroyed keys are still in the database's files", slog.String("error", err.Error()))
		return files.at
	}
	*files = retry{}
	s.log.LogAttrs(ctx, slog.LevelInfo, "destroyed keys are out of the database's files")
	return time.Time{}
}

// forget drops what this process and the layers below hold of destroyed keys. A driver that cannot be reached drops its
// handles when it exits, and no caller can use the key.
func (s *Service) forget(ctx context.Context, keys []*Key) {
	for _, key := range keys {
		s.messages.forget(key)
		for _, v := range key.Versions {
			s.proven.Delete(proven(key, &v))
		}
	}
	s.forgetMaterial(ctx, keys...)
}

// forgetMaterial makes the layers below drop their handles of keys.
func (s *Service) forgetMaterial(ctx context.Context, keys ...*Key) {
	var refs []KeyRef
	for _, key := range keys {
		for i := range key.Versions {
			refs = append(refs, key.Ref(&key.Versions[i]))
		}
	}
	s.forgetRefs(ctx, refs)
}

func (s *Service) forgetRefs(ctx context.Context, refs []KeyRef) {
	ctx, cancel := context.WithTimeout(ctx, hsmTimeout)
	defer cancel()
	var failed []error
	for _, ref := range refs {
		if err := s.hsm.DestroyKey(ctx, ref); err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		s.log.LogAttrs(ctx, slog.LevelWarn, "HSM was not told of destroyed keys",
			slog.Int("versions", len(failed)), slog.String("error", failed[0].Error()))
	}
}

// scheduled starts an act of the scheduler.
func (s *Service) scheduled(ctx context.Context, op policy.Operation, id KeyID) request {
	r := s.newRequest(WithCall(ctx, &Call{RequestID: uuid.NewString(), Principal: policy.Principal{Name: "scheduler"}}), op)
	r.decided, r.decision, r.keyID = true, policy.Decision{Allow: true, By: "schedule"}, &id
	return r
}
