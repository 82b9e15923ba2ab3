package dialect

import (
	"bytes"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrParameters says that a query or a form is malformed, or has a name twice.
var ErrParameters = errors.New("parameters are malformed")

// maxForm is the longest form, in bytes: the longest body of data with every third character percent-encoded.
const maxForm = 2 * DataBody

// saysForm reports whether a request's content type is that of a form.
func saysForm(r *http.Request) bool {
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return r.Method == http.MethodPost && strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded")
}

// isForm reports whether a request's body is a form. curl says so of every body; a JSON object is none.
func isForm(r *http.Request, body []byte) bool {
	return saysForm(r) && !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("{"))
}

// Parameters returns the parameters of a request's query and then of its form, if its body is one. A name that is there twice
// is ErrParameters; the other errors are those of Body.
func (x *Exchange) Parameters(r *http.Request, limit int64) ([]Pair, error) {
	if x.parsed {
		return x.parameters, nil
	}
	pairs, ok := ParseQuery(r.URL.RawQuery)
	if saysForm(r) {
		body, err := x.Body(r, limit)
		if err != nil {
			return nil, err
		}
		if isForm(r, body) {
			form, formOK := ParseQuery(string(body))
			pairs, ok = append(pairs, form...), ok && formOK
		}
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

// DecodeParameters makes the members of Object from a request's parameters. Names are paths: a part that is a number is the
// index in a list, counted from first, and every other part is the name of a member, as in Tags.0.TagKey.
func (x *Exchange) DecodeParameters(r *http.Request, limit int64, first int) error {
	pairs, err := x.Parameters(r, limit)
	if err != nil {
		return err
	}
	root := newBranch()
	for _, p := range pairs {
		if !root.add(strings.Split(p.Name, "."), p.Value) {
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
	value string
	leaf  bool
	names []string // in order of appearance
	below map[string]*branch
}

func newBranch() *branch { return &branch{below: map[string]*branch{}} }

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
	if b.leaf {
		return AppendString(dst, b.value), true
	}
	if slices.ContainsFunc(b.names, func(name string) bool { return strings.Trim(name, "0123456789") != "" }) {
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
