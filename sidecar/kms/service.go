package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/policy"
)

// Config configures a Service. Store, HSM, Auditor and Tenant are required.
type Config struct {
	Store       Store
	HSM         HSM
	Auditor     Auditor
	Tenant      string
	Credentials CredentialStore  // nil means no access keys and no tokens
	Account     string           // of principals without one; empty: the tenant's name
	Policies    *policy.Policies // of the operator; nil means none
	// Principals returns the principal with a name from the configuration. nil means the configuration has none.
	Principals func(name string) (policy.Principal, bool)
	Accounts   []string        // of principals of the configuration, besides Account
	Limits     Limits          // a zero field means that of DefaultLimits
	Clock      Clock           // nil means the system's
	Running    RunningTime     // with which the clock is compared; nil means that the clock never jumps
	Logger     *slog.Logger    // nil means none
	Tracer     trace.Tracer    // nil means no spans
	Pool       map[KeySpec]int // wrapping keys that FillPool generates in advance; nil means DefaultPool
	InFlight   InFlight        // a zero field means that of DefaultInFlight
	Refusals   int             // of a source and second that are recorded one by one; 0 means DefaultRefusals
}

// Service performs the operations of the KMS for one tenant. [run] is the path of every operation: caller, decision, checks,
// HSM, audit record, answer. Safe for concurrent use.
type Service struct {
	store      Store
	account    string
	accounts   []string
	policies   atomic.Pointer[policy.Policies]
	principals func(name string) (policy.Principal, bool)
	hsm        HSM
	auditor    Auditor
	inFlight   atomic.Int32 // operations whose final record is not written
	tenant     string
	limits     Limits
	clock      Clock
	log        *slog.Logger
	tracer     trace.Tracer
	messages   messages
	time       timekeeper
	pairs      gate     // limits the concurrent generation of RSA pairs
	proven     sync.Map // provenKey
	pool       *pool
	tries      tries
	scheduler  scheduler
	identities *identities
	refusals   refusals
	admission  admission

	makingDefault gate // held while a default key is created
}

// SystemClock is the clock of the operating system.
type SystemClock struct{}

// Now implements Clock.
func (SystemClock) Now() time.Time { return time.Now() }

// New returns a Service, or an error if a required field of cfg is missing.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.HSM == nil || cfg.Auditor == nil || cfg.Tenant == "" {
		return nil, errors.New("kms: a service needs a store, an HSM, an auditor and a tenant")
	}
	s := &Service{
		store: cfg.Store, account: cmp.Or(cfg.Account, cfg.Tenant), accounts: cfg.Accounts, principals: cfg.Principals, hsm: cfg.HSM, auditor: cfg.Auditor, tenant: cfg.Tenant, limits: cfg.Limits.Over(DefaultLimits),
		clock: cmp.Or[Clock](cfg.Clock, SystemClock{}), log: cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler)),
		tracer: cfg.Tracer, messages: messages{store: cfg.Store}, time: timekeeper{running: cfg.Running, store: cfg.Store},
		pairs:     make(gate, pairsAtOnce),
		admission: newAdmission(cfg.InFlight), refusals: refusals{atOnce: cmp.Or(cfg.Refusals, DefaultRefusals)},
		pool: newPool(cfg.Pool), tries: tries{full: make(map[KeyID]time.Time)},
		identities: newIdentities(cfg.Credentials),
		scheduler:  scheduler{retries: make(map[KeyID]*retry)}, makingDefault: make(gate, 1),
	}
	s.policies.Store(cfg.Policies)
	return s, nil
}

// Close returns message numbers that were reserved and not used to the store, and stores the time. Call it before closing the store;
// without it, only numbers and up to an hour of running time are lost.
func (s *Service) Close(ctx context.Context) error {
	s.flushRefusals()
	return errors.Join(s.messages.release(ctx), s.keepMark(ctx))
}

// Limits returns the limits of calls that have none of their own.
func (s *Service) Limits() Limits { return s.limits }

// request is one operation in progress.
type request struct {
	op       policy.Operation
	call     *Call
	limits   *Limits
	context  map[string]string // the operation's encryption context
	decision policy.Decision
	decided  bool     // decision is final; for an operation about a key, it is about that key
	by       []string // roles, grants and policies that allowed it
	inFlight bool     // counted in Service.inFlight
	admitted bool     // counted in Service.admission
	begun    bool     // the record "begun" is written
	start    time.Time
	span     trace.Span // nil without a tracer
	keyID    *KeyID     // that the caller named; the key may not exist
	target   string     // what the operation is about, if that is no key
	version  *KeyVersion
	warning  string
	changes  []*AuditRecord // of the operation's durable changes
	changed  bool           // the last of them is the whole operation

	sourceID      *KeyID // of the key that a re-encryption decrypts with
	sourceVersion *KeyVersion
}

// isSource makes the key that the request has so far the source of a re-encryption.
func (r *request) isSource() {
	r.sourceID, r.sourceVersion = r.keyID, r.version
	r.keyID, r.version = nil, nil
}

// run is the path of every operation. It refuses calls without a caller and operations that policy denies, runs do, and
// returns the result of do only after the audit record is durable. It clears the secrets of a result that it does not
// return, also those that do returned with an error.
func run[T any](ctx context.Context, s *Service, op policy.Operation, do func(context.Context, *request) (T, error)) (T, error) {
	r := s.newRequest(ctx, op)
	s.enter(&r)
	defer s.leave(&r)
	defer s.release(&r)
	ctx, end := s.trace(ctx, &r)
	defer end()
	var out T
	err := s.admit(ctx, &r)
	if err == nil {
		out, err = do(ctx, &r)
	}
	if err == nil && !r.decided {
		err = Errorf(CodeInternal, "internal error").Because(fmt.Errorf("%s ended without a decision", op))
	}
	if e := s.finish(ctx, &r, err); e != nil {
		if secret, ok := any(out).(interface{ wipe() }); ok {
			secret.wipe()
		}
		var nothing T
		return nothing, e
	}
	return out, nil
}

// newRequest starts an operation of the context's call.
func (s *Service) newRequest(ctx context.Context, op policy.Operation) request {
	r := request{op: op, call: CallFrom(ctx), limits: &s.limits, start: s.clock.Now()}
	if r.call != nil && r.call.Limits != nil {
		r.limits = r.call.Limits
	}
	return r
}

// trace starts a span for the operation, if there is a tracer.
func (s *Service) trace(ctx context.Context, r *request) (_ context.Context, end func()) {
	if s.tracer == nil {
		return ctx, func() {}
	}
	ctx, r.span = s.tracer.Start(ctx, "kms."+string(r.op), trace.WithTimestamp(r.start))
	return ctx, func() { r.span.End() }
}

// ready returns an error if the operation could not be recorded now.
func (s *Service) ready(ctx context.Context) error {
	if err := s.auditor.Ready(ctx); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			return NoRoom(err)
		}
		return Errorf(CodeInternal, "internal error").Because(fmt.Errorf("audit is not ready: %w", err))
	}
	return nil
}

// admit decides whether the operation may start. Operations about a key are decided once the key is loaded.
func (s *Service) admit(ctx context.Context, r *request) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if r.call == nil {
		r.decision = policy.Decision{Reason: "no caller"}
		return denied()
	}
	if err := s.admission.enter(r.call.Principal.Name); err != nil {
		r.decision = policy.Decision{Reason: "not decided: too many operations"}
		return err
	}
	r.admitted = true
	if r.op.AboutKey() && r.call.Principal.Name != "" {
		r.decision = policy.Decision{Reason: "not decided: no key was looked at"}
		return ctx.Err()
	}
	if err := s.authorize(r, nil, nil); err != nil {
		return err
	}
	return ctx.Err()
}

// authorize decides the operation for a key and its grants. key is nil if the operation is about none, or about one that
// does not exist.
func (s *Service) authorize(r *request, key *Key, grants []*policy.Grant) error {
	return r.settle(s.decide(r, r.op, key, grants))
}

// authorizeAlso requires the permission for another operation as well.
func (s *Service) authorizeAlso(r *request, op policy.Operation, key *Key) error {
	return r.settle(s.decide(r, op, key, s.store.Grants(key.ID)))
}

// settle makes d the decision of the request, after earlier ones that allowed it.
func (r *request) settle(d policy.Decision) error {
	r.decided, r.decision = true, d
	if !d.Allow {
		return denied()
	}
	if !slices.Contains(r.by, d.By) {
		r.by = append(r.by, d.By)
	}
	return nil
}

// decide asks policy about an operation with a key; nil means none, or one that does not exist.
func (s *Service) decide(r *request, op policy.Operation, key *Key, grants []*policy.Grant) policy.Decision {
	return policy.Decide(&policy.Request{
		Operation: op, Principal: r.call.Principal, Caller: r.call.Caller, Context: r.context,
	}, s.facts(r, key, grants))
}

func (s *Service) facts(r *request, key *Key, grants []*policy.Grant) *policy.Facts {
	f := &policy.Facts{
		Time: r.start, Tenant: s.tenant, Account: s.account, Grants: grants, Policies: s.policies.Load(),
	}
	if key != nil {
		f.Key = policy.Key{
			ID: key.ID, Exists: true, Alias: key.Alias, Spec: string(key.Spec), Usage: string(key.Usage),
			Origin: string(key.Origin), State: string(key.State), Service: key.Service, Tags: key.Tags,
		}
	} else if r.keyID != nil {
		f.Key.ID = *r.keyID
	}
	return f
}

// SetPolicies replaces the policies of the operator, from the next decision on.
func (s *Service) SetPolicies(p *policy.Policies) { s.policies.Store(p) }

// authorizeFailed authorizes an operation that failed before authorization, so that unauthorized callers get CodeDenied
// instead of err. Only callers authorized for any key learn that a key does not exist.
func (s *Service) authorizeFailed(ctx context.Context, r *request, err error) error {
	if r.decided || r.call == nil || r.call.Principal.Name == "" {
		return err
	}
	var key *Key
	var grants []*policy.Grant
	if r.keyID != nil {
		if k, kerr := s.store.Key(ctx, *r.keyID); kerr == nil {
			key, grants = k, s.store.Grants(k.ID)
		}
	}
	refused := s.authorize(r, key, grants)
	if refused == nil || r.keyID == nil && AsError(err).Code == CodeInvalidCiphertext { // which reveals nothing about any key
		return err
	}
	return refused
}

func denied() *Error { return Errorf(CodeDenied, "not allowed") }

const (
	outcomeOK = "ok"
	// outcomeBegun is the outcome in the audit record that precedes an irreversible act, and of a change that is only a part of its
	// operation.
	outcomeBegun = "begun"
)

// enter counts an operation as in flight, leave undoes that. A second leave does nothing.
func (s *Service) enter(r *request) {
	r.inFlight = true
	s.inFlight.Add(1)
}

func (s *Service) leave(r *request) {
	if r.inFlight {
		r.inFlight = false
		s.inFlight.Add(-1)
	}
}

// release ends the count of an admitted operation.
func (s *Service) release(r *request) {
	if r.admitted {
		s.admission.leave(r.call.Principal.Name)
	}
}

// recordBegun makes the audit record "begun" of the operation durable.
func (s *Service) recordBegun(ctx context.Context, r *request) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := s.auditor.Record(context.WithoutCancel(ctx), s.record(r, outcomeBegun, "")); err != nil {
		return Errorf(CodeInternal, "internal error").Because(fmt.Errorf("audit: %w", err))
	}
	r.begun = true
	return nil
}

// finish makes the operation's final audit record durable and returns the error to answer, nil for success. An operation that
// failed after its change, such as one whose material is not yet purged, has two: that of the change and that of the failure. A
// refusal of which there are many is only counted.
func (s *Service) finish(ctx context.Context, r *request, err error) error {
	outcome, reason := outcomeOK, Reason("")
	var e *Error
	if err != nil {
		if !errors.Is(err, busy) {
			err = s.authorizeFailed(ctx, r, err)
		}
		e = AsError(err)
		if len(r.changes) == 0 && r.countable(e) && !s.refusals.one(sourceOf(r.call), e.Code, s.flushRefusals) {
			return e
		}
		outcome, reason = string(e.Code), e.Reason
	}
	s.leave(r)
	for _, change := range r.changes {
		s.logChange(ctx, change)
	}
	if err != nil || !r.changed {
		// The record is written even if the request's deadline has passed.
		if aerr := s.auditor.Record(context.WithoutCancel(ctx), s.record(r, outcome, reason)); aerr != nil {
			e = Errorf(CodeInternal, "internal error").Because(fmt.Errorf("audit: %w", errors.Join(aerr, err)))
		}
	}
	if r.span != nil {
		r.span.SetAttributes(attribute.String("keyside.outcome", outcome))
		if e != nil {
			r.span.SetStatus(otelcodes.Error, string(e.Code))
		}
	}
	if e == nil {
		return nil
	}
	s.report(ctx, r, e)
	return e
}

// record returns the audit record of the operation.
func (s *Service) record(r *request, outcome string, reason Reason) *AuditRecord {
	rec := &AuditRecord{
		Time: r.start, Operation: r.op, Tenant: s.tenant, Decision: "deny", By: r.decision.Reason, Outcome: outcome, Reason: reason,
		Latency: s.clock.Now().Sub(r.start).Microseconds(), Warning: r.warning, Target: r.target, Trace: r.op.Trace(),
		Missing: r.decision.Missing, InFlight: int(s.inFlight.Load()),
	}
	if r.decision.Allow {
		rec.Decision, rec.By = "allow", r.decision.By
		if len(r.by) > 1 {
			rec.By = strings.Join(r.by, ", ")
		}
	}
	if r.call != nil {
		rec.RequestID, rec.Dialect, rec.Caller, rec.Principal, rec.AccessKey =
			r.call.RequestID, r.call.Dialect, r.call.Caller, r.call.Principal.Name, r.call.AccessKey
		if r.call.Trace != "" {
			rec.Trace = r.call.Trace
		}
	}
	if r.keyID != nil {
		rec.KeyID = r.keyID.String()
	}
	if r.version != nil {
		rec.Version, rec.Protect = r.version.Number, r.version.Protection
		if r.op == policy.OpImportMaterial {
			rec.OpenedIn = r.version.OpenedIn
		}
	}
	if r.sourceID != nil {
		rec.SourceKeyID = r.sourceID.String()
	}
	if r.sourceVersion != nil {
		rec.SourceVersion = r.sourceVersion.Number
	}
	return rec
}

// report logs why an operation failed. Errors of callers are logged at debug level only.
func (s *Service) report(ctx context.Context, r *request, e *Error) {
	level := slog.LevelDebug
	switch e.Code {
	case CodeInternal:
		level = slog.LevelError
	case CodeKeyUnavailable, CodeKeyExhausted:
		level = slog.LevelWarn
	}
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.String("operation", string(r.op)), slog.String("code", string(e.Code))}
	if r.call != nil {
		attrs = append(attrs, slog.String("request_id", r.call.RequestID))
	}
	if r.keyID != nil {
		attrs = append(attrs, slog.String("key_id", r.keyID.String()))
	}
	if cause := e.Unwrap(); cause != nil {
		attrs = append(attrs, slog.String("error", cause.Error()))
	}
	s.log.LogAttrs(ctx, level, "operation failed", attrs...)
}

// doWithout is run for an operation without a result.
func doWithout(ctx context.Context, s *Service, op policy.Operation, do func(context.Context, *request) error) error {
	_, err := run(ctx, s, op, func(ctx context.Context, r *request) (struct{}, error) { return struct{}{}, do(ctx, r) })
	return err
}

// use loads the key of an operation and checks that its state and spec allow the operation.
func (s *Service) use(ctx context.Context, r *request, id KeyID) (*Key, error) {
	key, err := s.inState(ctx, r, id)
	if err != nil {
		return nil, err
	}
	if key.expired(s.clock) {
		return nil, errPendingImport
	}
	if err := checkKind(r.op, key.Spec, key.Usage); err != nil {
		return nil, err
	}
	if r.version = key.Current(); r.version == nil {
		return nil, Errorf(CodeInternal, "internal error").Because(fmt.Errorf("key %s is %s without material", id, key.State))
	}
	return key, nil
}

// useVersion is use for an operation with one of the key's versions; zero: the current one.
func (s *Service) useVersion(ctx context.Context, r *request, id KeyID, version uint32) (*Key, error) {
	key, err := s.use(ctx, r, id)
	if err != nil || version == 0 {
		return key, err
	}
	if r.version = key.Version(version); r.version == nil {
		return nil, Errorf(CodeNotFound, "key has no such version").In("version")
	}
	return key, nil
}

// dry refuses an operation that is only tried. What uses a key calls it after every check and before the use.
func (r *request) dry() error {
	if r.call != nil && r.call.DryRun {
		return errDryRun
	}
	return nil
}

// inState loads the key of an operation and checks that its state allows the operation.
func (s *Service) inState(ctx context.Context, r *request, id KeyID) (*Key, error) {
	key, err := s.load(ctx, r, id)
	if err != nil {
		return nil, err
	}
	return key, r.rules().checkKey(r.op, key)
}

// load loads the key of an operation, if the principal is authorized for the operation with it.
func (s *Service) load(ctx context.Context, r *request, id KeyID) (*Key, error) {
	r.keyID = &id
	key, err := s.store.Key(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := s.authorize(r, key, s.store.Grants(id)); err != nil {
		return nil, err
	}
	return key, nil
}

// hostile returns the error for an answer of the HSM that cannot be right.
func hostile(format string, args ...any) *Error {
	return Errorf(CodeInternal, "internal error").Because(fmt.Errorf("the HSM's answer is wrong: "+format, args...))
}
