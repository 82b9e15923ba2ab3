package huawei

import (
	"context"
	"net/http"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Headers that say who sends a request, and for which project.
const (
	headerAuthorization = "Authorization"
	headerToken         = "X-Auth-Token"
	headerProject       = "X-Project-Id"
)

// checkSignature authenticates the owner of the access key that signed the request.
func checkSignature(ctx context.Context, c *dialect.Claim) error {
	s, err := parseSignature(c.Value)
	if err != nil {
		return err
	}
	c.Call.AccessKey = s.accessKey
	body, err := c.Body()
	if err != nil {
		return err
	}
	text, err := s.text(c.Request, body, c.Now())
	if err != nil {
		return err
	}
	return c.Signed(ctx, s.accessKey, func(secret []byte) bool { return s.verify(text, secret) })
}

// checkToken authenticates the user of a token.
func checkToken(ctx context.Context, c *dialect.Claim) error {
	if c.Value == "" {
		return errNoToken
	}
	return c.Token(ctx, c.Value)
}

// inProject refuses requests that name another project than the one that is served, in a header or in the path.
func (d *Dialect) inProject(r *http.Request, x *dialect.Exchange) error {
	for _, project := range r.Header[headerProject] {
		if project != d.cfg.ProjectID {
			return errOtherProject
		}
	}
	if project, ok := x.PathVariable(projectVariable); ok && project != d.cfg.ProjectID {
		return errProject
	}
	return nil
}

// Refusals that do not depend on a secret.
var (
	errNoToken = &dialect.Refusal{
		Answer: dialect.Answer{Status: http.StatusForbidden, Code: "KMS.0301"}, Core: kms.Errorf(kms.CodeUnauthenticated, "token is empty"),
	}
	errProject = &dialect.Refusal{
		Answer: otherProject, Core: kms.Errorf(kms.CodeDenied, "project in the path is not the caller's"),
	}
	errOtherProject = &dialect.Refusal{
		Answer: otherProject, Core: kms.Errorf(kms.CodeDenied, "X-Project-Id is not the caller's project"),
	}

	otherProject = dialect.Answer{Status: http.StatusForbidden, Code: "KMS.0321"}
)
