package telemetry

import "go.opentelemetry.io/otel/attribute"

// The list of all names. Dashboards, alerts and tests rely on them; a change needs a note in the changelog.

// Scope is the instrumentation scope of everything below.
const Scope = "github.com/keyside/keyside"

// Spans, from the outermost to the innermost.
const (
	SpanRequest = "keyside.request" // sidecar: one request of an application, from its first byte to its answer
	SpanCore    = "kms."            // sidecar, under the request: the operation in the core, whose name follows
	SpanMux     = "keyside.mux"     // under the core, and hsmd's under the sidecar's: the operation in a Mux, from Submit to answer
	SpanQueue   = "keyside.queue"   // under a Mux: waiting in it; under a driver: waiting for a worker
	SpanDriver  = "keyside.driver"  // under the Mux that runs it: the driver process, which exports nothing itself
	SpanSession = "keyside.session" // under a driver: waiting for a session or loading the key
	SpanHSM     = "keyside.hsm"     // under a driver: inside the device
)

// Metrics. Durations are histograms in seconds.
const (
	MetricRequests        = "keyside.requests"          // counter, by operation, dialect and code
	MetricRequestDuration = "keyside.request.duration"  // by operation and dialect
	MetricAuditUnsigned   = "keyside.audit.unsigned"    // gauge: records that no signed checkpoint covers yet
	MetricBackupAge       = "keyside.backup.age"        // gauge, seconds since the last scheduled backup that verified; without one, since the start
	MetricBackupFailed    = "keyside.backup.failed"     // gauge: 1 if the last scheduled backup failed, else 0
	MetricMessagesLeft    = "keyside.messages.left"     // gauge: messages that the key with the fewest left can still encrypt
	MetricWaiting         = "keyside.deletions.waiting" // gauge: keys whose destruction waits because the clock jumped
	MetricOperations      = "keyside.hsm.operations"    // counter, by operation, driver and code
	MetricQueueDuration   = "keyside.queue.duration"    // by operation, driver and code
	MetricSessionDuration = "keyside.session.duration"  // by operation, driver and code
	MetricHSMDuration     = "keyside.hsm.duration"      // by operation, driver and code
	MetricRestarts        = "keyside.driver.restarts"   // counter, by driver and member
	MetricImports         = "keyside.imports"           // counter, by tenant, driver and code
	MetricReady           = "keyside.driver.ready"      // gauge 0 or 1, by driver and member
	MetricQueueLength     = "keyside.queue.length"      // gauge
	MetricQueueLimit      = "keyside.queue.limit"       // gauge
	MetricInFlight        = "keyside.in_flight"         // gauge
	MetricSessionsOpen    = "keyside.sessions.open"     // gauge
	MetricSessionsBusy    = "keyside.sessions.busy"     // gauge
	MetricSessionsLimit   = "keyside.sessions.limit"    // gauge
	MetricLiveKeys        = "keyside.live_keys"         // gauge
	MetricLiveKeysLimit   = "keyside.live_keys.limit"   // gauge
)

// Attributes. None carries a key id, a caller's data or a secret: each has few values.
const (
	AttrOperation = attribute.Key("keyside.operation")
	AttrDialect   = attribute.Key("keyside.dialect")
	AttrTenant    = attribute.Key("keyside.tenant")
	AttrDriver    = attribute.Key("keyside.driver")
	AttrMember    = attribute.Key("keyside.member")
	AttrCode      = attribute.Key("keyside.code")       // "OK" after a success
	AttrOutcome   = attribute.Key("keyside.outcome")    // of the core's span: as in the audit log
	AttrRequestID = attribute.Key("keyside.request_id") // spans only
)
