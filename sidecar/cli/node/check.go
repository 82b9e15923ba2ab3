package node

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

// SettingsChecks returns, by a built-in driver's kind, what is wrong with the driver's section of a configuration.
type SettingsChecks map[string]func(settings []byte) error

func checkCommand(check SettingsChecks) *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE...",
		Short:   "Validate sidecar and hsmd configuration files",
		Example: `  keyside check .dev/sidecar.yaml .dev/hsmd.yaml`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, path := range args {
				kind, err := check.file(path)
				if err != nil {
					return verb.Failf(verb.ExitUsage, "%w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: valid configuration of %s\n", path, kind)
			}
			return nil
		},
	}
}

// file validates a file. A file with tenants or drivers is hsmd's, any other a sidecar's.
func (c SettingsChecks) file(path string) (kind string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	keys := map[string]yaml.Node{}
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&keys); err != nil {
		return "", fmt.Errorf("%s is not YAML with keys at the top: %w", path, err)
	}
	if slices.ContainsFunc([]string{"tenants", "drivers"}, func(key string) bool { _, ok := keys[key]; return ok }) {
		config, err := hsmd.LoadConfig(path)
		for i := 0; err == nil && i < len(config.Drivers); i++ {
			err = c.settings(&config.Drivers[i].Config, fmt.Sprintf("%s: drivers[%d]", path, i))
		}
		return "hsmd", err
	}
	config, err := sidecar.LoadConfig(path)
	if err == nil && config.HSM.Driver != nil {
		err = c.settings(config.HSM.Driver, path+": hsm.driver")
	}
	return "a sidecar", err
}

// settings validates the settings of a driver. Those of an external driver are its own.
func (c SettingsChecks) settings(d *plugins.Config, at string) error {
	check := c[d.Kind]
	if check == nil {
		return nil
	}
	text, err := d.SettingsText()
	if err == nil {
		err = check(text)
	}
	if err != nil {
		return fmt.Errorf("%s.settings: %w", at, err)
	}
	return nil
}
