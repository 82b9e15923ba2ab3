package sidecar

import (
	"context"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/edge"
	"github.com/keyside/keyside/sidecar/kms"
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
	return edge.Serve(ctx, edge.Options{
		Handler: handler, Socket: p.cfg.Socket, SocketMode: fs.FileMode(p.cfg.SocketMode), SocketGroup: p.cfg.SocketGroup,
		Listen: p.cfg.Listen, TLS: p.cfg.TLS, Connections: p.cfg.Connections,
		OperationTimeout: max(p.cfg.RequestTimeout, huawei.KeyTimeout), DrainTimeout: p.cfg.DrainTimeout,
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
