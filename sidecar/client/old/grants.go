package client

import (
	"context"
	"strconv"
	"strings"
	"time"
)

// CanIPath is where decisions are explained.
const CanIPath = "/keyside/v1/can-i"

// GranteeAccount is the Kind of a grant to all users of an account.
const GranteeAccount = "domain"

// Grant lets a user, or all users of an account, do some operations on one key.
type Grant struct {
	KeyID      string
	ID         string
	Name       string
	Grantee    string
	Kind       string // "user" or GranteeAccount
	Operations []string
	Retiring   string // who may retire it beside its issuer, or empty
	Issuer     string
	Created    time.Time
	Parent     string // the grant by which the issuer could make it, or empty
	GrantLimits
}

// GrantLimits are when a grant allows what it does. Of the two contexts at most one is set.
type GrantLimits struct {
	ContextEquals map[string]string // nil: any
	ContextSubset map[string]string
	Expires       time.Time // to the second; zero: it does not expire
	Source        string    // selectors of callers with commas, such as "uid:N,unit:NAME", or empty
}

// grantWire is a grant on the wire.
type grantWire struct {
	KeyID         string            `json:"key_id"`
	ID            string            `json:"grant_id,omitzero"`
	Name          string            `json:"name,omitzero"`
	Grantee       string            `json:"grantee_principal"`
	Kind          string            `json:"grantee_principal_type,omitzero"`
	Operations    []string          `json:"operations"`
	Retiring      string            `json:"retiring_principal,omitzero"`
	Issuer        string            `json:"issuing_principal,omitzero"`
	Created       string            `json:"creation_date,omitzero"`
	Parent        string            `json:"parent_grant_id,omitzero"`
	ContextEquals map[string]string `json:"encryption_context_equals,omitzero"`
	ContextSubset map[string]string `json:"encryption_context_subset,omitempty"`
	Expires       string            `json:"expires_at,omitzero"`
	Source        string            `json:"source,omitzero"`
}

func (w *grantWire) grant() (g Grant, err error) {
	g = Grant{
		KeyID: w.KeyID, ID: w.ID, Name: w.Name, Grantee: w.Grantee, Kind: w.Kind, Operations: w.Operations, Retiring: w.Retiring,
		Issuer: w.Issuer, Parent: w.Parent,
		GrantLimits: GrantLimits{ContextEquals: w.ContextEquals, ContextSubset: w.ContextSubset, Source: w.Source},
	}
	ms, err := strconv.ParseInt(w.Created, 10, 64)
	if err != nil {
		return g, notItsFormat(err)
	}
	g.Created = time.UnixMilli(ms)
	if w.Expires == "" {
		return g, nil
	}
	s, err := strconv.ParseInt(w.Expires, 10, 64)
	if err != nil {
		return g, notItsFormat(err)
	}
	g.Expires = time.Unix(s, 0)
	return g, nil
}

// CreateGrant makes a grant and returns its id. ID, Issuer, Created and Parent of the grant count for nothing.
func (c *Client) CreateGrant(ctx context.Context, g Grant) (string, error) {
	in := grantWire{
		KeyID: g.KeyID, Name: g.Name, Grantee: g.Grantee, Kind: g.Kind, Operations: g.Operations, Retiring: g.Retiring,
		ContextEquals: g.ContextEquals, ContextSubset: g.ContextSubset, Source: g.Source,
	}
	if !g.Expires.IsZero() {
		in.Expires = strconv.FormatInt(g.Expires.Unix(), 10)
	}
	var out struct {
		ID string `json:"grant_id"`
	}
	err := c.call(ctx, "create-grant", in, &out)
	return out.ID, err
}

// GrantPage is a page of grants. Next is what to give as marker for the next one, empty on the last.
type GrantPage struct {
	Grants []Grant
	Next   string
	Total  int
}

// grantList selects a page of grants on the wire.
type grantList struct {
	KeyID  string `json:"key_id,omitzero"`
	Marker string `json:"marker,omitzero"`
}

// ListGrants returns a page of a key's grants in order of creation. The first one has no marker.
func (c *Client) ListGrants(ctx context.Context, keyID, marker string) (*GrantPage, error) {
	return c.grants(ctx, "list-grants", grantList{keyID, marker})
}

// ListRetirableGrants returns a page of the grants that the caller may retire.
func (c *Client) ListRetirableGrants(ctx context.Context, marker string) (*GrantPage, error) {
	return c.grants(ctx, "list-retirable-grants", grantList{"", marker})
}

func (c *Client) grants(ctx context.Context, operation string, in grantList) (*GrantPage, error) {
	var out struct {
		Grants []grantWire `json:"grants"`
		Next   string      `json:"next_marker"`
		Total  int         `json:"total"`
	}
	if err := c.call(ctx, operation, in, &out); err != nil {
		return nil, err
	}
	page := &GrantPage{Next: out.Next, Total: out.Total}
	for i := range out.Grants {
		g, err := out.Grants[i].grant()
		if err != nil {
			return nil, err
		}
		page.Grants = append(page.Grants, g)
	}
	return page, nil
}

// grantRef names a grant on the wire.
type grantRef struct {
	KeyID string `json:"key_id"`
	ID    string `json:"grant_id"`
}

// RevokeGrant takes a grant away.
func (c *Client) RevokeGrant(ctx context.Context, keyID, grantID string) error {
	return c.call(ctx, "revoke-grant", grantRef{keyID, grantID}, nil)
}

// RetireGrant gives a grant up.
func (c *Client) RetireGrant(ctx context.Context, keyID, grantID string) error {
	return c.call(ctx, "retire-grant", grantRef{keyID, grantID}, nil)
}

// CanIRequest asks whether an operation would be allowed.
type CanIRequest struct {
	Operation string            `json:"operation"`
	Key       string            `json:"key,omitzero"` // id or alias, for an operation that is about a key
	As        string            `json:"as,omitzero"`  // whose rights; empty: the caller's own
	Context   map[string]string `json:"encryption_context,omitempty"`
}

// Decision is what the answer would be, and why.
type Decision struct {
	Allowed bool     `json:"allowed"`
	By      string   `json:"by,omitzero"`     // the role, grant or policy that decided
	Reason  string   `json:"reason,omitzero"` // of a refusal
	Hints   []string `json:"hints,omitempty"`
	User    string   `json:"user"`
	Role    string   `json:"role"`
	Caller  *Caller  `json:"caller,omitzero"` // you; nil where the answer is about somebody else
}

// Caller is what Keyside knows of the process that asks. What is empty could not be found out, or there is none. What makes it
// the user is an access key, a token, or the selectors of the configuration.
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

// By is what makes the process the user, in words.
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

// CanI explains a decision without making the call.
func (c *Client) CanI(ctx context.Context, in CanIRequest) (*Decision, error) {
	out := new(Decision)
	if err := c.own(ctx, CanIPath, in, out); err != nil {
		return nil, err
	}
	return out, nil
}
