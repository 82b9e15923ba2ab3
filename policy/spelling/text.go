package spelling

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Line returns the line of a text with its number, to follow an error about it: "\n  12 | the line". It is empty if there is no such line.
func Line(text []byte, number int) string {
	lines := bytes.Split(text, []byte("\n"))
	if number < 1 || number > len(lines) {
		return ""
	}
	line := strings.ToValidUTF8(strings.TrimRight(string(lines[number-1]), " \t\r"), "?")
	if line == "" {
		return ""
	}
	return fmt.Sprintf("\n%5d | %s", number, strings.ReplaceAll(line, "\t", "    "))
}

// The faults that a strict decoder of YAML finds.
var (
	unknownKey = regexp.MustCompile(`^line (\d+): field (.+) not found in type .+$`)
	wrongKind  = regexp.MustCompile("^line (\\d+): cannot unmarshal (!!\\S+)(?: `(.*)`)? into (.+)$")
	otherFault = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.+)$`)
)

// kinds say what a value of a Go type is, by the beginning of the type's name.
var kinds = []struct{ goType, words string }{
	{"int", "a whole number"}, {"uint", "a whole number that is not negative"}, {"bool", "true or false"}, {"float", "a number"},
	{"time.Duration", "a duration such as 30s"}, {"string", "text"}, {"[]", "a list"}, {"map[", "a section with keys"},
}

// YAML returns the error of a strict decoder without Go's types: each fault with line, column, the line itself, and for an unknown key the
// most similar ones of the given types.
func YAML(err error, text []byte, types ...reflect.Type) error {
	if err == nil {
		return nil
	}
	faults := []string{}
	for _, fault := range strings.Split(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n"), "\n") {
		faults = append(faults, yamlFault(strings.TrimSpace(fault), text, types))
	}
	return errors.New(strings.Join(faults, "\n"))
}

func yamlFault(fault string, text []byte, types []reflect.Type) string {
	if m := unknownKey.FindStringSubmatch(fault); m != nil {
		var keys []string
		for _, t := range types {
			keys = append(keys, yamlKeys(t, nil)...)
		}
		return at(text, m[1], m[2]) + fmt.Sprintf(": unknown key %q", m[2]) + DidYouMean(m[2], keys) + quoted(text, m[1])
	}
	if m := wrongKind.FindStringSubmatch(fault); m != nil {
		want := "a section with keys"
		for _, k := range kinds {
			if strings.HasPrefix(strings.TrimPrefix(m[4], "*"), k.goType) {
				want = k.words
				break
			}
		}
		return at(text, m[1], m[3]) + ": this must be " + want + quoted(text, m[1])
	}
	if m := otherFault.FindStringSubmatch(fault); m != nil {
		return at(text, m[1], "") + ": " + m[2] + quoted(text, m[1])
	}
	return fault
}

// at returns the place of a word: line and, if the word is found in it, column.
func at(text []byte, line, word string) string {
	n, _ := strconv.Atoi(line)
	lines := strings.Split(string(text), "\n")
	if word != "" && n >= 1 && n <= len(lines) {
		if column := strings.Index(lines[n-1], strings.TrimSuffix(word, "...")); column >= 0 {
			return fmt.Sprintf("line %s, column %d", line, column+1)
		}
	}
	return "line " + line
}

func quoted(text []byte, line string) string {
	n, _ := strconv.Atoi(line)
	return Line(text, n)
}

// yamlKeys returns the keys of a type and of all types in it.
func yamlKeys(t reflect.Type, seen []reflect.Type) (keys []string) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || slices.Contains(seen, t) {
		return nil
	}
	seen = append(seen, t)
	for i := range t.NumField() {
		f := t.Field(i)
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" && key != "-" && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		keys = append(keys, yamlKeys(f.Type, seen)...)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
