package telemetry

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Metric is a row of the table of metrics.
type Metric struct {
	Name    string
	Kind    Kind
	Unit    string // UCUM; empty: a number
	By      []attribute.Key
	From    Processes
	Meaning string
}

// Kind is the kind of a metric.
type Kind string

// The kinds of metrics.
const (
	Counter   Kind = "counter" // grows from 0 at the start of the process
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Processes says which processes have a metric.
type Processes string

// Which processes have a metric.
const (
	FromSidecar Processes = "sidecar"
	FromHSMD    Processes = "hsmd"
	FromBoth    Processes = "both"
)

const (
	unitSeconds = "s"
	unitBytes   = "By"
)

var (
	byDriver = []attribute.Key{AttrDriver, AttrMember}
	byCall   = []attribute.Key{AttrOperation, AttrDriver, AttrCode}
)

// Metrics is the table of all metrics: of Keyside, and of the Go runtime as OpenTelemetry's instrumentation names them.
var Metrics = []Metric{
	{MetricRequests, Counter, "", []attribute.Key{AttrOperation, AttrDialect, AttrCode}, FromSidecar, "requests of applications; the code is OK after a success"},
	{MetricRequestDuration, Histogram, unitSeconds, []attribute.Key{AttrOperation, AttrDialect}, FromSidecar, "from the first byte of a request to its answer"},
	{MetricHealth, Gauge, "", []attribute.Key{AttrCheck}, FromSidecar, "1 if the last check of the part passed, as in /healthz; else 0"},
	{MetricKeys, Gauge, "", []attribute.Key{AttrState}, FromSidecar, "keys in each state, default keys included"},
	{MetricStoreBroken, Gauge, "", nil, FromSidecar, "1 if the database takes no changes until the process is restarted; else 0"},
	{MetricDatabaseSize, Gauge, unitBytes, nil, FromSidecar, "disk space of the database"},
	{MetricDiskFree, Gauge, unitBytes, []attribute.Key{AttrVolume}, FromSidecar, "free space for this user on the volume of the database and of the audit log"},
	{MetricDiskSize, Gauge, unitBytes, []attribute.Key{AttrVolume}, FromSidecar, "size of those volumes"},
	{MetricAuditSize, Gauge, unitBytes, nil, FromSidecar, "disk space of the audit log"},
	{MetricAuditFailures, Counter, "", nil, FromSidecar, "writes to the audit log that failed"},
	{MetricAuditLost, Counter, "", nil, FromSidecar, "records of refused operations that could not be written"},
	{MetricAuditOwed, Gauge, "", nil, FromSidecar, "changes that took effect and whose records are not yet in the audit log"},
	{MetricAuditGaps, Gauge, "", nil, FromSidecar, "changes since the start without a record in the audit log"},
	{MetricAuditUnsigned, Gauge, "", nil, FromSidecar, "records that no signed checkpoint covers yet"},
	{MetricCheckpointAge, Gauge, unitSeconds, nil, FromSidecar, "time since the last signed checkpoint, or since the start"},
	{MetricConnections, Gauge, "", []attribute.Key{AttrListener}, FromSidecar, "open connections that count toward the limit"},
	{MetricConnectionLimit, Gauge, "", []attribute.Key{AttrListener}, FromSidecar, "limit of open connections"},
	{MetricConnectionsOver, Counter, "", []attribute.Key{AttrListener}, FromSidecar, "connections over the limit or over the share of one user"},
	{MetricCertificate, Gauge, unitSeconds, nil, FromSidecar, "time until the port's TLS certificate expires; negative afterwards"},
	{MetricBackupAge, Gauge, unitSeconds, nil, FromSidecar, "time since the last scheduled backup that verified; without one, since the start"},
	{MetricBackupFailed, Gauge, "", nil, FromSidecar, "1 if the last scheduled backup failed; else 0"},
	{MetricMessagesLeft, Gauge, "", nil, FromSidecar, "messages that the key with the fewest left can still encrypt"},
	{MetricWaiting, Gauge, "", nil, FromSidecar, "keys whose destruction waits because the clock jumped"},

	{MetricOperations, Counter, "", byCall, FromBoth, "operations of the HSM"},
	{MetricQueueDuration, Histogram, unitSeconds, byCall, FromBoth, "waiting in the queue"},
	{MetricSessionDuration, Histogram, unitSeconds, byCall, FromBoth, "waiting for a session, or loading the key"},
	{MetricHSMDuration, Histogram, unitSeconds, byCall, FromBoth, "inside the device"},
	{MetricRestarts, Counter, "", byDriver, FromBoth, "driver processes that were replaced"},
	{MetricImports, Counter, "", []attribute.Key{AttrTenant, AttrDriver, AttrCode}, FromBoth, "imports: BAD_MATERIAL failed, BUSY was refused because too many failed"},
	{MetricReady, Gauge, "", byDriver, FromBoth, "1 if the driver process is ready; else 0"},
	{MetricQueueLength, Gauge, "", byDriver, FromBoth, "operations that wait"},
	{MetricQueueLimit, Gauge, "", byDriver, FromBoth, "operations that may wait"},
	{MetricInFlight, Gauge, "", byDriver, FromBoth, "operations in the driver process"},
	{MetricSessionsOpen, Gauge, "", byDriver, FromBoth, "open sessions"},
	{MetricSessionsBusy, Gauge, "", byDriver, FromBoth, "sessions in use"},
	{MetricSessionsLimit, Gauge, "", byDriver, FromBoth, "sessions that the token allows; 0: no limit"},
	{MetricLiveKeys, Gauge, "", byDriver, FromBoth, "keys that are loaded in the HSM"},
	{MetricLiveKeysLimit, Gauge, "", byDriver, FromBoth, "keys that may be loaded"},

	{MetricBuild, Gauge, "", []attribute.Key{AttrVersion, AttrGoVersion}, FromBoth, "1, with the versions of Keyside and Go"},
	{MetricStarted, Gauge, unitSeconds, nil, FromBoth, "start of the process, seconds since 1970 UTC"},
	{MetricDescriptors, Gauge, "", nil, FromBoth, "open file descriptors"},
	{MetricDescriptorLimit, Gauge, "", nil, FromBoth, "limit of open file descriptors"},
	{"go.memory.used", Gauge, unitBytes, []attribute.Key{"go.memory.type"}, FromBoth, "memory of the Go runtime: stack, other"},
	{"go.memory.limit", Gauge, unitBytes, nil, FromSidecar, "memory above which the garbage collector works harder"},
	{"go.memory.allocated", Counter, unitBytes, nil, FromBoth, "allocated on the heap"},
	{"go.memory.allocations", Counter, "{allocation}", nil, FromBoth, "allocations on the heap"},
	{"go.memory.gc.goal", Gauge, unitBytes, nil, FromBoth, "size of the heap at the end of the next collection"},
	{"go.goroutine.count", Gauge, "{goroutine}", nil, FromBoth, "goroutines"},
	{"go.processor.limit", Gauge, "{thread}", nil, FromBoth, "threads that may run Go code at once"},
	{"go.config.gogc", Gauge, "%", nil, FromBoth, "growth of the heap until the next collection"},
}

// Put takes a value of one of the metrics that [Observe] was called for.
type Put func(name string, value float64, attrs ...attribute.KeyValue)

// Observe has read called whenever metrics are collected, to put the values of the named counters and gauges. Read may run
// concurrently with everything else.
func Observe(read func(ctx context.Context, put Put) error, names ...string) error {
	meter := otel.Meter(Scope)
	instruments := make(map[string]metric.Float64Observable, len(names))
	all := make([]metric.Observable, 0, len(names))
	for _, name := range names {
		instrument, err := observable(meter, name)
		if err != nil {
			return fmt.Errorf("metric %s: %w", name, err)
		}
		instruments[name] = instrument
		all = append(all, instrument)
	}
	_, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		return read(ctx, func(name string, value float64, attrs ...attribute.KeyValue) {
			o.ObserveFloat64(instruments[name], value, metric.WithAttributes(attrs...))
		})
	}, all...)
	return err
}

// observable creates the instrument of a metric in the table.
func observable(meter metric.Meter, name string) (metric.Float64Observable, error) {
	for _, m := range Metrics {
		switch {
		case m.Name != name:
		case m.Kind == Gauge:
			return meter.Float64ObservableGauge(name, metric.WithUnit(m.Unit), metric.WithDescription(m.Meaning))
		case m.Kind == Counter:
			return meter.Float64ObservableCounter(name, metric.WithUnit(m.Unit), metric.WithDescription(m.Meaning))
		}
	}
	return nil, errors.New("not a counter or gauge of the table")
}

// Flag returns 1 for true and 0 for false.
func Flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
