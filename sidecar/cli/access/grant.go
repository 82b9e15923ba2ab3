// Package access has the verbs about who may do what: grants, policies, access keys and tokens.
package access

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// Commands returns the verbs about access.
func Commands() []*cobra.Command {
	return []*cobra.Command{grantCommand(), policyCommand(), canICommand(), credentialCommand()}
}

func grantCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "grant", Short: "who may do what with which key",
		Long: `Who may do what with which key. A grant lets a user, or all users of the account, do some operations on one key. A user's
rights on a key are those of all its grants together, of its role, and of policies; see keyside can-i.`,
	}
	group.AddCommand(grantCreate(), grantList(), grantRetirable(), grantRevoke(), grantRetire())
	return group
}

// grantable is the operations that a grant may have, for help and completion.
func grantable() (names []string) {
	for _, op := range policy.Operations {
		if op.Grantable() {
			names = append(names, string(op))
		}
	}
	return names
}

func grantCreate() *cobra.Command {
	var g client.Grant
	var exactly, containing map[string]string
	var expires string
	cmd := &cobra.Command{
		Use: "create KEY --to USER --operations OPERATION,...", Short: "allow a user something on a key, and print the grant's id",
		Long: `Allow a user something on a key, and print the grant's id. The operations are
` + inLines(grantable()) + `
None of them stands for another. A user with create-grant may grant what it may do itself, and no more; retire-grant lets it give this
grant up. With --context-equals or --context-contains the grant is good for encryption contexts that are, or contain, that one.

Users are the principals of the sidecar's configuration and those who have access keys. A grant is to a name: who gets that name
later has it.`,
		Example: `  keyside grant create app --to storage --operations describe-key,create-datakey,decrypt-datakey
  keyside grant create app --to storage --operations decrypt-data --context-contains purpose=backup --expires 24h --name backups
  keyside grant create app --to storage --operations encrypt-data --source uid:992,unit:storage.service`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: verb.CompleteKeys(1),
	}
	f := cmd.Flags()
	f.StringVar(&g.Grantee, "to", "", "`name` of the user, or with --account of the account (required)")
	f.BoolFunc("account", "the grant is to all users of the account", func(string) error { g.Kind = client.GranteeAccount; return nil })
	f.StringSliceVar(&g.Operations, "operations", nil, "what it allows (required)")
	f.StringVar(&g.Name, "name", "", "what lists call it; the same grant under the same name is made once")
	f.StringVar(&g.Retiring, "retiring", "", "`name` of another user who may retire it")
	f.StringToStringVar(&exactly, "context-equals", nil, "encryption context that operations must have, name=value[,name=value]")
	f.StringToStringVar(&containing, "context-contains", nil, "encryption context that theirs must contain")
	f.StringVar(&expires, "expires", "never", "`when` it ends: never, a time such as 2030-12-31T00:00:00Z, or how long from now, such as 24h or 90d")
	f.StringVar(&g.Source, "source", "", "whose processes may use it, on the socket alone: `selectors` with commas, all of which must match: uid:N, gid:N, unit:NAME, pod:UID, container:ID, and beside a uid exe:/PATH, sha256:HEX")
	cmd.MarkFlagsMutuallyExclusive("context-equals", "context-contains")
	_ = cmd.RegisterFlagCompletionFunc("operations", cobra.FixedCompletions(grantable(), cobra.ShellCompDirectiveNoFileComp))
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) (err error) {
		if g.Grantee == "" || len(g.Operations) == 0 {
			return verb.Failf(verb.ExitUsage, "--to and --operations are needed: whom the grant is to and what it allows")
		}
		g.ContextEquals, g.ContextSubset = exactly, containing
		if g.Expires, err = verb.ParseExpiry(expires, time.Now()); err != nil {
			return err
		}
		if g.KeyID, err = s.Resolve(ctx, c, args[0]); err != nil {
			return err
		}
		id, err := verb.Once(ctx, s, func(ctx context.Context) (string, error) { return c.CreateGrant(ctx, g) })
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), map[string]string{"grant_id": id, "key_id": g.KeyID})
		}
		_, err = cmd.OutOrStdout().Write([]byte(id + "\n"))
		return err
	})
}

// inLines are words with commas, in lines that a terminal has room for.
func inLines(words []string) string {
	var b strings.Builder
	line := 0
	for i, w := range words {
		if i > 0 {
			b.WriteByte(',')
			if line+len(w) > 110 {
				b.WriteByte('\n')
				line = 0
			} else {
				b.WriteByte(' ')
			}
		}
		b.WriteString(w)
		line += len(w) + 2
	}
	return b.String() + "."
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
	Expires       *time.Time        `json:"expires,omitempty"`
	Source        string            `json:"source,omitempty"`
}

func grantOf(g *client.Grant) grantView {
	v := grantView{
		ID: g.ID, KeyID: g.KeyID, Name: g.Name, To: g.Grantee, Account: g.Kind == client.GranteeAccount, Operations: g.Operations,
		Issuer: g.Issuer, Retiring: g.Retiring, Created: g.Created.UTC(), Parent: g.Parent, ContextEquals: g.ContextEquals,
		ContextSubset: g.ContextSubset, Source: g.Source,
	}
	if !g.Expires.IsZero() {
		expires := g.Expires.UTC()
		v.Expires = &expires
	}
	return v
}

func grantList() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list KEY", Short: "the grants on a key", Example: `  keyside grant list app`,
		Args: cobra.ExactArgs(1), ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		id, err := s.Resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		return printGrants(s, ctx, cmd, func(ctx context.Context, marker string) (*client.GrantPage, error) {
			return c.ListGrants(ctx, id, marker)
		})
	})
}

func grantRetirable() *cobra.Command {
	cmd := &cobra.Command{
		Use: "retirable", Short: "the grants that you may retire, on all keys", Example: `  keyside grant retirable`,
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		return printGrants(s, ctx, cmd, c.ListRetirableGrants)
	})
}

// printGrants prints all pages of grants.
func printGrants(s *verb.Session, ctx context.Context, cmd *cobra.Command, list func(ctx context.Context, marker string) (*client.GrantPage, error)) error {
	views := []grantView{}
	for marker := ""; ; {
		page, err := verb.Once(ctx, s, func(ctx context.Context) (*client.GrantPage, error) { return list(ctx, marker) })
		if err != nil {
			return err
		}
		for i := range page.Grants {
			views = append(views, grantOf(&page.Grants[i]))
		}
		if marker = page.Next; marker == "" {
			break
		}
	}
	if s.JSON {
		return verb.PrintJSON(cmd.OutOrStdout(), views)
	}
	rows := [][]string{{"GRANT ID", "TO", "OPERATIONS", "LIMITS", "CREATED", "NAME"}}
	for _, v := range views {
		to := v.To
		if v.Account {
			to = "account " + to
		}
		rows = append(rows, []string{v.ID, to, strings.Join(v.Operations, ","), v.limits(), verb.When(v.Created), verb.Dash(v.Name)})
	}
	return verb.Table(cmd.OutOrStdout(), rows)
}

// limits are the constraints in one column.
func (v *grantView) limits() string {
	var words []string
	if v.Expires != nil {
		words = append(words, "until "+verb.When(*v.Expires))
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
	return onGrant("revoke", "take a grant away; what its grantee granted others stays",
		`  keyside grant revoke app $(keyside grant list app | awk 'NR == 2 {print $1}')`,
		func(ctx context.Context, c *client.Client, key, grant string) error {
			return c.RevokeGrant(ctx, key, grant)
		})
}

func grantRetire() *cobra.Command {
	return onGrant("retire", "give a grant up that you have, made, or are to retire",
		`  keyside grant retire app $(keyside grant retirable | awk 'NR == 2 {print $1}')`,
		func(ctx context.Context, c *client.Client, key, grant string) error {
			return c.RetireGrant(ctx, key, grant)
		})
}

func onGrant(name, short, example string, do func(ctx context.Context, c *client.Client, key, grant string) error) *cobra.Command {
	cmd := &cobra.Command{
		Use: name + " KEY GRANT_ID", Short: short, Example: example, Args: cobra.ExactArgs(2), ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Changes(cmd, func(ctx context.Context, c *client.Client, id string, args []string) error {
		return do(ctx, c, id, args[1])
	})
}
