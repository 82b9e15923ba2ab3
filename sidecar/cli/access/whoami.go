package access

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// identity is what Keyside knows of the caller, as --json shows it.
type identity struct {
	User    string         `json:"user"`
	Role    string         `json:"role"`
	By      string         `json:"by"`
	Project string         `json:"project_id"`
	Tenant  string         `json:"tenant"`
	Process *client.Caller `json:"process,omitempty"`
}

func whoAmICommand() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use:   "whoami",
		Short: "Show who you are to Keyside, how it knows, and your role",
		Long: `Show who you are to Keyside, how it knows (the selectors of the configuration that match your process), your role, and the project of
the API. keyside can-i explains what you may do.`,
		Example: `  keyside whoami`,
	}, func(ctx context.Context, s *verb.Session, _ []string) error {
		health, err := s.Health(ctx)
		if err != nil {
			return err
		}
		d, err := s.CanI(ctx, client.CanIRequest{Operation: policy.OpListKeys.Name()}) // every principal may ask
		if err != nil {
			return err
		}
		v := identity{User: d.User, Role: d.Role, Project: health.Huawei.ProjectID, Tenant: health.Tenant, Process: d.Caller}
		process := ""
		if d.Caller != nil {
			v.By, process = d.Caller.By(), callerText(d.Caller)
		}
		return s.Show(v, [][]string{
			{"user", verb.Dash(v.User)}, {"role", v.Role}, {"known by", verb.Dash(v.By)}, {"project id", v.Project}, {"tenant", v.Tenant}, {"process", verb.Dash(process)},
		})
	})
}
