package sidecar

import (
	"context"
	"net/http"
	"time"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// statusRoute answers GET /keyside/v1/hsm/status to whom policy allows it. It is an operation like any other: on record
// before it is answered.
type statusRoute struct {
	backend   *backend
	auditor   kms.Auditor
	principal func(policy.Caller) policy.Principal
	tenant    string
	timeout   time.Duration
}

func (s *statusRoute) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
	defer cancel()
	x := dialect.Begin()
	defer x.End()
	start := time.Now()
	caller := dialect.CallerFrom(ctx)
	principal := s.principal(caller)
	decision := policy.Decide(principal, policy.OpHSMStatus)
	rec := &kms.AuditRecord{
		Time: start, RequestID: x.RequestID, Operation: policy.OpHSMStatus, Dialect: "keyside", Tenant: s.tenant,
		Principal: principal.Name, Caller: caller, Decision: "deny", By: decision.Reason, Outcome: string(kms.CodeDenied),
	}
	var status *client.HSMStatus
	if decision.Allow {
		status = s.backend.status(ctx)
		rec.Decision, rec.By, rec.Outcome = "allow", decision.By, "ok"
	}
	rec.Latency = time.Since(start).Microseconds()
	err := s.auditor.Record(context.WithoutCancel(ctx), rec)
	switch {
	case err != nil:
		x.Out = append(x.Out, `{"error":{"error_code":"KMS.0103","error_msg":"internal error"}}`...)
		x.Send(w, http.StatusInternalServerError)
	case !decision.Allow:
		x.Out = append(x.Out, `{"error":{"error_code":"KMS.0307","error_msg":"not allowed"}}`...)
		x.Send(w, http.StatusForbidden)
	default:
		sendJSON(w, http.StatusOK, status)
	}
}

// status collects what each layer knows from memory.
func (b *backend) status(ctx context.Context) *client.HSMStatus {
	out := &client.HSMStatus{Driver: b.name(), Layers: []client.Members{layer(ctx, "sidecar", b.mux)}}
	if d, err := b.mux.Describe(ctx); err == nil {
		out.Vendor = d.GetVendor()
	}
	if b.cfg.HSM.Via != nil {
		out.Via = b.cfg.HSM.Via.Socket
		if current := b.current.Load(); current != nil {
			out.Layers = append(out.Layers, layer(ctx, "hsmd", *current))
		}
	}
	return out
}

// layer is one process's view of what is below it.
func layer(ctx context.Context, name string, d driver.Driver) client.Members {
	out := client.Members{Layer: name, Members: []client.Member{}}
	members, err := d.Status(ctx)
	if err != nil {
		out.Error = driver.CodeOf(err).String()
	}
	for _, m := range members {
		c := client.Member{
			Name: m.GetName(), State: m.GetState(), Vendor: m.GetVendor(), Token: m.GetToken(), Serial: m.GetSerial(),
			Slot: m.GetSlot(), Generation: m.GetGeneration(), SessionsOpen: m.GetSessionsOpen(), SessionsBusy: m.GetSessionsBusy(),
			SessionsLimit: m.GetSessionsLimit(), QueueLength: m.GetQueueLength(), QueueLimit: m.GetQueueLimit(),
			InFlight: m.GetInFlight(), LiveKeys: m.GetLiveKeys(), LiveKeysLimit: m.GetLiveKeysLimit(),
			Restarts: m.GetRestarts(), PID: m.GetPid(), LastError: m.GetLastError(),
		}
		for _, l := range m.GetLatencies() {
			c.Latencies = append(c.Latencies, client.Latency{
				Operation: l.GetOp(), Count: l.GetCount(), Errors: l.GetErrors(), P50: l.GetP50Us(), P99: l.GetP99Us(),
			})
		}
		out.Members = append(out.Members, c)
	}
	return out
}
