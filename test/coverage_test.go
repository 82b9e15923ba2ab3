package test

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/cli"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
)

var update = flag.Bool("update", false, "write the generated parts of the pages")

// dialects are the columns of the table of operations.
var dialects = []struct {
	title  string
	served []dialect.Served
}{
	{"Huawei Cloud", huawei.Served()},
}

// verbs are the commands of the operations that are in no cloud's API.
var verbs = map[policy.Operation]string{
	policy.OpHSMStatus: "hsm status", policy.OpReadAudit: "audit", policy.OpCreateCredential: "credential create", policy.OpListCredentials: "credential list",
	policy.OpDeleteCredential: "credential delete", policy.OpCreateToken: "credential token", policy.OpCanI: "can-i", policy.OpCanIForOthers: "can-i",
}

// TestCoverage checks that docs/operations.md lists the routes of the dialects.
func TestCoverage(t *testing.T) {
	generated(t, "../docs/operations.md", "operations", "TestCoverage", operationsTable(t))
}

// operationsTable renders which operation each dialect serves, and where. What none does is a matter of the command line
// alone, if it has a verb for it.
func operationsTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| Operation |")
	for _, d := range dialects {
		b.WriteString(" " + d.title + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(dialects)) + "\n")
	shown := 0
	for _, op := range policy.Operations {
		fmt.Fprintf(&b, "| %s |", op)
		for _, d := range dialects {
			cell := ""
			for _, s := range d.served {
				if s.Operation == op {
					cell += fmt.Sprintf(", `%s %s`", s.Method, s.Path)
					shown++
				}
			}
			if cell == "" {
				cell = ", –"
				if verb := verbs[op]; verb != "" && hasVerb(verb) {
					cell += " (`keyside " + verb + "` alone)"
				}
			}
			b.WriteString(" " + strings.TrimPrefix(cell, ", ") + " |")
		}
		b.WriteString("\n")
	}
	for _, d := range dialects {
		shown -= len(d.served)
	}
	if shown != 0 {
		t.Errorf("%d routes are of operations that policy does not know", -shown)
	}
	return b.String()
}

// hasVerb reports whether the command line has a verb.
func hasVerb(verb string) bool {
	root := &cobra.Command{Use: "keyside"}
	root.AddCommand(cli.Commands(nil)...)
	cmd, args, err := root.Find(strings.Fields(verb))
	return err == nil && len(args) == 0 && cmd != root
}
