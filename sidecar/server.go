package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/kms"
)

// Bounds of a connection. A client that is slower than these has gone wrong.
const (
	headerTimeout = 5 * time.Second
	bodyTimeout   = 15 * time.Second
	idleTimeout   = 2 * time.Minute
	answerTimeout = 10 * time.Second // beyond the operation's own time
	maxHeader     = 16 << 10         // bytes
)

// serve listens, says that it is ready, and serves until ctx ends and the requests in flight are done.
func (p *process) serve(ctx context.Context) error {
	handler, err := p.handler()
	if err != nil {
		return err
	}
	listeners, err := p.listen()
	if err != nil {
		return err
	}
	srv := &http.Server{
		Handler: handler, ConnContext: connContext, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout,
		WriteTimeout: bodyTimeout + max(p.cfg.RequestTimeout, huawei.KeyTimeout) + answerTimeout,
		ConnState:    giveBack(listeners),
		ErrorLog:     slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, len(listeners))
	for _, ln := range listeners {
		p.log.Info("serving", slog.String("address", ln.Addr().String()))
		go func() { ended <- srv.Serve(ln) }()
	}
	notify(p.log, daemon.SdNotifyReady)
	stop := p.reloadOnHangup()
	defer stop()
	select {
	case err = <-ended:
	case <-ctx.Done():
		p.log.Info("draining")
	}
	notify(p.log, daemon.SdNotifyStopping)
	p.drain()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.cfg.DrainTimeout)
	defer cancel()
	if shutErr := srv.Shutdown(drain); shutErr != nil {
		err = errors.Join(err, fmt.Errorf("requests were still in flight after %s: %w", p.cfg.DrainTimeout, errors.Join(shutErr, srv.Close())))
	}
	return err
}

// listen opens the Unix socket and, where it is configured, the loopback port.
func (p *process) listen() ([]*bounded, error) {
	ln, err := peer.Listen(p.cfg.Socket, fs.FileMode(p.cfg.SocketMode), p.cfg.SocketGroup)
	if err != nil {
		return nil, err
	}
	socket := bound(peer.Watch(ln), p.cfg.Connections.Socket, p.log)
	if p.cfg.Listen == "" {
		return []*bounded{socket}, nil
	}
	port, err := p.listenPort()
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return []*bounded{socket, bound(port, p.cfg.Connections.Listen, p.log)}, nil
}

// listenPort opens the loopback port, with TLS where there is a certificate.
func (p *process) listenPort() (net.Listener, error) {
	var secure *tls.Config
	if p.cfg.TLS.Enabled() {
		c, err := openCertificates(p.cfg.TLS, p.log)
		if err != nil {
			return nil, err
		}
		secure = c.config()
	}
	port, err := net.Listen("tcp", p.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	if secure != nil {
		port = tls.NewListener(port, secure)
	}
	return port, nil
}

// connContext remembers who the kernel says is at the other end of a connection on the socket. On the port it says nothing.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*peer.Conn); ok {
		return dialect.WithCallerNow(ctx, c.Caller)
	}
	return ctx
}

// guard refuses what a web page may have sent to the loopback port, and puts that on record.
func (p *process) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := dialect.CallerFrom(r.Context())
		if caller.Ended {
			w.Header().Set("Connection", "close") // whoever holds it connects in his own name
		}
		if caller.Known || caller.Socket || !dialect.FromBrowser(r) {
			next.ServeHTTP(w, r)
			return
		}
		x := dialect.Begin()
		defer x.End()
		ctx := kms.WithCall(r.Context(), &kms.Call{RequestID: x.RequestID})
		refused := kms.Errorf(kms.CodeDenied, "requests of web pages are refused")
		status, code, message := http.StatusForbidden, "APIGW.0304", refused.Message
		if err := kms.AsError(p.core.RefuseUnserved(ctx, refused)); err.Code != refused.Code {
			status, code, message = http.StatusInternalServerError, "KMS.0103", err.Message
		}
		x.Out = append(append(x.Out, `{"error_code":"`...), code...)
		x.Out = append(append(x.Out, `","error_msg":"`...), message...)
		x.Out = append(append(append(x.Out, `","request_id":"`...), x.RequestID...), `"}`...)
		x.Send(w, status)
	})
}

// notify tells the service manager, where there is one.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("service manager not told", slog.String("state", state), slog.Any("error", err))
	}
}
