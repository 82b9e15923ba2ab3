package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/sidecar/client"
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
			peer.Notify(p.log, daemon.SdNotifyReady)
			stop = p.reloadOnHangup()
			go peer.Watchdog(ctx, p.answers, p.log)
		},
		OnDrain: func() {
			peer.Notify(p.log, daemon.SdNotifyStopping)
			p.drain()
		},
		Figures: &p.figures,
		Logger:  p.log,
	})
	if why := context.Cause(ctx); why != nil && !errors.Is(why, context.Canceled) {
		err = errors.Join(why, err)
	}
	return err
}

// answers asks this process, through its own socket, whether it lives. A socket that only other users may open counts as an answer.
func (p *process) answers(ctx context.Context) error {
	c := client.New(p.cfg.Socket)
	defer c.Close()
	if _, err := c.Health(ctx); !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
