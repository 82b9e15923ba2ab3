package main

import (
	"bufio"
	"errors"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/pkcs11"
	"github.com/keyside/keyside/plugins/soft"
	"github.com/keyside/keyside/sidecar/cli"
)

// driverCommand adds to the verbs about drivers those that are driver processes. Nobody types them: package plugins
// starts the running binary with them.
func driverCommand() *cobra.Command {
	group := cli.DriverCommand()
	for name, configure := range map[string]driver.Configurer{"pkcs11": pkcs11.Configure, "soft": soft.Configure} {
		group.AddCommand(&cobra.Command{Use: name, Hidden: true, Run: func(*cobra.Command, []string) {
			signal.Reset() // a driver process lives and dies by its host
			driver.Serve(configure)
		}})
	}
	group.AddCommand(initTokenCommand())
	return group
}

// initTokenCommand initialises a token for keyside up, with both PINs on standard input, a line each.
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
