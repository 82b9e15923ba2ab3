package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/edge"
)

// serve serves until ctx ends and the requests in flight are done. It tells the service manager when it is ready and when it
// drains.
func (p *process) serve(ctx context.Context) error {
	handler, err := p.handler()
	if err != nil {
		return err
	}
	stop := func() {}
	defer func() { stop() }()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case why := <-p.failed:
			cancel(fmt.Errorf("database: %w", why))
		case <-ctx.Done():
		}
	}()
	err = edge.Serve(ctx, edge.Options{
		Handler: handler, Socket: p.cfg.Socket, SocketMode: fs.FileMode(p.cfg.SocketMode), SocketGroup: p.cfg.SocketGroup,
		Listen: p.cfg.Listen, TLS: p.cfg.TLS, Connections: p.cfg.Connections,
		OperationTimeout: max(p.cfg.RequestTimeout, dialect.SlowTimeout), DrainTimeout: p.cfg.DrainTimeout,
		OnReady: func() {
			notify(p.log, daemon.SdNotifyReady)
			stop = p.reloadOnHangup()
		},
		OnDrain: func() {
			notify(p.log, daemon.SdNotifyStopping)
			p.drain()
		},
		Logger: p.log,
	})
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		err = errors.Join(why, err)
	}
	return err
}

// notify tells the service manager, where there is one.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("cannot notify the service manager", slog.String("state", state), slog.Any("error", err))
	}
}
