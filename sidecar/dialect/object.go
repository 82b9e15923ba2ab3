package dialect

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
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

// Object is a decoded JSON object: its members, found once and read by name. What is read points into the body and into
// the Object's own scratch memory, so it lives as long as the Exchange that owns it.
//
// A member that is null counts as absent, unknown members are ignored, and what is not JSON by RFC 8259, has a name
// twice or holds invalid UTF-8 is refused.
type Object struct {
	exchange *Exchange // that it is of
	members  []member
	source   bytes.Buffer
	decoder  *jsontext.Decoder
	size     int    // of the body, in bytes
	scratch  []byte // of unquote
	binary   []byte // of the decoding of base64 and hexadecimal digits
}

// member is one name and its raw JSON value.
type member struct {
	name, value []byte
}

// parse finds the members of the object in body. An empty body is an empty object.
func (o *Object) parse(body []byte) error {
	o.members, o.scratch, o.binary, o.size = o.members[:0], o.scratch[:0], o.binary[:0], len(body)
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
		// No escape is shorter than what it stands for, and nothing is unquoted more than twice: the scratch will not move.
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
	if _, err := decoder.ReadToken(); err != nil || len(bytes.TrimLeft(text[decoder.InputOffset():], " \t\r\n")) != 0 {
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
func (o *Object) find(name string) []byte { return find(o.members, name) }

func find(members []member, name string) []byte {
	for i := range members {
		if string(members[i].name) == name {
			if v := members[i].value; v[0] != 'n' {
				return v
			}
			return nil
		}
	}
	return nil
}

// The methods below read a raw value that find or scan returned, which is not absent.

// text reads a string.
func (o *Object) text(raw []byte) ([]byte, error) {
	if raw[0] != '"' {
		return nil, ErrType
	}
	return o.unquote(raw), nil
}

// scalar reads a number or a boolean that may be spelt as a string.
func (o *Object) scalar(raw []byte) []byte {
	if raw[0] == '"' {
		return o.unquote(raw)
	}
	return raw
}

// integer reads a whole number, written in digits: as a number or as a string of one.
func integer(text []byte) (int64, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || text[0] == '+' {
		return 0, ErrType
	}
	return n, nil
}

// flag reads true or false, as a boolean or as a string of one.
func flag(text []byte) (bool, error) {
	switch string(text) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, ErrType
}

// pairs reads an object of strings, written as an object or as a string that holds one, of at most limit bytes; nil where
// it is empty.
func (o *Object) pairs(raw []byte) (map[string]string, error) {
	if raw[0] == '"' {
		if raw = o.unquote(raw); len(bytes.TrimSpace(raw)) == 0 {
			return nil, nil
		}
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
	if err == nil && wrong {
		err = ErrType
	}
	return pairs, err
}

// object reads the members of an object within the body.
func (o *Object) object(raw []byte) ([]member, error) {
	var members []member
	err := o.scan(jsontext.NewDecoder(bytes.NewBuffer(raw)), raw, func(name, value []byte) {
		members = append(members, member{name, value})
	})
	return members, err
}

// list calls fn for each element of an array within the body.
func list(raw []byte, fn func(element []byte) error) error {
	if raw[0] != '[' {
		return ErrType
	}
	decoder := jsontext.NewDecoder(bytes.NewBuffer(raw))
	if _, err := decoder.ReadToken(); err != nil {
		return ErrType
	}
	for decoder.PeekKind() != ']' {
		element, err := next(decoder, raw)
		if err != nil {
			return err
		}
		if err := fn(element); err != nil {
			return err
		}
	}
	return nil
}

// room returns n bytes to decode into. They are part of a buffer that does not move: it is as long as the body, and
// nothing that is decoded is longer than its text.
func (o *Object) room(n int) []byte {
	start := len(o.binary)
	if start == 0 && cap(o.binary) < o.size {
		o.binary = make([]byte, 0, o.size)
	}
	o.binary = slices.Grow(o.binary, n)[:start+n]
	return o.binary[start:]
}

// base64 decodes the standard alphabet with padding (RFC 4648, 4). Line ends count for nothing.
func (o *Object) base64(text []byte) ([]byte, error) {
	b := o.room(base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(b, text)
	if err != nil {
		return nil, ErrType
	}
	return b[:n], nil
}

// hex decodes hexadecimal digits of either case. White space counts for nothing: examples in clouds' documents hold some.
func (o *Object) hex(text []byte) ([]byte, error) {
	b := o.room(len(text))
	digits := b[:0]
	for _, c := range text {
		if c != ' ' && (c < '\t' || c > '\r') {
			digits = append(digits, c)
		}
	}
	n, err := hex.Decode(b, digits)
	if err != nil {
		return nil, ErrType
	}
	return b[:n], nil
}

// blob decodes hexadecimal digits, or else base64. A ciphertext in base64 is too long to consist of such digits by chance.
func (o *Object) blob(text []byte) ([]byte, error) {
	start := len(o.binary)
	if b, err := o.hex(text); err == nil {
		return b, nil
	}
	o.binary = o.binary[:start]
	return o.base64(text)
}

// wipe clears what the Object holds of a request.
func (o *Object) wipe() {
	clear(o.members)
	o.members, o.scratch, o.binary = o.members[:0], wiped(o.scratch), wiped(o.binary)
	if o.decoder != nil {
		o.decoder.Reset(&o.source)
	}
}
