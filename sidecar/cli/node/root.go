package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

func rootCommand() *cobra.Command {
	var config string
	var generate bool
	group := &cobra.Command{Use: "root", Short: "the tenant's own keys in the HSM"}
	cmd := &cobra.Command{
		Use:   "init --generate --config SIDECAR.YAML",
		Short: "make the tenant's root, mac and audit keys in the HSM, where they are missing",
		Long: `Make the tenant's root, mac and audit keys in the HSM that the configuration names, where they are missing; what is there
stays as it is. A sidecar with hsm.init does the same when its database is new. Never do it on an empty token when the
database has keys: those were sealed under the old root, so restore the token instead.`,
		Example: `  keyside root init --generate --config .dev/sidecar.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !generate {
				return verb.Failf(verb.ExitUsage, "say where the keys come from: --generate makes them in the HSM")
			}
			c, err := sidecar.LoadConfig(config)
			if err != nil {
				return verb.Failf(verb.ExitUsage, "%w", err)
			}
			return initRoot(cmd.Context(), &c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&config, "config", "/etc/keyside/sidecar.yaml", "the sidecar's configuration")
	cmd.Flags().BoolVar(&generate, "generate", false, "generate the keys in the HSM")
	group.AddCommand(cmd)
	return group
}

func initRoot(ctx context.Context, c *sidecar.Config, stdout, stderr io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	backend, err := c.HSM.Dial(ctx, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return verb.Failf(verb.ExitUnavailable, "the HSM does not open: %w; keyside doctor looks further", err)
	}
	defer func() { err = errors.Join(err, backend.Close(context.WithoutCancel(ctx))) }()
	tenant, err := backend.InitTenant(ctx, &driver.InitTenantRequest{Tenant: c.Tenant})
	if err != nil {
		return fmt.Errorf("make the keys of tenant %s: %w", c.Tenant, err)
	}
	_, err = fmt.Fprintf(stdout, "tenant %s has root %d, a mac key and an audit key\n", tenant.GetName(), tenant.GetRoots())
	return err
}
