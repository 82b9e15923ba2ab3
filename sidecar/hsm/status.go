package hsm

import (
	"context"
	"time"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar/client"
)

// askTimeout limits how long Status waits for each answer: it is asked above all when there is none.
const askTimeout = time.Second

// Status returns what each layer has in memory, as the native API shows it.
func (b *Backend) Status(ctx context.Context) *client.HSMStatus {
	out := &client.HSMStatus{Driver: b.opts.Name, Via: b.opts.Via, Layers: []client.Members{layer(ctx, "sidecar", b.mux)}}
	if current := b.current.Load(); b.opts.Via != "" && current != nil {
		out.Layers = append(out.Layers, layer(ctx, "hsmd", *current))
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if d, err := b.mux.Describe(ctx); err == nil {
		out.Vendor = d.GetVendor()
	}
	return out
}

// layer returns the members of one process.
func layer(ctx context.Context, name string, d driver.Driver) client.Members {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
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
