package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/drivertest"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

func driverCommand(processes []*cobra.Command) *cobra.Command {
	return verb.Group(&cobra.Command{Use: "driver", Short: "Test a driver with the conformance kit"},
		append(processes, driverCheck())...)
}

// checkOptions are the flags of driver check.
type checkOptions struct {
	command, sum, kind, settings, credential string
	tenant, other                            string
	env                                      map[string]string
	json, verbose                            bool
}

func driverCheck() *cobra.Command {
	o := checkOptions{}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Test a driver with the conformance kit",
		Long: `Test a driver with the conformance kit, in a process as hsmd runs it: a binary (--command), or a built-in driver (--kind pkcs11,
with the settings of hsmd.yaml; --kind soft needs none). A PKCS#11 token also needs --credential-file, and --env for variables
that the module reads: the driver process has no others. The kit creates keys for its tenants on the token and does not delete
them, so use a token for tests.`,
		Example: `  keyside driver check --kind soft`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDriverCheck(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.command, "command", "", "the driver's binary")
	f.StringVar(&o.sum, "sha256", "", "pinned SHA-256 of the binary in hex (default: computed from it)")
	f.StringVar(&o.kind, "kind", "", "built-in driver: soft or pkcs11")
	f.StringVar(&o.settings, "settings", "", "YAML file with the driver's settings")
	f.StringVar(&o.credential, "credential-file", "", "file with the PIN or passphrase, readable only by you")
	f.StringToStringVar(&o.env, "env", nil, "the driver's environment, name=value[,name=value]")
	f.StringVar(&o.tenant, "tenant", "drivertest", "tenant to create keys for")
	f.StringVar(&o.other, "other-tenant", "drivertest-other", "second tenant, to test that tenants are separate; empty: do not test it")
	f.BoolVar(&o.json, "json", false, "print JSON for programs")
	f.BoolVar(&o.verbose, "verbose", false, "show the driver's log")
	return cmd
}

func runDriverCheck(ctx context.Context, o checkOptions, stdout, stderr io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "keyside-check-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	config, err := o.config(dir)
	if err != nil {
		return err
	}
	log := slog.New(slog.DiscardHandler)
	if o.verbose {
		log = slog.New(slog.NewTextHandler(stderr, nil))
	}
	process, err := plugins.Start(ctx, config, log)
	if err != nil {
		return fmt.Errorf("the driver does not start: %w; --verbose shows its log", err)
	}
	defer func() { _ = process.Close(context.WithoutCancel(ctx)) }()
	kit := drivertest.Config{Driver: process, Tenant: o.tenant, OtherTenant: o.other, Drain: true}
	if !o.json {
		kit.Progress = func(c drivertest.Outcome) {
			fmt.Fprintf(stdout, "%-4s  %-32s  %7s  %s\n", c.Status, c.Name, c.Took.Round(time.Millisecond), c.Detail)
		}
	}
	report := drivertest.Check(ctx, kit)
	if o.json {
		if err := verb.PrintJSON(stdout, report); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(stdout, "\n%d passed, %d skipped, %d failed\n", report.Count(drivertest.Pass), report.Count(drivertest.Skip), report.Count(drivertest.Fail))
	}
	if !report.Passed() {
		return verb.Failf(verb.ExitBadData, "the driver does not fulfill the contract")
	}
	return nil
}

// config returns the configuration that the flags describe. The soft driver gets a key file in dir, and a passphrase, if none is given.
func (o *checkOptions) config(dir string) (config plugins.Config, err error) {
	config = plugins.Config{Name: "checked", Kind: o.kind, Env: o.env}
	switch {
	case (o.command == "") == (o.kind == ""):
		return config, verb.Failf(verb.ExitUsage, "give either --command or --kind")
	case o.command != "":
		config.Kind = plugins.KindExternal
		if config.Command, err = filepath.Abs(o.command); err != nil {
			return config, err
		}
		if config.SHA256 = strings.ToLower(o.sum); config.SHA256 == "" {
			if config.SHA256, err = fileSHA256(config.Command); err != nil {
				return config, err
			}
		}
	}
	settings, credential := []byte(nil), o.credential
	if o.settings != "" {
		if settings, err = os.ReadFile(o.settings); err != nil {
			return config, err
		}
	} else if o.kind == plugins.KindSoft {
		settings = []byte("file: " + filepath.Join(dir, "soft.keys"))
		if credential == "" {
			credential = filepath.Join(dir, "passphrase")
			if err := verb.WriteFile(credential, []byte(randomPIN()), true); err != nil {
				return config, err
			}
		}
	}
	if settings != nil {
		var doc yaml.Node
		if err := yaml.Unmarshal(settings, &doc); err != nil || len(doc.Content) == 0 {
			return config, verb.Failf(verb.ExitUsage, "%s is not YAML settings: %w", o.settings, err)
		}
		config.Settings = *doc.Content[0]
	}
	if credential != "" {
		if config.Credential.File, err = filepath.Abs(credential); err != nil {
			return config, err
		}
	}
	if err := config.Validate(); err != nil {
		return config, verb.Failf(verb.ExitUsage, "%w", err)
	}
	return config, nil
}
