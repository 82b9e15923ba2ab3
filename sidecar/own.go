package sidecar

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/audit"
	client "github.com/keyside/keyside/sidecar/client/old"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/hsm"
	"github.com/keyside/keyside/sidecar/kms"
)

// own are the operations of Keyside's own: access keys, tokens, decisions explained, the state of the HSM,
// and the audit log. They are decided and recorded like
// the KMS's, and only for callers on the Unix socket: what they show and give away never crosses a port, and a token that
// was stolen there makes no new ones.
type own struct {
	core    *kms.Service
	backend *hsm.Backend
	users   *policy.Users
	project string

	audit    *audit.Log
	verifier chan struct{} // holds one: a verification at a time
	log      *slog.Logger
	draining context.Context // ends when the process is about to
}

// The fields of requests. What is wrong with a value is KMS.0308, as in the Huawei dialect; the core knows the forms.
var (
	userField      = &dialect.TextField{Name: "user", Required: true, Code: invalid}
	tokenUserField = &dialect.TextField{Name: "user", Code: invalid}
	roleField      = &dialect.TextField{Name: "role", Required: true, Form: &roleForm, Code: invalid}
	secondsField   = &dialect.NumberField{Name: "ttl_seconds", Low: 0, High: 86400, Code: invalid}
	operationField = &dialect.TextField{Name: "operation", Required: true, Low: 1, High: 64, Code: invalid}
	keyField       = &dialect.TextField{Name: "key", Low: 1, High: 261, Code: invalid}
	asField        = &dialect.TextField{Name: "as", Low: 1, High: 64, Code: invalid}
	contextField   = &dialect.PairsField{Name: "encryption_context", High: 32 << 10, As: "context", Code: "KMS.0208"}
	accessKeyField = &dialect.TextField{Name: "access_key", In: dialect.Query, Required: true, Low: 1, High: 64, Code: invalid}

	roleForm = dialect.Form{
		OK:     func(text []byte) bool { _, ok := parseRole(string(text)); return ok },
		Reason: "must be administrator, user, auditor, " + client.RoleService + "NAME or " + client.RoleNone,
	}
)

const invalid = "KMS.0308"

// ownRoute is one operation of Keyside's own.
type ownRoute struct {
	method, path string
	operation    policy.Operation
	fields       []dialect.Field
	do           func(*own, context.Context, *dialect.Exchange) error
}

// ownRoutes is every operation of Keyside's own.
var ownRoutes = []ownRoute{
	{http.MethodPost, client.CredentialsPath, policy.OpCreateCredential, dialect.Fields(userField, roleField), (*own).createCredential},
	{http.MethodGet, client.CredentialsPath, policy.OpListCredentials, nil, (*own).listCredentials},
	{http.MethodDelete, client.CredentialsPath, policy.OpDeleteCredential, dialect.Fields(accessKeyField), (*own).deleteCredential},
	{http.MethodPost, client.TokensPath, policy.OpCreateToken, dialect.Fields(tokenUserField, secondsField), (*own).createToken},
	{http.MethodPost, client.CanIPath, policy.OpCanI, dialect.Fields(operationField, keyField, asField, contextField), (*own).canI},
	{http.MethodGet, client.HSMStatusPath, policy.OpHSMStatus, nil, (*own).hsmStatus},
	{http.MethodPost, client.AuditQueryPath, policy.OpReadAudit, auditQueryFields, (*own).queryAudit},
	{http.MethodPost, client.AuditVerifyPath, policy.OpReadAudit, auditVerifyFields, (*own).verifyAudit},
	{http.MethodPost, client.AuditExportPath, policy.OpReadAudit, nil, (*own).exportAudit},
}

// handlers registers the operations with a router. cloud authenticates senders, and has the words for errors.
func (o *own) handlers(router *dialect.Router, cloud *huawei.Dialect) {
	var routes []dialect.Route
	for _, r := range ownRoutes {
		routes = append(routes, dialect.Route{
			Method: r.method, Path: r.path, Operation: r.operation, Fields: r.fields, SocketOnly: true,
			Handle: func(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error { return r.do(o, ctx, x) },
		})
	}
	server := cloud.Beside("keyside", dialect.Routes(routes...))
	for _, r := range routes {
		router.Handle(r.Method, r.Path, server)
	}
}

func (o *own) createCredential(ctx context.Context, x *dialect.Exchange) error {
	who, _ := parseRole(string(x.Text(roleField)))
	n, err := o.core.CreateCredential(ctx, kms.CreateCredentialInput{
		User: string(x.Text(userField)), Role: who.Role, Service: who.Service,
	})
	if err != nil {
		return err
	}
	defer clear(n.Secret)
	x.Grow(512)                                                                       // so that no copy of the secret is left where the buffer was
	x.Out = append(append(append(x.Out, `{"secret_key":"`...), n.Secret...), `",`...) // letters and digits
	credential := viewOf(&n.Credential)
	credential.ProjectID = o.project
	return appendRest(x, credential)
}

func (o *own) listCredentials(ctx context.Context, x *dialect.Exchange) error {
	list, err := o.core.ListCredentials(ctx)
	if err != nil {
		return err
	}
	views := make([]client.Credential, len(list))
	for i, c := range list {
		views[i] = viewOf(c)
	}
	return appendJSON(x, map[string][]client.Credential{"credentials": views})
}

func (o *own) deleteCredential(ctx context.Context, x *dialect.Exchange) error {
	if err := o.core.DeleteCredential(ctx, string(x.Text(accessKeyField))); err != nil {
		return err
	}
	x.Out = append(x.Out, "{}"...)
	return nil
}

func (o *own) createToken(ctx context.Context, x *dialect.Exchange) error {
	n, err := o.core.CreateToken(ctx, kms.CreateTokenInput{
		User: string(x.Text(tokenUserField)), TTL: time.Duration(x.Number(secondsField)) * time.Second,
	})
	if err != nil {
		return err
	}
	defer clear(n.Text)
	x.Grow(512)
	x.Out = append(append(append(x.Out, `{"token":"`...), n.Text...), `",`...) // base64url
	return appendRest(x, client.Token{User: n.User, Role: roleOf(n.Role, n.Service), Expires: n.ExpiresAt})
}

func (o *own) canI(ctx context.Context, x *dialect.Exchange) error {
	out, err := o.core.CanI(ctx, kms.CanIInput{
		Operation: policy.Operation(x.Text(operationField)), Key: string(x.Text(keyField)),
		As: string(x.Text(asField)), Context: x.Pairs(contextField),
	})
	if err != nil {
		return err
	}
	d := out.Decision
	answer := client.Decision{
		Allowed: d.Allow, By: d.By, Reason: d.Reason, Hints: out.Hints, User: out.Principal.Name,
		Role: roleOf(out.Principal.Role, out.Principal.Service),
	}
	if !out.ForOther {
		answer.Caller = o.callerOf(kms.CallFrom(ctx))
	}
	return appendJSON(x, answer)
}

// callerOf is who calls, as the caller is shown it, and by what that makes somebody: an access key or a token, or else
// selectors.
func (o *own) callerOf(call *kms.Call) *client.Caller {
	c := &call.Caller
	view := &client.Caller{UID: c.UID, GID: c.GID, PID: c.PID, AccessKey: call.AccessKey, Token: call.Token}
	if call.AccessKey == "" && !call.Token {
		view.Selectors = o.users.Of(*c).Source.Selectors()
	}
	if p := c.Process; p != nil {
		view.Groups, view.Unit, view.Pod, view.Container, view.Exe = p.Groups, p.Unit, p.Pod, p.Container, p.Exe
	}
	return view
}

func (o *own) hsmStatus(ctx context.Context, x *dialect.Exchange) error {
	if err := o.core.Admit(ctx, policy.OpHSMStatus); err != nil {
		return err
	}
	return appendJSON(x, o.backend.Status(ctx))
}

func appendJSON(x *dialect.Exchange, v any) error {
	b, err := json.Marshal(v)
	x.Out = append(x.Out, b...)
	return err
}

// appendRest appends the members of an object that has begun.
func appendRest(x *dialect.Exchange, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		x.Out = append(x.Out, b[1:]...)
	}
	return err
}

func viewOf(c *kms.Credential) client.Credential {
	return client.Credential{AccessKey: c.AccessKey, User: c.User, Role: roleOf(c.Role, c.Service), Created: c.CreatedAt}
}

// roleOf is how a role is written.
func roleOf(role policy.Role, service string) string {
	switch {
	case service != "":
		return client.RoleService + service
	case role != policy.None:
		return string(role)
	default:
		return client.RoleNone
	}
}

func parseRole(text string) (p policy.Principal, ok bool) {
	switch service, isService := strings.CutPrefix(text, client.RoleService); {
	case isService:
		return policy.Principal{Service: service}, service != ""
	case text == client.RoleNone:
		return policy.Principal{}, true
	default:
		p.Role = policy.Role(text)
		return p, p.Role != policy.None && slices.Contains(policy.Roles, p.Role)
	}
}
