package keyside

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) createGrant(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in := kms.CreateGrantInput{
		Grantee: string(x.Text(grantee)), Account: x.Flag(account, false), Name: string(x.Text(grantName)), Retiring: string(x.Text(retiring)),
		Constraints: policy.Constraints{
			Context: x.Pairs(encryptionContext), Exact: x.Flag(contextExact, false), Expires: timeIn(x, expiresAt),
			Source: policy.Source(x.Text(source)),
		},
	}
	for _, name := range x.Texts(operations) {
		operation, known := policy.ParseOperation(string(name))
		if !known {
			return d.cfg.Core.Refuse(ctx, op, kms.Invalid(operations.Name, kms.ReasonUnknown, "%q is not an operation", name))
		}
		in.Operations = append(in.Operations, operation)
	}
	var err error
	if in.KeyID, err = d.key(ctx, op, x, keyID); err != nil {
		return err
	}
	g, err := d.cfg.Core.CreateGrant(ctx, in)
	return answerWith(x, err, g, grantOf)
}

func (d *Dialect) listGrants(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	page, err := d.cfg.Core.ListGrants(ctx, id, offset(x), int(x.Number(anyLimit)))
	return answerWith(x, err, page, grantPage)
}

func (d *Dialect) listRetirableGrants(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	page, err := d.cfg.Core.ListRetirableGrants(ctx, offset(x), int(x.Number(anyLimit)))
	return answerWith(x, err, page, grantPage)
}

func grantPage(p *kms.GrantPage) client.GrantPage {
	return client.GrantPage{Grants: dialect.Each(p.Grants, grantOf), Total: p.Total, NextMarker: markerOf(p.Next)}
}

func (d *Dialect) revokeGrant(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onGrant(ctx, op, x, d.cfg.Core.RevokeGrant)
}

func (d *Dialect) retireGrant(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onGrant(ctx, op, x, d.cfg.Core.RetireGrant)
}

func (d *Dialect) onGrant(
	ctx context.Context, op policy.Operation, x *dialect.Exchange, do func(context.Context, kms.KeyID, string) error,
) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	return do(ctx, id, string(x.Text(grantID)))
}

func (d *Dialect) canI(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	asked, known := policy.ParseOperation(string(x.Text(operation)))
	if !known {
		return d.cfg.Core.Refuse(ctx, op, kms.Invalid(operation.Name, kms.ReasonUnknown, "%q is not an operation", x.Text(operation)))
	}
	out, err := d.cfg.Core.CanI(ctx, kms.CanIInput{
		Operation: asked, Key: string(x.Text(askedKey)), As: string(x.Text(askedUser)), Context: x.Pairs(encryptionContext),
	})
	return answerWith(x, err, out, func(out *kms.CanIOutput) client.Decision {
		answer := client.Decision{
			Allowed: out.Decision.Allow, By: out.Decision.By, Reason: out.Decision.Reason, Hints: out.Hints, User: out.Principal.Name,
			Role: roleOf(out.Principal.Role, out.Principal.Service),
		}
		if !out.ForOther {
			answer.Caller = d.callerOf(kms.CallFrom(ctx))
		}
		return answer
	})
}

// callerOf shows a caller what Keyside knows of it: its process, and the access key, the token or the selectors that make
// it a principal.
func (d *Dialect) callerOf(call *kms.Call) *client.Caller {
	c := &call.Caller
	view := &client.Caller{UID: c.UID, GID: c.GID, PID: c.PID, AccessKey: call.AccessKey, Token: call.Token}
	if call.AccessKey == "" && !call.Token {
		view.Selectors = d.cfg.Users.Of(*c).Source.Selectors()
	}
	if p := c.Process; p != nil {
		view.Groups, view.Unit, view.Pod, view.Container, view.Exe = p.Groups, p.Unit, p.Pod, p.Container, p.Exe
	}
	return view
}

// createCredential appends the secret, which is letters and digits, by hand.
func (d *Dialect) createCredential(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	who, _ := parseRole(string(x.Text(role))) // its form is checked
	in := kms.CreateCredentialInput{User: string(x.Text(user)), Role: who.Role, Service: who.Service}
	for _, name := range x.Texts(dialects) {
		if !slices.Contains(d.cfg.Dialects, string(name)) || slices.Contains(in.Dialects, string(name)) {
			return &dialect.Refusal{Core: kms.Invalid("dialects", kms.ReasonUnknown, "must be some of %s, each once", strings.Join(d.cfg.Dialects, ", "))}
		}
		in.Dialects = append(in.Dialects, string(name))
	}
	n, err := d.cfg.Core.CreateCredential(ctx, in)
	if err != nil {
		return err
	}
	defer clear(n.Secret)
	return answerSecret(x, `{"secret_key":"`, n.Secret, credentialOf(&n.Credential))
}

// createToken appends the token, which is base64url, by hand.
func (d *Dialect) createToken(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	n, err := d.cfg.Core.CreateToken(ctx, kms.CreateTokenInput{
		User: string(x.Text(optionalUser)), TTL: time.Duration(x.Number(ttl)) * time.Second,
	})
	if err != nil {
		return err
	}
	defer clear(n.Text)
	return answerSecret(x, `{"token":"`, n.Text, tokenRest{User: n.User, Role: roleOf(n.Role, n.Service), Expires: n.ExpiresAt})
}

// tokenRest is client.Token without the token.
type tokenRest struct {
	User    string    `json:"user"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires_at"`
}

// answerSecret answers with a secret, which needs no escapes, and the members of rest. The buffer does not move, so that no
// copy of the secret is left behind.
func answerSecret(x *dialect.Exchange, literal string, secret []byte, rest any) error {
	b, err := json.Marshal(rest)
	if err != nil {
		return err
	}
	x.Grow(len(literal) + len(secret) + len(b) + 2)
	x.Out = append(append(append(x.Out, literal...), secret...), `",`...)
	x.Out = append(x.Out, b[1:]...)
	return nil
}

func (d *Dialect) listCredentials(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	list, err := d.cfg.Core.ListCredentials(ctx)
	return answerWith(x, err, list, func(list []*kms.Credential) client.Credentials {
		return client.Credentials{Credentials: dialect.Each(list, credentialOf)}
	})
}

func (d *Dialect) deleteCredential(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	return d.cfg.Core.DeleteCredential(ctx, string(x.Text(accessKey)))
}

func (d *Dialect) getHSMStatus(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	if err := d.cfg.Core.Admit(ctx, op); err != nil {
		return err
	}
	return x.JSON(d.cfg.HSMStatus(ctx))
}

// roleOf returns the name of a role.
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

// parseRole returns the role with a name.
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
