// Package edge serves a handler to the sidecar's callers. It opens the Unix socket and the loopback port, limits their
// connections, speaks TLS on the port, tells handlers which process is connected, and drains. It also reports health.
package edge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"time"
)

// Options says what to serve, where and within which limits.
type Options struct {
	Handler http.Handler

	Socket      string // absolute path of the Unix socket
	SocketMode  fs.FileMode
	SocketGroup string // name or number; empty: the process's own
	Listen      string // loopback address and port; empty: no port
	TLS         TLSConfig
	Connections ConnectionsConfig

	OperationTimeout time.Duration // the longest time that the handler gives an operation
	DrainTimeout     time.Duration // how long requests in flight may take after ctx ends

	Figures *Figures // gets what there is to count; nil: nothing does

	OnReady func() // called once every listener is open
	OnDrain func() // called before the requests in flight are awaited

	Logger *slog.Logger
}

// Limits of a connection. A client that is slower than these has failed.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 15 * time.Second
	idleTimeout   = 2 * time.Minute
	answerTimeout = 10 * time.Second // beyond the operation's own time
	maxHeader     = 16 << 10         // bytes
)

// Serve opens the listeners and serves until ctx ends and the requests in flight are done.
func Serve(ctx context.Context, opts Options) error {
	listeners, err := listen(&opts)
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: opts.Handler, ConnContext: connContext, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout,
		WriteTimeout: bodyTimeout + opts.OperationTimeout + answerTimeout,
		ErrorLog:     slog.NewLogLogger(opts.Logger.Handler(), slog.LevelWarn),
	}
	failed := make(chan error, len(listeners))
	for _, ln := range listeners {
		opts.Logger.Info("serving", slog.String("address", ln.Addr().String()))
		go func() { failed <- srv.Serve(ln) }()
	}
	opts.OnReady()
	select {
	case err = <-failed:
	case <-ctx.Done():
		opts.Logger.Info("draining")
	}
	opts.OnDrain()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), opts.DrainTimeout)
	defer cancel()
	if shutErr := srv.Shutdown(drain); shutErr != nil {
		err = errors.Join(err, fmt.Errorf("requests were still in flight after %s: %w", opts.DrainTimeout, errors.Join(shutErr, srv.Close())))
	}
	return err
}
