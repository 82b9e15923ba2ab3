package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
)

// Paths that answer how the sidecar is, to every caller.
const (
	HealthPath = "/healthz" // whether everything works, changes included
	LivePath   = "/livez"   // whether the process works
	ReadyPath  = "/readyz"  // whether keys can be used; with ?need=change, whether keys can be created and changed, too
)

// Health is the response to GET /healthz. Every caller on the node may ask.
type Health struct {
	Status string            `json:"status"` // "ok", or "unavailable" with HTTP 503
	Checks map[string]string `json:"checks"` // store, audit and hsm: "ok" or "unavailable"
	Tenant string            `json:"tenant"`
	Clock  ClockState        `json:"clock"`
	Huawei Huawei            `json:"huawei"`
	// Endpoint is the port's address for clients' requests, as http://HOST:PORT or https://HOST:PORT; empty: there is none.
	Endpoint string `json:"endpoint,omitzero"`
}

// ClockState is how the node's clock is.
type ClockState struct {
	Jumped  int64 `json:"jumped"`  // seconds by which it jumped since it was last confirmed, negative: back
	Waiting int   `json:"waiting"` // keys whose destruction, or that of their material, waits because of it
}

// Huawei is the identity that clients of the Huawei dialect configure.
type Huawei struct {
	Region    string `json:"region" yaml:"region"`
	ProjectID string `json:"project_id" yaml:"project_id"`
	DomainID  string `json:"domain_id" yaml:"domain_id"`
}

// OK reports whether the sidecar can serve.
func (h *Health) OK() bool { return h.Status == "ok" }

// Health asks how the sidecar is. A sidecar that is unavailable is no error.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	res, answer, err := c.fetch(ctx, http.MethodGet, HealthPath, nil)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK && res.StatusCode != http.StatusServiceUnavailable {
		return nil, errorOf(res, answer)
	}
	h := new(Health)
	if err := json.Unmarshal(answer, h); err != nil || h.Status == "" {
		return nil, fmt.Errorf("the server of %s is not a sidecar", c.socket)
	}
	return h, nil
}

// HSMStatus is the state of the HSM and of the processes that use it.
type HSMStatus struct {
	Driver string    `json:"driver"`           // the driver's name
	Vendor string    `json:"vendor,omitempty"` // manufacturer and model as the token states them
	Via    string    `json:"via,omitempty"`    // hsmd's socket; empty: the sidecar loads the driver itself
	Layers []Members `json:"layers"`           // the sidecar, then hsmd
}

// Members is the backends of one process.
type Members struct {
	Layer   string   `json:"layer"` // "sidecar" or "hsmd"
	Error   string   `json:"error,omitempty"`
	Members []Member `json:"members"`
}

// Member is one backend.
type Member struct {
	Name          string    `json:"name"`
	State         string    `json:"state"` // ready, starting, draining, down
	Vendor        string    `json:"vendor,omitempty"`
	Token         string    `json:"token,omitempty"`
	Serial        string    `json:"serial,omitempty"`
	Slot          uint64    `json:"slot"`
	Generation    uint64    `json:"generation"` // of the login
	SessionsOpen  uint32    `json:"sessions_open"`
	SessionsBusy  uint32    `json:"sessions_busy"`
	SessionsLimit uint32    `json:"sessions_limit"` // 0: none known
	QueueLength   uint32    `json:"queue_length"`
	QueueLimit    uint32    `json:"queue_limit"`
	InFlight      uint32    `json:"in_flight"`
	LiveKeys      uint32    `json:"live_keys"`
	LiveKeysLimit uint32    `json:"live_keys_limit"`
	Restarts      uint32    `json:"restarts"`
	PID           uint32    `json:"pid"`
	LastError     string    `json:"last_error,omitempty"`
	Latencies     []Latency `json:"latencies,omitempty"`
}

// Latency is one operation's figures.
type Latency struct {
	Operation string `json:"operation"`
	Count     uint64 `json:"count"`
	Errors    uint64 `json:"errors"`
	P50       uint32 `json:"p50_us"`
	P99       uint32 `json:"p99_us"`
}

// GetHSMStatus returns slots, sessions, queues and latencies.
func (c *Client) GetHSMStatus(ctx context.Context) (*HSMStatus, error) {
	return call[HSMStatus](ctx, c, "get-hsm-status", none{})
}
