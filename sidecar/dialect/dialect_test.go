package dialect

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
)

func decode(t *testing.T, body string) (*Exchange, error) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	x := Begin()
	return x, x.Decode(r, 1<<20)
}

// read reads fields of a body that is decoded.
func read(t *testing.T, body string, fields ...Field) (*Exchange, error) {
	t.Helper()
	x, err := decode(t, body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(http.MethodPost, "http://localhost/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	return x, x.ReadFields(fields, r)
}

const body = `{"t":"a\"é\u00e9\ud83d\ude00","e":"","z":null,"n":42,"m":"-7","big":"9223372036854775808",
	"o":{"a":"1","b\n":"\t"},"s":"{\"a\":\"\\u0031\"}","bad":{"a":1},"esc\u0061pe":"name","yes":true,"no":"false",
	"b64":"QUJD\nRA==","hex":"41 4a\n","list":["a","\u0062"],"mixed":["a",1],"item":{"k":"v"},"items":[{"k":"v"},{"k":"w","l":null}]}`

// TestFields reads values of every kind and spelling.
func TestFields(t *testing.T) {
	k := []Field{{Name: "k", Required: true}, {Name: "l"}}
	for _, c := range []struct {
		field Field
		want  string // of what was read; "" is nothing
	}{
		{Field{Name: "t"}, "a\"éé😀"}, {Field{Name: "e"}, ""}, {Field{Name: "z"}, ""}, {Field{Name: "absent"}, ""},
		{Field{Name: "escape"}, "name"}, {Field{Name: "t", Low: 10, High: 10}, "a\"éé😀"},
		{Field{Name: "n", Kind: Number}, "42"}, {Field{Name: "m", Kind: Number}, "-7"}, {Field{Name: "e", Kind: Number}, ""},
		{Field{Name: "z", Kind: Number}, ""}, {Field{Name: "n", Kind: Number, Low: 42, High: 42, Step: 7, Values: []string{"42"}}, "42"},
		{Field{Name: "yes", Kind: Flag}, "true"}, {Field{Name: "no", Kind: Flag}, "false"},
		{Field{Name: "b64", Kind: Base64}, "ABCD"}, {Field{Name: "hex", Kind: Hex}, "AJ"},
		{Field{Name: "b64", Kind: Blob}, "ABCD"}, {Field{Name: "hex", Kind: Blob}, "AJ"},
		{Field{Name: "o", Kind: Pairs, High: 100}, "map[a:1 b\n:\t]"}, {Field{Name: "s", Kind: Pairs, High: 100}, "map[a:1]"},
		{Field{Name: "e", Kind: Pairs, High: 100}, ""},
		{Field{Name: "list", Kind: Texts}, "[a b]"}, {Field{Name: "list", Kind: Texts, Low: 2, High: 2}, "[a b]"},
		{Field{Name: "item", Kind: Item, Fields: k}, "v"}, {Field{Name: "items", Kind: Items, Fields: k}, "vw"},
	} {
		x, err := read(t, body, c.field)
		if err != nil {
			t.Errorf("%+v: %v", c.field, err)
			continue
		}
		if got := show(x, c.field); got != c.want || has(x, c.field) != (c.want != "") {
			t.Errorf("%+v is read as %q, want %q", c.field, got, c.want)
		}
		x.End()
	}
}

// show renders what was read of a field.
func show(x *Exchange, f Field) string {
	if !has(x, f) {
		return ""
	}
	switch f := typed(f).(type) {
	case *NumberField:
		return fmt.Sprint(x.Number(f))
	case *FlagField:
		if v := x.Flag(f, true); v == x.Flag(f, false) {
			return fmt.Sprint(v)
		}
		return "initial value"
	case *PairsField:
		return fmt.Sprint(x.Pairs(f))
	case *TextsField:
		return fmt.Sprintf("%s", x.Texts(f))
	case *ItemsField:
		var out string
		for _, item := range x.Items(f) {
			out += string(item.Text(&TextField{Name: "k"}))
		}
		return out
	case *BytesField:
		return string(x.Bytes(f))
	case *TextField:
		return string(x.Text(f))
	}
	panic("no such type")
}

// typed returns the declaration that has a field as its data.
func typed(f Field) AnyField {
	switch f.Kind {
	case Text:
		return (*TextField)(&f)
	case Number:
		return (*NumberField)(&f)
	case Flag:
		return (*FlagField)(&f)
	case Base64, Hex, Blob:
		return (*BytesField)(&f)
	case Pairs:
		return (*PairsField)(&f)
	case Texts:
		return (*TextsField)(&f)
	}
	return (*ItemsField)(&f)
}

func has(x *Exchange, f Field) bool { return x.Has(typed(f)) }

// TestTypedFields keeps every member and gives each type its kinds.
func TestTypedFields(t *testing.T) {
	for kind := Text; kind <= Items; kind++ {
		f := Field{Name: "n", Kind: kind, In: Query, Required: true, Low: 1, High: 2, Code: "C"}
		if got := Fields(typed(f))[0]; !reflect.DeepEqual(got, f) {
			t.Errorf("%+v becomes %+v", f, got)
		}
	}
}

// TestMisread ends the context and fails the request where a handler reads a field that its route does not list, by its
// name or by its type, also in an object within the body.
func TestMisread(t *testing.T) {
	listed := Fields(&TextField{Name: "t"}, &ItemsField{Name: "item", Kind: Item, Fields: Fields(&TextField{Name: "k"})})
	for what, c := range map[string]struct {
		get  func(x *Exchange)
		want string
	}{
		"listed":       {func(x *Exchange) { x.Text(&TextField{Name: "t"}) }, ""},
		"other name":   {func(x *Exchange) { x.Text(&TextField{Name: "e"}) }, "e"},
		"other type":   {func(x *Exchange) { x.Bytes(&BytesField{Name: "t", Kind: Hex}) }, "t"},
		"presence":     {func(x *Exchange) { x.Has(&PairsField{Name: "o"}) }, "o"},
		"listed there": {func(x *Exchange) { x.Items(&ItemsField{Name: "item", Kind: Item})[0].Text(&TextField{Name: "k"}) }, ""},
		"within": {func(x *Exchange) {
			x.Items(&ItemsField{Name: "item", Kind: Item})[0].Flag(&FlagField{Name: "l"}, true)
			x.Number(&NumberField{Name: "n"})
		}, "l"},
	} {
		x, err := read(t, body, listed...)
		if err != nil {
			t.Fatal(err)
		}
		canceled := 0
		x.cancel = func() { canceled++ }
		c.get(x)
		if x.unlisted != c.want || (canceled > 0) != (c.want != "") {
			t.Errorf("%s: %q, canceled %d times", what, x.unlisted, canceled)
		}
		if x.End(); x.unlisted != "" {
			t.Errorf("%s: the next request has the same fault", what)
		}
	}
}

// TestFieldFaults refuses what is not as the table has it, with the table's codes.
func TestFieldFaults(t *testing.T) {
	digits := &Form{OK: func(b []byte) bool { return len(b) == 2 }, Reason: "must be two"}
	for _, c := range []struct {
		field   Field
		code    string
		missing bool
	}{
		{Field{Name: "absent", Required: true}, "", true}, {Field{Name: "e", Required: true}, "", true}, {Field{Name: "z", Required: true}, "", true},
		{Field{Name: "n"}, "C", false}, {Field{Name: "o"}, "C", false}, {Field{Name: "yes"}, "C", false}, {Field{Name: "list"}, "C", false},
		{Field{Name: "t", Low: 1, High: 9}, "B", false}, {Field{Name: "t", Low: 11, High: 20}, "B", false},
		{Field{Name: "escape", Values: []string{"NAME"}}, "C", false}, {Field{Name: "escape", Form: digits}, "C", false},
		{Field{Name: "t", Kind: Number}, "C", false}, {Field{Name: "big", Kind: Number}, "C", false}, {Field{Name: "yes", Kind: Number}, "C", false},
		{Field{Name: "o", Kind: Number}, "C", false}, {Field{Name: "n", Kind: Number, Low: 43, High: 50}, "B", false},
		{Field{Name: "n", Kind: Number, Low: 1, High: 41}, "B", false}, {Field{Name: "n", Kind: Number, Step: 8}, "S", false},
		{Field{Name: "n", Kind: Number, Values: []string{"0"}}, "C", false},
		{Field{Name: "n", Kind: Flag}, "C", false}, {Field{Name: "t", Kind: Flag}, "C", false}, {Field{Name: "list", Kind: Flag}, "C", false},
		{Field{Name: "hex", Kind: Base64}, "C", false}, {Field{Name: "n", Kind: Base64}, "C", false},
		{Field{Name: "b64", Kind: Hex}, "C", false}, {Field{Name: "t", Kind: Blob}, "C", false},
		{Field{Name: "bad", Kind: Pairs, High: 100}, "C", false}, {Field{Name: "t", Kind: Pairs, High: 100}, "C", false},
		{Field{Name: "n", Kind: Pairs}, "C", false}, {Field{Name: "list", Kind: Pairs}, "C", false},
		{Field{Name: "list", Kind: Pairs, High: 100}, "C", false},
		{Field{Name: "mixed", Kind: Texts}, "C", false}, {Field{Name: "o", Kind: Texts}, "C", false}, {Field{Name: "list", Kind: Texts, Low: 3, High: 4}, "B", false},
		{Field{Name: "list", Kind: Item}, "C", false}, {Field{Name: "list", Kind: Items}, "C", false}, {Field{Name: "item", Kind: Items}, "C", false},
		{Field{Name: "items", Kind: Items, Fields: []Field{{Name: "l", Required: true}}}, "", true},
		{Field{Name: "items", Kind: Items, Fields: []Field{{Name: "k", Kind: Number, Code: "I"}}}, "I", false},
	} {
		c.field.Code, c.field.BoundCode, c.field.StepCode = "C", "B", "S"
		_, err := read(t, body, c.field)
		var fault *Fault
		if !errors.As(err, &fault) || fault.Code != c.code || fault.Missing != c.missing || fault.Reason == "" {
			t.Errorf("%+v: %+v, want code %q, missing %v", c.field, err, c.code, c.missing)
		}
	}
	c := Field{Name: "n", Kind: Number, Low: 1, High: 41, Code: "C"}
	if _, err := read(t, body, c); err.(*Fault).Code != "C" || err.Error() != "n: must be 1 to 41" {
		t.Errorf("without a code for bounds: %v", err)
	}
}

// TestFieldsOutsideTheBody reads the path, the query and the header, and takes no part of the body for them.
func TestFieldsOutsideTheBody(t *testing.T) {
	fields := []Field{
		{Name: "id", In: Path, Required: true}, {Name: "limit", In: Query, Kind: Number}, {Name: "marker", In: Query}, {Name: "User-Agent", In: Header},
	}
	for query, want := range map[string]string{
		"?limit=7&marker=a%20b%22": `p|7|a b"|agent`, "?limit=&marker=": "p|0||agent", "": "p|0||agent", "?other=1&other=2": "p|0||agent",
		"?limit=x": "limit: must be a whole number", "?limit=1&limit=1": "query has limit twice", "?marker=%zz": "query is malformed",
		"?marker=a;b": "query is malformed",
	} {
		r, err := http.NewRequest(http.MethodGet, "http://localhost/"+query, strings.NewReader(`{"limit":1,"id":"b","User-Agent":"b"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", "agent")
		x := Begin()
		x.path = append(x.path, Var{"id", "p"})
		if err := x.Decode(r, 1000); err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := x.ReadFields(fields, r); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprintf("%s|%d|%s|%s", x.Text(&TextField{Name: "id"}), x.Number(&NumberField{Name: "limit"}), x.Text(&TextField{Name: "marker"}), x.Text(&TextField{Name: "User-Agent"}))
		}
		if got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
		x.End()
	}
}

// TestBodyLimit refuses a byte too many, announced or not.
func TestBodyLimit(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for n, want := range map[int]error{1000: nil, 1001: ErrTooLong} {
			body := `{"a":"` + strings.Repeat("x", n-8) + `"}`
			r, err := http.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if chunked {
				r.ContentLength, r.Body = -1, io.NopCloser(iotest{strings.NewReader(body)})
			}
			x := Begin()
			if err := x.Decode(r, 1000); !errors.Is(err, want) {
				t.Errorf("%d bytes, chunked %v: %v", n, chunked, err)
			}
			x.End()
		}
	}
}

// iotest reads three bytes at a time.
type iotest struct{ r io.Reader }

func (i iotest) Read(b []byte) (int, error) { return i.r.Read(b[:min(len(b), 3)]) }

// TestEndClears finds nothing of a request in the buffers that go back to the pool.
func TestEndClears(t *testing.T) {
	secret := strings.Repeat("secret", 200)
	x, err := decode(t, `{"a":"`+secret+`","b":"\n`+secret+`"}`)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString([]byte(secret))
	y, err := read(t, `{"c":"`+b64+`","d":"`+hex.EncodeToString([]byte(secret))+`","e":"`+b64+`"}`,
		Field{Name: "c", Kind: Base64}, Field{Name: "d", Kind: Hex}, Field{Name: "e", Kind: Blob})
	if err != nil {
		t.Fatal(err)
	}
	c, d, e := y.Bytes(&BytesField{Name: "c"}), y.Bytes(&BytesField{Name: "d"}), y.Bytes(&BytesField{Name: "e"})
	if string(c) != secret || string(d) != secret || string(e) != secret {
		t.Fatal("not decoded")
	}
	y.End()
	if err := x.ReadFields([]Field{{Name: "a"}, {Name: "b"}}, nil); err != nil {
		t.Fatal(err)
	}
	v, w := x.Text(&TextField{Name: "a"}), x.Text(&TextField{Name: "b"})
	x.Grow(100)
	x.Out = append(x.Out, secret[:60]...)
	first := x.Out
	x.Grow(5000)
	x.Out = append(x.Out, secret...)
	out := x.Out
	body, scratch := x.body[:cap(x.body)], x.Object.scratch[:cap(x.Object.scratch)]
	x.End()
	for name, b := range map[string][]byte{"base64": c, "hex": d, "blob": e, "value": v, "unquoted": w, "body": body, "scratch": scratch, "old answer": first, "answer": out} {
		if bytes.Contains(b, []byte("cret")) || len(b) == 0 {
			t.Errorf("%s still holds %d bytes of it", name, len(b))
		}
	}
}

// named is a dialect that tells its name and what it does with a request.
type named struct {
	name string
	tell func(what string)
}

func (d named) ServeHTTP(http.ResponseWriter, *http.Request) { d.tell(d.name) }

func (d named) AnswerUnserved(_ http.ResponseWriter, _ *http.Request, c Condition) {
	d.tell(fmt.Sprintf("%s refuses %d", d.name, c))
}

// TestRouter keeps paths as they are: no redirect, no cleaning.
func TestRouter(t *testing.T) {
	var got string
	handler := func(name string) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got = name })
	}
	r := NewRouter()
	r.Add(named{"first", func(string) { got = "other" }}, Marks{}, Everywhere)
	r.Handle(http.MethodGet, "/healthz", handler("health"))
	for path, want := range map[string]string{
		"GET /healthz": "health", "GET /healthz/": "other", "GET //healthz": "other", "POST /healthz": "other", "GET /a/../healthz": "other",
	} {
		method, p, _ := strings.Cut(path, " ")
		req, err := http.NewRequest(method, "http://localhost"+p, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if r.ServeHTTP(httptest.NewRecorder(), req); got != want {
			t.Errorf("%s goes to %s", path, got)
		}
	}
}

// TestAppendPath keeps encoded slashes apart from real ones and refuses what is not percent-encoding.
func TestAppendPath(t *testing.T) {
	for sent, want := range map[string]string{
		"/a/b": "/a/b", "/a%2Fb": "/a%2Fb", "/a%2fb": "/a%2Fb", "/%61+~": "/a%2B~", "/ü": "/%C3%BC", "": "",
		"/%": "", "/%2": "", "/%zz": "",
	} {
		got, ok := AppendPath(nil, sent)
		if ok != (want != "" || sent == "") || (ok && string(got) != want) {
			t.Errorf("%s: %s, %v", sent, got, ok)
		}
	}
}

// TestSameHex holds that only the whole MAC in lower-case digits is one.
func TestSameHex(t *testing.T) {
	mac := HMAC(sha256.New, []byte("key"), []byte("a"), []byte("b"))
	digits := hex.EncodeToString(mac)
	for text, want := range map[string]bool{
		digits: true, strings.ToUpper(digits): false, digits[1:]: false, digits + "0": false, "": false, "0" + digits[1:]: digits[0] == '0',
	} {
		if SameHex(mac, text) != want {
			t.Errorf("%q", text)
		}
	}
	if !SameHex(mac[:20], digits[:40]) || SameHex(mac[:20], digits) || SameHex(nil, "") {
		t.Error("a MAC of another length is the same")
	}
	if chained := HMAC(sha256.New, HMAC(sha256.New, []byte("key"), []byte("a")), []byte("b")); !bytes.Equal(chained, mac) {
		t.Error("a chain is not its links")
	}
}
