package dialect

import (
	"bytes"
	"errors"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Errors of decoding. A dialect maps them to its own codes.
var (
	ErrNotObject = errors.New("body is not a json object")
	ErrType      = errors.New("value has the wrong type")
)

// Object is a decoded JSON object: its members, found once and read by name. Values point into the body and into the
// Object's own scratch memory, so they live as long as the Exchange that owns it.
//
// A member that is null counts as absent, unknown members are ignored, and what is not JSON by RFC 8259, has a name
// twice or holds invalid UTF-8 is refused.
type Object struct {
	members []member
	source  bytes.Buffer
	decoder *jsontext.Decoder
	scratch []byte
}

// member is one name and its raw JSON value.
type member struct {
	name, value []byte
}

// parse finds the members of the object in body. An empty body is an empty object.
func (o *Object) parse(body []byte) error {
	o.members, o.scratch = o.members[:0], o.scratch[:0]
	if len(bytes.TrimLeft(body, " \t\r\n")) == 0 {
		return nil
	}
	o.source = *bytes.NewBuffer(body)
	if o.decoder == nil {
		o.decoder = jsontext.NewDecoder(&o.source)
	} else {
		o.decoder.Reset(&o.source)
	}
	defer func() { o.source = bytes.Buffer{} }()
	if bytes.IndexByte(body, '\\') >= 0 {
		// No escape is shorter than what it stands for, and Pairs unquotes twice at most: the scratch will not move.
		o.scratch = slices.Grow(o.scratch, 2*len(body))
	}
	return o.scan(o.decoder, body, func(name, value []byte) {
		o.members = append(o.members, member{name, value})
	})
}

// scan calls fn for each member of the one object in text, which decoder reads.
func (o *Object) scan(decoder *jsontext.Decoder, text []byte, fn func(name, value []byte)) error {
	if t, err := decoder.ReadToken(); err != nil || t.Kind() != '{' {
		return ErrNotObject
	}
	for decoder.PeekKind() != '}' {
		name, err := next(decoder, text)
		if err != nil {
			return err
		}
		value, err := next(decoder, text)
		if err != nil {
			return err
		}
		fn(o.unquote(name), value)
	}
	if _, err := decoder.ReadToken(); err != nil {
		return ErrNotObject
	}
	if len(bytes.TrimLeft(text[decoder.InputOffset():], " \t\r\n")) != 0 {
		return ErrNotObject
	}
	return nil
}

// next returns the next raw value as a part of text: the decoder's own slice is good only until its next call.
func next(decoder *jsontext.Decoder, text []byte) ([]byte, error) {
	v, err := decoder.ReadValue()
	if err != nil {
		return nil, ErrNotObject
	}
	end := decoder.InputOffset()
	return text[end-int64(len(v)) : end], nil
}

// unquote returns the text of a raw JSON string, without a copy where it has no escapes.
func (o *Object) unquote(raw []byte) []byte {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	start := len(o.scratch)
	o.scratch, _ = jsontext.AppendUnquote(o.scratch, raw) // the decoder has checked it
	return o.scratch[start:]
}

// find returns the raw value of a member, nil where it is absent or null.
func (o *Object) find(name string) []byte {
	for i := range o.members {
		if string(o.members[i].name) == name {
			if v := o.members[i].value; v[0] != 'n' {
				return v
			}
			return nil
		}
	}
	return nil
}

// Text returns a string member, nil where it is absent, null or empty.
func (o *Object) Text(name string) ([]byte, error) {
	raw := o.find(name)
	if raw == nil {
		return nil, nil
	}
	if raw[0] != '"' {
		return nil, ErrType
	}
	if t := o.unquote(raw); len(t) > 0 {
		return t, nil
	}
	return nil, nil
}

// Integer returns a member that is an integer, written as a number or as a string of one; ok is false where it is
// absent, null or an empty string.
func (o *Object) Integer(name string) (n int64, ok bool, err error) {
	raw := o.find(name)
	if raw != nil && raw[0] == '"' {
		raw = o.unquote(raw)
	}
	if len(raw) == 0 {
		return 0, false, nil
	}
	n, err = strconv.ParseInt(string(raw), 10, 64)
	if err != nil || raw[0] == '+' {
		return 0, false, ErrType
	}
	return n, true, nil
}

// Pairs returns a member that is an object of strings, written as an object or as a string that holds one, of at most
// limit bytes; nil where it is absent, null or empty.
func (o *Object) Pairs(name string, limit int) (map[string]string, error) {
	raw := o.find(name)
	if raw == nil {
		return nil, nil
	}
	if raw[0] == '"' {
		if raw = o.unquote(raw); len(bytes.TrimSpace(raw)) == 0 {
			return nil, nil
		}
	}
	if len(raw) > limit {
		return nil, ErrType
	}
	var pairs map[string]string
	wrong := false
	err := o.scan(jsontext.NewDecoder(bytes.NewBuffer(raw)), raw, func(name, value []byte) {
		if value[0] != '"' {
			wrong = true
			return
		}
		if pairs == nil {
			pairs = map[string]string{}
		}
		pairs[string(name)] = string(o.unquote(value))
	})
	if err != nil {
		return nil, err
	}
	if wrong {
		return nil, ErrType
	}
	return pairs, nil
}

// wipe clears what the Object holds of a request.
func (o *Object) wipe() {
	clear(o.members)
	o.members, o.scratch = o.members[:0], wiped(o.scratch)
	if o.decoder != nil {
		o.decoder.Reset(&o.source)
	}
}
