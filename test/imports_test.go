package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/keyside/keyside"

// importRule says who may import a package, or a tree of packages ("…/...").
type importRule struct {
	pkg     string
	allowed []string
}

// importers: a package named here may be imported only by these. "" is the main package.
var importers = []importRule{
	{"github.com/dgraph-io/badger/v4/...", []string{"sidecar/store"}},
	{"github.com/RoaringBitmap/roaring/v2/...", []string{"sidecar/store"}},
	{"github.com/gorilla/mux/...", []string{"sidecar/dialect/..."}},
	{"github.com/miekg/pkcs11/...", []string{"plugins/pkcs11", "test/..."}},
	{"github.com/hashicorp/go-plugin/...", []string{"plugins", "plugins/driver"}},
	{"github.com/tink-crypto/tink-go/v2/...", []string{"sidecar/cli/envelope", "sidecar/backup"}},
	{"github.com/transparency-dev/merkle/...", []string{"sidecar/audit"}},
	{"golang.org/x/mod/...", []string{"sidecar/audit"}},
	{"github.com/decred/dcrd/dcrec/secp256k1/v4/...", []string{"sidecar/kms", "plugins/material", "plugins/pkcs11", "plugins/drivertest"}},
	{"github.com/spf13/cobra", []string{"", "hsmd", "sidecar", "sidecar/cli/...", "sidecar/bench"}},
	{module + "/sidecar/cli/...", []string{"", "sidecar/cli/...", "test/..."}},
	{module + "/sidecar/store", []string{"sidecar", "test/..."}},
	{module + "/plugins/material", []string{"plugins/pkcs11", "plugins/soft", "sidecar/cli/imports", "test/..."}},
	{module + "/plugins/pkcs11", []string{"", "sidecar/bench", "test/..."}},
	{module + "/plugins/soft", []string{"", "sidecar/bench", "test/..."}},
}

// mayImport: what is named here imports nothing outside the standard library but this (and itself).
var mayImport = []importRule{
	{"policy", []string{"github.com/cedar-policy/cedar-go/...", module + "/policy/spelling"}},
	{"policy/spelling", nil},
	{"sidecar/kms", []string{module + "/policy", "go.opentelemetry.io/otel/...", "github.com/google/uuid",
		"github.com/decred/dcrd/dcrec/secp256k1/v4/..."}},
	{"plugins/procattr", []string{"golang.org/x/sys/unix"}},
	{"plugins/driver", []string{module + "/plugins/driverv1", module + "/plugins/procattr", "github.com/hashicorp/go-plugin/...", "github.com/hashicorp/go-hclog",
		"google.golang.org/grpc/...", "google.golang.org/protobuf/..."}},
	{"plugins/material", []string{module + "/plugins/driver", "golang.org/x/crypto/cryptobyte/...",
		"github.com/decred/dcrd/dcrec/secp256k1/v4/..."}},
	{"sidecar/dialect", []string{module + "/sidecar/kms", module + "/policy", "github.com/gorilla/mux", "github.com/google/uuid",
		"github.com/go-json-experiment/json/..."}},
}

// sidecarImports: each package of the sidecar imports only these of Keyside's packages (and its own tree), the rooms below before those above.
var sidecarImports = []importRule{
	{"sidecar/kms", []string{"policy"}},
	{"sidecar/store", []string{"policy", "sidecar/kms"}},
	{"sidecar/audit", []string{"policy", "sidecar/kms"}},
	{"sidecar/client/...", nil},
	{"sidecar/backup", nil},
	{"sidecar/dialect", []string{"policy", "sidecar/kms"}},
	{"sidecar/dialect/dialecttest", []string{"policy", "sidecar/kms", "sidecar/dialect"}},
	{"sidecar/dialect/huawei", []string{"policy", "sidecar/kms", "sidecar/dialect"}},
	{"sidecar/dialect/tencent", []string{"policy", "sidecar/kms", "sidecar/dialect"}},
	{"sidecar/dialect/alibaba", []string{"policy", "sidecar/kms", "sidecar/dialect"}},
	{"sidecar/dialect/keyside", []string{"policy", "sidecar/kms", "sidecar/dialect", "sidecar/audit", "sidecar/client"}},
	{"sidecar/edge", []string{"hsmd/peer", "sidecar/kms", "sidecar/dialect", "sidecar/client"}},
	{"sidecar/hsm", []string{"hsmd", "hsmd/telemetry", "plugins/driver", "sidecar/kms", "sidecar/client"}},
	{"sidecar", []string{
		"policy/...", "hsmd/...", "plugins", "plugins/driver", "plugins/procattr", "sidecar/kms", "sidecar/store", "sidecar/audit", "sidecar/client/...",
		"sidecar/dialect/...", "sidecar/edge", "sidecar/hsm", "sidecar/backup",
	}},
	{"sidecar/bench/...", []string{"hsmd", "plugins/..."}},
	{"sidecar/cli/...", []string{"policy/...", "hsmd/...", "plugins/...", "sidecar", "sidecar/audit", "sidecar/backup", "sidecar/client", "sidecar/kms"}},
}

// never: a tree on the left does not import, by whatever way, a tree on the right.
var never = [][2]string{
	{"hsmd/...", "sidecar/..."},
	{"plugins/...", "sidecar/..."},
	{"plugins/...", "hsmd/..."},
	{"hsmd/peer", "hsmd"}, // both daemons stand on these two
	{"hsmd/telemetry", "hsmd"},
	{"sidecar/kms", "plugins/..."},
	{"sidecar/dialect/...", "plugins/..."},
	{"sidecar/dialect/...", "sidecar/store"},
	{"sidecar/edge", "plugins/..."},
	{"sidecar/client", "sidecar/store"},
	{"sidecar/client", "plugins/..."},
}

// TestSidecarImports checks the table of the sidecar's packages, and that it has each of them.
func TestSidecarImports(t *testing.T) {
	for _, p := range listPackages(t) {
		self := strings.TrimPrefix(p.ImportPath, module+"/")
		if !within(self, "sidecar/...") {
			continue
		}
		i := slices.IndexFunc(sidecarImports, func(r importRule) bool { return within(self, r.pkg) })
		if i < 0 {
			t.Errorf("%s is not in the table", self)
			continue
		}
		r := sidecarImports[i]
		for _, imported := range p.Imports {
			own, isOurs := strings.CutPrefix(imported, module+"/")
			if isOurs && !within(own, r.pkg) && !anyWithin(own, r.allowed) {
				t.Errorf("%s imports %s; of Keyside's packages it may import only %q", self, own, r.allowed)
			}
		}
	}
}

type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// TestImports checks who imports whom, as ARCHITECTURE.md says it.
func TestImports(t *testing.T) {
	packages := listPackages(t)
	for _, p := range packages {
		self := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, imported := range p.Imports {
			for _, r := range importers {
				if within(imported, r.pkg) && !within(p.ImportPath, r.pkg) && !anyWithin(self, r.allowed) {
					t.Errorf("%s imports %s, which only %q may", p.ImportPath, imported, r.allowed)
				}
			}
			for _, r := range mayImport {
				standard := !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
				if self == r.pkg && !standard && !anyWithin(imported, r.allowed) {
					t.Errorf("%s imports %s; it may only import the standard library and %q", p.ImportPath, imported, r.allowed)
				}
			}
		}
		for _, n := range never {
			if !within(self, n[0]) {
				continue
			}
			for _, dep := range p.Deps {
				if within(strings.TrimPrefix(dep, module+"/"), n[1]) {
					t.Errorf("%s depends on %s, and must not", p.ImportPath, dep)
				}
			}
		}
	}
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	var all []goPackage
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 10 {
		t.Fatalf("go list found %d packages only", len(all))
	}
	return all
}

// within reports whether a package is the pattern, or in the tree that it names.
func within(pkg, pattern string) bool {
	tree, isTree := strings.CutSuffix(pattern, "/...")
	return pkg == tree || isTree && strings.HasPrefix(pkg, tree+"/")
}

func anyWithin(pkg string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return within(pkg, p) })
}
