package dialect

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
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

// TestObject reads members of every spelling.
func TestObject(t *testing.T) {
	x, err := decode(t, `{"t":"a\"é\u00e9\ud83d\ude00","e":"","z":null,"n":42,"m":"-7","big":"9223372036854775808",
		"o":{"a":"1","b\n":"\t"},"s":"{\"a\":\"\\u0031\"}","bad":{"a":1},"esc\u0061pe":"name","t2":true}`)
	if err != nil {
		t.Fatal(err)
	}
	defer x.End()
	o := &x.Object
	for name, want := range map[string]string{"t": "a\"éé😀", "e": "", "z": "", "absent": "", "escape": "name"} {
		if v, err := o.Text(name); err != nil || string(v) != want || (v == nil) != (want == "") {
			t.Errorf("text %s: %q %v", name, v, err)
		}
	}
	for _, name := range []string{"n", "o", "t2"} {
		if _, err := o.Text(name); !errors.Is(err, ErrType) {
			t.Errorf("text %s: %v", name, err)
		}
	}
	for name, want := range map[string]int64{"n": 42, "m": -7} {
		if v, ok, err := o.Integer(name); v != want || !ok || err != nil {
			t.Errorf("integer %s: %d %v %v", name, v, ok, err)
		}
	}
	for _, name := range []string{"z", "e", "absent"} {
		if _, ok, err := o.Integer(name); ok || err != nil {
			t.Errorf("integer %s: %v %v", name, ok, err)
		}
	}
	for _, name := range []string{"t", "big", "o", "t2"} {
		if _, _, err := o.Integer(name); !errors.Is(err, ErrType) {
			t.Errorf("integer %s: %v", name, err)
		}
	}
	for name, want := range map[string]map[string]string{"o": {"a": "1", "b\n": "\t"}, "s": {"a": "1"}, "e": nil, "z": nil} {
		if v, err := o.Pairs(name, 100); err != nil || !maps.Equal(v, want) {
			t.Errorf("pairs %s: %v %v", name, v, err)
		}
	}
	for _, name := range []string{"bad", "t", "n"} {
		if _, err := o.Pairs(name, 100); err == nil {
			t.Errorf("pairs %s: no error", name)
		}
	}
	if _, err := o.Pairs("o", 5); !errors.Is(err, ErrType) {
		t.Errorf("pairs above the limit: %v", err)
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
	v, _ := x.Object.Text("a")
	w, _ := x.Object.Text("b")
	x.Grow(100)
	x.Out = append(x.Out, secret[:60]...)
	first := x.Out
	x.Grow(5000)
	x.Out = append(x.Out, secret...)
	out := x.Out
	body, scratch := x.body[:cap(x.body)], x.Object.scratch[:cap(x.Object.scratch)]
	x.End()
	for name, b := range map[string][]byte{"value": v, "unquoted": w, "body": body, "scratch": scratch, "old answer": first, "answer": out} {
		if bytes.Contains(b, []byte("cret")) || len(b) == 0 {
			t.Errorf("%s still holds %d bytes of it", name, len(b))
		}
	}
}

// TestRouter keeps paths as they are: no redirect, no cleaning.
func TestRouter(t *testing.T) {
	var got string
	handler := func(name string) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { got = name })
	}
	r := NewRouter(handler("other"))
	r.Handle(http.MethodGet, "/healthz", handler("health"))
	for path, want := range map[string]string{
		"GET /healthz": "health", "GET /healthz/": "other", "GET //healthz": "other", "POST /healthz": "other", "GET /a/../healthz": "other",
	} {
		method, p, _ := strings.Cut(path, " ")
		req, err := http.NewRequest(method, "http://localhost"+p, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if r.ServeHTTP(nil, req); got != want {
			t.Errorf("%s goes to %s", path, got)
		}
	}
}
