package key

import (
	"reflect"
	"testing"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func TestParseTags(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []client.Tag
	}{
		{nil, nil},
		{[]string{"a=b", "c=", "d=e=f", "ü=x y"}, []client.Tag{{Key: "a", Value: "b"}, {Key: "c"}, {Key: "d", Value: "e=f"}, {Key: "ü", Value: "x y"}}},
		{[]string{"a"}, nil},
		{[]string{"=b"}, nil},
		{[]string{""}, nil},
		{[]string{"a=1", "b=1", "a=1"}, nil},
	} {
		got, err := parseTags(c.words)
		if !reflect.DeepEqual(got, c.want) || (c.want == nil && c.words != nil) != (verb.ExitCode(err) == verb.ExitUsage) {
			t.Errorf("%q: %v, %v", c.words, got, err)
		}
	}
}

func TestParseConditions(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []client.TagValues
	}{
		{[]string{"a=1", "b", "c="}, []client.TagValues{{Key: "a", Values: []string{"1"}}, {Key: "b", Values: []string{}}, {Key: "c", Values: []string{""}}}},
		{[]string{"a=1", "b=1", "a=2"}, []client.TagValues{{Key: "a", Values: []string{"1", "2"}}, {Key: "b", Values: []string{"1"}}}},
		{[]string{"a=1", "a", "a=2"}, []client.TagValues{{Key: "a", Values: []string{}}}}, // any value is any value
		{[]string{"=1"}, nil},
		{[]string{""}, nil},
	} {
		got, err := parseConditions(c.words)
		if !reflect.DeepEqual(got, c.want) || (c.want == nil && c.words != nil) != (verb.ExitCode(err) == verb.ExitUsage) {
			t.Errorf("%q: %v, %v", c.words, got, err)
		}
	}
}
