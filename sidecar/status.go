package sidecar

import (
	"context"

	"github.com/keyside/keyside/plugins/driver"
	client "github.com/keyside/keyside/sidecar/client/old"
	"github.com/keyside/keyside/sidecar/hsm"
)

// status collects what each layer knows from memory.
func status(ctx context.Context, b *hsm.Backend) *client.HSMStatus {
	out := &client.HSMStatus{Driver: b.Name(), Via: b.Via()}
	layers := b.Layers()
	if d, err := layers[0].Driver.Describe(ctx); err == nil {
		out.Vendor = d.GetVendor()
	}
	for _, l := range layers {
		out.Layers = append(out.Layers, layer(ctx, l.Name, l.Driver))
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
