package sidecar

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// recorder is told of every request. It exists only where telemetry is on.
type recorder struct {
	tracer   trace.Tracer
	requests metric.Int64Counter
	duration metric.Float64Histogram
}

func newRecorder() (*recorder, error) {
	meter := otel.Meter(telemetry.Scope)
	requests, err1 := meter.Int64Counter(telemetry.MetricRequests)
	duration, err2 := telemetry.Duration(meter, telemetry.MetricRequestDuration)
	return &recorder{tracer: otel.Tracer(telemetry.Scope), requests: requests, duration: duration}, errors.Join(err1, err2)
}

// Begin implements dialect.Recorder. A caller's own trace goes on, if it sent one.
func (r *recorder) Begin(ctx context.Context, traceparent, dialect, requestID string, op policy.Operation) (context.Context, func(kms.Code)) {
	start := time.Now()
	if traceparent != "" {
		ctx = telemetry.ExtractTrace(ctx, []byte(traceparent))
	}
	operation, name := telemetry.AttrOperation.String(string(op)), telemetry.AttrDialect.String(dialect)
	ctx, span := r.tracer.Start(ctx, telemetry.SpanRequest, trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(operation, name, telemetry.AttrRequestID.String(requestID)))
	return ctx, func(code kms.Code) {
		if code == "" {
			code = "OK"
		}
		outcome := telemetry.AttrCode.String(string(code))
		span.SetAttributes(outcome)
		span.End()
		r.requests.Add(ctx, 1, metric.WithAttributes(operation, name, outcome))
		r.duration.Record(ctx, time.Since(start).Seconds(), metric.WithAttributes(operation, name))
	}
}
