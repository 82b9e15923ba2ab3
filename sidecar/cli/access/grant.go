// Package access has the verbs about who may do what: grants, policies, access keys and tokens.
package access

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// Commands returns the verbs about access.
func Commands() []*cobra.Command {
	return []*cobra.Command{credentialCommand(), grantCommand(), canICommand(), whoAmICommand(), policyCommand()}
}

func grantCommand() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use: "grant", Short: "Allow and revoke operations of users on keys",
		Long: `Allow and revoke operations of users on keys. A grant allows a user, or all users of the account, some operations on one key. A
user may do what any of its grants, its role or a policy allows; see keyside can-i.`,
	}, grantCreate(), grantList(), grantRetirable(), grantRevoke(), grantRetire())
}

// grantable are the operations that a grant may have.
var grantable = verb.OperationNames(policy.Operation.Grantable)

func grantCreate() *cobra.Command {
	var req client.CreateGrantRequest
	var exactly, containing map[string]string
	var expires string
	cmd := &cobra.Command{
		Use: "create KEY --to USER --operations OPERATION,...", Short: "Allow a user operations on a key; print the grant's id",
		Long: `Allow a user operations on a key; print the grant's id. The operations are
` + inLines(grantable) + `
None of them includes another. A user with create-grant may grant the operations it may do itself; retire-grant allows it to
retire this grant. --context-equals and --context-contains limit the grant to encryption contexts that are, or contain, the one
given.

Users are the principals of the sidecar's configuration and the users of access keys. A grant is to a name: whoever gets that
name later holds the grant.`,
		Example: `  keyside grant create app --to storage --operations describe-key,generate-data-key,decrypt-data-key
  keyside grant create app --to storage --operations decrypt --context-contains purpose=backup --expires 24h --name backups
  keyside grant create app --to storage --operations encrypt --source uid:992,unit:storage.service`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&req.Grantee, "to", "", "`name` of the user, or with --account of the account (required)")
	f.BoolVar(&req.Account, "account", false, "grant to all users of the account")
	f.StringSliceVar(&req.Operations, "operations", nil, "operations to allow (required)")
	f.StringVar(&req.Name, "name", "", "name in lists; a grant that exists under the same name is not created again")
	f.StringVar(&req.Retiring, "retiring", "", "`name` of another user who may retire the grant")
	f.StringToStringVar(&exactly, "context-equals", nil, "required encryption context, name=value[,name=value]")
	f.StringToStringVar(&containing, "context-contains", nil, "pairs that the encryption context must contain")
	f.StringVar(&expires, "expires", "never", "`when` the grant expires: never, a time such as 2030-12-31T00:00:00Z, or a duration such as 24h or 90d")
	f.StringVar(&req.Source, "source", "", "`selectors` of the processes on the socket that may use it, with commas; all must match: uid:N, gid:N, unit:NAME, pod:UID, container:ID, and beside a uid exe:/PATH, sha256:HEX")
	cmd.MarkFlagsMutuallyExclusive("context-equals", "context-contains")
	verb.CompleteFlag(cmd, "operations", grantable)
	verb.CompleteUserFlag(cmd, "to")
	verb.CompleteUserFlag(cmd, "retiring")
	return verb.OnKey(cmd, func(ctx context.Context, s *verb.Session, id string, _ []string) (err error) {
		if req.Grantee == "" || len(req.Operations) == 0 {
			return verb.Failf(verb.ExitUsage, "--to or --operations is missing: give the user and the operations to allow")
		}
		if req.Operations, err = operationsOf(req.Operations); err != nil {
			return err
		}
		req.KeyID, req.Context, req.ContextExact = id, containing, cmd.Flags().Changed("context-equals")
		if req.ContextExact {
			req.Context = exactly
		}
		if req.Expires, err = verb.ParseExpiry(expires, time.Now()); err != nil {
			return err
		}
		made, err := s.CreateGrant(ctx, req)
		if err != nil {
			return err
		}
		return s.Print(map[string]string{"grant_id": made.ID, "key_id": id}, made.ID)
	})
}

// operationsOf returns the neutral names of operations that a flag names in any way.
func operationsOf(names []string) ([]string, error) {
	operations := make([]string, len(names))
	for i, name := range names {
		op, known := policy.ParseOperation(strings.TrimSpace(name))
		switch {
		case !known:
			return nil, verb.Failf(verb.ExitUsage, "--operations: %q is not an operation%s", name, verb.DidYouMean(name, grantable))
		case !op.Grantable():
			return nil, verb.Failf(verb.ExitUsage, "--operations: %s cannot be granted; these can: %s", op.Name(), strings.Join(grantable, ", "))
		}
		operations[i] = op.Name()
	}
	return operations, nil
}

// inLines joins words with commas, in lines that fit a terminal.
func inLines(words []string) string {
	const width = 111
	text := []byte(strings.Join(words, ", ") + ".")
	for begin := 0; begin+width < len(text); {
		space := begin + bytes.LastIndexByte(text[begin:begin+width+1], ' ')
		text[space] = '\n'
		begin = space + 1
	}
	return string(text)
}

// grantView is a grant as --json shows it.
type grantView struct {
	ID            string            `json:"grant_id"`
	KeyID         string            `json:"key_id"`
	Name          string            `json:"name,omitempty"`
	To            string            `json:"to"`
	Account       bool              `json:"account"`
	Operations    []string          `json:"operations"`
	Issuer        string            `json:"issuer"`
	Retiring      string            `json:"retiring,omitempty"`
	Created       time.Time         `json:"created"`
	Parent        string            `json:"parent,omitempty"`
	ContextEquals map[string]string `json:"context_equals,omitempty"`
	ContextSubset map[string]string `json:"context_contains,omitempty"`
	Expires       time.Time         `json:"expires,omitzero"`
	Source        string            `json:"source,omitempty"`
}

func grantOf(g *client.Grant) grantView {
	v := grantView{
		ID: g.ID, KeyID: g.KeyID, Name: g.Name, To: g.Grantee, Account: g.Account, Operations: g.Operations, Issuer: g.Issuer,
		Retiring: g.Retiring, Created: g.Created.UTC(), Parent: g.Parent, Expires: g.Expires.UTC(), Source: g.Source,
	}
	if g.ContextExact {
		v.ContextEquals = g.Context
	} else {
		v.ContextSubset = g.Context
	}
	return v
}

func grantList() *cobra.Command {
	return verb.OnKey(&cobra.Command{
		Use: "list KEY", Short: "List the grants on a key", Example: `  keyside grant list app`, Args: cobra.ExactArgs(1),
	}, func(ctx context.Context, s *verb.Session, id string, _ []string) error {
		return printGrants(s, func(page client.Page) (*client.GrantPage, error) {
			return s.ListGrants(ctx, client.ListGrantsRequest{KeyID: id, Page: page})
		})
	})
}

func grantRetirable() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use: "retirable", Short: "List the grants that you may retire, on all keys", Example: `  keyside grant retirable`,
	}, func(ctx context.Context, s *verb.Session, _ []string) error {
		return printGrants(s, func(page client.Page) (*client.GrantPage, error) { return s.ListRetirableGrants(ctx, page) })
	})
}

// printGrants prints all pages of grants.
func printGrants(s *verb.Session, list func(client.Page) (*client.GrantPage, error)) error {
	all := verb.All(func(marker string) (*client.GrantPage, error) { return list(client.Page{Marker: marker}) })
	return verb.ShowAll(s, []string{"GRANT ID", "TO", "OPERATIONS", "LIMITS", "CREATED", "NAME"}, all, func(g *client.Grant) (grantView, []string) {
		v, to := grantOf(g), g.Grantee
		if g.Account {
			to = "account " + to
		}
		return v, []string{v.ID, to, strings.Join(v.Operations, ","), v.limits(), verb.When(v.Created), verb.Dash(v.Name)}
	})
}

// limits returns the constraints for one column.
func (v *grantView) limits() string {
	var words []string
	if !v.Expires.IsZero() {
		words = append(words, "until "+verb.When(v.Expires))
	}
	if v.ContextEquals != nil {
		words = append(words, "context is "+pairs(v.ContextEquals))
	}
	if v.ContextSubset != nil {
		words = append(words, "context has "+pairs(v.ContextSubset))
	}
	if v.Source != "" {
		words = append(words, v.Source)
	}
	return verb.Dash(strings.Join(words, "; "))
}

func grantRevoke() *cobra.Command {
	return onGrant("revoke", "revoked", "Revoke a grant; grants its grantee issued stay valid",
		`  keyside grant revoke app $(keyside grant list app | awk 'NR == 2 {print $1}')`, (*client.Client).RevokeGrant)
}

func grantRetire() *cobra.Command {
	return onGrant("retire", "retired", "Retire a grant you hold, issued or may retire",
		`  keyside grant retire app $(keyside grant retirable | awk 'NR == 2 {print $1}')`, (*client.Client).RetireGrant)
}

func onGrant(name, did, short, example string, do func(c *client.Client, ctx context.Context, key, grant string) error) *cobra.Command {
	return verb.Changes(&cobra.Command{
		Use: name + " KEY GRANT_ID", Short: short, Example: example, Args: cobra.ExactArgs(2), ValidArgsFunction: verb.CompleteKeyThenGrant,
	}, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		return fmt.Sprintf("%s the grant %s on %s", did, args[1], args[0]), do(s.Client, ctx, id, args[1])
	})
}
