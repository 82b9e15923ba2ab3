package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
)

// readRights reads testdata/rights.txt: the cell of an operation in a column.
func readRights(t *testing.T) map[policy.Operation]map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/rights.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n                    ")
	head, lines, _ := strings.Cut(table, "\n")
	rights := map[policy.Operation]map[string]string{}
	for line := range strings.Lines(lines) {
		fields := strings.Fields(line)
		row := map[string]string{}
		for i, column := range strings.Fields(head) {
			row[column] = fields[i+1]
		}
		rights[policy.Operation(fields[0])] = row
	}
	return rights
}

var (
	now      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	customer = policy.Key{ID: [16]byte{1}, Exists: true, Alias: "a", Spec: "AES_256", Usage: "ENCRYPT_DECRYPT", Origin: "kms", State: "Enabled"}
	ofObs    = policy.Key{ID: [16]byte{2}, Exists: true, Alias: "obs/default", Service: "obs"}
	socket   = policy.Caller{UID: 7, GID: 8, PID: 9, Known: true}
)

// decide decides about a customer's key with some grants.
func decide(p policy.Principal, op policy.Operation, key policy.Key, grants ...*policy.Grant) policy.Decision {
	return policy.Decide(&policy.Request{Operation: op, Principal: p, Caller: socket},
		&policy.Facts{Time: now, Tenant: "t", Account: "acc", Key: key, Grants: grants})
}

// TestDecide holds the answer for every operation and every kind of caller.
func TestDecide(t *testing.T) {
	rights := readRights(t)
	if len(rights) != len(policy.Operations) {
		t.Errorf("%d operations have an expected answer, %d are listed", len(rights), len(policy.Operations))
	}
	for _, op := range append(slices.Concat(policy.Operations, policy.Scheduled), "delete-everything", "") {
		row, known := rights[op]
		if known != slices.Contains(policy.Operations, op) {
			t.Errorf("testdata/rights.txt has no row for %q, or one for an operation that callers cannot ask for", op)
		}
		if granted := row["g"] != "-" && row["p"] == "-"; op.Grantable() != (known && granted) {
			t.Errorf("%s may be granted: %v", op, op.Grantable())
		}
		may := func(column string) bool { return known && row[column] != "-" }
		granted := &policy.Grant{ID: "1", Grantee: "app", Operations: []policy.Operation{op}}
		for _, c := range []struct {
			name   string
			who    policy.Principal
			key    policy.Key
			grants []*policy.Grant
			allow  bool
		}{
			{"anonymous", policy.Principal{}, customer, nil, false},
			{"anonymous with the role administrator", policy.Principal{Role: policy.Administrator}, customer, nil, false},
			{"application", policy.Principal{Name: "app"}, customer, nil, may("p")},
			{"application with a grant", policy.Principal{Name: "app"}, customer, []*policy.Grant{granted}, may("g")},
			{"application with a grant of another", policy.Principal{Name: "ap"}, customer, []*policy.Grant{granted}, may("p")},
			{"application with a grant on a default key", policy.Principal{Name: "app"}, ofObs, []*policy.Grant{granted}, may("p")},
			{"application with a grant on no key", policy.Principal{Name: "app"}, policy.Key{}, []*policy.Grant{granted}, may("p")},
			{"key user", policy.Principal{Name: "u", Role: policy.KeyUser}, customer, nil, may("u")},
			{"key user, default key", policy.Principal{Name: "u", Role: policy.KeyUser}, ofObs, nil, may("p") || may("u") && !op.AboutKey()},
			{"auditor", policy.Principal{Name: "a", Role: policy.Auditor}, customer, nil, may("r")},
			{"auditor, default key", policy.Principal{Name: "a", Role: policy.Auditor}, ofObs, nil, may("r")},
			{"service", policy.Principal{Name: "store", Service: "obs"}, ofObs, nil, may("s")},
			{"service with another's key", policy.Principal{Name: "store", Service: "evs"}, ofObs, nil, may("p")},
			{"service with no default key", policy.Principal{Name: "store", Service: "obs"}, customer, nil, may("S")},
			{"administrator", policy.Principal{Name: "owner", Role: policy.Administrator}, customer, nil, may("a")},
			{"administrator, default key", policy.Principal{Name: "owner", Role: policy.Administrator}, ofObs, nil, known},
			{"administrator, no key", policy.Principal{Name: "owner", Role: policy.Administrator}, policy.Key{}, nil, known},
			{"principal of an unknown role", policy.Principal{Name: "x", Role: "root"}, customer, nil, false},
			{"principal of the role service without a service", policy.Principal{Name: "x", Role: "service"}, customer, nil, may("p")},
		} {
			d := decide(c.who, op, c.key, c.grants...)
			if d.Allow != c.allow {
				t.Errorf("%s may %q: %t, want %t", c.name, op, d.Allow, c.allow)
			}
			if d.Allow == (d.By == "") || d.Allow == (d.Reason != "") {
				t.Errorf("%s, %q: decision %+v does not say who decided, or why not", c.name, op, d)
			}
		}
	}
}

// TestUsers checks that only a uid that the kernel reports makes a caller a principal.
func TestUsers(t *testing.T) {
	users := policy.NewUsers(policy.User{Source: "uid:0", Principal: policy.Principal{Name: "owner", Role: policy.Administrator}},
		policy.User{Source: "uid:5", Principal: policy.Principal{Name: "obs", Service: "obs"}})
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
		if p := users.Principal(c.caller); p.Name != c.name || (p.Role == policy.Administrator) != (c.name == "owner") {
			t.Errorf("%+v is the principal %+v", c.caller, p)
		}
	}
}

// TestPolicyNames holds that every name of an operation is understood in policies, and that a misspelt one is an error with the nearest.
func TestPolicyNames(t *testing.T) {
	for _, name := range []string{"decrypt-data", "decrypt", "decryptData", "Decrypt", "kms:Decrypt"} {
		p, err := policy.ParsePolicies(policy.Text{Name: "a.cedar", Body: []byte(`// Action::"decrypt"
forbid (principal, action == Action::"` + name + `", resource);`)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		d := policy.Decide(&policy.Request{Operation: policy.OpDecryptData, Principal: policy.Principal{Name: "a", Role: policy.Administrator}},
			&policy.Facts{Policies: p, Key: policy.Key{Exists: true}})
		if d.Allow || !strings.Contains(d.Reason, "a.cedar:2") {
			t.Errorf("%s: %+v", name, d)
		}
	}
	_, err := policy.ParsePolicies(policy.Text{Name: "a.cedar", Body: []byte("\npermit (principal, action == Action::\"decrpyt\", resource);")})
	if err == nil || !strings.HasPrefix(err.Error(), "a.cedar:2:1: ") || !strings.Contains(err.Error(), "did you mean decrypt") ||
		!strings.HasSuffix(err.Error(), "\n    2 | permit (principal, action == Action::\"decrpyt\", resource);") {
		t.Errorf("a misspelt name: %v", err)
	}
	_, err = policy.ParsePolicies(policy.Text{Name: "a.cedar", Body: []byte("permit (\n  principal,\n  acton,\n  resource);")})
	if err == nil || !strings.Contains(err.Error(), "a.cedar:3:") || !strings.HasSuffix(err.Error(), "\n    3 |   acton,") {
		t.Errorf("a fault of syntax: %v", err)
	}
}
