package test

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd"
)

const hsmdExample = "../deploy/hsmd.example.yaml"

// commentedKey is a key that the example holds as a comment.
var commentedKey = regexp.MustCompile(`(?m)^( *)# ([a-z0-9_]+:( .*)?)$`)

// TestHSMDExample checks the file that operators copy: it is valid as it is, and it contains every key.
func TestHSMDExample(t *testing.T) {
	if _, err := hsmd.LoadConfig(hsmdExample); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(hsmdExample)
	if err != nil {
		t.Fatal(err)
	}
	text = commentedKey.ReplaceAll(text, []byte("$1$2"))
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(new(hsmd.Config)); err != nil {
		t.Errorf("with every key: %v", err)
	}
	for key := range yamlKeys(reflect.TypeFor[hsmd.Config]()) {
		if !regexp.MustCompile(`(?m)(^|[ {])` + key + `:`).Match(text) {
			t.Errorf("the example lacks %s", key)
		}
	}
}

// yamlKeys returns every key of a configuration type.
func yamlKeys(typ reflect.Type) map[string]bool {
	keys := map[string]bool{}
	for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
		typ = typ.Elem()
	}
	if typ.Kind() != reflect.Struct || typ == reflect.TypeFor[yaml.Node]() {
		return keys
	}
	for i := range typ.NumField() {
		if key, _, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ","); key != "" && key != "-" {
			keys[key] = true
		}
		for key := range yamlKeys(typ.Field(i).Type) {
			keys[key] = true
		}
	}
	return keys
}
