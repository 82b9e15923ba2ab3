package huawei

import (
	"context"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
)

// Proofs are those by which the cloud's clients show who sends a request.
func Proofs() []dialect.Proof {
	return []dialect.Proof{{Header: headerAuthorization, Check: checkSignature}, {Header: headerToken, Check: checkToken}}
}

// Look-ups are the two requests to the cloud's identity service with which a client finds its project and domain, unless it is
// configured with them. They are signed and recorded like operations: what they answer is no secret, but whoever has found an access
// key would try it here first.
const (
	projectsPath = "/v3/projects"
	domainsPath  = "/v3/auth/domains"

	opListProjects policy.Operation = "list-projects"
	opListDomains  policy.Operation = "list-domains"
)

// regionName is the region that a client takes itself to be in.
var regionName = &dialect.TextField{Name: "name", In: dialect.Query, Low: 1, High: 64, Code: codeParameter}

// listProjects answers with the one project, which is in every region that is asked for: clients look for the one of their
// region's name.
func (d *Dialect) listProjects(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	region := string(x.Text(regionName))
	if region == "" {
		region = d.cfg.Region
	}
	return d.lookUp(ctx, op, x, map[string][]place{"projects": {{d.cfg.ProjectID, region}}})
}

func (d *Dialect) listDomains(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.lookUp(ctx, op, x, map[string][]place{"domains": {{d.cfg.DomainID, d.cfg.DomainID}}})
}

// place is a project or a domain.
type place struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

func (d *Dialect) lookUp(ctx context.Context, op policy.Operation, x *dialect.Exchange, places map[string][]place) error {
	if err := d.cfg.Core.Admit(ctx, op); err != nil {
		return err
	}
	return x.JSON(places)
}
