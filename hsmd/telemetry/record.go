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

// Recorder records what passes through a Mux. The nil Recorder records nothing and costs nothing.
type Recorder struct {
	tracer               trace.Tracer
	operations, restarts metric.Int64Counter
	queue, session, hsm  metric.Float64Histogram
	meter                metric.Meter
	sets                 map[setKey]metric.MeasurementOption // attribute sets, made once; read-only
	name                 string
}

type setKey struct {
	kind driver.OpKind
	code driver.Code
}

// Buckets of the duration histograms, seconds: from a SoftHSM operation to a TPM's key generation.
var buckets = []float64{5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// NewRecorder makes a Recorder of the global providers for the named driver. Call it after Setup, and only where
// Config.Enabled.
func NewRecorder(driverName string) (*Recorder, error) {
	meter := otel.Meter(Scope)
	var errs [5]error
	r := &Recorder{tracer: otel.Tracer(Scope), meter: meter, name: driverName}
	r.operations, errs[0] = meter.Int64Counter(MetricOperations)
	r.restarts, errs[1] = meter.Int64Counter(MetricRestarts)
	histogram := func(name string) (metric.Float64Histogram, error) {
		return meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(buckets...))
	}
	r.queue, errs[2] = histogram(MetricQueueDuration)
	r.session, errs[3] = histogram(MetricSessionDuration)
	r.hsm, errs[4] = histogram(MetricHSMDuration)
	r.sets = map[setKey]metric.MeasurementOption{}
	for kind := range driver.Derive + 1 {
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
	Tenant  string
	Member  string
	Code    driver.Code
	Trace   []byte // traceparent of the caller, may be empty
	Start   time.Time
	Timings driver.Timings
}

// Record records an operation that ends now: its three times, and where the caller's trace is sampled, the spans of this
// hop and of the driver process beneath it, which cannot export its own.
func (r *Recorder) Record(op Operation) {
	if r == nil {
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
	if len(op.Trace) > 0 {
		r.spans(op, time.Now())
	}
}

func (r *Recorder) spans(op Operation, end time.Time) {
	ctx := ExtractTrace(context.Background(), op.Trace)
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return
	}
	attrs := trace.WithAttributes(AttrOperation.String(op.Kind.String()), AttrDriver.String(r.name), AttrMember.String(op.Member), AttrTenant.String(op.Tenant))
	ctx, queue := r.tracer.Start(ctx, SpanQueue, trace.WithTimestamp(op.Start), trace.WithSpanKind(trace.SpanKindServer), attrs)
	if op.Code != 0 {
		queue.SetStatus(codes.Error, op.Code.String())
		queue.SetAttributes(AttrCode.String(op.Code.String()))
	}
	// Only lengths come back, so the driver's spans are laid out backwards from the answer.
	hsmStart := end.Add(-op.Timings.HSM)
	sessionStart := hsmStart.Add(-op.Timings.Session)
	ctx, process := r.tracer.Start(ctx, SpanDriver, trace.WithTimestamp(sessionStart), attrs)
	for _, part := range []struct {
		name       string
		start, end time.Time
	}{{SpanSession, sessionStart, hsmStart}, {SpanHSM, hsmStart, end}} {
		_, span := r.tracer.Start(ctx, part.name, trace.WithTimestamp(part.start))
		span.End(trace.WithTimestamp(part.end))
	}
	process.End(trace.WithTimestamp(end))
	queue.End(trace.WithTimestamp(end))
}

// Restart counts a member's restart.
func (r *Recorder) Restart(member string) {
	if r != nil {
		r.restarts.Add(context.Background(), 1, metric.WithAttributes(AttrDriver.String(r.name), AttrMember.String(member)))
	}
}

// Gauges reports pool and queue gauges from status whenever metrics are collected. The returned function ends that.
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

// InjectTrace returns the traceparent of ctx's span for the next hop, nil where there is none that is valid.
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
