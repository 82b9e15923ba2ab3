// Package huawei is the dialect of Huawei Cloud's key management service (DEW), version 1.0 of its HTTP API, as the
// vendor's SDKs, Terraform provider and the Open Telekom Cloud family speak it.
//
// Its traps are on purpose: numbers may come as strings, an empty string counts as absent, lengths are bits in one
// operation and bytes in the next, every answer's JSON types are exactly those that the strictest SDK decodes.
package huawei

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Name is the dialect's name in audit records.
const Name = "huawei"

// handler translates one request into a call of the core, and the core's answer into x.Out.
type handler func(d *Dialect, ctx context.Context, op policy.Operation, x *dialect.Exchange) error

// route is one operation of the API.
type route struct {
	method    string
	path      string // below base; {key_id} and {key} are variables
	operation policy.Operation
	handle    handler
	bodyLimit int64 // bytes
	status    int   // of a good answer; 200 without a body is sent with {} as its body
	fields    []dialect.Field
}

// Body limits. A plaintext of 4096 bytes may take six times as much as JSON, and a context 8192 characters.
const (
	controlBody = 16 << 10
	dataBody    = 64 << 10
)

const (
	get  = http.MethodGet
	post = http.MethodPost
	del  = http.MethodDelete
)

// Paths are pathRoot, the project's id, pathKMS and what the table has.
const (
	pathVersion = "/v1.0"
	pathRoot    = pathVersion + "/"
	pathKMS     = "/kms/"
)

// routes is every operation that the dialect serves.
var routes = []route{
	{post, "create-key", policy.OpCreateKey, (*Dialect).createKey, controlBody, 200, createKeyFields},
	{post, "describe-key", policy.OpDescribeKey, (*Dialect).describeKey, controlBody, 200, fields(namedKey)},
	{post, "list-keys", policy.OpListKeys, (*Dialect).listKeys, controlBody, 200, listKeysFields},
	{post, "enable-key", policy.OpEnableKey, (*Dialect).enableKey, controlBody, 200, fields(idOfKey)},
	{post, "disable-key", policy.OpDisableKey, (*Dialect).disableKey, controlBody, 200, fields(idOfKey)},
	{post, "schedule-key-deletion", policy.OpScheduleDeletion, (*Dialect).scheduleDeletion, controlBody, 200, fields(idOfKey, pendingDays)},
	{post, "cancel-key-deletion", policy.OpCancelDeletion, (*Dialect).cancelDeletion, controlBody, 200, fields(idOfKey)},
	{post, "update-key-alias", policy.OpUpdateAlias, (*Dialect).updateAlias, controlBody, 200, fields(idOfKey, keyAlias)},
	{post, "update-key-description", policy.OpUpdateDescription, (*Dialect).updateDescription, controlBody, 200, fields(idOfKey, newDescription)},

	{post, "create-datakey", policy.OpCreateDataKey, (*Dialect).createDataKey, dataBody, 200, dataKeyFields},
	{post, "create-datakey-without-plaintext", policy.OpCreateDataKeyNoText, (*Dialect).createDataKey, dataBody, 200, dataKeyFields},
	{post, "encrypt-datakey", policy.OpEncryptDataKey, (*Dialect).encryptDataKey, dataBody, 200, encryptDataKeyFields},
	{post, "decrypt-datakey", policy.OpDecryptDataKey, (*Dialect).decryptDataKey, dataBody, 200, decryptDataKeyFields},
	{post, "create-rsa-datakey-pair", policy.OpCreateRSAKeyPair, (*Dialect).createKeyPair, controlBody, 200, rsaPairFields},
	{post, "create-ec-datakey-pair", policy.OpCreateECKeyPair, (*Dialect).createKeyPair, controlBody, 200, ecPairFields},

	{post, "encrypt-data", policy.OpEncryptData, (*Dialect).encryptData, dataBody, 200, encryptDataFields},
	{post, "decrypt-data", policy.OpDecryptData, (*Dialect).decryptData, dataBody, 200, decryptDataFields},
	{post, "re-encrypt", policy.OpReEncrypt, (*Dialect).reEncrypt, dataBody, 200, reEncryptFields},
	{post, "sign", policy.OpSign, (*Dialect).sign, dataBody, 200, signFields},
	{post, "verify", policy.OpVerify, (*Dialect).verify, dataBody, 200, verifyFields},
	{post, "get-publickey", policy.OpGetPublicKey, (*Dialect).getPublicKey, controlBody, 200, fields(namedKey)},
	{post, "generate-mac", policy.OpGenerateMAC, (*Dialect).generateMAC, dataBody, 200, macFields},
	{post, "verify-mac", policy.OpVerifyMAC, (*Dialect).verifyMAC, dataBody, 200, verifyMACFields},
	{post, "derive-shared-secret", policy.OpDeriveSharedSecret, (*Dialect).deriveSharedSecret, controlBody, 200, deriveFields},
	{post, "gen-random", policy.OpGenRandom, (*Dialect).genRandom, controlBody, 200, fields(randomLength)},

	{post, "get-parameters-for-import", policy.OpGetImportParameters, (*Dialect).importParameters, controlBody, 200, importParametersFields},
	{post, "import-key-material", policy.OpImportMaterial, (*Dialect).importMaterial, dataBody, 200, importFields},
	{post, "delete-imported-key-material", policy.OpDeleteMaterial, (*Dialect).deleteMaterial, controlBody, 200, fields(idOfKey)},

	{post, "enable-key-rotation", policy.OpEnableRotation, (*Dialect).enableRotation, controlBody, 200, fields(idOfKey)},
	{post, "update-key-rotation-interval", policy.OpUpdateRotation, (*Dialect).updateRotation, controlBody, 200, fields(idOfKey, rotationInterval)},
	{post, "disable-key-rotation", policy.OpDisableRotation, (*Dialect).disableRotation, controlBody, 200, fields(idOfKey)},
	{post, "get-key-rotation-status", policy.OpGetRotation, (*Dialect).rotationStatus, controlBody, 200, fields(idOfKey)},

	{get, "{key_id}/tags", policy.OpListKeyTags, (*Dialect).keyTags, controlBody, 200, fields(idInPath)},
	{post, "{key_id}/tags", policy.OpTagKey, (*Dialect).createTag, controlBody, 204, fields(idInPath, oneTag)},
	{post, tagsAction, policy.OpTagKey, (*Dialect).changeTags, controlBody, 204, fields(idInPath, tagAction, someTags)},
	{del, "{key_id}/tags/{key}", policy.OpUntagKey, (*Dialect).deleteTag, controlBody, 204, fields(idInPath, tagInPath)},
	{get, "tags", policy.OpListTags, (*Dialect).projectTags, controlBody, 200, nil},
	{post, "resource_instances/action", policy.OpFindKeys, (*Dialect).findKeys, dataBody, 200, findKeysFields},

	{post, "aliases", policy.OpCreateAlias, (*Dialect).createAlias, controlBody, 201, fields(idOfKey, alias)},
	{get, "aliases", policy.OpListAliases, (*Dialect).listAliases, controlBody, 200, listAliasesFields},
	{del, "aliases", policy.OpDeleteAlias, (*Dialect).deleteAliases, dataBody, 204, fields(idOfKey, someAliases)},
	{post, "alias/associate", policy.OpAssociateAlias, (*Dialect).associateAlias, controlBody, 200, fields(targetKey, alias)},

	{post, "create-grant", policy.OpCreateGrant, (*Dialect).createGrant, dataBody, 200, createGrantFields},
	{post, "list-grants", policy.OpListGrants, (*Dialect).listGrants, controlBody, 200, listGrantFields},
	{post, "list-retirable-grants", policy.OpListRetirableGrants, (*Dialect).listRetirableGrants, controlBody, 200, retirableFields},
	{post, "revoke-grant", policy.OpRevokeGrant, (*Dialect).revokeGrant, controlBody, 200, oneGrantFields},
	{post, "retire-grant", policy.OpRetireGrant, (*Dialect).retireGrant, controlBody, 200, oneGrantFields},

	{get, "user-instances", policy.OpGetInstances, (*Dialect).userInstances, controlBody, 200, nil},
	{get, "user-quotas", policy.OpGetQuotas, (*Dialect).userQuotas, controlBody, 200, nil},
}

// tagsAction is the one path where the body says which operation it is.
const tagsAction = "{key_id}/tags/action"

// asked is the operation that a request with these fields is for.
func (rt *route) asked(x *dialect.Exchange) policy.Operation {
	if rt.path == tagsAction && string(x.Text(tagAction.Name)) == deleteTags {
		return policy.OpUntagKey
	}
	return rt.operation
}

// Served lists what the dialect serves, for documentation. Paths begin at the project, with those exceptions that begin
// with a slash.
func Served() []dialect.Served {
	served := make([]dialect.Served, 0, len(routes)+2)
	for i := range routes {
		served = append(served, dialect.Served{Method: routes[i].method, Path: routes[i].path, Operation: routes[i].operation})
	}
	return append(served,
		dialect.Served{Method: get, Path: projectsPath, Operation: opListProjects},
		dialect.Served{Method: get, Path: domainsPath, Operation: opListDomains},
	)
}

// KeyTimeout is how long an operation that may have to make an RSA key takes at most, unless Config allows it more: small HSMs
// need most of a minute for 4096 bits.
const KeyTimeout = 2 * time.Minute

// Config is what the dialect needs. All fields but Unsigned, Limits, Recorder and Clock are required.
type Config struct {
	Core      dialect.Core
	Region    string                               // answered as realm
	ProjectID string                               // the only project whose paths are served
	DomainID  string                               // answered as domain_id
	Principal func(policy.Caller) policy.Principal // who a caller is taken to be
	Unsigned  bool                                 // no signatures and tokens on the Unix socket
	Timeout   time.Duration                        // of one operation, but for those that make asymmetric keys
	Limits    *kms.Limits                          // of calls through this dialect; nil: the core's
	Recorder  dialect.Recorder
	Clock     kms.Clock // nil: the system's
}

// Dialect serves the API.
type Dialect struct {
	cfg   Config
	table table
	urn   string // before an alias's name
}

// New returns the dialect.
func New(cfg Config) *Dialect {
	return &Dialect{cfg: cfg, table: newTable(), urn: "kms:" + cfg.Region + ":" + cfg.DomainID + ":alias:"}
}

func (d *Dialect) now() time.Time {
	if d.cfg.Clock == nil {
		return time.Now()
	}
	return d.cfg.Clock.Now()
}

// Matches implements dialect.Dialect. Of what has no version in its path it claims the plain GET / alone.
func (d *Dialect) Matches(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, pathRoot) || asksVersions(r)
}

// ServeHTTP implements http.Handler.
func (d *Dialect) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := dialect.Begin()
	defer x.End()
	if asksVersions(r) {
		appendVersions(x, r)
		x.Send(w, http.StatusOK)
		return
	}
	rt, project, vars, err := d.table.find(r)
	if err == nil {
		err = d.serve(rt, project, vars, r, x)
	} else {
		err = d.refuseUnserved(r, x, err)
	}
	if err != nil {
		d.fail(w, x, rt, err)
		return
	}
	if rt.status == http.StatusOK && len(x.Out) == 0 {
		x.Out = append(x.Out, "{}"...) // strict clients decode every answer that may have a body
	}
	x.Send(w, rt.status)
}

// NotFound answers a request that no dialect claims, as this cloud's gateway would.
func (d *Dialect) NotFound(w http.ResponseWriter, r *http.Request) {
	x := dialect.Begin()
	defer x.End()
	d.fail(w, x, nil, d.refuseUnserved(r, x, errNoRoute))
}

// refuseUnserved puts a request on record that is for no operation. Who sent it is not found out: the kernel's word is there.
func (d *Dialect) refuseUnserved(r *http.Request, x *dialect.Exchange, err error) error {
	ctx := kms.WithCall(r.Context(), &kms.Call{RequestID: x.RequestID, Dialect: Name, Caller: dialect.CallerFrom(r.Context())})
	return recorded(err, func(core *kms.Error) error { return d.cfg.Core.RefuseUnserved(ctx, core) })
}

// serve does one operation: who calls, for which project, with what fields; then the core.
func (d *Dialect) serve(rt *route, project string, vars []dialect.Var, r *http.Request, x *dialect.Exchange) error {
	return d.operate(Name, rt.operation, r, x, func(ctx context.Context, call *kms.Call, asked *policy.Operation) error {
		err := d.authenticate(ctx, call, rt.bodyLimit, r, x)
		if err == nil && project != d.cfg.ProjectID {
			err = errProject
		}
		if err == nil {
			err = decodeError(x.Decode(r, rt.bodyLimit))
		}
		if err == nil {
			err = fieldError(x.ReadFields(rt.fields, r, vars))
			*asked = rt.asked(x)
		}
		if err == nil {
			err = rt.handle(d, ctx, *asked, x)
		}
		return err
	})
}

// operate does one operation under the name that its record has for the API: with its time, its trace, its call, and a
// record of whatever refuses it before the core does. do may find out that another operation is asked for.
func (d *Dialect) operate(
	name string, op policy.Operation, r *http.Request, x *dialect.Exchange, do func(context.Context, *kms.Call, *policy.Operation) error,
) (err error) {
	timeout := d.cfg.Timeout
	if op.Slow() {
		timeout = max(timeout, KeyTimeout)
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	if d.cfg.Recorder != nil {
		var end func(kms.Code)
		ctx, end = d.cfg.Recorder.Begin(ctx, r.Header.Get("Traceparent"), name, x.RequestID, op)
		defer func() { end(outcome(err)) }()
	}
	call := &kms.Call{RequestID: x.RequestID, Dialect: name, Caller: dialect.CallerFrom(ctx), Limits: d.cfg.Limits}
	ctx = kms.WithCall(ctx, call)
	defer func() {
		if p := recover(); p != nil {
			err = d.recordRefusal(ctx, op, panicked(p))
		}
	}()
	err = do(ctx, call, &op)
	return d.recordRefusal(ctx, op, err)
}

// outcome is the core's code for how an operation ended, "" for well.
func outcome(err error) kms.Code {
	if err == nil {
		return ""
	}
	return kms.AsError(err).Code
}

// table is the routes as requests look them up: by their path below the project, exactly. No pattern is tried per request.
type table struct {
	exact    map[string][]*route // paths without variables
	variable map[string][]*route // paths as the table of routes has them
}

func newTable() table {
	t := table{map[string][]*route{}, map[string][]*route{}}
	for i := range routes {
		rt := &routes[i]
		if strings.Contains(rt.path, "{") {
			t.variable[rt.path] = append(t.variable[rt.path], rt)
		} else {
			t.exact[rt.path] = append(t.exact[rt.path], rt)
		}
	}
	return t
}

// find returns the route of a request, the project that its path names, and what the variables of the path stand for. A
// slash that is percent-encoded separates nothing.
func (t *table) find(r *http.Request) (rt *route, project string, vars []dialect.Var, err error) {
	path, encoded := r.URL.RawPath, true
	if path == "" { // then none of the path's own slashes was encoded
		path, encoded = r.URL.Path, false
	}
	project, tail, found := strings.Cut(strings.TrimPrefix(path, pathRoot), pathKMS)
	if !found || strings.Contains(project, "/") {
		return nil, "", nil, errNoRoute
	}
	candidates := t.exact[tail]
	if len(candidates) == 0 {
		if candidates, vars, err = t.match(tail, encoded); err != nil {
			return nil, "", nil, err
		}
	}
	for _, rt := range candidates {
		if rt.method == r.Method {
			return rt, project, vars, nil
		}
	}
	return nil, "", nil, errMethod
}

// match returns the routes whose path has variables and fits. A tag may be named "action", so both of its routes fit there.
func (t *table) match(tail string, encoded bool) ([]*route, []dialect.Var, error) {
	id, rest, found := strings.Cut(tail, "/")
	if !found || id == "" {
		return nil, nil, errNoRoute
	}
	vars := []dialect.Var{{Name: "key_id", Value: id}}
	candidates := t.variable["{key_id}/"+rest]
	if collection, key, found := strings.Cut(rest, "/"); found && key != "" && !strings.Contains(key, "/") {
		vars = append(vars, dialect.Var{Name: "key", Value: key})
		candidates = append(candidates[:len(candidates):len(candidates)], t.variable["{key_id}/"+collection+"/{key}"]...)
	}
	if len(candidates) == 0 {
		return nil, nil, errNoRoute
	}
	if encoded {
		for i := range vars {
			value, err := url.PathUnescape(vars[i].Value)
			if err != nil {
				return nil, nil, errNoRoute
			}
			vars[i].Value = value
		}
	}
	return candidates, vars, nil
}
