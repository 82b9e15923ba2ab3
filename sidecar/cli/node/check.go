package node

import (
	"bytes"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

func checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "check FILE...",
		Short:   "validate configuration files, of a sidecar or of hsmd",
		Example: `  keyside check .dev/sidecar.yaml .dev/hsmd.yaml`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, path := range args {
				kind, err := checkFile(path)
				if err != nil {
					return verb.Failf(verb.ExitUsage, "%w", err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: good configuration of %s\n", path, kind)
			}
			return nil
		},
	}
}

// checkFile validates a file as what its keys say it is: only hsmd's has tenants or drivers.
func checkFile(path string) (kind string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	keys := map[string]yaml.Node{}
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&keys); err != nil {
		return "", fmt.Errorf("%s is not YAML with keys at the top: %w", path, err)
	}
	if slices.ContainsFunc([]string{"tenants", "drivers"}, func(key string) bool { _, ok := keys[key]; return ok }) {
		_, err = hsmd.LoadConfig(path)
		return "hsmd", err
	}
	_, err = sidecar.LoadConfig(path)
	return "a sidecar", err
}
