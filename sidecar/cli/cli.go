// Package cli is what people and scripts do with Keyside: the verbs that talk to a running sidecar over its socket, and
// those that set one up and find out why it does not work.
//
// What goes where: results to standard output, everything else to standard error. Tables are for people; --json prints
// one JSON value for programs. Exit codes are the table in exit.go.
package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Commands returns the verbs of this package.
func Commands() []*cobra.Command {
	return []*cobra.Command{
		upCommand(), keyCommand(), importCommand(), tagsCommand(), quotaCommand(), encryptCommand(), decryptCommand(), reEncryptCommand(), dataKeyCommand(),
		randomCommand(), signCommand(), verifyCommand(), publicKeyCommand(), macCommand(), deriveCommand(), fileCommand(), credentialCommand(), grantCommand(), canICommand(),
		policyCommand(), auditCommand(), hsmCommand(),
		rootCommand(), checkCommand(), doctorCommand(),
	}
}

// table prints rows in aligned columns; the first row is the heading.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// printJSON prints one value for programs.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// isTerminal reports whether a stream is a person's terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
