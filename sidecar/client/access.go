package client

import (
	"context"
	"strings"
	"time"
)

// Grant allows a user, or all users of an account, some operations on one key.
type Grant struct {
	ID         string    `json:"grant_id"`
	KeyID      string    `json:"key_id"`
	Grantee    string    `json:"grantee"`
	Account    bool      `json:"account,omitzero"` // Grantee is an account
	Operations []string  `json:"operations"`
	Name       string    `json:"name,omitzero"`
	Retiring   string    `json:"retiring,omitzero"` // a user who may retire it beside its issuer
	Issuer     string    `json:"issuer"`
	Created    time.Time `json:"created_at"`
	Parent     string    `json:"parent_grant_id,omitzero"` // the grant that allowed the issuer to create this one
	Constraints
}

// Constraints limit a grant. The zero value does not.
type Constraints struct {
	Context      map[string]string `json:"context,omitempty"`      // pairs that the encryption context must have
	ContextExact bool              `json:"context_exact,omitzero"` // it must have no others
	Expires      time.Time         `json:"expires_at,omitzero"`    // to the second; zero: never
	Source       string            `json:"source,omitzero"`        // selectors of callers with commas, such as uid:N,unit:NAME
}

// CreateGrantRequest describes a new grant.
type CreateGrantRequest struct {
	KeyID      string   `json:"key_id"`
	Grantee    string   `json:"grantee"`
	Account    bool     `json:"account,omitzero"` // Grantee is an account
	Operations []string `json:"operations"`
	Name       string   `json:"name,omitzero"`
	Retiring   string   `json:"retiring,omitzero"` // a user who may retire it
	Constraints
}

// CreateGrant creates a grant. Errors: ErrInvalidGrant, ErrQuotaExceeded.
func (c *Client) CreateGrant(ctx context.Context, req CreateGrantRequest) (*Grant, error) {
	return call[Grant](ctx, c, "create-grant", req)
}

// ListGrantsRequest selects the grants of a key.
type ListGrantsRequest struct {
	KeyID string `json:"key_id"`
	Page
}

// GrantPage is a page of grants.
type GrantPage struct {
	Grants     []Grant `json:"grants"`
	Total      int     `json:"total"`                // on all pages
	NextMarker string  `json:"next_marker,omitzero"` // empty: this is the last page
}

// Part returns the elements of the page and NextMarker.
func (p *GrantPage) Part() ([]Grant, string) { return p.Grants, p.NextMarker }

// ListGrants returns one page of a key's grants in order of creation: up to 100, the default.
func (c *Client) ListGrants(ctx context.Context, req ListGrantsRequest) (*GrantPage, error) {
	return call[GrantPage](ctx, c, "list-grants", req)
}

// ListRetirableGrants returns one page of the grants that the caller may retire: up to 100, the default.
func (c *Client) ListRetirableGrants(ctx context.Context, page Page) (*GrantPage, error) {
	return call[GrantPage](ctx, c, "list-retirable-grants", page)
}

// GrantRequest names a grant.
type GrantRequest struct {
	KeyID   string `json:"key_id"`
	GrantID string `json:"grant_id"`
}

// RevokeGrant deletes a grant. Grants that its grantee issued stay.
func (c *Client) RevokeGrant(ctx context.Context, keyID, grantID string) error {
	return c.do(ctx, "revoke-grant", GrantRequest{keyID, grantID})
}

// RetireGrant deletes a grant that the caller holds, issued or may retire.
func (c *Client) RetireGrant(ctx context.Context, keyID, grantID string) error {
	return c.do(ctx, "retire-grant", GrantRequest{keyID, grantID})
}

// CanIRequest asks whether an operation would be allowed.
type CanIRequest struct {
	Operation string            `json:"operation"`
	Key       string            `json:"key,omitzero"` // id or alias, for an operation on a key
	As        string            `json:"as,omitzero"`  // another user; empty: the caller
	Context   map[string]string `json:"context,omitempty"`
}

// Decision is the answer, and why.
type Decision struct {
	Allowed bool     `json:"allowed"`
	By      string   `json:"by,omitzero"`     // the role, grant or policy that decided
	Reason  string   `json:"reason,omitzero"` // of a refusal
	Hints   []string `json:"hints,omitempty"`
	User    string   `json:"user"`
	Role    string   `json:"role"`
	Caller  *Caller  `json:"caller,omitzero"` // the calling process; nil if the answer is about another user
}

// Caller is what Keyside knows of the calling process. Empty fields are unknown or absent. It is identified by an access
// key, a token, or else by selectors of the configuration.
type Caller struct {
	AccessKey string   `json:"access_key,omitzero"`
	Token     bool     `json:"token,omitzero"`
	Selectors []string `json:"selectors,omitempty"`
	UID       uint32   `json:"uid"`
	GID       uint32   `json:"gid"`
	PID       int32    `json:"pid"`
	Groups    []uint32 `json:"groups,omitempty"` // supplementary
	Unit      string   `json:"unit,omitzero"`    // systemd unit of the system manager
	Pod       string   `json:"pod,omitzero"`     // uid of the Kubernetes pod
	Container string   `json:"container,omitzero"`
	Exe       string   `json:"exe,omitzero"`
}

// By returns what identifies the process as the user, in words.
func (c *Caller) By() string {
	switch {
	case c.Token:
		return "a token"
	case c.AccessKey != "":
		return "access key " + c.AccessKey
	default:
		return strings.Join(c.Selectors, ", ")
	}
}

// CanI explains whether an operation would be allowed, without doing it.
func (c *Client) CanI(ctx context.Context, req CanIRequest) (*Decision, error) {
	return call[Decision](ctx, c, "can-i", req)
}

// Roles of access keys and tokens. RoleService is followed by the service's name.
const (
	RoleAdministrator = "administrator" // everything
	RoleUser          = "user"          // uses every customer key
	RoleAuditor       = "auditor"       // reads everything but content
	RoleService       = "service:"      // uses the default key of a cloud service
	RoleNone          = "none"          // what grants and policies allow
)

// Credential is an access key.
type Credential struct {
	AccessKey string    `json:"access_key"`
	User      string    `json:"user"`
	Role      string    `json:"role"`
	Created   time.Time `json:"created_at"`
	Dialects  []string  `json:"dialects,omitempty"` // whose requests it signs; absent: those of all
}

// NewCredential is a new access key with its secret, which cannot be read again.
type NewCredential struct {
	SecretKey string `json:"secret_key"`
	Credential
}

// CreateCredentialRequest describes a new access key.
type CreateCredentialRequest struct {
	User string `json:"user"`
	Role string `json:"role"`
	// Dialects are those whose requests it signs, by their names in the configuration; "keyside" is the native API. None: all.
	Dialects []string `json:"dialects,omitempty"`
}

// CreateCredential creates an access key for a user, with a role, that signs requests of some dialects or, if none is named, of all.
func (c *Client) CreateCredential(ctx context.Context, user, role string, dialects ...string) (*NewCredential, error) {
	return call[NewCredential](ctx, c, "create-credential", CreateCredentialRequest{user, role, dialects})
}

// Credentials is all access keys.
type Credentials struct {
	Credentials []Credential `json:"credentials"`
}

// ListCredentials returns all access keys in order of creation.
func (c *Client) ListCredentials(ctx context.Context) ([]Credential, error) {
	out, err := value[Credentials](ctx, c, "list-credentials", none{})
	return out.Credentials, err
}

// DeleteCredentialRequest names an access key.
type DeleteCredentialRequest struct {
	AccessKey string `json:"access_key"`
}

// DeleteCredential deletes an access key and all tokens of its user.
func (c *Client) DeleteCredential(ctx context.Context, accessKey string) error {
	return c.do(ctx, "delete-credential", DeleteCredentialRequest{accessKey})
}

// CreateTokenRequest describes a new token.
type CreateTokenRequest struct {
	User string `json:"user,omitzero"` // empty: the caller
	TTL  int64  `json:"ttl,omitzero"`  // seconds, at most 86400; default 3600
}

// Token is a new token, which cannot be read again.
type Token struct {
	Token   string    `json:"token"`
	User    string    `json:"user"`
	Role    string    `json:"role"`
	Expires time.Time `json:"expires_at"`
}

// CreateToken creates a token of a user, empty for the caller itself. Its time to live is in whole seconds; zero: an hour.
func (c *Client) CreateToken(ctx context.Context, user string, ttl time.Duration) (*Token, error) {
	return call[Token](ctx, c, "create-token", CreateTokenRequest{user, int64(ttl / time.Second)})
}
