package huawei

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Kinds of grantees.
const (
	granteeUser    = "user"
	granteeAccount = "domain"
)

// grantsPage is the most grants on one page, and how many there are where the request does not say.
const grantsPage = 100

// The fields of grants. Operations are this cloud's nine and Keyside's own; which there are is the core's to say. The
// constraints are Keyside's: this cloud has none, and its clients know nothing of them.
var (
	grantee = &dialect.TextField{
		Name: "grantee_principal", Required: true, Low: 1, High: 64, As: "grantee", Code: codeGrantee, Core: kms.CodeInvalidGrant,
	}
	granteeType       = &dialect.TextField{Name: "grantee_principal_type", Values: []string{granteeUser, granteeAccount}, Code: codeParameter}
	operations        = &dialect.TextsField{Name: "operations", Required: true, Low: 1, High: dialect.Unbounded, Code: codeParameter}
	grantName         = &dialect.TextField{Name: "name", Low: 1, High: 255, Code: codeParameter}
	retiringPrincipal = &dialect.TextField{
		Name: "retiring_principal", Low: 1, High: 64, As: "retiring", Code: codeGrantee, Core: kms.CodeInvalidGrant,
	}
	contextEquals     = &dialect.PairsField{Name: "encryption_context_equals", As: "context", Code: codeContext}
	contextSubset     = &dialect.PairsField{Name: "encryption_context_subset", Code: codeContext}
	expiresAt         = &dialect.NumberField{Name: "expires_at", Low: 1, High: lastSecond, Code: codeParameter}
	source            = &dialect.TextField{Name: "source", Low: 1, High: maxSource, Code: codeParameter}
	createGrantFields = fields(
		idOfKey, grantee, granteeType, operations, grantName, retiringPrincipal, contextEquals, contextSubset, expiresAt, source,
	)
	listGrantFields = fields(idOfKey, limitTo(grantsPage), marker)
	retirableFields = fields(limitTo(grantsPage), marker)

	grantID        = &dialect.TextField{Name: "grant_id", Required: true, Form: &grantForm, Code: codeGrantID, Core: kms.CodeNotFound}
	oneGrantFields = fields(idOfKey, grantID)
	grantForm      = dialect.Form{OK: isGrantID, Reason: "must be 64 hexadecimal digits"}
)

// maxSource has room for one selector of each kind, the longest of which is a path.
const maxSource = 5000

func isGrantID(text []byte) bool { return len(text) == 64 && len(bytes.Trim(text, hexDigits)) == 0 }

const hexDigits = "0123456789abcdefABCDEF"

func (d *Dialect) createGrant(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in := kms.CreateGrantInput{
		Grantee: string(x.Text(grantee)), Account: string(x.Text(granteeType)) == granteeAccount,
		Name: string(x.Text(grantName)), Retiring: string(x.Text(retiringPrincipal)),
		Operations:  dialect.Each(x.Texts(operations), func(name []byte) policy.Operation { return policy.Operation(name) }),
		Constraints: policy.Constraints{Source: policy.Source(x.Text(source))},
	}
	switch {
	case x.Has(contextEquals) && x.Has(contextSubset):
		return refuse(codeContext, kms.CodeInvalidRequest, "encryption_context_subset", "is not for a grant with encryption_context_equals")
	case x.Has(contextEquals):
		in.Constraints.Context, in.Constraints.Exact = x.Pairs(contextEquals), true
	default:
		in.Constraints.Context = x.Pairs(contextSubset)
	}
	if x.Has(expiresAt) {
		in.Constraints.Expires = time.Unix(x.Number(expiresAt), 0)
	}
	var err error
	if in.KeyID, err = d.key(ctx, op, x, idOfKey); err != nil {
		return err
	}
	return answer(x, func(g *policy.Grant) map[string]string {
		return map[string]string{"grant_id": g.ID}
	})(d.cfg.Core.CreateGrant(ctx, in))
}

func (d *Dialect) listGrants(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, grantsOf)(d.cfg.Core.ListGrants(ctx, id, int(x.Number(marker)), int(x.Number(limit))))
}

func (d *Dialect) listRetirableGrants(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	return answer(x, grantsOf)(d.cfg.Core.ListRetirableGrants(ctx, int(x.Number(marker)), int(x.Number(limit))))
}

func (d *Dialect) revokeGrant(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return d.cfg.Core.RevokeGrant(ctx, id, lowerGrantID(x))
}

func (d *Dialect) retireGrant(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return d.cfg.Core.RetireGrant(ctx, id, lowerGrantID(x))
}

// lowerGrantID returns the id of a grant in the digits that grants have.
func lowerGrantID(x *dialect.Exchange) string { return strings.ToLower(string(x.Text(grantID))) }

// grantList is a page of grants.
type grantList struct {
	Grants []grantInfo `json:"grants"`
	page
}

func grantsOf(p *kms.GrantPage) grantList {
	return grantList{dialect.Each(p.Grants, grantOf), pageOf(p.Next, p.Total)}
}

// grantInfo is a grant: this cloud's members, and then Keyside's constraints where it has some.
type grantInfo struct {
	KeyID         string             `json:"key_id"`
	ID            string             `json:"grant_id"`
	Grantee       string             `json:"grantee_principal"`
	GranteeType   string             `json:"grantee_principal_type"`
	Operations    []policy.Operation `json:"operations"`
	Issuer        string             `json:"issuing_principal"`
	CreationDate  string             `json:"creation_date"`
	Name          string             `json:"name"`
	Retiring      string             `json:"retiring_principal"`
	ContextEquals map[string]string  `json:"encryption_context_equals,omitzero"`
	ContextSubset map[string]string  `json:"encryption_context_subset,omitzero"`
	ExpiresAt     string             `json:"expires_at,omitempty"`
	Source        string             `json:"source,omitempty"`
	Parent        string             `json:"parent_grant_id,omitempty"`
}

func grantOf(g *policy.Grant) grantInfo {
	c := &g.Constraints
	info := grantInfo{
		KeyID: kms.KeyID(g.Key).String(), ID: g.ID, Grantee: g.Grantee, GranteeType: granteeUser, Operations: g.Operations, Issuer: g.Issuer,
		CreationDate: millis(g.CreatedAt), Name: g.Name, Retiring: g.Retiring, Source: string(c.Source), Parent: g.Parent,
	}
	if g.Account {
		info.GranteeType = granteeAccount
	}
	switch {
	case c.Exact && c.Context == nil:
		info.ContextEquals = map[string]string{}
	case c.Exact:
		info.ContextEquals = c.Context
	case len(c.Context) > 0:
		info.ContextSubset = c.Context
	}
	if !c.Expires.IsZero() {
		info.ExpiresAt = strconv.FormatInt(c.Expires.Unix(), 10)
	}
	return info
}
