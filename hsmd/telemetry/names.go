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

// Names of metrics. The table [Metrics] says what each means.
const (
	MetricRequests        = "keyside.requests"
	MetricRequestDuration = "keyside.request.duration"
	MetricHealth          = "keyside.health"
	MetricKeys            = "keyside.keys"
	MetricStoreBroken     = "keyside.store.broken"
	MetricDatabaseSize    = "keyside.database.size"
	MetricDiskFree        = "keyside.disk.free"
	MetricDiskSize        = "keyside.disk.size"
	MetricAuditSize       = "keyside.audit.size"
	MetricAuditFailures   = "keyside.audit.failures"
	MetricAuditLost       = "keyside.audit.lost"
	MetricAuditOwed       = "keyside.audit.owed"
	MetricAuditGaps       = "keyside.audit.gaps"
	MetricAuditUnsigned   = "keyside.audit.unsigned"
	MetricCheckpointAge   = "keyside.audit.checkpoint.age"
	MetricConnections     = "keyside.connections"
	MetricConnectionLimit = "keyside.connections.limit"
	MetricConnectionsOver = "keyside.connections.refused"
	MetricCertificate     = "keyside.certificate.remaining"
	MetricBackupAge       = "keyside.backup.age"
	MetricBackupFailed    = "keyside.backup.failed"
	MetricMessagesLeft    = "keyside.messages.left"
	MetricWaiting         = "keyside.deletions.waiting"

	MetricOperations      = "keyside.hsm.operations"
	MetricQueueDuration   = "keyside.queue.duration"
	MetricSessionDuration = "keyside.session.duration"
	MetricHSMDuration     = "keyside.hsm.duration"
	MetricRestarts        = "keyside.driver.restarts"
	MetricImports         = "keyside.imports"
	MetricReady           = "keyside.driver.ready"
	MetricQueueLength     = "keyside.queue.length"
	MetricQueueLimit      = "keyside.queue.limit"
	MetricInFlight        = "keyside.in_flight"
	MetricSessionsOpen    = "keyside.sessions.open"
	MetricSessionsBusy    = "keyside.sessions.busy"
	MetricSessionsLimit   = "keyside.sessions.limit"
	MetricLiveKeys        = "keyside.live_keys"
	MetricLiveKeysLimit   = "keyside.live_keys.limit"

	MetricBuild           = "keyside.build.info"
	MetricStarted         = "keyside.start_time"
	MetricDescriptors     = "keyside.descriptors"
	MetricDescriptorLimit = "keyside.descriptors.limit"
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
	AttrCheck     = attribute.Key("keyside.check")      // "store", "audit" or "hsm"
	AttrState     = attribute.Key("keyside.state")      // of a key
	AttrVolume    = attribute.Key("keyside.volume")     // "database" or "audit"
	AttrListener  = attribute.Key("keyside.listener")   // "socket" or "port"
	AttrVersion   = attribute.Key("keyside.version")
	AttrGoVersion = attribute.Key("keyside.go_version")
)
