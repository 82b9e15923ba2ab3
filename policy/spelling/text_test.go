package spelling

import (
	"errors"
	"reflect"
	"testing"
)

// TestYAML checks the words for each fault that a strict decoder of YAML reports.
func TestYAML(t *testing.T) {
	type inner struct {
		Region string `yaml:"region"`
	}
	type config struct {
		Owner int              `yaml:"owner"`
		Inner map[string]inner `yaml:"inner,omitempty"`
		Self  []*config        `yaml:"self"`
	}
	text := []byte("\towner: x\nregio: a\n\nlong: " + "\xff\n")
	for fault, want := range map[string]string{
		"line 2: field regio not found in type sidecar.Config":   "line 2, column 1: unknown key \"regio\"; did you mean region?\n    2 | regio: a",
		"line 9: field zzz not found in type struct { A int }":   `line 9: unknown key "zzz"`,
		"line 1: cannot unmarshal !!str `x` into int":            "line 1, column 9: this must be a whole number\n    1 |     owner: x",
		"line 1: cannot unmarshal !!str `x` into *uint32":        "line 1, column 9: this must be a whole number that is not negative\n    1 |     owner: x",
		"line 1: cannot unmarshal !!map into []string":           "line 1: this must be a list\n    1 |     owner: x",
		"line 1: cannot unmarshal !!seq into sidecar.Config":     "line 1: this must be a section with keys\n    1 |     owner: x",
		"line 1: cannot unmarshal !!str `own...` into bool":      "line 1, column 2: this must be true or false\n    1 |     owner: x",
		"line 1: cannot unmarshal !!str `x` into time.Duration":  "line 1, column 9: this must be a duration such as 30s\n    1 |     owner: x",
		"yaml: line 2: did not find expected key":                "line 2: did not find expected key\n    2 | regio: a",
		"yaml: line 3: an empty line":                            "line 3: an empty line",
		"line 4: mapping key \"long\" already defined at line 1": "line 4: mapping key \"long\" already defined at line 1\n    4 | long: ?",
		"EOF": "EOF",
		"yaml: unmarshal errors:\n  line 9: field a not found in type x\n  line 9: field b not found in type x": "line 9: unknown key \"a\"\nline 9: unknown key \"b\"",
	} {
		if got := YAML(errors.New(fault), text, reflect.TypeFor[config]()); got.Error() != want {
			t.Errorf("%s:\n%s\nwant\n%s", fault, got, want)
		}
	}
	if err := YAML(nil, text); err != nil {
		t.Error(err)
	}
}
