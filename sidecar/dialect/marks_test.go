package dialect

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

const formType = "application/x-www-form-urlencoded"

// TestMarks gives each request with exactly one mark to the dialect that has it, and refuses every other.
func TestMarks(t *testing.T) {
	var got string
	r := NewRouter()
	for name, m := range map[string]Marks{
		"b-header": {Headers: []string{"X-B-Action"}, Action: "Action", Parameters: []Pair{{"Version", "b"}, {"BId", ""}}, Proofs: []string{"Authorization", "X-B-Token"}},
		"c-other":  {Headers: []string{"X-C-Action"}, Action: "Action", Parameters: []Pair{{"Version", "c"}}, Proofs: []string{"Authorization"}, Twofold: true},
	} {
		r.Add(named{name, func(what string) { got = what }}, m, Everywhere)
	}
	first := entry{named{"a-path", func(what string) { got = what }}, Marks{
		Paths: []string{"/a/", "GET /v3/look"}, Root: true, Proofs: []string{"Authorization", "X-A-Token"},
	}, Everywhere}
	r.entries = append([]entry{first}, r.entries...) // which refuses what is no dialect's
	several, none := fmt.Sprintf("a-path refuses %d", SeveralMarks), fmt.Sprintf("a-path refuses %d", NoRoute)
	malformed := fmt.Sprintf("a-path refuses %d", BadQuery)
	for _, c := range []struct{ request, headers, body, want string }{
		{"POST /a/x", "", "", "a-path"}, {"POST /a", "", "", none}, {"POST /ax", "", "", none}, {"GET /v3/look", "", "", "a-path"},
		{"POST /v3/look", "", "", none}, {"GET /v3/look/x", "", "", none}, {"GET /", "", "", "a-path"}, {"GET /?", "", "", "a-path"},
		{"POST /", "", "", none}, {"GET /?x=1", "", "", none}, {"HEAD /", "", "", none},

		{"POST /", "X-B-Action: E", "{}", "b-header"}, {"GET /", "X-B-Action: E", "", "b-header"}, {"GET /?KeyId=1", "X-B-Action: E", "", "b-header"},
		{"POST /", "X-B-Action: E|X-B-Action: E", "{}", several}, {"POST /", "X-B-Action: E|X-C-Action: E", "{}", several},
		{"POST /a/x", "X-B-Action: E", "{}", several}, {"GET /v3/look", "X-C-Action: E", "", several},
		{"POST /?Action=E&Version=b", "X-B-Action: E", "{}", several}, {"POST /?Action=E", "X-B-Action: E", "{}", several},

		{"POST /?Action=E&Version=c", "X-C-Action: E", "", "c-other"}, {"POST /?Action=E&Version=c", "X-C-Action: F", "", several},
		{"POST /?Action=E&Version=c", "X-C-Action: E|X-C-Action: E", "", several}, {"POST /?Action=E&Version=b", "X-C-Action: E", "", several},

		{"GET /?Action=E&Version=b", "", "", "b-header"}, {"GET /?Action=E&Version=c", "", "", "c-other"}, {"GET /?Action=E&BId=7&Version=z", "", "", "b-header"},
		{"GET /?Action=E&Version=z", "", "", none}, {"GET /?Action=E", "", "", none}, {"GET /?Version=b", "", "", none},
		{"GET /?Action=E&Version=c&BId=7", "", "", several}, {"GET /?Action=E&Action=E&Version=b", "", "", malformed},
		{"GET /?Action=E&Version=b&Version=c", "", "", malformed}, {"GET /?Action=%zz", "", "", malformed}, {"GET /?Action=%ff&Version=b", "", "", malformed},

		{"POST /", formType, "Action=E&Version=b", "b-header"}, {"POST /", formType + "; charset=utf-8", "Action=E&Version=c", "c-other"},
		{"POST /?Action=E", formType, "Version=b", "b-header"}, {"POST /?Action=E", formType, "Action=E&Version=b", malformed},
		{"POST /", formType + "|X-C-Action: E", "Action=E&Version=b", several}, {"POST /", "", "Action=E&Version=b", none},
		{"POST /", formType + "|X-B-Action: E", ` {"a":"1&Action=E&Version=c"}`, "b-header"}, {"POST /a/x", formType, "Action=E&Version=b", "a-path"},
		{"POST /", formType, "a=" + strings.Repeat("x", maxForm), fmt.Sprintf("a-path refuses %d", BodyTooLong)},

		{"POST /", "X-B-Action: E|X-A-Token: t", "{}", fmt.Sprintf("b-header refuses %d", SeveralProofs)},
		{"POST /a/x", "X-B-Token: t", "{}", fmt.Sprintf("a-path refuses %d", SeveralProofs)},
		{"POST /", "X-B-Action: E|X-B-Token: t|Authorization: s", "{}", "b-header"},
	} {
		method, target, _ := strings.Cut(c.request, " ")
		req := httptest.NewRequest(method, "http://localhost"+target, strings.NewReader(c.body))
		for _, header := range strings.Split(c.headers, "|") {
			if name, value, ok := strings.Cut(header, ": "); ok {
				req.Header.Add(name, value)
			} else if header != "" {
				req.Header.Set("Content-Type", header)
			}
		}
		if r.ServeHTTP(httptest.NewRecorder(), req); got != c.want {
			t.Errorf("%s with %q and %q: %s, want %s", c.request, c.headers, c.body, got, c.want)
		}
	}
}

// TestServedWhere serves dialects on the listeners that they are registered for, and counts the marks of those that are not.
func TestServedWhere(t *testing.T) {
	var got string
	r := NewRouter()
	r.Add(named{"socket", func(what string) { got = what }}, Marks{Headers: []string{"X-S"}}, Where{Socket: true})
	r.Add(named{"port", func(what string) { got = what }}, Marks{Headers: []string{"X-P"}}, Where{Port: true})
	for headers, want := range map[string][2]string{ // on the socket, and on the port
		"X-S":     {"socket", fmt.Sprintf("port refuses %d", NoRoute)},
		"X-P":     {fmt.Sprintf("socket refuses %d", NoRoute), "port"},
		"X-S,X-P": {fmt.Sprintf("socket refuses %d", SeveralMarks), fmt.Sprintf("port refuses %d", SeveralMarks)},
		"X-None":  {fmt.Sprintf("socket refuses %d", NoRoute), fmt.Sprintf("port refuses %d", NoRoute)},
	} {
		for i, caller := range []policy.Caller{{Known: true, Socket: true}, {}} {
			req := httptest.NewRequest(http.MethodPost, "http://localhost/", http.NoBody)
			for _, name := range strings.Split(headers, ",") {
				req.Header.Set(name, "v")
			}
			if r.ServeHTTP(httptest.NewRecorder(), req.WithContext(kms.WithCaller(req.Context(), caller))); got != want[i] {
				t.Errorf("%s, socket %v: %s, want %s", headers, caller.Socket, got, want[i])
			}
		}
	}
}

// TestFormStaysReadable lets the dialect read the body of a form that was looked into.
func TestFormStaysReadable(t *testing.T) {
	const form = "Action=E&Version=b&Plaintext=c2VjcmV0"
	var read []byte
	var x *Exchange
	r := NewRouter()
	r.Add(handled(func(req *http.Request) {
		x = Begin()
		if pairs, err := x.Parameters(req, maxForm); err != nil || len(pairs) != 3 {
			t.Error(pairs, err)
		}
		read = append(read, x.body...)
	}), Marks{Action: "Action", Parameters: []Pair{{"Version", "b"}}}, Everywhere)
	req := httptest.NewRequest(http.MethodPost, "http://localhost/", strings.NewReader(form))
	req.Header.Set("Content-Type", formType)
	r.ServeHTTP(httptest.NewRecorder(), req)
	if string(read) != form {
		t.Errorf("the dialect reads %q", read)
	}
	if rest, err := io.ReadAll(req.Body); err != nil || len(rest) != 0 {
		t.Errorf("left: %q, %v", rest, err)
	}
	x.End()
}

// handled is a dialect that handles every request.
type handled func(*http.Request)

func (h handled) ServeHTTP(_ http.ResponseWriter, r *http.Request) { h(r) }

func (h handled) AnswerUnserved(http.ResponseWriter, *http.Request, Condition) {}

// TestDecodeParameters makes an object of parameters whose names are paths, and refuses those that contradict each other.
func TestDecodeParameters(t *testing.T) {
	rt := &Route{Body: 200, Fields: Fields(&PairsField{Name: "P"}, &ItemsField{Name: "L", Kind: Items})}
	for query, want := range map[string]string{
		"": `{}`, "A=1": `{"A":"1"}`, "A=a+b%2F%22": `{"A":"a b/\""}`, "A=": `{"A":""}`,
		"T.1.K=k&T.1.V=v&T.2.K=l": `{"T":[{"K":"k","V":"v"},{"K":"l"}]}`, "T.2=b&T.1=a": `{"T":["a","b"]}`,
		"C.k=v&C.l=w": `{"C":{"k":"v","l":"w"}}`, "C.k=v&C.1=w": `{"C":{"k":"v","1":"w"}}`, "1=a": `{"1":"a"}`,
		"T.0=a": "", "T.2=a": "", "T.1=a&T.3=b": "", "T.01=a": "", "A=1&A.B=2": "", "A.B=2&A=1": "", "A=1&A=2": "", "a.b.c.d.e=1": "", "A=%ff": "",
		"A.99999999999999999999=1": "", "P.a.b=c&P.1=d&Common=x": `{"P":{"a.b":"c","1":"d"}}`, "P=%7B%22a%22:1%7D": `{"P":"{\"a\":1}"}`,
		"P=x&P.a=b": "", "P.a=b&P=x": "", `L=[{"K":"v"}]`: `{"L":[{"K":"v"}]}`, `L=[{"K":"v"}]&L.1.K=v`: "", "L=[": `{"L":"["}`,
		`L={"a":1,"a":2}`: `{"L":"{\"a\":1,\"a\":2}"}`, "L.1.K=v": `{"L":[{"K":"v"}]}`,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/?"+query, http.NoBody)
		x := Begin()
		err := x.DecodeParameters(r, rt, 1, []string{"Common"})
		if got := string(x.flat); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %s, %v; want %s", query, got, err, want)
		}
		flat := x.flat[:cap(x.flat)]
		if x.End(); strings.Contains(string(flat), "A") || x.parameters != nil || x.parsed {
			t.Errorf("%s is still there after the end", query)
		}
	}
}

// TestParametersAlone refuses a body beside the parameters that is no form, whose fields would be ignored, and more parameters than
// any request needs.
func TestParametersAlone(t *testing.T) {
	rt := &Route{Body: maxForm}
	for _, c := range []struct {
		name, method, query, contentType, body string
		ok                                     bool
	}{
		{"form", "POST", "A=1", formType, "B=2", true},
		{"blank", "POST", "A=1", "application/json", " \r\n", true},
		{"json", "POST", "A=1", "application/json", `{"B":"2"}`, false},
		{"json as a form", "POST", "A=1", formType, ` {"B":"2"}`, false},
		{"no type", "POST", "A=1", "", "B=2", false},
		{"get", "GET", "A=1", formType, "B=2", false},
		{"many", "POST", strings.Repeat("&", maxParameters-2), formType, "A=1", true},
		{"too many", "POST", strings.Repeat("&", maxParameters-2), formType, "A=1&B=2&C=3", false},
	} {
		r := httptest.NewRequest(c.method, "http://localhost/?"+c.query, strings.NewReader(c.body))
		if c.contentType != "" {
			r.Header.Set("Content-Type", c.contentType)
		}
		x := Begin()
		if err := x.DecodeParameters(r, rt, 1, nil); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		x.End()
	}
}
