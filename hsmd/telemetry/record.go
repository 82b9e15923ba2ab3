package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/plugins/driver"
)

// Recorder records the operations of a Mux. The nil Recorder records nothing and costs nothing.
type Recorder struct {
	tracer               trace.Tracer
	operations, restarts metric.Int64Counter
	imports              metric.Int64Counter
	queue, session, hsm  metric.Float64Histogram
	meter                metric.Meter
	sets                 map[setKey]metric.MeasurementOption // attribute sets, made once; read-only
	name                 string
	kind                 trace.SpanKind
}

type setKey struct {
	kind driver.OpKind
	code driver.Code
}

// Buckets of the duration histograms, seconds: from a SoftHSM operation to a TPM's key generation.
var buckets = []float64{5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// Duration returns the histogram of a duration in the table.
func Duration(meter metric.Meter, name string) (metric.Float64Histogram, error) {
	return meter.Float64Histogram(name, metric.WithUnit(unitSeconds), metric.WithExplicitBucketBoundaries(buckets...))
}

// NewRecorder returns a Recorder for the Mux of the named driver, on the global providers. kind is the kind of its spans: Server in
// hsmd, Client in a sidecar that uses hsmd, Internal in a sidecar that runs its own driver. Call it after Setup, and only if
// Config.Enabled.
func NewRecorder(driverName string, kind trace.SpanKind) (*Recorder, error) {
	meter := otel.Meter(Scope)
	var errs [6]error
	r := &Recorder{tracer: otel.Tracer(Scope), meter: meter, name: driverName, kind: kind}
	r.operations, errs[0] = meter.Int64Counter(MetricOperations)
	r.restarts, errs[1] = meter.Int64Counter(MetricRestarts)
	r.queue, errs[2] = Duration(meter, MetricQueueDuration)
	r.session, errs[3] = Duration(meter, MetricSessionDuration)
	r.hsm, errs[4] = Duration(meter, MetricHSMDuration)
	r.imports, errs[5] = meter.Int64Counter(MetricImports)
	r.sets = map[setKey]metric.MeasurementOption{}
	for kind := range driver.LastOp + 1 {
		for code := range driver.Internal + 1 {
			set := attribute.NewSet(AttrOperation.String(kind.String()), AttrDriver.String(driverName), AttrCode.String(code.String()))
			r.sets[setKey{kind, code}] = metric.WithAttributeSet(set)
		}
	}
	return r, errors.Join(errs[:]...)
}

// Operation is one operation that a Mux answered.
type Operation struct {
	Kind    driver.OpKind
	Control string // name of a control call, which has no Kind and no Timings; empty for others
	Tenant  string
	Member  string // empty if no member got it
	Code    driver.Code
	Span    trace.Span // from Begin, or nil
	Start   time.Time
	Queued  time.Duration // in this Mux, a part of Timings.Queue
	Timings driver.Timings
}

// Begin starts the span of an operation if its caller's trace is sampled. It also returns the traceparent for the next hop, which is the
// caller's own if there is no span.
func (r *Recorder) Begin(parent []byte, start time.Time) (trace.Span, []byte) {
	if r == nil || len(parent) == 0 {
		return nil, parent
	}
	ctx := ExtractTrace(context.Background(), parent)
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return nil, parent
	}
	ctx, span := r.tracer.Start(ctx, SpanMux, trace.WithTimestamp(start), trace.WithSpanKind(r.kind))
	return span, InjectTrace(ctx)
}

// Record records an operation that ends now: its three times, and the end of its span with those below it.
func (r *Recorder) Record(op Operation) {
	if r == nil {
		return
	}
	if op.Span != nil {
		defer r.spans(op, time.Now())
	}
	if op.Control != "" {
		return
	}
	ctx := context.Background()
	set, known := r.sets[setKey{op.Kind, op.Code}]
	if !known {
		set = r.sets[setKey{0, driver.Internal}]
	}
	r.operations.Add(ctx, 1, set)
	r.queue.Record(ctx, op.Timings.Queue.Seconds(), set)
	r.session.Record(ctx, op.Timings.Session.Seconds(), set)
	r.hsm.Record(ctx, op.Timings.HSM.Seconds(), set)
}

// spans ends an operation's span and adds those of its wait and, unless hsmd does, of the driver process.
func (r *Recorder) spans(op Operation, end time.Time) {
	name := op.Control
	if name == "" {
		name = op.Kind.String()
	}
	attrs := []attribute.KeyValue{AttrOperation.String(name), AttrDriver.String(r.name), AttrMember.String(op.Member), AttrTenant.String(op.Tenant)}
	op.Span.SetAttributes(append(attrs, AttrCode.String(op.Code.String()))...)
	if op.Code != 0 {
		op.Span.SetStatus(codes.Error, op.Code.String())
	}
	ctx := trace.ContextWithSpan(context.Background(), op.Span)
	sent := earlier(op.Start.Add(op.Queued), end)
	r.part(ctx, SpanQueue, op.Start, sent)
	if r.kind != trace.SpanKindClient && op.Member != "" {
		t := op.Timings
		worker := max(t.Queue-op.Queued, 0)
		// The answer has only durations, so the spans are placed to end with it, and within their parent.
		at := end.Add(-worker - t.Session - t.HSM)
		if op.Control != "" || at.Before(sent) {
			at = sent
		}
		inner, process := r.tracer.Start(ctx, SpanDriver, trace.WithTimestamp(at), trace.WithAttributes(attrs...))
		if op.Control == "" {
			at = r.part(inner, SpanQueue, at, earlier(at.Add(worker), end))
			at = r.part(inner, SpanSession, at, earlier(at.Add(t.Session), end))
			r.part(inner, SpanHSM, at, earlier(at.Add(t.HSM), end))
		}
		process.End(trace.WithTimestamp(end))
	}
	op.Span.End(trace.WithTimestamp(end))
}

// part adds a span that has ended, and returns its end.
func (r *Recorder) part(ctx context.Context, name string, start, end time.Time) time.Time {
	_, span := r.tracer.Start(ctx, name, trace.WithTimestamp(start))
	span.End(trace.WithTimestamp(end))
	return end
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// Restart counts a member's restart.
func (r *Recorder) Restart(member string) {
	if r != nil {
		r.restarts.Add(context.Background(), 1, metric.WithAttributes(AttrDriver.String(r.name), AttrMember.String(member)))
	}
}

// Import counts an import by its outcome.
func (r *Recorder) Import(tenant string, code driver.Code) {
	if r != nil {
		r.imports.Add(context.Background(), 1, metric.WithAttributes(AttrTenant.String(tenant), AttrDriver.String(r.name), AttrCode.String(code.String())))
	}
}

// Gauges reports pool and queue gauges from status whenever metrics are collected, until stop is called.
func (r *Recorder) Gauges(status func(context.Context) ([]*driver.Member, error)) (stop func() error, err error) {
	if r == nil {
		return func() error { return nil }, nil
	}
	values := []struct {
		name string
		of   func(*driver.Member) uint32
	}{
		{MetricReady, func(m *driver.Member) uint32 {
			if m.GetState() == "ready" {
				return 1
			}
			return 0
		}},
		{MetricQueueLength, (*driver.Member).GetQueueLength},
		{MetricQueueLimit, (*driver.Member).GetQueueLimit},
		{MetricInFlight, (*driver.Member).GetInFlight},
		{MetricSessionsOpen, (*driver.Member).GetSessionsOpen},
		{MetricSessionsBusy, (*driver.Member).GetSessionsBusy},
		{MetricSessionsLimit, (*driver.Member).GetSessionsLimit},
		{MetricLiveKeys, (*driver.Member).GetLiveKeys},
		{MetricLiveKeysLimit, (*driver.Member).GetLiveKeysLimit},
	}
	gauges := make([]metric.Int64ObservableGauge, len(values))
	all := make([]metric.Observable, len(values))
	for i, v := range values {
		if gauges[i], err = r.meter.Int64ObservableGauge(v.name); err != nil {
			return nil, err
		}
		all[i] = gauges[i]
	}
	registration, err := r.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		members, err := status(ctx)
		for _, m := range members {
			set := metric.WithAttributes(AttrDriver.String(r.name), AttrMember.String(m.GetName()))
			for i, v := range values {
				o.ObserveInt64(gauges[i], int64(v.of(m)), set)
			}
		}
		return err
	}, all...)
	if err != nil {
		return nil, err
	}
	return registration.Unregister, nil
}

// traceparent is the name of the W3C header that Request.Trace carries the value of.
const traceparent = "traceparent"

// InjectTrace returns the traceparent of ctx's span for the next hop, nil if ctx has no valid span.
func InjectTrace(ctx context.Context) []byte {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return []byte(carrier[traceparent])
}

// ExtractTrace returns ctx with the remote span that a traceparent names; a malformed one is ignored.
func ExtractTrace(ctx context.Context, parent []byte) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{traceparent: string(parent)})
}
