package dialect

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/keyside/keyside/sidecar/kms"
)

// Kind is what a field's value is.
type Kind uint8

// The kinds. Numbers and flags may come as strings, and an empty string counts as an absent value in all of them: that is
// what the clouds' own SDKs send.
const (
	Text   Kind = iota
	Number      // a whole number
	Flag        // true or false
	Base64      // bytes, in base64
	Hex         // bytes, in hexadecimal digits
	Blob        // bytes, in either of them
	Pairs       // an object of strings
	Texts       // an array of strings
	Item        // an object with Fields
	Items       // an array of objects with Fields
)

// Place is where in a request a field is. Outside the body there are texts, numbers and flags only.
type Place uint8

// The places.
const (
	Body Place = iota
	Path
	Query
	Header
)

// Field is one field of an operation's request, as data: ReadFields validates requests against it, and tests walk it.
// Handlers read fields by the typed variables that declare them, such as [TextField].
type Field struct {
	Name     string
	Kind     Kind
	In       Place
	Required bool
	Empty    bool     // an empty string is a value
	Values   []string // that a Text or a Number may be; nil: any
	// Low and High bound a Number, the bytes of a Text, and the elements of Texts and Items. With High 0 there are no bounds,
	// and with Unbounded there is a lower one alone. The core bounds the characters of Pairs.
	Low, High int64
	Clamp     bool    // a Number above High counts as High
	Step      int64   // that a Number must be a multiple of; 0: none
	Form      *Form   // of a Text; nil: any
	Fields    []Field // of Item and Items
	As        string  // the core's name of the field, where it is another

	Code      string   // the dialect's code for a value that is wrong
	BoundCode string   // for one out of bounds, if another
	StepCode  string   // for one that is no multiple of Step, if another
	Core      kms.Code // the core's code; empty: CodeInvalidRequest
}

// The typed declarations of fields, one for each kind of value. A dialect declares each field once, as a package variable
//
//	var pendingDays = &dialect.NumberField{Name: "pending_days", Required: true, Low: 7, High: 1096}
//
// lists it in a route with [Fields], and reads it with the method of its type, as in x.Number(pendingDays). A misspelled
// variable or the method of another type does not compile. A field is its name and its type: of several variables with the
// same name and type, each reads the one that the route lists.
type (
	TextField   Field
	NumberField Field
	FlagField   Field
	BytesField  Field // Kind is Base64, Hex or Blob
	PairsField  Field
	TextsField  Field
	ItemsField  Field // Kind is Item or Items
)

// AnyField is a pointer to one of the typed declarations.
type AnyField interface {
	// Field returns the field as data, with its kind.
	Field() Field
}

// Field implements AnyField.
func (f *TextField) Field() Field { return Field(*f).of(Text) }

// Field implements AnyField.
func (f *NumberField) Field() Field { return Field(*f).of(Number) }

// Field implements AnyField.
func (f *FlagField) Field() Field { return Field(*f).of(Flag) }

// Field implements AnyField.
func (f *BytesField) Field() Field { return Field(*f) }

// Field implements AnyField.
func (f *PairsField) Field() Field { return Field(*f).of(Pairs) }

// Field implements AnyField.
func (f *TextsField) Field() Field { return Field(*f).of(Texts) }

// Field implements AnyField.
func (f *ItemsField) Field() Field { return Field(*f) }

func (f Field) of(kind Kind) Field {
	f.Kind = kind
	return f
}

// Fields returns the fields of a route, or of an Item, as data.
func Fields(declared ...AnyField) []Field {
	fields := make([]Field, len(declared))
	for i, f := range declared {
		fields[i] = f.Field()
	}
	return fields
}

// Unbounded is beyond what numbers count here, and what a body has room for.
const Unbounded = 1 << 30

// Form is what a text must look like.
type Form struct {
	OK     func(text []byte) bool
	Reason string // ends a sentence about a text that is not OK
}

// Fault is what is wrong with a request's fields: the first of it, in the order of the table.
type Fault struct {
	Field   *Field // nil: the request's query, as a whole
	Name    string // of the field, after those of the fields that it is in
	Missing bool
	Code    string // of the dialect; empty where Missing, or where Field is nil
	Reason  string
	Why     kms.Reason // the core's word for Reason
}

func (f *Fault) Error() string {
	if f.Field == nil {
		return f.Reason
	}
	return f.Name + ": " + f.Reason
}

// Var is a variable of a path.
type Var struct {
	Name, Value string
}

// Values are fields with the values that a request, or an object in it, has for them.
type Values struct {
	fields   []Field
	values   []value
	exchange *Exchange
}

// value is one field's. It is set if the request has it and, unless Field.Empty says otherwise, it is not empty.
type value struct {
	set    bool
	flag   bool
	text   []byte
	number int64
	pairs  map[string]string
	texts  [][]byte
	items  []Values
}

// find returns the value of the field with a name and a kind from first to last. If the route does not list it, the value
// is absent and the request is refused by [Server].
func (v *Values) find(name string, first, last Kind) *value {
	for i := range v.fields {
		if f := &v.fields[i]; f.Kind >= first && f.Kind <= last && f.Name == name {
			return &v.values[i]
		}
	}
	v.exchange.misread(name)
	return new(value)
}

// Has reports whether the request has a field.
func (v *Values) Has(f AnyField) bool {
	switch f := f.(type) {
	case *TextField:
		return v.find(f.Name, Text, Text).set
	case *NumberField:
		return v.find(f.Name, Number, Number).set
	case *BytesField:
		return v.find(f.Name, Base64, Blob).set
	}
	field := f.Field()
	return v.find(field.Name, field.Kind, field.Kind).set
}

// Text returns the value of a text field, nil where it is absent. It is valid until [Exchange.End].
func (v *Values) Text(f *TextField) []byte { return v.find(f.Name, Text, Text).text }

// Bytes returns the decoded bytes of a field, nil where it is absent. They are valid until [Exchange.End], which clears them.
func (v *Values) Bytes(f *BytesField) []byte { return v.find(f.Name, Base64, Blob).text }

// Number returns the value of a number field, 0 where it is absent.
func (v *Values) Number(f *NumberField) int64 { return v.find(f.Name, Number, Number).number }

// Flag returns the value of a flag field, or initial where it is absent.
func (v *Values) Flag(f *FlagField, initial bool) bool {
	if f := v.find(f.Name, Flag, Flag); f.set {
		return f.flag
	}
	return initial
}

// Pairs returns the value of an object of strings, nil where it is absent or empty.
func (v *Values) Pairs(f *PairsField) map[string]string { return v.find(f.Name, Pairs, Pairs).pairs }

// Texts returns the elements of an array of strings. They are valid until [Exchange.End].
func (v *Values) Texts(f *TextsField) [][]byte { return v.find(f.Name, Texts, Texts).texts }

// Items returns the one element of an Item, or the elements of Items.
func (v *Values) Items(f *ItemsField) []Values { return v.find(f.Name, Item, Items).items }

func (v *Values) wipe() {
	clear(v.values)
	v.fields, v.values = nil, v.values[:0]
}

// ReadFields reads an operation's fields from the body, which Decode has read, the header, the query, and the variables of
// the path. What it finds wrong is a *Fault.
func (x *Exchange) ReadFields(fields []Field, r *http.Request) error {
	x.fields, x.values = fields, slices.Grow(x.values[:0], len(fields))[:len(fields)]
	var query url.Values
	for i := range fields {
		f := &fields[i]
		raw := x.Object.find(f.Name)
		switch f.In {
		case Path:
			value, _ := x.PathVariable(f.Name)
			raw = outside(value)
		case Header:
			raw = outside(r.Header.Get(f.Name))
		case Query:
			if query == nil {
				var fault *Fault
				if query, fault = parseQuery(r.URL.RawQuery, fields); fault != nil {
					return fault
				}
			}
			raw = outside(query.Get(f.Name))
		}
		if fault := x.Object.read(f, raw, &x.values[i]); fault != nil {
			return fault
		}
	}
	if x.strict {
		if fault := unlisted(x.Object.members, fields); fault != nil {
			return fault
		}
	}
	return nil
}

// unlisted returns the fault of the first member that no field has the name of, nil if there is none.
func unlisted(members []member, fields []Field) *Fault {
	for i := range members {
		name := members[i].name
		if !slices.ContainsFunc(fields, func(f Field) bool { return f.Name == string(name) }) {
			return &Fault{Field: new(Field), Name: string(name), Reason: "is not a field of this operation", Why: kms.ReasonUnknown}
		}
	}
	return nil
}

// PathVariable returns the value of a variable of the request's path, and whether the path has it.
func (x *Exchange) PathVariable(name string) (string, bool) {
	for _, v := range x.path {
		if v.Name == name {
			return v.Value, true
		}
	}
	return "", false
}

// outside makes a value from outside the body look like one in it.
func outside(text string) []byte { return AppendString(nil, text) }

// parseQuery refuses a query that has one of the fields twice: which of them counts is not ours to guess.
func parseQuery(raw string, fields []Field) (url.Values, *Fault) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &Fault{Reason: "query is malformed", Why: kms.ReasonMalformed}
	}
	for i := range fields {
		if f := &fields[i]; f.In == Query && len(query[f.Name]) > 1 {
			return nil, &Fault{Reason: "query has " + f.Name + " twice", Why: kms.ReasonMalformed}
		}
	}
	return query, nil
}

// read reads one field's raw JSON value, nil for none.
func (o *Object) read(f *Field, raw []byte, into *value) *Fault {
	into.set = len(raw) > 0 && string(raw) != `""`
	switch {
	case !into.set && f.Empty && raw != nil:
		into.set = true
		return nil
	case !into.set && f.Required:
		return &Fault{Field: f, Name: f.Name, Missing: true, Reason: "is required", Why: kms.ReasonMissing}
	case !into.set:
		return nil
	}
	switch f.Kind {
	case Text, Base64, Hex, Blob:
		return o.readText(f, raw, into)
	case Number:
		return o.readNumber(f, raw, into)
	case Flag:
		v, err := flag(o.scalar(raw))
		if err != nil {
			return f.malformed("must be true or false")
		}
		into.flag = v
		return nil
	case Pairs:
		pairs, err := o.pairs(raw)
		if err != nil {
			return f.malformed("must be an object of strings")
		}
		into.pairs = pairs
		return nil
	default:
		return o.readList(f, raw, into)
	}
}

func (o *Object) readText(f *Field, raw []byte, into *value) *Fault {
	text, err := o.text(raw)
	switch {
	case err != nil:
		return f.malformed("must be a string")
	case f.High > 0 && (int64(len(text)) < f.Low || int64(len(text)) > f.High):
		return f.outOfBounds(kms.ReasonLength, "must have "+f.bounds()+" characters")
	case f.Values != nil && !slices.Contains(f.Values, string(text)):
		return f.fault(kms.ReasonUnknown, f.Code, "must be "+oneOf(f.Values))
	case f.Form != nil && !f.Form.OK(text):
		return f.malformed(f.Form.Reason)
	}
	if d := decodings[f.Kind]; d.decode != nil {
		if text, err = d.decode(o, text); err != nil {
			return f.malformed(d.reason)
		}
	}
	into.text = text
	return nil
}

// decodings are those of the kinds whose values are bytes.
var decodings = [Items + 1]struct {
	decode func(o *Object, text []byte) ([]byte, error)
	reason string // why a text is refused
}{
	Base64: {(*Object).base64, "is not base64"},
	Hex:    {(*Object).hex, "is not hexadecimal"},
	Blob:   {(*Object).blob, "is not hexadecimal and not base64"},
}

// readList reads what is made of other values.
func (o *Object) readList(f *Field, raw []byte, into *value) *Fault {
	if f.Kind == Item {
		return o.readItem(f, raw, into)
	}
	var fault *Fault
	n := int64(0)
	err := list(raw, func(element []byte) error {
		n++
		switch {
		case fault != nil:
		case f.Kind == Items:
			fault = o.readItem(f, element, into)
		default:
			text, err := o.text(element)
			into.texts = append(into.texts, text)
			return err
		}
		return nil
	})
	switch {
	case err != nil && f.Kind == Items:
		return f.malformed("must be an array of objects")
	case err != nil:
		return f.malformed("must be an array of strings")
	case fault == nil && n < f.Low:
		return f.outOfBounds(kms.ReasonMissing, "must not be empty")
	case fault == nil && f.High > 0 && n > f.High:
		return f.outOfBounds(kms.ReasonTooMany, "must have "+f.bounds()+" elements")
	}
	return fault
}

func (o *Object) readItem(f *Field, raw []byte, into *value) *Fault {
	members, err := o.object(raw)
	if err != nil {
		return f.malformed("must be an object")
	}
	item := Values{fields: f.Fields, values: make([]value, len(f.Fields)), exchange: o.exchange}
	var fault *Fault
	for i := 0; i < len(f.Fields) && fault == nil; i++ {
		fault = o.read(&f.Fields[i], find(members, f.Fields[i].Name), &item.values[i])
	}
	if fault == nil && o.exchange.strict {
		fault = unlisted(members, f.Fields)
	}
	if fault != nil {
		fault.Name = f.Name + "." + fault.Name
		return fault
	}
	into.items = append(into.items, item)
	return nil
}

func (o *Object) readNumber(f *Field, raw []byte, into *value) *Fault {
	text := o.scalar(raw)
	n, err := integer(text)
	if f.Clamp {
		n = min(n, f.High)
	}
	switch {
	case err != nil:
		return f.malformed("must be a whole number")
	case f.Values != nil && !slices.Contains(f.Values, string(text)):
		return f.fault(kms.ReasonUnknown, f.Code, "must be "+oneOf(f.Values))
	case f.High > 0 && (n < f.Low || n > f.High):
		return f.outOfBounds(kms.ReasonOutOfRange, "must be "+f.bounds())
	case f.Step > 0 && n%f.Step != 0:
		return f.fault(kms.ReasonMalformed, cmp.Or(f.StepCode, f.Code), "must be a multiple of "+strconv.FormatInt(f.Step, 10))
	}
	into.number = n
	return nil
}

func (f *Field) fault(why kms.Reason, code, reason string) *Fault {
	return &Fault{Field: f, Name: f.Name, Code: code, Reason: reason, Why: why}
}

func (f *Field) malformed(reason string) *Fault { return f.fault(kms.ReasonMalformed, f.Code, reason) }

func (f *Field) outOfBounds(why kms.Reason, reason string) *Fault {
	return f.fault(why, cmp.Or(f.BoundCode, f.Code), reason)
}

func (f *Field) bounds() string {
	if f.High == Unbounded || f.Clamp {
		return "at least " + strconv.FormatInt(f.Low, 10)
	}
	return strconv.FormatInt(f.Low, 10) + " to " + strconv.FormatInt(f.High, 10)
}

func oneOf(values []string) string {
	if n := len(values) - 1; n > 0 {
		return strings.Join(values[:n], ", ") + " or " + values[n]
	}
	return values[0]
}
