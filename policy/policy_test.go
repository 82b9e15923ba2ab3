package policy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
)

// TestDecide holds the answer for every operation and every kind of principal.
func TestDecide(t *testing.T) {
	for _, op := range append(slices.Concat(policy.Operations, policy.Scheduled), "delete-everything", "") {
		known := slices.Contains(policy.Operations, op)
		for _, c := range []struct {
			name  string
			who   policy.Principal
			allow bool
		}{
			{"nobody", policy.Principal{}, false},
			{"nobody who says he is administrator", policy.Principal{Administrator: true}, false},
			{"application", policy.Principal{Name: "app"}, false},
			{"administrator", policy.Principal{Name: "owner", Administrator: true}, known},
		} {
			d := policy.Decide(c.who, op)
			if d.Allow != c.allow {
				t.Errorf("%s may %q: %t, want %t", c.name, op, d.Allow, c.allow)
			}
			if d.Allow == (d.By == "") || d.Allow == (d.Reason != "") {
				t.Errorf("%s, %q: decision %+v does not say who decided, or why not", c.name, op, d)
			}
		}
	}
}

// TestOwner holds that only a uid that the kernel vouches for makes the owner.
func TestOwner(t *testing.T) {
	owner := policy.Owner{UID: 0}
	for _, c := range []struct {
		caller policy.Caller
		admin  bool
	}{
		{policy.Caller{UID: 0, Known: true}, true},
		{policy.Caller{UID: 0}, false}, // the zero Caller must not be root
		{policy.Caller{UID: 1, Known: true}, false},
	} {
		if p := owner.Principal(c.caller); p.Administrator != c.admin || (p.Name != "") != c.admin {
			t.Errorf("%+v is taken to be %+v", c.caller, p)
		}
	}
}

// TestOperationsAreListed holds that no operation is declared and left out of the lists: it would be refused for ever.
func TestOperationsAreListed(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "policy.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Op") {
			return true
		}
		if literal, ok := spec.Values[0].(*ast.BasicLit); ok {
			declared++
			name, _ := strconv.Unquote(literal.Value)
			op := policy.Operation(name)
			if slices.Contains(policy.Operations, op) == slices.Contains(policy.Scheduled, op) {
				t.Errorf("%s is declared and not in one of the lists", name)
			}
		}
		return true
	})
	if listed := len(policy.Operations) + len(policy.Scheduled); declared != listed {
		t.Errorf("%d operations are declared, %d listed", declared, listed)
	}
}
