package huawei

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestSpecs makes a key of every spec with every usage, and with none, and compares what comes of it with
// testdata/specs.txt.
func TestSpecs(t *testing.T) {
	text, err := os.ReadFile("testdata/specs.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, os.Getuid())
	s.hsm.lacks = ""
	var columns, specs []string
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 0 && fields[0] == "default":
			columns = fields
		case columns != nil && len(fields) == len(columns)+1:
			specs = append(specs, fields[0])
			for i, usage := range columns {
				s.checkSpec(fields[0], usage, fields[i+1])
			}
		}
	}
	for _, name := range specNames {
		if !slices.Contains(specs, name) {
			t.Errorf("%s has no row in testdata/specs.txt", name)
		}
	}
}

// checkSpec makes a key and looks at its usage.
func (s *server) checkSpec(spec, usage, want string) {
	s.t.Helper()
	alias, more := spec+"/"+usage, fmt.Sprintf(`,"key_usage":%q`, usage)
	if usage == "default" {
		alias, more = spec, ""
	}
	a := s.post("create-key", fmt.Sprintf(`{"key_alias":%q,"key_spec":%q%s}`, alias, spec, more))
	got := strings.TrimPrefix(a.code(), "KMS.")
	if a.status == http.StatusOK {
		got = s.post("describe-key", `{"key_id":"`+a.field(s.t, "key_id")+`"}`).field(s.t, "key_usage")
		if got == usage {
			got = "yes"
		}
	}
	if got != want {
		s.t.Errorf("%s with %s: %s (%s), want %s", spec, usage, got, a.body, want)
	}
}
