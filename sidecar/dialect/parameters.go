package dialect

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrParameters says that a query or a form is malformed, or has a name twice.
var ErrParameters = errors.New("parameters are malformed")

// maxForm is the longest form, in bytes: the longest body of data with every third character percent-encoded.
const maxForm = 2 * DataBody

// maxParameters is how many parameters a request may have. They are parsed before its sender is known, and two characters are one.
const maxParameters = 4096

// saysForm reports whether a request's content type is that of a form.
func saysForm(r *http.Request) bool {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return r.Method == http.MethodPost && strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded")
}

// isForm reports whether a request's body is a form. curl says so of every body; a JSON object is none.
func isForm(r *http.Request, body []byte) bool {
	return saysForm(r) && !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// Parameters returns the parameters of a request's query and then of its form, if its body is one. A name that is given
// twice is ErrParameters; the other errors are those of Body.
func (x *Exchange) Parameters(r *http.Request, limit int64) ([]Pair, error) {
	if x.parsed {
		return x.parameters, nil
	}
	var form []byte
	if saysForm(r) {
		body, err := x.Body(r, limit)
		if err != nil {
			return nil, err
		}
		if isForm(r, body) {
			form = body
		}
	}
	if strings.Count(r.URL.RawQuery, "&")+bytes.Count(form, []byte("&")) >= maxParameters {
		return nil, ErrParameters
	}
	pairs, ok := ParseQuery(r.URL.RawQuery)
	if len(form) > 0 {
		more, moreOK := ParseQuery(string(form))
		pairs, ok = append(pairs, more...), ok && moreOK
	}
	names := make(map[string]bool, len(pairs))
	for _, p := range pairs {
		if !ok || names[p.Name] || !utf8.ValidString(p.Name) || !utf8.ValidString(p.Value) {
			return nil, ErrParameters
		}
		names[p.Name] = true
	}
	if !ok {
		return nil, ErrParameters
	}
	x.parameters, x.parsed = pairs, true
	return pairs, nil
}

// Parameter returns the value of a parameter, and whether it is there.
func Parameter(pairs []Pair, name string) (string, bool) {
	i := slices.IndexFunc(pairs, func(p Pair) bool { return p.Name == name })
	if i < 0 {
		return "", false
	}
	return pairs[i].Value, true
}

// Parameter returns the value of a parameter after Parameters, empty where it is absent.
func (x *Exchange) Parameter(name string) string {
	value, _ := Parameter(x.parameters, name)
	return value
}

// DecodeParameters makes the members of Object from a request's parameters, all but the common ones. Names are paths: a part that
// is a number is the index in a list, counted from first, and every other part is the name of a member, as in Tags.0.TagKey. Of a
// field with pairs, the rest of the name is that of a pair, whatever it holds. A list or an object may also be JSON. A body that is
// no form must be empty: fields in it, such as an encryption context, would be ignored.
func (x *Exchange) DecodeParameters(r *http.Request, rt *Route, first int, common []string) error {
	pairs, err := x.Parameters(r, rt.Body)
	if err != nil {
		return err
	}
	body, err := x.Body(r, rt.Body)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) > 0 && !isForm(r, body) {
		return ErrParameters
	}
	root := newBranch()
	for _, p := range pairs {
		if !slices.Contains(common, p.Name) && !root.addTo(rt.Fields, p) {
			return ErrParameters
		}
	}
	object, ok := root.appendObject(x.flat[:0], first)
	x.flat = object
	if !ok {
		return ErrParameters
	}
	return x.Object.parse(object)
}

// maxDepth is how many parts the name of a parameter may have.
const maxDepth = 4

// branch is what names of parameters that begin alike have in common: the value of the one that ends there, or those below.
type branch struct {
	value  string
	leaf   bool
	json   bool     // value is JSON
	object bool     // names that are numbers are no indexes
	names  []string // in order of appearance
	below  map[string]*branch
}

func newBranch() *branch { return &branch{below: map[string]*branch{}} }

// addTo puts a parameter where its field has it.
func (b *branch) addTo(fields []Field, p Pair) bool {
	name, rest, below := strings.Cut(p.Name, ".")
	i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == name })
	switch {
	case i >= 0 && fields[i].Kind == Pairs && below:
		ok := b.add([]string{name, rest}, p.Value)
		b.below[name].object = true
		return ok
	case i >= 0 && fields[i].Kind >= Texts && !below:
		ok := b.add([]string{name}, p.Value)
		b.below[name].json = jsontext.Value(p.Value).IsValid()
		return ok
	}
	return b.add(strings.Split(p.Name, "."), p.Value)
}

// add puts a value at a path. It reports whether that is neither below nor above another value.
func (b *branch) add(path []string, value string) bool {
	if len(path) > maxDepth {
		return false
	}
	for _, name := range path {
		next := b.below[name]
		if next == nil {
			next = newBranch()
			b.below[name], b.names = next, append(b.names, name)
		}
		if b = next; b.leaf {
			return false
		}
	}
	b.value, b.leaf = value, true
	return len(b.names) == 0
}

func (b *branch) append(dst []byte, first int) ([]byte, bool) {
	switch {
	case b.json:
		return append(dst, b.value...), true
	case b.leaf:
		return AppendString(dst, b.value), true
	}
	if b.object || slices.ContainsFunc(b.names, func(name string) bool { return strings.Trim(name, "0123456789") != "" }) {
		return b.appendObject(dst, first)
	}
	dst = append(dst, '[')
	for i := range b.names {
		element, ok := b.below[strconv.Itoa(first+i)], false
		if element == nil {
			return dst, false
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, ok = element.append(dst, first); !ok {
			return dst, false
		}
	}
	return append(dst, ']'), true
}

func (b *branch) appendObject(dst []byte, first int) ([]byte, bool) {
	dst = append(dst, '{')
	for i, name := range b.names {
		if i > 0 {
			dst = append(dst, ',')
		}
		var ok bool
		if dst, ok = b.below[name].append(append(AppendString(dst, name), ':'), first); !ok {
			return dst, false
		}
	}
	return append(dst, '}'), true
}
