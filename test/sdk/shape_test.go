package sdk

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// shape is what a piece of an answer must look like: its JSON type and its form. Strict clients fail on any other.
type shape interface {
	check(v any) error
}

type (
	text    struct{ form *regexp.Regexp } // a string
	number  struct{}                      // a whole number, not as a string
	boolean struct{}                      // true or false, not as a string
	coded   struct{}                      // Base64 in the standard alphabet with padding, not empty
	object  map[string]shape              // exactly these members
	list    struct{ each shape }          // never null
	maybe   struct{ shape }               // a member that may be missing
)

// words is text that matches a pattern as a whole.
func words(pattern string) text { return text{regexp.MustCompile(`(?s)^(?:` + pattern + `)$`)} }

func (s text) check(v any) error {
	if got, ok := v.(string); !ok || !s.form.MatchString(got) {
		return fmt.Errorf("is %#v, want a string like %s", v, s.form)
	}
	return nil
}

func (number) check(v any) error {
	n, ok := v.(json.Number)
	if !ok || strings.ContainsAny(n.String(), ".eE") {
		return fmt.Errorf("is %#v, want a whole number", v)
	}
	return nil
}

func (boolean) check(v any) error {
	if _, ok := v.(bool); !ok {
		return fmt.Errorf("is %#v, want a bool", v)
	}
	return nil
}

func (coded) check(v any) error {
	got, ok := v.(string)
	if raw, err := base64.StdEncoding.Strict().DecodeString(got); !ok || err != nil || len(raw) == 0 {
		return fmt.Errorf("is %#v, want Base64", v)
	}
	return nil
}

func (s object) check(v any) error {
	got, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("is %#v, want an object", v)
	}
	for name, value := range got {
		want, ok := s[name]
		if !ok {
			return fmt.Errorf("has %q, which is not documented", name)
		}
		if err := want.check(value); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for name, want := range s {
		if _, optional := want.(maybe); !optional {
			if _, ok := got[name]; !ok {
				return fmt.Errorf("lacks %q", name)
			}
		}
	}
	return nil
}

func (s list) check(v any) error {
	got, ok := v.([]any)
	if !ok {
		return fmt.Errorf("is %#v, want a list", v)
	}
	for i, value := range got {
		if err := s.each.check(value); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return nil
}

// checkShape holds a body against a shape. A member that occurs twice is a fault too; decoders ignore it.
func checkShape(body []byte, s shape) error {
	if !jsontext.Value(body).IsValid() {
		return errors.New("is not strict JSON")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	return s.check(v)
}
