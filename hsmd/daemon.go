package hsmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/procattr"
)

// Command is `keyside hsmd`.
func Command() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "hsmd",
		Short: "Run the daemon that shares the node's HSMs with sidecars",
		Long: "hsmd runs the driver processes of its configuration and serves their HSMs to sidecars on a Unix socket.\n" +
			"SIGTERM drains and ends it. SIGHUP reads the PIN again and restarts drivers that are down after a wrong one.",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := LoadConfig(path)
			if err != nil {
				return err
			}
			if err := procattr.ForbidDumps(); err != nil { // PINs pass through this process
				return fmt.Errorf("forbid core dumps: %w", err)
			}
			cfg.Version = cmd.Root().Version
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return Run(ctx, cfg, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		},
	}
	cmd.Flags().StringVar(&path, "config", "/etc/keyside/hsmd.yaml", "configuration `file`")
	return cmd
}

// Run serves the configured drivers until ctx ends, then drains them. An error means that it could not start serving, or that
// serving failed.
func Run(ctx context.Context, cfg Config, log *slog.Logger) (err error) {
	cfg.complete()
	if err := cfg.Validate(); err != nil {
		return err
	}
	defer func() { err = procattr.AdviseAccess(err) }()
	procattr.PrivateFiles()
	descriptors, err := procattr.Descriptors()
	if err != nil {
		return err
	}
	perTenant, err := cfg.connections(descriptors)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(cfg.Procs)
	if err := procattr.ScheduleAsBatch(); err != nil {
		log.Warn("cannot set batch scheduling", "error", err)
	}
	stopTelemetry, err := telemetry.Setup(ctx, cfg.Telemetry, "hsmd", cfg.Version, log)
	if err != nil {
		return fmt.Errorf("telemetry: %w", err)
	}
	defer stopTelemetry()
	// The socket comes first, so that a second hsmd fails before it opens a token.
	ln, err := peer.Listen(cfg.Socket, fs.FileMode(cfg.SocketMode), cfg.SocketGroup)
	if err != nil {
		if errors.Is(err, peer.ErrInUse) {
			err = fmt.Errorf("%w: is hsmd running already?", err)
		}
		return err
	}
	muxes, err := newMuxes(cfg, log)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	srv, err := newServer(cfg, muxes, perTenant, log)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	err = serve(ctx, srv, ln, muxes, log)
	peer.Notify(log, daemon.SdNotifyStopping)
	log.Info("draining", "timeout", cfg.DrainTimeout)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.DrainTimeout)
	defer cancel()
	for _, m := range muxes {
		if e := m.Close(drain); e != nil {
			log.Warn("driver did not drain in time", "mux", m.cfg.Name, "error", e)
		}
	}
	srv.close()
	return err
}

// serve accepts connections until ctx ends or the listener fails.
func serve(ctx context.Context, srv *server, ln net.Listener, muxes map[string]*Mux, log *slog.Logger) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	failed := make(chan error, 1)
	go func() { failed <- srv.serve(ln) }()
	peer.Notify(log, daemon.SdNotifyReady)
	go peer.Watchdog(ctx, func(context.Context) error { return answer(muxes) }, log)
	log.Info("serving", "socket", ln.Addr().String(), "drivers", len(muxes))
	for {
		select {
		case <-ctx.Done():
			err := ln.Close()
			<-failed
			return err
		case err := <-failed:
			return errors.Join(fmt.Errorf("serve: %w", err), ln.Close())
		case <-hangup:
			for _, m := range muxes {
				m.Restart()
			}
		}
	}
}

// answer returns once each Mux takes its lock, as every operation does.
func answer(muxes map[string]*Mux) error {
	for name, m := range muxes {
		m.mu.Lock()
		members := len(m.members)
		m.mu.Unlock()
		if members == 0 {
			return fmt.Errorf("driver %s has no member", name)
		}
	}
	return nil
}

// newMuxes creates one Mux for each driver name.
func newMuxes(cfg Config, log *slog.Logger) (map[string]*Mux, error) {
	configs := map[string]*MuxConfig{}
	for _, d := range cfg.Drivers {
		m := configs[d.Name]
		if m == nil {
			queue := cfg.Queue
			if d.Queue != nil {
				queue = *d.Queue
			}
			m = &MuxConfig{Name: d.Name, QueueDepth: queue.Depth, QueueBytes: queue.Bytes, InFlight: queue.InFlight, FailedImports: cfg.Imports,
				CanaryInterval: max(cfg.Canary, 0), Logger: log}
			configs[d.Name] = m
		}
		m.Members = append(m.Members, Member(fmt.Sprintf("%s-%d", d.Name, len(m.Members)+1), d.Config, log))
	}
	muxes := map[string]*Mux{}
	for name, m := range configs {
		if cfg.Telemetry.Enabled() {
			var err error
			if m.Recorder, err = telemetry.NewRecorder(name, trace.SpanKindServer); err != nil {
				return nil, fmt.Errorf("telemetry: %w", err)
			}
		}
		x, err := NewMux(*m)
		if err != nil {
			return nil, err
		}
		muxes[name] = x
		if _, err := m.Recorder.Gauges(x.Status); err != nil {
			return nil, fmt.Errorf("telemetry: %w", err)
		}
	}
	return muxes, nil
}

// Member is the MemberConfig of a driver process.
func Member(name string, cfg plugins.Config, log *slog.Logger) MemberConfig {
	return MemberConfig{Name: name, Start: func(ctx context.Context) (Backend, error) {
		p, err := plugins.Start(ctx, cfg, log)
		if err != nil {
			return nil, err
		}
		return p, nil
	}}
}
