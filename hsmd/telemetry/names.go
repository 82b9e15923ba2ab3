package telemetry

import "go.opentelemetry.io/otel/attribute"

// The one list of names. A dashboard, an alert or a test relies on these and on no other; they change only with a note
// in the changelog.

// Scope is the instrumentation scope of everything below.
const Scope = "github.com/keyside/keyside"

// Spans. Each is the child of the one above it.
const (
	SpanRequest = "keyside.request" // sidecar: one request of an application, from its first byte to its answer
	SpanCore    = "keyside.core"    // sidecar: the operation in the core
	SpanQueue   = "keyside.queue"   // hsmd or sidecar: one operation in the Mux, from Submit to answer
	SpanDriver  = "keyside.driver"  // the driver process, as told by its Timings: it exports nothing itself
	SpanSession = "keyside.session" // waiting for a session or loading the key
	SpanHSM     = "keyside.hsm"     // inside the device
)

// Metrics. Durations are histograms in seconds.
const (
	MetricRequests        = "keyside.requests"         // counter, by operation, dialect and code
	MetricRequestDuration = "keyside.request.duration" // by operation and dialect
	MetricOperations      = "keyside.hsm.operations"   // counter, by operation, driver and code
	MetricQueueDuration   = "keyside.queue.duration"   // by operation and driver
	MetricSessionDuration = "keyside.session.duration" // by operation and driver
	MetricHSMDuration     = "keyside.hsm.duration"     // by operation and driver
	MetricRestarts        = "keyside.driver.restarts"  // counter, by driver and member
	MetricReady           = "keyside.driver.ready"     // gauge 0 or 1, by driver and member
	MetricQueueLength     = "keyside.queue.length"     // gauge
	MetricQueueLimit      = "keyside.queue.limit"      // gauge
	MetricInFlight        = "keyside.in_flight"        // gauge
	MetricSessionsOpen    = "keyside.sessions.open"    // gauge
	MetricSessionsBusy    = "keyside.sessions.busy"    // gauge
	MetricSessionsLimit   = "keyside.sessions.limit"   // gauge
	MetricLiveKeys        = "keyside.live_keys"        // gauge
	MetricLiveKeysLimit   = "keyside.live_keys.limit"  // gauge
)

// Attributes. None carries a key id, a caller's data or a secret: each has few values.
const (
	AttrOperation = attribute.Key("keyside.operation")
	AttrDialect   = attribute.Key("keyside.dialect")
	AttrTenant    = attribute.Key("keyside.tenant")
	AttrDriver    = attribute.Key("keyside.driver")
	AttrMember    = attribute.Key("keyside.member")
	AttrCode      = attribute.Key("keyside.code")
	AttrRequestID = attribute.Key("keyside.request_id") // spans only
)
