package client

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"
)

// Paths of Keyside's own routes.
const (
	HealthPath    = "/healthz"
	HSMStatusPath = "/keyside/v1/hsm/status"
)

// Health is what GET /healthz answers, to anybody on the node.
type Health struct {
	Status string            `json:"status"` // "ok", or "unavailable" with HTTP 503
	Checks map[string]string `json:"checks"` // store, audit and hsm: "ok" or what is wrong, in a word
	Tenant string            `json:"tenant"`
	Huawei Huawei            `json:"huawei"`
}

// Huawei is what a client of the Huawei dialect has to know.
type Huawei struct {
	Region    string `json:"region" yaml:"region"`
	ProjectID string `json:"project_id" yaml:"project_id"`
	DomainID  string `json:"domain_id" yaml:"domain_id"`
}

// OK reports whether the sidecar can serve.
func (h *Health) OK() bool { return h.Status == "ok" }

// Health asks how the sidecar is. That it is unavailable is an answer and no error.
func (c *Client) Health(ctx context.Context) (*Health, error) {
	status, header, answer, err := c.roundTrip(ctx, http.MethodGet, HealthPath, nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK && status != http.StatusServiceUnavailable {
		return nil, errorOf(status, header, answer)
	}
	h := new(Health)
	if err := json.Unmarshal(answer, h); err != nil || h.Status == "" {
		return nil, fmt.Errorf("what serves %s is not a sidecar", c.socket)
	}
	return h, nil
}

// HSMStatus is what GET /keyside/v1/hsm/status answers to the owner.
type HSMStatus struct {
	Driver string    `json:"driver"`           // the driver's name
	Vendor string    `json:"vendor,omitempty"` // manufacturer and model as the token states them
	Via    string    `json:"via,omitempty"`    // hsmd's socket, empty where the sidecar loads the driver itself
	Layers []Members `json:"layers"`           // the sidecar first, then what is below it
}

// Members are the backends that one process sees below itself.
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

// HSMStatus returns slots, sessions, queues and latencies.
func (c *Client) HSMStatus(ctx context.Context) (*HSMStatus, error) {
	out := new(HSMStatus)
	if err := c.do(ctx, http.MethodGet, HSMStatusPath, nil, out); err != nil {
		return nil, err
	}
	return out, nil
}
