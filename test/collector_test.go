package test

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	otlptrace "go.opentelemetry.io/proto/otlp/trace/v1"
)

// collector is an OTLP collector that keeps what it is sent.
type collector struct {
	collectortrace.UnimplementedTraceServiceServer
	url string

	mu      sync.Mutex
	spans   []span
	metrics map[string]map[string]*metrics.Metric // by service and name, each as it was last
	raw     []byte                                // everything
}

// span is a span and the service that sent it.
type span struct {
	*otlptrace.Span
	service string
}

func startCollector(t *testing.T) *collector {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{url: "http://" + ln.Addr().String(), metrics: map[string]map[string]*metrics.Metric{}}
	srv := grpc.NewServer()
	collectortrace.RegisterTraceServiceServer(srv, c)
	collectormetrics.RegisterMetricsServiceServer(srv, metricsService{collector: c})
	go func() { _ = srv.Serve(ln) }()
	t.Cleanup(srv.Stop)
	return c
}

// Export implements the trace service.
func (c *collector) Export(_ context.Context, req *collectortrace.ExportTraceServiceRequest) (*collectortrace.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(req)
	for _, r := range req.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			for _, one := range s.GetSpans() {
				c.spans = append(c.spans, span{one, service(r.GetResource())})
			}
		}
	}
	return &collectortrace.ExportTraceServiceResponse{}, nil
}

// metricsService is the collector's other service, whose only method has the same name.
type metricsService struct {
	collectormetrics.UnimplementedMetricsServiceServer
	*collector
}

// Export implements the metrics service.
func (m metricsService) Export(_ context.Context, req *collectormetrics.ExportMetricsServiceRequest) (*collectormetrics.ExportMetricsServiceResponse, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(req)
	for _, r := range req.GetResourceMetrics() {
		from := service(r.GetResource())
		if m.metrics[from] == nil {
			m.metrics[from] = map[string]*metrics.Metric{}
		}
		for _, s := range r.GetScopeMetrics() {
			for _, one := range s.GetMetrics() {
				m.metrics[from][one.GetName()] = one
			}
		}
	}
	return &collectormetrics.ExportMetricsServiceResponse{}, nil
}

// keep adds a message to what was received: encoded, it holds every text and every byte string as it is.
func (c *collector) keep(m proto.Message) {
	if b, err := proto.Marshal(m); err == nil {
		c.raw = append(c.raw, b...)
	}
}

func service(r *resource.Resource) string { return attribute(r.GetAttributes(), "service.name") }

func attribute(all []*common.KeyValue, key string) string {
	for _, kv := range all {
		if kv.GetKey() == key {
			return kv.GetValue().GetStringValue()
		}
	}
	return ""
}
