// Command keyside is a key management service that runs on the node: applications speak their cloud's KMS API to a Unix
// socket, and the keys live in the HSM that the node has. README.md says how to use it, ARCHITECTURE.md how it is built.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/cli"
	"github.com/keyside/keyside/test/bench"
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
	os.Exit(cli.ExitCode(err))
}

// command is the tree of verbs; each folder contributes its own.
func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "keyside",
		Short:         "a key management service on the node, in front of the HSM that the node has",
		Version:       buildVersion(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(cli.Commands()...)
	root.AddCommand(hsmd.Command(), sidecar.Command(), driverCommand(), bench.Command(), &cobra.Command{
		Use: "version", Short: "print the version", RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), root.Version)
			return err
		},
	})
	cli.Prepare(root)
	return root
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
