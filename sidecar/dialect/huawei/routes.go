// Package huawei is the dialect of Huawei Cloud's key management service (DEW), version 1.0 of its HTTP API, as the
// vendor's SDKs, Terraform provider and the Open Telekom Cloud family speak it.
//
// Its traps are on purpose: numbers may come as strings, an empty string counts as absent, lengths are bits in one
// operation and bytes in the next, every answer's JSON types are exactly those that the strictest SDK decodes.
package huawei

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Name is the dialect's name in audit records.
const Name = "huawei"

// route is one operation of the API.
type route struct {
	method    string
	path      string
	operation policy.Operation
	handle    func(*Dialect, context.Context, *dialect.Exchange) error
	bodyLimit int64 // bytes
}

// Body limits. A plaintext of 4096 bytes may take six times as much as JSON, and a context 8192 characters.
const (
	controlBody = 16 << 10
	dataBody    = 64 << 10
)

const (
	pathRoot = "/v1.0/"
	pathKMS  = "/kms/"
	base     = pathRoot + "{project_id}" + pathKMS
)

// routes is every operation that the dialect serves.
var routes = []route{
	{http.MethodPost, base + "create-key", policy.OpCreateKey, (*Dialect).createKey, controlBody},
	{http.MethodPost, base + "describe-key", policy.OpDescribeKey, (*Dialect).describeKey, controlBody},
	{http.MethodPost, base + "list-keys", policy.OpListKeys, (*Dialect).listKeys, controlBody},
	{http.MethodPost, base + "enable-key", policy.OpEnableKey, (*Dialect).enableKey, controlBody},
	{http.MethodPost, base + "disable-key", policy.OpDisableKey, (*Dialect).disableKey, controlBody},
	{http.MethodPost, base + "encrypt-data", policy.OpEncryptData, (*Dialect).encryptData, dataBody},
	{http.MethodPost, base + "decrypt-data", policy.OpDecryptData, (*Dialect).decryptData, dataBody},
	{http.MethodPost, base + "create-datakey", policy.OpCreateDataKey, (*Dialect).createDataKey, dataBody},
	{http.MethodPost, base + "create-datakey-without-plaintext", policy.OpCreateDataKeyNoText, (*Dialect).createDataKeyWithoutPlaintext, dataBody},
	{http.MethodPost, base + "encrypt-datakey", policy.OpEncryptDataKey, (*Dialect).encryptDataKey, dataBody},
	{http.MethodPost, base + "decrypt-datakey", policy.OpDecryptDataKey, (*Dialect).decryptDataKey, dataBody},
	{http.MethodPost, base + "gen-random", policy.OpGenRandom, (*Dialect).genRandom, controlBody},
	{http.MethodPost, base + "sign", policy.OpSign, (*Dialect).sign, dataBody},
	{http.MethodPost, base + "verify", policy.OpVerify, (*Dialect).verify, dataBody},
	{http.MethodPost, base + "get-publickey", policy.OpGetPublicKey, (*Dialect).getPublicKey, controlBody},
}

// Config is what the dialect needs. All fields but Limits and Recorder are required.
type Config struct {
	Core      dialect.Core
	Region    string                               // answered as realm
	ProjectID string                               // the only project whose paths are served
	DomainID  string                               // answered as domain_id
	Principal func(policy.Caller) policy.Principal // who a caller is taken to be
	Timeout   time.Duration                        // of one operation
	Limits    *kms.Limits                          // of calls through this dialect; nil: the core's
	Recorder  dialect.Recorder
}

// Dialect serves the API.
type Dialect struct {
	cfg    Config
	routes map[string][]*route // by what follows {project_id}, with the slash
}

// New returns the dialect.
func New(cfg Config) *Dialect {
	d := &Dialect{cfg: cfg, routes: make(map[string][]*route, len(routes))}
	for i := range routes {
		tail := strings.TrimPrefix(routes[i].path, pathRoot+"{project_id}")
		d.routes[tail] = append(d.routes[tail], &routes[i])
	}
	return d
}

// Matches implements dialect.Dialect.
func (d *Dialect) Matches(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, pathRoot) }

// find returns the route of a request and the project that its path names. The table is an exact map: no pattern is
// tried per request.
func (d *Dialect) find(r *http.Request) (rt *route, project string, err error) {
	project, tail, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, pathRoot), "/")
	if !ok {
		return nil, "", errNoRoute
	}
	candidates := d.routes[r.URL.Path[len(r.URL.Path)-len(tail)-1:]]
	if len(candidates) == 0 {
		return nil, "", errNoRoute
	}
	for _, rt := range candidates {
		if rt.method == r.Method {
			return rt, project, nil
		}
	}
	return nil, "", errMethod
}

// ServeHTTP implements http.Handler.
func (d *Dialect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := dialect.Begin()
	defer x.End()
	rt, project, err := d.find(r)
	if err == nil {
		err = d.serve(rt, project, r, x)
	}
	if err != nil {
		d.fail(w, x, rt, err)
		return
	}
	x.Send(w, http.StatusOK)
}

// NotFound answers a request that no dialect claims, as this cloud's gateway would.
func (d *Dialect) NotFound(w http.ResponseWriter, _ *http.Request) {
	x := dialect.Begin()
	defer x.End()
	d.fail(w, x, nil, errNoRoute)
}

// serve does one operation: who calls, for which project, with what fields; then the core.
func (d *Dialect) serve(rt *route, project string, r *http.Request, x *dialect.Exchange) (err error) {
	ctx, cancel := context.WithTimeout(r.Context(), d.cfg.Timeout)
	defer cancel()
	if d.cfg.Recorder != nil {
		var end func(kms.Code)
		ctx, end = d.cfg.Recorder.Begin(ctx, r.Header.Get("Traceparent"), Name, x.RequestID, rt.operation)
		defer func() { end(outcome(err)) }()
	}
	ctx, err = d.authenticate(ctx, x.RequestID)
	if err == nil && project != d.cfg.ProjectID {
		err = errProject
	}
	if err == nil {
		err = decodeError(x.Decode(r, rt.bodyLimit))
	}
	if err == nil {
		err = rt.handle(d, ctx, x)
	}
	return d.recordRefusal(ctx, rt.operation, err)
}

// outcome is the core's code for how an operation ended, "" for well.
func outcome(err error) kms.Code {
	if err == nil {
		return ""
	}
	return kms.AsError(err).Code
}
