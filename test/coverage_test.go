package test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/alibaba"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/dialect/keyside"
	"github.com/keyside/keyside/sidecar/dialect/tencent"
)

var update = flag.Bool("update", false, "write the generated parts of the pages")

// dialects are the last columns of the table of operations.
var dialects = []struct {
	title  string
	served []dialect.Served
}{
	{"Native API", keyside.Served()},
	{"Huawei Cloud", huawei.Served()},
	{"Tencent Cloud", tencent.Served()},
	{"Alibaba Cloud", alibaba.Served()},
}

// TestCoverage checks that docs/operations.md lists the routes of the dialects.
func TestCoverage(t *testing.T) {
	generated(t, "../docs/operations.md", "operations", "TestCoverage", operationsTable(t))
	generated(t, "../docs/operations.md", "unavailable", "TestCoverage", unavailableTable())
}

// unavailableTable renders the actions of a cloud that are refused for want of their feature, and how.
func unavailableTable() string {
	table := "| Cloud | Answer | Actions |\n|---|---|---|\n"
	for _, code := range slices.Sorted(maps.Keys(tencent.Unavailable())) {
		actions := slices.Sorted(slices.Values(tencent.Unavailable()[code]))
		table += fmt.Sprintf("| Tencent Cloud | `%s` | `%s` |\n", code, strings.Join(actions, "`, `"))
	}
	return table
}

// operationsTable renders the names of every operation, and where each dialect serves it.
func operationsTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| Operation | Stored name | Trace name |")
	for _, d := range dialects {
		b.WriteString(" " + d.title + " |")
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(dialects)) + "\n")
	shown := 0
	for _, op := range policy.Operations {
		stored := "same"
		if op.Name() != string(op) {
			stored = string(op)
		}
		fmt.Fprintf(&b, "| %s | %s | %s |", op.Name(), stored, op.Trace())
		for _, d := range dialects {
			var cells []string
			for _, s := range d.served {
				if s.Operation == op {
					cells = append(cells, "`"+s.Call+"`")
				}
			}
			shown += len(cells)
			if cells == nil {
				cells = []string{"–"}
			}
			b.WriteString(" " + strings.Join(cells, ", ") + " |")
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
