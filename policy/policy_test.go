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

var (
	ofAnybody  = []policy.Operation{policy.OpListProjects, policy.OpListDomains}
	ofServices = []policy.Operation{
		policy.OpDescribeKey, policy.OpEncryptData, policy.OpDecryptData, policy.OpCreateDataKey, policy.OpCreateDataKeyNoText,
		policy.OpEncryptDataKey, policy.OpDecryptDataKey,
	}
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
			{"application", policy.Principal{Name: "app"}, slices.Contains(ofAnybody, op)},
			{"service", policy.Principal{Name: "obs", Service: "obs"}, slices.Contains(append(ofServices, ofAnybody...), op)},
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

// TestServiceKey holds that what a service may do, it may do with its own default key and with no other key, and that an
// administrator's decision is about all keys.
func TestServiceKey(t *testing.T) {
	for _, op := range ofServices {
		d := policy.Decide(policy.Principal{Name: "disks", Service: "evs"}, op)
		for service, allow := range map[string]bool{"evs": true, "obs": false, "": false} {
			on := d.On(service)
			if on.Allow != allow || on.Allow == (on.Reason != "") {
				t.Errorf("evs may %s with the default key of %q: %+v", op, service, on)
			}
		}
		if all := policy.Decide(policy.Principal{Name: "owner", Administrator: true}, op); !all.On("").Allow || !all.On("obs").Allow {
			t.Errorf("an administrator may not %s with every key", op)
		}
	}
	if d := policy.Decide(policy.Principal{}, policy.OpEncryptData); d.On("").Allow {
		t.Error("a refusal became a permission")
	}
}

// TestUsers holds that only a uid that the kernel vouches for makes somebody.
func TestUsers(t *testing.T) {
	users := policy.Users{0: {Name: "owner", Administrator: true}, 5: {Name: "obs", Service: "obs"}}
	for _, c := range []struct {
		caller policy.Caller
		name   string
	}{
		{policy.Caller{UID: 0, Known: true}, "owner"},
		{policy.Caller{UID: 0}, ""}, // the zero Caller must not be root
		{policy.Caller{UID: 1, Known: true}, ""},
		{policy.Caller{UID: 5, Known: true}, "obs"},
		{policy.Caller{UID: 5}, ""},
	} {
		if p := users.Principal(c.caller); p.Name != c.name || p.Administrator != (c.name == "owner") {
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
