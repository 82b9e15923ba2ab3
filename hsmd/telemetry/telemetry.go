// Package telemetry sets up OpenTelemetry for a process and holds the one list of its names. Off, as it is by default, it
// installs nothing and costs nothing.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/keyside/keyside/hsmd/peer"
)

// Config says where telemetry goes. The zero Config is off.
type Config struct {
	// OTLPEndpoint is the URL of a collector's OTLP/gRPC endpoint; http:// means without TLS.
	OTLPEndpoint string `yaml:"otlp_endpoint,omitempty"`
	// PrometheusListen is where /metrics is served: an address of the loopback, or unix:/absolute/path.
	PrometheusListen string `yaml:"prometheus_listen,omitempty"`
	// TraceRatio is the share of root spans that are sampled, 0 to 1; unset means 1. A caller's decision goes first.
	TraceRatio *float64 `yaml:"trace_ratio,omitempty"`
	// Interval is how often metrics go to the collector, default 15s.
	Interval time.Duration `yaml:"interval,omitempty"`
}

// Enabled reports whether anything is exported.
func (c Config) Enabled() bool { return c.OTLPEndpoint != "" || c.PrometheusListen != "" }

// Validate reports every fault of the configuration, each with the key that has it.
func (c Config) Validate() error {
	var errs []error
	if c.OTLPEndpoint != "" && !strings.HasPrefix(c.OTLPEndpoint, "http://") && !strings.HasPrefix(c.OTLPEndpoint, "https://") {
		errs = append(errs, errors.New("otlp_endpoint: not an http:// or https:// URL"))
	}
	if c.PrometheusListen != "" {
		if _, _, err := prometheusAddress(c.PrometheusListen); err != nil {
			errs = append(errs, fmt.Errorf("prometheus_listen: %w", err))
		}
	}
	if c.TraceRatio != nil && (*c.TraceRatio < 0 || *c.TraceRatio > 1) {
		errs = append(errs, errors.New("trace_ratio: not between 0 and 1"))
	}
	if c.Interval < 0 {
		errs = append(errs, errors.New("interval: is negative"))
	}
	return errors.Join(errs...)
}

// prometheusAddress splits prometheus_listen into network and address. It refuses addresses that other hosts can reach.
func prometheusAddress(listen string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(listen, "unix:"); ok {
		return "unix", path, nil
	}
	at, err := netip.ParseAddrPort(listen)
	if err != nil {
		return "", "", fmt.Errorf("%q is neither unix:/path nor an address and port", listen)
	}
	if !at.Addr().IsLoopback() {
		return "", "", fmt.Errorf("%s is not on the loopback", listen)
	}
	return "tcp", listen, nil
}

// flushTimeout limits the last export. A collector that is unavailable must not delay the exit of a process.
const flushTimeout = 2 * time.Second

// Setup installs the global providers and the traceparent propagator for a process, as configured. shutdown flushes and stops
// them. A failed export is logged and has no other effect. service is "hsmd" or "sidecar", version that of the build.
func Setup(ctx context.Context, cfg Config, service, version string, log *slog.Logger) (shutdown func(), err error) {
	var stops []func(context.Context) error
	shutdown = func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		for _, stop := range slices.Backward(stops) {
			if err := stop(ctx); err != nil {
				log.Warn("telemetry not flushed", "error", err)
			}
		}
	}
	if !cfg.Enabled() {
		return shutdown, nil
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			shutdown()
		}
	}()
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("telemetry not exported", "error", err) }))
	res := resource.NewSchemaless(attribute.String("service.name", "keyside-"+service))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	metrics := []sdkmetric.Option{sdkmetric.WithResource(res)}
	if cfg.OTLPEndpoint != "" {
		traces, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(cfg.OTLPEndpoint))
		if err != nil {
			return nil, fmt.Errorf("otlp_endpoint: %w", err)
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(traces), sdktrace.WithResource(res), sdktrace.WithSampler(cfg.sampler()))
		stops = append(stops, provider.Shutdown)
		otel.SetTracerProvider(provider)
		exporter, err := otlpmetricgrpc.New(ctx, otlpmetricgrpc.WithEndpointURL(cfg.OTLPEndpoint))
		if err != nil {
			return nil, fmt.Errorf("otlp_endpoint: %w", err)
		}
		interval := cfg.Interval
		if interval == 0 {
			interval = 15 * time.Second
		}
		metrics = append(metrics, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(interval))))
	}
	if cfg.PrometheusListen != "" {
		registry := prometheus.NewRegistry()
		exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
		if err != nil {
			return nil, fmt.Errorf("prometheus_listen: %w", err)
		}
		metrics = append(metrics, sdkmetric.WithReader(exporter))
		stop, err := servePrometheus(cfg.PrometheusListen, registry)
		if err != nil {
			return nil, fmt.Errorf("prometheus_listen: %w", err)
		}
		stops = append(stops, stop)
	}
	provider := sdkmetric.NewMeterProvider(metrics...)
	stops = append(stops, provider.Shutdown)
	otel.SetMeterProvider(provider)
	if err := observeProcess(version); err != nil {
		return nil, err
	}
	return shutdown, nil
}

func (c Config) sampler() sdktrace.Sampler {
	ratio := 1.0
	if c.TraceRatio != nil {
		ratio = *c.TraceRatio
	}
	return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
}

func servePrometheus(listen string, registry *prometheus.Registry) (stop func(context.Context) error, err error) {
	network, address, err := prometheusAddress(listen)
	if err != nil {
		return nil, err
	}
	var ln net.Listener
	if network == "unix" {
		ln, err = peer.Listen(address, 0o660, "")
	} else {
		ln, err = net.Listen(network, address)
	}
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	go func() { _ = srv.Serve(ln) }()
	return srv.Shutdown, nil
}
