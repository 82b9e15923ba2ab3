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
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/policy"
)

// Config is what a Service is made of. Store, HSM, Auditor and Tenant are required.
type Config struct {
	Store       Store
	HSM         HSM
	Auditor     Auditor
	Tenant      string
	Credentials CredentialStore  // nil: there are no access keys and no tokens
	Account     string           // that principals without one of their own belong to; empty: the tenant's name
	Policies    *policy.Policies // the operator's own; nil: none
	// Principals returns the principal that the configuration has by a name. nil: it has none.
	Principals func(name string) (policy.Principal, bool)
	Accounts   []string        // that some of them belong to, beside Account
	Limits     Limits          // zero fields: DefaultLimits
	Clock      Clock           // nil: the system's
	Logger     *slog.Logger    // nil: none
	Tracer     trace.Tracer    // nil: no spans and no cost
	Pool       map[KeySpec]int // wrapping keys that FillPool makes ahead; nil: DefaultPool
}

// Service does the operations of the KMS for one tenant. Every operation goes through [run]: caller, decision,
// checks, HSM, audit, answer. It is safe for concurrent use.
type Service struct {
	store      Store
	account    string
	accounts   []string
	policies   atomic.Pointer[policy.Policies]
	principals func(name string) (policy.Principal, bool)
	hsm        HSM
	auditor    Auditor
	inFlight   atomic.Int32 // operations whose last record is still to come
	tenant     string
	limits     Limits
	clock      Clock
	log        *slog.Logger
	tracer     trace.Tracer
	messages   messages
	pairs      pairMaker
	proven     sync.Map // provenKey
	pool       *pool
	tries      tries
	scheduler  scheduler
	identities *identities
	unserved   unserved

	makingDefault chan struct{} // holds one: who makes a default key
}

type systemClock struct{}

func (systemClock) Now() time.Time { return time.Now() }

// New makes a Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.HSM == nil || cfg.Auditor == nil || cfg.Tenant == "" {
		return nil, errors.New("kms: a service needs a store, an HSM, an auditor and a tenant")
	}
	if cfg.Clock == nil {
		cfg.Clock = systemClock{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{
		store: cfg.Store, account: cmp.Or(cfg.Account, cfg.Tenant), accounts: cfg.Accounts, principals: cfg.Principals, hsm: cfg.HSM, auditor: cfg.Auditor, tenant: cfg.Tenant, limits: cfg.Limits.Over(DefaultLimits),
		clock: cfg.Clock, log: cfg.Logger, tracer: cfg.Tracer, messages: messages{store: cfg.Store},
		pairs: pairMaker{make(chan struct{}, pairsAtOnce)},
		pool:  newPool(cfg.Pool), tries: tries{full: make(map[KeyID]time.Time)},
		identities: newIdentities(cfg.Credentials),
		scheduler:  scheduler{retries: make(map[KeyID]*retry)}, makingDefault: make(chan struct{}, 1),
	}
	s.policies.Store(cfg.Policies)
	return s, nil
}

// Close gives back what the service holds of the store: message numbers that it reserved and did not use. It is called
// before the store is closed, and costs nothing but numbers if it is not.
func (s *Service) Close(ctx context.Context) error {
	s.flushUnserved()
	return s.messages.release(ctx)
}

// Limits returns the limits in force for calls that have none of their own.
func (s *Service) Limits() Limits { return s.limits }

// request is one operation under way.
type request struct {
	op       policy.Operation
	call     *Call
	limits   *Limits
	context  map[string]string // the operation's encryption context
	decision policy.Decision
	decided  bool     // decision is final; of an operation that is about a key, it is about that key
	by       []string // who allowed it, where one decision was not enough
	inFlight bool     // counted in Service.underway
	start    time.Time
	span     trace.Span // nil without a tracer
	keyID    *KeyID     // that the caller named, known or not
	target   string     // what the operation is about where that is no key
	version  *KeyVersion
	warning  string
	undo     func(context.Context) error // of a change that must not last if it cannot be recorded; nil: none

	sourceID      *KeyID // of the key that a re-encryption decrypts with
	sourceVersion *KeyVersion
}

// isSource makes the key that the operation had to do with so far its source.
func (r *request) isSource() {
	r.sourceID, r.sourceVersion = r.keyID, r.version
	r.keyID, r.version = nil, nil
}

// run is the one pipeline of all operations. It refuses what has no caller and what policy does not allow, runs do, and
// hands out do's answer only after the audit record is durable.
func run[T any](ctx context.Context, s *Service, op policy.Operation, do func(context.Context, *request) (T, error)) (T, error) {
	r := s.newRequest(ctx, op)
	s.enter(&r)
	defer s.leave(&r)
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

// newRequest begins an operation of the context's call.
func (s *Service) newRequest(ctx context.Context, op policy.Operation) request {
	r := request{op: op, call: CallFrom(ctx), limits: &s.limits, start: s.clock.Now()}
	if r.call != nil && r.call.Limits != nil {
		r.limits = r.call.Limits
	}
	return r
}

// trace gives the operation a span, where there is a tracer.
func (s *Service) trace(ctx context.Context, r *request) (_ context.Context, end func()) {
	if s.tracer == nil {
		return ctx, func() {}
	}
	ctx, r.span = s.tracer.Start(ctx, "kms."+string(r.op), trace.WithTimestamp(r.start))
	return ctx, func() { r.span.End() }
}

// ready reports whether what is about to happen can be recorded.
func (s *Service) ready(ctx context.Context) error {
	if err := s.auditor.Ready(ctx); err != nil {
		return Errorf(CodeInternal, "internal error").Because(fmt.Errorf("audit is not ready: %w", err))
	}
	return nil
}

// admit decides whether the operation may begin.
func (s *Service) admit(ctx context.Context, r *request) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if r.call == nil {
		r.decision = policy.Decision{Reason: "no caller"}
		return denied()
	}
	if r.op.AboutKey() && r.call.Principal.Name != "" {
		r.decision = policy.Decision{Reason: "not decided: no key was looked at"}
		return ctx.Err()
	}
	if err := s.authorize(r, nil, nil); err != nil {
		return err
	}
	return ctx.Err()
}

// allow decides the operation for a key and its grants; key is nil where it is about none, or about one that is not there.
func (s *Service) authorize(r *request, key *Key, grants []*policy.Grant) error {
	return r.settle(s.decide(r, r.op, key, grants))
}

// also wants another operation's right as well.
func (s *Service) authorizeAlso(r *request, op policy.Operation, key *Key) error {
	return r.settle(s.decide(r, op, key, s.store.Grants(key.ID)))
}

// settle makes a decision that of the request, after those that allowed it so far.
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

// decide asks policy about an operation with a key, nil for one that is not there.
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

// SetPolicies replaces the operator's own policies, from the next decision on.
func (s *Service) SetPolicies(p *policy.Policies) { s.policies.Store(p) }

// judge decides what failed before it was decided, so that who may not do it learns nothing from how it fails. A key that
// is not there is told only to who may do the operation with any such key.
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
	if refused == nil || r.keyID == nil && AsError(err).Code == CodeInvalidCiphertext { // which says nothing of any key
		return err
	}
	return refused
}

func denied() *Error { return Errorf(CodeDenied, "not allowed") }

// outcomeBegun is what the audit log says of an act that cannot be taken back, before it is done.
const outcomeBegun = "begun"

// enter counts an operation as one that is under way, leave as one that is not. Leaving twice does nothing.
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

// intend makes durable in the audit log that the operation begins.
func (s *Service) recordBegun(ctx context.Context, r *request) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	if err := s.auditor.Record(context.WithoutCancel(ctx), s.record(r, outcomeBegun, "")); err != nil {
		return Errorf(CodeInternal, "internal error").Because(fmt.Errorf("audit: %w", err))
	}
	return nil
}

// finish makes the operation's end durable in the audit log and returns what to answer: nil for success.
func (s *Service) finish(ctx context.Context, r *request, err error) error {
	outcome, reason := "ok", Reason("")
	var e *Error
	if err != nil {
		e = AsError(s.authorizeFailed(ctx, r, err))
		outcome, reason = string(e.Code), e.Reason
	}
	s.leave(r)
	// The record is written even where the request's own time has ended.
	if aerr := s.auditor.Record(context.WithoutCancel(ctx), s.record(r, outcome, reason)); aerr != nil {
		if err == nil && r.undo != nil {
			err = r.undo(context.WithoutCancel(ctx))
		}
		e = Errorf(CodeInternal, "internal error").Because(fmt.Errorf("audit: %w", errors.Join(aerr, err)))
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

// record states the operation for the audit log.
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

// report logs why an operation failed. What callers do wrong is their affair and stays below the usual level.
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

// Refuse audits a request that a dialect refused before the core saw it, and returns what to answer: err, or
// CodeInternal if the refusal could not be recorded.
func (s *Service) Refuse(ctx context.Context, op policy.Operation, err error) error {
	r := s.newRequest(ctx, op)
	r.decided, r.decision = true, policy.Decision{Reason: "refused by dialect"}
	return s.finish(ctx, &r, AsError(err))
}

// use loads the key that an operation is about and checks that its state and spec let it take part.
func (s *Service) use(ctx context.Context, r *request, id KeyID) (*Key, error) {
	key, err := s.load(ctx, r, id)
	if err != nil {
		return nil, err
	}
	if err := checkKey(r.op, key); err != nil {
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

// load reads the key that an operation is about, if the principal may do the operation with it.
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

// hostile is the error for an answer of the HSM that cannot be right.
func hostile(format string, args ...any) *Error {
	return Errorf(CodeInternal, "internal error").Because(fmt.Errorf("the HSM's answer is wrong: "+format, args...))
}
