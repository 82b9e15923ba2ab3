package telemetry

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/keyside/keyside/plugins/driver"
)

func TestOffInstallsNothing(t *testing.T) {
	before := otel.GetMeterProvider()
	stop, err := Setup(t.Context(), Config{}, "hsmd")
	if err != nil {
		t.Fatal(err)
	}
	if otel.GetMeterProvider() != before {
		t.Error("a meter provider was installed")
	}
	if err := stop(t.Context()); err != nil {
		t.Error(err)
	}
	var off *Recorder
	if n := testing.AllocsPerRun(100, func() { off.Record(Operation{Kind: driver.Encrypt}); off.Restart("m") }); n != 0 {
		t.Errorf("telemetry that is off allocates %v times", n)
	}
	if _, err := off.Gauges(nil); err != nil {
		t.Error(err)
	}
}

func TestPrometheusShowsTimesAndGauges(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "ks-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	socket := filepath.Join(dir, "metrics")
	stop, err := Setup(t.Context(), Config{PrometheusListen: "unix:" + socket}, "hsmd")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stop(context.Background()) }()
	r, err := NewRecorder("softhsm")
	if err != nil {
		t.Fatal(err)
	}
	unregister, err := r.Gauges(func(context.Context) ([]*driver.Member, error) {
		return []*driver.Member{{Name: "softhsm-1", State: "ready", SessionsOpen: 4, QueueLength: 7}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unregister() }()
	r.Record(Operation{Kind: driver.Encrypt, Tenant: "t", Start: time.Now(), Timings: driver.Timings{HSM: 20 * time.Microsecond}})
	r.Record(Operation{Kind: 99, Code: 99})
	r.Restart("softhsm-1")
	client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	res, err := client.Get("http://x/metrics")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	for _, want := range []string{
		`keyside_hsm_duration_seconds_bucket{keyside_code="OK",keyside_driver="softhsm",keyside_operation="ENCRYPT"`,
		`keyside_queue_duration_seconds_count`, `keyside_session_duration_seconds_count`,
		`keyside_sessions_open{`, `keyside_driver_restarts_total{`, `keyside_driver_ready{`,
	} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if strings.Contains(string(body), `tenant="t"`) {
		t.Error("a tenant became a label")
	}
}

func TestSpansOfADriverProcessHangUnderTheCallers(t *testing.T) {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	old := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	defer otel.SetTracerProvider(old)
	r, err := NewRecorder("softhsm")
	if err != nil {
		t.Fatal(err)
	}
	ctx, parent := provider.Tracer("test").Start(t.Context(), SpanCore)
	carried := InjectTrace(ctx)
	parent.End()
	exporter.Reset()
	r.Record(Operation{Kind: driver.Sign, Code: driver.Device, Trace: carried, Start: time.Now().Add(-time.Millisecond),
		Timings: driver.Timings{Queue: 100 * time.Microsecond, Session: 200 * time.Microsecond, HSM: 300 * time.Microsecond}})
	parents := map[string]string{SpanQueue: "", SpanDriver: SpanQueue, SpanSession: SpanDriver, SpanHSM: SpanDriver}
	spans := exporter.GetSpans()
	names := map[string]string{parent.SpanContext().SpanID().String(): ""}
	for _, s := range spans {
		names[s.SpanContext.SpanID().String()] = s.Name
	}
	if len(spans) != len(parents) {
		t.Fatalf("%d spans", len(spans))
	}
	for _, s := range spans {
		if s.SpanContext.TraceID() != parent.SpanContext().TraceID() || names[s.Parent.SpanID().String()] != parents[s.Name] {
			t.Errorf("span %s under %q", s.Name, names[s.Parent.SpanID().String()])
		}
		if took := s.EndTime.Sub(s.StartTime); s.Name == SpanHSM && took != 300*time.Microsecond {
			t.Errorf("hsm span of %v", took)
		}
	}
	exporter.Reset()
	r.Record(Operation{Kind: driver.Sign, Trace: []byte("garbage")})
	r.Record(Operation{Kind: driver.Sign, Trace: []byte("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")})
	if n := len(exporter.GetSpans()); n != 0 {
		t.Errorf("%d spans of a caller that is not sampled", n)
	}
	if InjectTrace(t.Context()) != nil {
		t.Error("a traceparent without a span")
	}
}

func TestPrometheusStaysOnTheNode(t *testing.T) {
	for listen, ok := range map[string]bool{"127.0.0.1:9464": true, "[::1]:9464": true, "unix:/run/m": true, "0.0.0.0:9464": false, ":9464": false, "10.0.0.1:1": false, "localhost:1": false} {
		if err := (Config{PrometheusListen: listen}).Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", listen, err)
		}
	}
}
