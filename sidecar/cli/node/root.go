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
	var yes verb.YesFlag
	group := &cobra.Command{Use: "root", Short: "Create the tenant's root, MAC and audit keys"}
	cmd := &cobra.Command{
		Use:   "init --generate --config SIDECAR.YAML",
		Short: "Create those of the tenant's root, MAC and audit keys that do not exist",
		Long: `Create those of the tenant's root, MAC and audit keys that do not exist, in the HSM that the configuration names. Existing keys do
not change. A sidecar with hsm.init does the same if its database is new. Do not run it on an empty token if the database has
keys: they are sealed under the old root, so restore the token instead. The command asks for confirmation; scripts pass --yes.`,
		Example: `  keyside root init --generate --yes --config .dev/sidecar.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !generate {
				return verb.Failf(verb.ExitUsage, "--generate is missing: it generates the keys in the HSM")
			}
			c, err := sidecar.LoadConfig(config)
			if err != nil {
				return verb.Failf(verb.ExitUsage, "%w", err)
			}
			if err := yes.Confirm(cmd, verb.Confirmation{Word: "yes", Text: fmt.Sprintf(
				"The keys of tenant %s that do not exist will be created in the HSM. Keyside never deletes them: the vendor's tools do.", c.Tenant)}); err != nil {
				return err
			}
			return initRoot(cmd.Context(), &c, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&config, "config", "/etc/keyside/sidecar.yaml", "the sidecar's configuration")
	yes.Add(cmd)
	cmd.Flags().BoolVar(&generate, "generate", false, "generate the keys in the HSM")
	group.AddCommand(cmd)
	return group
}

func initRoot(ctx context.Context, c *sidecar.Config, stdout, stderr io.Writer) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	backend, err := c.HSM.Dial(ctx, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return verb.Failf(verb.ExitUnavailable, "cannot open the HSM: %w; run keyside doctor", err)
	}
	defer func() { err = errors.Join(err, backend.Close(context.WithoutCancel(ctx))) }()
	tenant, err := backend.InitTenant(ctx, &driver.InitTenantRequest{Tenant: c.Tenant})
	if err != nil {
		return fmt.Errorf("create the keys of tenant %s: %w", c.Tenant, err)
	}
	_, err = fmt.Fprintf(stdout, "tenant %s has root %d, a MAC key and an audit key\n", tenant.GetName(), tenant.GetRoots())
	return err
}
