package sidecar

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// gaugeMessagesLeft reports how many messages the key that has the fewest left can still encrypt. Finding it reads the counts of all
// keys, so it is done at most every messagesEvery.
func gaugeMessagesLeft(fewest func(context.Context) (uint64, error)) error {
	var mu sync.Mutex
	var at time.Time
	var left uint64
	_, err := otel.Meter(telemetry.Scope).Int64ObservableGauge(telemetry.MetricMessagesLeft,
		metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
			mu.Lock()
			defer mu.Unlock()
			if time.Since(at) >= messagesEvery {
				n, err := fewest(ctx)
				if err != nil {
					return err
				}
				at, left = time.Now(), n
			}
			o.Observe(int64(left))
			return nil
		}))
	return err
}

const messagesEvery = time.Minute

// gaugeWaiting reports how many keys wait with a destruction because the clock jumped, whenever metrics are collected.
func gaugeWaiting(state func() kms.ClockState) error {
	_, err := otel.Meter(telemetry.Scope).Int64ObservableGauge(telemetry.MetricWaiting,
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(int64(state().Waiting))
			return nil
		}))
	return err
}

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
