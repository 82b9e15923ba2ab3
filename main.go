// Command keyside is a key management service (KMS) for the node's HSM: applications call their cloud's KMS API over a Unix
// socket. README.md shows its use, ARCHITECTURE.md its design.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/pkcs11"
	"github.com/keyside/keyside/plugins/soft"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/bench"
	"github.com/keyside/keyside/sidecar/cli"
	"github.com/keyside/keyside/sidecar/cli/node"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

// version is stamped by the Makefile; a plain go build takes it from the module.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "keyside:", err)
	}
	var refused *sidecar.PINError
	if errors.As(err, &refused) {
		os.Exit(verb.ExitUsage) // and not one after which a service manager starts the process again
	}
	os.Exit(verb.ExitCode(err))
}

// command returns the tree of verbs.
func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "keyside",
		Short:         "Keyside: a key management service (KMS) for the node's HSM",
		Version:       buildVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(cli.Commands(node.SettingsChecks{plugins.KindPKCS11: pkcs11.CheckSettings, plugins.KindSoft: soft.CheckSettings}, driverProcesses()...)...)
	root.AddCommand(hsmd.Command(), sidecar.Command(), bench.Command(), &cobra.Command{
		Use: "version", Short: "Print the version, the commit, and what built it", RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\ncommit    %s\ngo        %s\nplatform  %s/%s\n", root.Version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	})
	cli.Prepare(root)
	cli.AddCompletion(root)
	return root
}

// driverProcesses are the commands that are driver processes, and the one that makes their token. Users do not run them:
// package plugins and keyside up start the running binary with them.
func driverProcesses() []*cobra.Command {
	commands := []*cobra.Command{initTokenCommand()}
	for name, configure := range map[string]driver.Configurer{plugins.KindPKCS11: pkcs11.Configure, plugins.KindSoft: soft.Configure} {
		commands = append(commands, &cobra.Command{Use: name, Hidden: true, Run: func(*cobra.Command, []string) {
			signal.Reset() // a driver process ends with its host
			driver.Serve(configure)
		}})
	}
	return commands
}

// initTokenCommand initializes a token for keyside up, with both PINs on standard input, a line each.
func initTokenCommand() *cobra.Command {
	var module, label string
	cmd := &cobra.Command{Use: "init-token", Hidden: true, RunE: func(cmd *cobra.Command, _ []string) error {
		in := bufio.NewReader(cmd.InOrStdin())
		soPIN, err1 := in.ReadString('\n')
		pin, err2 := in.ReadString('\n')
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		return pkcs11.InitToken(module, label, strings.TrimSpace(soPIN), strings.TrimSpace(pin))
	}}
	cmd.Flags().StringVar(&module, "module", "", "path of the PKCS#11 module")
	cmd.Flags().StringVar(&label, "label", "", "the token's label")
	return cmd
}

// commit returns the commit that was built, if the build recorded it.
func commit() string {
	revision, modified := "unknown", ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = " with changes"
			}
		}
	}
	return revision + modified
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
