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

// routes returns every operation that the dialect serves.
func (d *Dialect) routes() []dialect.Route {
	return dialect.Routes(
		dialect.Route{Path: "create-key", Operation: policy.OpCreateKey, Handle: d.createKey, Fields: createKeyFields},
		dialect.Route{Path: "describe-key", Operation: policy.OpDescribeKey, Handle: d.describeKey, Fields: fields(namedKey)},
		dialect.Route{Path: "list-keys", Operation: policy.OpListKeys, Handle: d.listKeys, Fields: listKeysFields},
		dialect.Route{Path: "enable-key", Operation: policy.OpEnableKey, Handle: d.enableKey, Fields: fields(idOfKey)},
		dialect.Route{Path: "disable-key", Operation: policy.OpDisableKey, Handle: d.disableKey, Fields: fields(idOfKey)},
		dialect.Route{Path: "schedule-key-deletion", Operation: policy.OpScheduleDeletion, Handle: d.scheduleDeletion, Fields: fields(idOfKey, pendingDays)},
		dialect.Route{Path: "cancel-key-deletion", Operation: policy.OpCancelDeletion, Handle: d.cancelDeletion, Fields: fields(idOfKey)},
		dialect.Route{Path: "update-key-alias", Operation: policy.OpUpdateAlias, Handle: d.updateAlias, Fields: fields(idOfKey, keyAlias)},
		dialect.Route{Path: "update-key-description", Operation: policy.OpUpdateDescription, Handle: d.updateDescription, Fields: fields(idOfKey, newDescription)},

		dialect.Route{Path: "create-datakey", Operation: policy.OpCreateDataKey, Handle: d.createDataKey, Body: dialect.DataBody, Fields: dataKeyFields},
		dialect.Route{Path: "create-datakey-without-plaintext", Operation: policy.OpCreateDataKeyNoText, Handle: d.createDataKey, Body: dialect.DataBody, Fields: dataKeyFields},
		dialect.Route{Path: "encrypt-datakey", Operation: policy.OpEncryptDataKey, Handle: d.encryptDataKey, Body: dialect.DataBody, Fields: encryptDataKeyFields},
		dialect.Route{Path: "decrypt-datakey", Operation: policy.OpDecryptDataKey, Handle: d.decryptDataKey, Body: dialect.DataBody, Fields: decryptDataKeyFields},
		dialect.Route{Path: "create-rsa-datakey-pair", Operation: policy.OpCreateRSAKeyPair, Handle: d.createKeyPair, Fields: rsaPairFields},
		dialect.Route{Path: "create-ec-datakey-pair", Operation: policy.OpCreateECKeyPair, Handle: d.createKeyPair, Fields: ecPairFields},

		dialect.Route{Path: "encrypt-data", Operation: policy.OpEncryptData, Handle: d.encryptData, Body: dialect.DataBody, Fields: encryptDataFields},
		dialect.Route{Path: "decrypt-data", Operation: policy.OpDecryptData, Handle: d.decryptData, Body: dialect.DataBody, Fields: decryptDataFields},
		dialect.Route{Path: "re-encrypt", Operation: policy.OpReEncrypt, Handle: d.reEncrypt, Body: dialect.DataBody, Fields: reEncryptFields},
		dialect.Route{Path: "sign", Operation: policy.OpSign, Handle: d.sign, Body: dialect.DataBody, Fields: signFields},
		dialect.Route{Path: "verify", Operation: policy.OpVerify, Handle: d.verify, Body: dialect.DataBody, Fields: verifyFields},
		dialect.Route{Path: "get-publickey", Operation: policy.OpGetPublicKey, Handle: d.getPublicKey, Fields: fields(namedKey)},
		dialect.Route{Path: "generate-mac", Operation: policy.OpGenerateMAC, Handle: d.generateMAC, Body: dialect.DataBody, Fields: macFields},
		dialect.Route{Path: "verify-mac", Operation: policy.OpVerifyMAC, Handle: d.verifyMAC, Body: dialect.DataBody, Fields: verifyMACFields},
		dialect.Route{Path: "derive-shared-secret", Operation: policy.OpDeriveSharedSecret, Handle: d.deriveSharedSecret, Fields: deriveFields},
		dialect.Route{Path: "gen-random", Operation: policy.OpGenRandom, Handle: d.genRandom, Fields: fields(randomLength)},

		dialect.Route{Path: "get-parameters-for-import", Operation: policy.OpGetImportParameters, Handle: d.importParameters, Fields: importParametersFields},
		dialect.Route{Path: "import-key-material", Operation: policy.OpImportMaterial, Handle: d.importMaterial, Body: dialect.DataBody, Fields: importFields},
		dialect.Route{Path: "delete-imported-key-material", Operation: policy.OpDeleteMaterial, Handle: d.deleteMaterial, Fields: fields(idOfKey)},

		dialect.Route{Path: "enable-key-rotation", Operation: policy.OpEnableRotation, Handle: d.enableRotation, Fields: fields(idOfKey)},
		dialect.Route{Path: "update-key-rotation-interval", Operation: policy.OpUpdateRotation, Handle: d.updateRotation, Fields: fields(idOfKey, rotationInterval)},
		dialect.Route{Path: "disable-key-rotation", Operation: policy.OpDisableRotation, Handle: d.disableRotation, Fields: fields(idOfKey)},
		dialect.Route{Path: "get-key-rotation-status", Operation: policy.OpGetRotation, Handle: d.rotationStatus, Fields: fields(idOfKey)},

		dialect.Route{Method: get, Path: "{key_id}/tags", Operation: policy.OpListKeyTags, Handle: d.keyTags, Fields: fields(idInPath)},
		dialect.Route{Path: "{key_id}/tags", Operation: policy.OpTagKey, Handle: d.createTag, Status: 204, Fields: fields(idInPath, oneTag)},
		dialect.Route{Path: "{key_id}/tags/action", Operation: policy.OpTagKey, Handle: d.changeTags, Status: 204, Fields: fields(idInPath, tagAction, someTags), Asked: tagsAsked},
		dialect.Route{Method: del, Path: "{key_id}/tags/{key}", Operation: policy.OpUntagKey, Handle: d.deleteTag, Status: 204, Fields: fields(idInPath, tagInPath)},
		dialect.Route{Method: get, Path: "tags", Operation: policy.OpListTags, Handle: d.projectTags},
		dialect.Route{Path: "resource_instances/action", Operation: policy.OpFindKeys, Handle: d.findKeys, Body: dialect.DataBody, Fields: findKeysFields},

		dialect.Route{Path: "aliases", Operation: policy.OpCreateAlias, Handle: d.createAlias, Status: 201, Fields: fields(idOfKey, alias)},
		dialect.Route{Method: get, Path: "aliases", Operation: policy.OpListAliases, Handle: d.listAliases, Fields: listAliasesFields},
		dialect.Route{Method: del, Path: "aliases", Operation: policy.OpDeleteAlias, Handle: d.deleteAliases, Body: dialect.DataBody, Status: 204, Fields: fields(idOfKey, someAliases)},
		dialect.Route{Path: "alias/associate", Operation: policy.OpAssociateAlias, Handle: d.associateAlias, Fields: fields(targetKey, alias)},

		dialect.Route{Path: "create-grant", Operation: policy.OpCreateGrant, Handle: d.createGrant, Body: dialect.DataBody, Fields: createGrantFields},
		dialect.Route{Path: "list-grants", Operation: policy.OpListGrants, Handle: d.listGrants, Fields: listGrantFields},
		dialect.Route{Path: "list-retirable-grants", Operation: policy.OpListRetirableGrants, Handle: d.listRetirableGrants, Fields: retirableFields},
		dialect.Route{Path: "revoke-grant", Operation: policy.OpRevokeGrant, Handle: d.revokeGrant, Fields: oneGrantFields},
		dialect.Route{Path: "retire-grant", Operation: policy.OpRetireGrant, Handle: d.retireGrant, Fields: oneGrantFields},

		dialect.Route{Method: get, Path: "user-instances", Operation: policy.OpGetInstances, Handle: d.userInstances},
		dialect.Route{Method: get, Path: "user-quotas", Operation: policy.OpGetQuotas, Handle: d.userQuotas},
	)
}

// tagsAsked is the operation on the one path where the body says which it is.
func tagsAsked(x *dialect.Exchange) policy.Operation {
	if string(x.Text(tagAction)) == deleteTags {
		return policy.OpUntagKey
	}
	return policy.OpTagKey
}

// Served lists what the dialect serves, for documentation. Paths begin at the project, with those exceptions that begin
// with a slash.
func Served() []dialect.Served {
	routes := new(Dialect).routes()
	served := make([]dialect.Served, 0, len(routes)+2)
	for i := range routes {
		served = append(served, dialect.Served{Method: routes[i].Method, Path: routes[i].Path, Operation: routes[i].Operation})
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
	d := &Dialect{cfg: cfg, urn: "kms:" + cfg.Region + ":" + cfg.DomainID + ":alias:"}
	d.table = newTable(d.routes())
	return d
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
	if rt.Status == http.StatusOK && len(x.Out) == 0 {
		x.Out = append(x.Out, "{}"...) // strict clients decode every answer that may have a body
	}
	x.Send(w, rt.Status)
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
func (d *Dialect) serve(rt *dialect.Route, project string, vars []dialect.Var, r *http.Request, x *dialect.Exchange) error {
	return d.operate(Name, rt.Operation, r, x, func(ctx context.Context, call *kms.Call, asked *policy.Operation) error {
		err := d.authenticate(ctx, call, rt.Body, r, x)
		if err == nil && project != d.cfg.ProjectID {
			err = errProject
		}
		if err == nil {
			err = decodeError(x.Decode(r, rt.Body))
		}
		if err == nil {
			err = fieldError(x.ReadFields(rt.Fields, r, vars))
			*asked = rt.OperationOf(x)
		}
		if err == nil {
			err = rt.Handle(ctx, *asked, x)
		}
		return misread(x, err)
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
	x.OnMisread(cancel)
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
	exact    map[string][]*dialect.Route // paths without variables
	variable map[string][]*dialect.Route // paths as the table of routes has them
}

func newTable(routes []dialect.Route) table {
	t := table{map[string][]*dialect.Route{}, map[string][]*dialect.Route{}}
	for i := range routes {
		rt := &routes[i]
		if strings.Contains(rt.Path, "{") {
			t.variable[rt.Path] = append(t.variable[rt.Path], rt)
		} else {
			t.exact[rt.Path] = append(t.exact[rt.Path], rt)
		}
	}
	return t
}

// find returns the route of a request, the project that its path names, and what the variables of the path stand for. A
// slash that is percent-encoded separates nothing.
func (t *table) find(r *http.Request) (rt *dialect.Route, project string, vars []dialect.Var, err error) {
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
		if rt.Method == r.Method {
			return rt, project, vars, nil
		}
	}
	return nil, "", nil, errMethod
}

// match returns the routes whose path has variables and fits. A tag may be named "action", so both of its routes fit there.
func (t *table) match(tail string, encoded bool) ([]*dialect.Route, []dialect.Var, error) {
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
