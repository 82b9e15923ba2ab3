package huawei

import (
	"context"
	"net/http"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// authenticate returns a context that tells the core whose call this is. On the Unix socket the kernel has said who
// calls. On localhost nobody has, and every operation is refused until requests can be signed.
func (d *Dialect) authenticate(ctx context.Context, _ *route, _ *http.Request, x *dialect.Exchange) (context.Context, error) {
	caller := dialect.CallerFrom(ctx)
	call := &kms.Call{RequestID: x.RequestID, Dialect: Name, Caller: caller, Limits: d.cfg.Limits}
	if caller.Known {
		call.Principal = d.cfg.Principal(caller)
	}
	ctx = kms.WithCall(ctx, call)
	switch {
	case !caller.Known:
		return ctx, errUnauthenticated
	case call.Principal.Name == "":
		return ctx, errNobody
	default:
		return ctx, nil
	}
}
