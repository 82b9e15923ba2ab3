package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/plugins/driver"
)

func TestOffInstallsNothing(t *testing.T) {
	before := otel.GetMeterProvider()
	stop, err := Setup(t.Context(), Config{}, "hsmd", "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if otel.GetMeterProvider() != before {
		t.Error("a meter provider was installed")
	}
	stop()
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
	stop, err := Setup(t.Context(), Config{PrometheusListen: "unix:" + socket}, "hsmd", "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	r, err := NewRecorder("softhsm", trace.SpanKindServer)
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
	ctx, parent := provider.Tracer("test").Start(t.Context(), "caller")
	carried := InjectTrace(ctx)
	parent.End()
	const us = time.Microsecond
	// The driver's times are all that it says; wild ones stay within the Mux's own.
	for _, times := range []struct{ worker, session, hsm, wantSession, wantHSM time.Duration }{
		{50 * us, 200 * us, 300 * us, 200 * us, 300 * us},
		{0, time.Hour, 0, -1, 0},
	} {
		for _, kind := range []trace.SpanKind{trace.SpanKindServer, trace.SpanKindClient} {
			exporter.Reset()
			r, err := NewRecorder("softhsm", kind)
			if err != nil {
				t.Fatal(err)
			}
			op := Operation{Kind: driver.Sign, Code: driver.Device, Member: "softhsm-1", Start: time.Now().Add(-time.Millisecond), Queued: 100 * us}
			op.Timings = driver.Timings{Queue: op.Queued + times.worker, Session: times.session, HSM: times.hsm}
			span, onward := r.Begin(carried, op.Start)
			op.Span = span
			r.Record(op)
			want := []string{"caller>" + SpanMux, SpanMux + ">" + SpanQueue}
			if kind != trace.SpanKindClient {
				want = append(want, SpanMux+">"+SpanDriver, SpanDriver+">"+SpanQueue, SpanDriver+">"+SpanSession, SpanDriver+">"+SpanHSM)
			}
			names := map[trace.SpanID]string{parent.SpanContext().SpanID(): "caller"}
			for _, s := range exporter.GetSpans() {
				names[s.SpanContext.SpanID()] = s.Name
			}
			var got []string
			for _, s := range exporter.GetSpans() {
				got = append(got, names[s.Parent.SpanID()]+">"+s.Name)
				if s.SpanContext.TraceID() != parent.SpanContext().TraceID() {
					t.Errorf("%s is in another trace", s.Name)
				}
				if s.StartTime.Before(op.Start) || s.EndTime.Before(s.StartTime) {
					t.Errorf("%s from %v to %v, in an operation from %v", s.Name, s.StartTime, s.EndTime, op.Start)
				}
				took := s.EndTime.Sub(s.StartTime)
				if s.Name == SpanHSM && took != times.wantHSM || s.Name == SpanSession && times.wantSession >= 0 && took != times.wantSession {
					t.Errorf("%s took %v", s.Name, took)
				}
			}
			if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("%v: spans %v, want %v", kind, got, want)
			}
			if next := trace.SpanContextFromContext(ExtractTrace(t.Context(), onward)); next.SpanID() != span.SpanContext().SpanID() {
				t.Errorf("the next hop hangs under %s, not under this one", names[next.SpanID()])
			}
		}
	}
}

func TestUnsampledTracePassesThrough(t *testing.T) {
	r, err := NewRecorder("softhsm", trace.SpanKindServer)
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"", "garbage", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"} {
		if span, onward := r.Begin([]byte(parent), time.Now()); span != nil || string(onward) != parent {
			t.Errorf("%q: span %v, onward %q", parent, span, onward)
		}
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

// A collector that is gone is told of in the log and neither fails nor delays the end of a process.
func TestLostCollector(t *testing.T) {
	var text bytes.Buffer
	stop, err := Setup(t.Context(), Config{OTLPEndpoint: "http://127.0.0.1:1"}, "hsmd", "test", slog.New(slog.NewTextHandler(&text, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer(Scope).Start(t.Context(), SpanMux)
	span.End()
	began := time.Now()
	stop()
	if took := time.Since(began); took > flushTimeout+3*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if !strings.Contains(text.String(), "telemetry not flushed") {
		t.Errorf("log: %s", &text)
	}
}
