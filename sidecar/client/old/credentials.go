package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
)

// Paths of the management of access keys and tokens.
const (
	CredentialsPath = "/keyside/v1/credentials"
	TokensPath      = "/keyside/v1/tokens"
)

// Roles of access keys and tokens. RoleService is followed by the service's name.
const (
	RoleAdministrator = "administrator" // may do everything
	RoleUser          = "user"          // may use every customer key
	RoleAuditor       = "auditor"       // may see what is no content
	RoleService       = "service:"      // may use the default master key of a cloud service
	RoleNone          = "none"          // may do what grants and policies allow
)

// Credential is an access key. Its secret and the project are told once, when it is made.
type Credential struct {
	AccessKey string    `json:"access_key"`
	SecretKey string    `json:"secret_key,omitzero"`
	ProjectID string    `json:"project_id,omitzero"`
	User      string    `json:"user"`
	Role      string    `json:"role"`
	Created   time.Time `json:"created"`
}

// CreateCredential makes an access key for a user, with a role.
func (c *Client) CreateCredential(ctx context.Context, user, role string) (*Credential, error) {
	in := struct {
		Role string `json:"role"`
		User string `json:"user"`
	}{role, user}
	out := new(Credential)
	if err := c.own(ctx, CredentialsPath, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// ListCredentials returns the access keys in order of creation.
func (c *Client) ListCredentials(ctx context.Context) ([]Credential, error) {
	var out struct {
		Credentials []Credential `json:"credentials"`
	}
	err := c.do(ctx, http.MethodGet, CredentialsPath, nil, &out)
	return out.Credentials, err
}

// DeleteCredential takes an access key away, and all tokens of its user.
func (c *Client) DeleteCredential(ctx context.Context, accessKey string) error {
	return c.do(ctx, http.MethodDelete, CredentialsPath+"?access_key="+url.QueryEscape(accessKey), nil, nil)
}

// Token is a token, which is told once, with what it stands for.
type Token struct {
	Token   string    `json:"token,omitzero"`
	User    string    `json:"user"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires"`
}

// CreateToken makes a token of a user, empty for the caller itself, that lives so long, 0 for an hour.
func (c *Client) CreateToken(ctx context.Context, user string, ttl time.Duration) (*Token, error) {
	in := struct {
		Seconds int64  `json:"ttl_seconds"`
		User    string `json:"user,omitzero"`
	}{int64(ttl / time.Second), user}
	out := new(Token)
	if err := c.own(ctx, TokensPath, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// own does one POST of Keyside's own.
func (c *Client) own(ctx context.Context, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return c.do(ctx, http.MethodPost, path, body, out)
}
