package dialecttest

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
)

// Suite is a dialect as the sidecar's tests of rights, records and invalid input drive it.
type Suite struct {
	Registration dialect.Registration
	Routes       []dialect.Route
	// Requests has a request of each route, by its path, that succeeds for every caller with the right to it.
	Requests map[string]Request
	// New returns the request of a route, unsigned.
	New func(rt *dialect.Route, body string) *http.Request
	// Sign signs a request with an access key.
	Sign func(r *http.Request, body, accessKey, secret string, at time.Time)
	// Code returns the code of an error's body, empty if it is none.
	Code func(body []byte) string
	// Malformed and Missing are the codes for a body that is no JSON object and for an absent field.
	Malformed, Missing string
	// Refused reports whether a code is for a sender who may not do what it asks; nil: the statuses 401 and 403 are.
	Refused func(code string) bool
	// Wrong returns JSON values of a field that are refused, and with which code; nil: those of Wrong, with the field's code or
	// Malformed.
	Wrong func(f *dialect.Field) (values []string, code string)
	// ErrorStatus is the HTTP status of every error; 0: each has its own.
	ErrorStatus int
	// Flat is true if the fields of requests are parameters: there is no body to be malformed.
	Flat bool
}

// Request is what a suite sends: a JSON object. In it, $aes is a key's id, $cipher a ciphertext under it in base64, and $fresh a new
// name. Before has lines of a route and an object for the owner to send first, where the request succeeds once. NoService is true if no
// default key of a service can be used so. $own is the id of a key that no other request has.
type Request struct {
	Body, Before string
	NoService    bool
}

// WrongTypes are JSON values that are wrong for every field of a kind.
var WrongTypes = map[dialect.Kind][]string{
	dialect.Text:   {`7`, `true`, `{}`, `["x"]`},
	dialect.Number: {`"seven"`, `1.5`, `"1.0"`, `1e3`, `true`, `{}`, `[8]`, `"0x10"`, `"+8"`, `" 8"`, `"99999999999999999999"`, `99999999999999999999`},
	dialect.Flag:   {`1`, `"yes"`, `"TRUE"`, `{}`, `[true]`},
	dialect.Base64: {`7`, `true`, `{}`, `["x"]`, `"*"`, `"QUJ"`, `"QUJD="`, `"QUJ_"`},
	dialect.Hex:    {`7`, `true`, `{}`, `["x"]`, `"0"`, `"zz"`, `"é"`},
	dialect.Blob:   {`7`, `true`, `{}`, `["x"]`, `"0"`, `"zz"`, `"é"`},
	dialect.Pairs:  {`7`, `["a"]`, `{"a":1}`, `{"a":{}}`, `{"a":null}`, `"a=b"`, `"{\"a\":\"1\",\"a\":\"2\"}"`},
	dialect.Texts:  {`7`, `"x"`, `{}`, `[7]`, `[null]`, `[["x"]]`, `["x",{}]`},
	dialect.Item:   {`7`, `"x"`, `[]`, `[{"key":"k"}]`},
	dialect.Items:  {`7`, `"x"`, `{"key":"k"}`, `[7]`, `[null]`, `["x"]`, `[[]]`},
}

// Wrong returns JSON values of a field that its kind, its bounds or its list of values exclude.
func Wrong(f *dialect.Field) []string {
	wrong := WrongTypes[f.Kind]
	if f.Values != nil {
		wrong = append(wrong[:len(wrong):len(wrong)], `"no such word"`)
	}
	if f.High == 0 {
		return wrong
	}
	switch f.Kind {
	case dialect.Number:
		wrong = append(wrong[:len(wrong):len(wrong)], strconv.FormatInt(f.Low-1, 10), strconv.Quote(strconv.FormatInt(f.High+1, 10)))
	case dialect.Text, dialect.Base64, dialect.Hex, dialect.Blob:
		if f.High < 1<<16 {
			wrong = append(wrong[:len(wrong):len(wrong)], strconv.Quote(strings.Repeat("A", int(f.High)+1)))
		}
	}
	return wrong
}
