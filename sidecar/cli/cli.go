// Package cli assembles the command line: the verbs that talk to a running sidecar over its socket, and those that set up
// and diagnose a node. Each package below has the verbs of one theme; verb has what they share, envelope the format of
// encrypted files.
//
// Results go to standard output, everything else to standard error. Tables are for people; --json prints
// one JSON value for programs. Exit codes are the table in verb/exit.go.
package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/access"
	"github.com/keyside/keyside/sidecar/cli/audit"
	"github.com/keyside/keyside/sidecar/cli/crypto"
	"github.com/keyside/keyside/sidecar/cli/imports"
	"github.com/keyside/keyside/sidecar/cli/key"
	"github.com/keyside/keyside/sidecar/cli/node"
)

// Commands returns all verbs. check validates the settings of built-in drivers. The driver command also gets the hidden commands
// that driver processes run.
func Commands(check node.SettingsChecks, driverProcesses ...*cobra.Command) []*cobra.Command {
	return slices.Concat(key.Commands(), crypto.Commands(), imports.Commands(), access.Commands(), audit.Commands(),
		node.Commands(check, driverProcesses))
}
