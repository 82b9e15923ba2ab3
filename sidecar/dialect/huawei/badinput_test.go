package huawei

import (
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/kms"
)

// codes are the codes that a wrong value of a field is answered with, as the reference's table of errors has them: of
// every operation, or after the operation's path.
var codes = map[string]string{
	"key_id": "KMS.0205", "target_key_id": "KMS.0205", "source_key_id": "KMS.0205", "destination_key_id": "KMS.0205",
	"sequence": "KMS.0206", "encryption_context": "KMS.0208", "additional_authenticated_data": "KMS.0308",
	"source_additional_authenticated_data": "KMS.0308", "destination_additional_authenticated_data": "KMS.0308",
	"key_alias": "KMS.1101", "key_description": "KMS.1103", "key_spec": "KMS.1110", "key_usage": "KMS.0308", "origin": "KMS.0308",
	"enterprise_project_id": "KMS.0308", "keystore_id": "KMS.0340", "pending_days": "KMS.1401", "limit": "KMS.1601",
	"marker": "KMS.1602", "key_state": "KMS.0308", "rotation_interval": "KMS.3001",
	"datakey_length": "KMS.1901", "create-datakey key_spec": "KMS.1902", "create-datakey-without-plaintext key_spec": "KMS.1902",
	"create-rsa-datakey-pair key_spec": "KMS.1902", "create-ec-datakey-pair key_spec": "KMS.1902", "with_plain_text": "KMS.0308",
	"plain_text": "KMS.2101", "datakey_plain_length": "KMS.2102", "cipher_text": "KMS.2201", "datakey_cipher_length": "KMS.2202",
	"encryption_algorithm": "KMS.0308", "source_encryption_algorithm": "KMS.0308", "destination_encryption_algorithm": "KMS.0308",
	"signing_algorithm": "KMS.0332", "message": "KMS.0308", "message_type": "KMS.0308", "signature": "KMS.0308",
	"mac_algorithm": "KMS.0308", "mac": "KMS.0308", "key_agreement_algorithm": "KMS.0308", "public_key": "KMS.0308",
	"random_data_length": "KMS.1801", "tag": "KMS.0414", "tags": "KMS.0414", "action": "KMS.0404", "key": "KMS.0406", "value": "KMS.0405",
	"values": "KMS.0405", "matches": "KMS.0415", "matches key": "KMS.0403", "matches value": "KMS.0402", "offset": "KMS.0417",
	"alias": "KMS.1101", "aliases": "KMS.1101",
	"wrapping_algorithm": "KMS.0308", "wrapping_key_spec": "KMS.1110", "only_last": "KMS.0308", "repeat": "KMS.0308",
	"import_token": "KMS.2605", "encrypted_key_material": "KMS.0311", "encrypted_privatekey": "KMS.2609", "expiration_time": "KMS.0308",
	"check_value":       "KMS.0308",
	"grantee_principal": "KMS.2402", "retiring_principal": "KMS.2402", "grantee_principal_type": "KMS.0308", "operations": "KMS.0308",
	"name": "KMS.0308", "encryption_context_equals": "KMS.0208", "encryption_context_subset": "KMS.0208", "expires_at": "KMS.0308",
	"source": "KMS.0308", "grant_id": "KMS.2501",
}

// otherCodes are those for the bounds of a field, or for its step, where they differ.
var otherCodes = map[string]string{
	"datakey_length step": "KMS.1903", "random_data_length step": "KMS.1802", "tags bounds": "KMS.0401", "aliases bounds": "KMS.0308",
	"expiration_time bounds": "KMS.2602",
}

func codeOf(rt *dialect.Route, f *dialect.Field) string {
	if code, ok := codes[rt.Path+" "+f.Name]; ok {
		return code
	}
	return codes[f.Name]
}

// wrong is a value of a field and the code that it must be answered with.
type wrong struct{ value, code string }

func all(code string, values ...string) []wrong {
	var out []wrong
	for _, v := range values {
		out = append(out, wrong{v, code})
	}
	return out
}

// wrongs are the values that are wrong for a field, whatever it means: of another type, out of its bounds, and so on.
func wrongs(rt *dialect.Route, f *dialect.Field, code string) []wrong {
	out := all(code, dialecttest.WrongTypes[f.Kind]...)
	bounds, step := code, code
	if c, ok := otherCodes[f.Name+" bounds"]; ok {
		bounds = c
	}
	if c, ok := otherCodes[f.Name+" step"]; ok {
		step = c
	}
	if len(f.Values) > 0 {
		out = append(out, all(code, `"no such word"`, quote(strings.ToLower(f.Values[0])+"x"))...)
	}
	switch f.Kind {
	case dialect.Number:
		out = append(out, boundsOf(f, bounds)...)
		if f.Step > 1 {
			out = append(out, wrong{strconv.FormatInt(f.Low+1, 10), step}, wrong{quote(strconv.FormatInt(f.High-1, 10)), step})
		}
	case dialect.Text, dialect.Base64, dialect.Hex, dialect.Blob:
		if f.Low > 1 {
			out = append(out, wrong{quote(strings.Repeat("A", int(f.Low)-1)), bounds})
		}
		if f.High > 0 {
			out = append(out, wrong{quote(strings.Repeat("A", int(f.High)+1)), bounds})
		}
	case dialect.Texts, dialect.Items:
		if f.Low > 0 {
			out = append(out, wrong{`[]`, bounds})
		}
	}
	for i := range f.Fields {
		out = append(out, nested(rt, f, &f.Fields[i])...)
	}
	return out
}

// boundsOf are the numbers beside the bounds, in both spellings, and those that are farther away.
func boundsOf(f *dialect.Field, code string) []wrong {
	if f.High == 0 {
		return nil
	}
	var out []wrong
	for _, n := range []int64{f.Low - 1, f.High + 1, -1 << 63, 1<<63 - 1, -f.Low - 1} {
		if f.Clamp && n > f.High {
			continue
		}
		number := strconv.FormatInt(n, 10)
		out = append(out, wrong{number, code}, wrong{quote(number), code})
	}
	return out
}

// nested are wrong values of a field within an object: alone in it, or beside a right key.
func nested(rt *dialect.Route, parent, f *dialect.Field) []wrong {
	code, ok := codes[parent.Name+" "+f.Name]
	if !ok {
		code = codes[f.Name]
	}
	wrap := func(member string) string {
		if f.Name != "key" {
			member = `"key":"k",` + member
			if parent.Name == "matches" {
				member = strings.Replace(member, `"k"`, `"resource_name"`, 1)
			}
		}
		if parent.Kind == dialect.Items {
			return `[{` + member + `}]`
		}
		return `{` + member + `}`
	}
	var out []wrong
	for _, w := range wrongs(rt, f, code) {
		out = append(out, wrong{wrap(`"` + f.Name + `":` + w.value), w.code})
	}
	if f.Required {
		for _, absent := range []string{`""`, `null`} {
			out = append(out, wrong{wrap(`"` + f.Name + `":` + absent), codeMissing})
		}
		out = append(out, wrong{strings.Replace(wrap(`"`+f.Name+`":""`), `"key":""`, `"other":1`, 1), codeMissing})
	}
	return out
}

func quote(v string) string { return `"` + v + `"` }

// TestBadInput holds every field of every operation to the reference: what is absent, of the wrong type, out of range or
// malformed is answered with the dialect's code, is on record, and changes nothing.
func TestBadInput(t *testing.T) {
	s := newServer(t, os.Getuid())
	samples := newSamples(s)
	for i := range routes {
		rt := &routes[i]
		sample := samples.of(rt)
		before := s.everything()
		expect := func(what string, values map[string]string, code string) {
			t.Helper()
			s.refused(rt, what, s.request(rt, values), code)
		}
		for j := range rt.Fields {
			f := &rt.Fields[j]
			code := codeOf(rt, f)
			if f.In == dialect.Header {
				continue
			}
			if code == "" {
				t.Fatalf("%s: no code for %s", rt.Path, f.Name)
			}
			if f.Required && f.In == dialect.Body {
				for _, absent := range []string{"", "null", `""`} {
					if absent != `""` || !f.Empty {
						expect(f.Name+" absent as "+absent, sample.with(f.Name, absent), codeMissing)
					}
				}
			}
			for _, w := range append(wrongs(rt, f, code), sample.wrong[f.Name]...) {
				if f.In == dialect.Body || w.value[0] == '"' {
					expect(f.Name+" "+clip(w.value), sample.with(f.Name, w.value), w.code)
				}
			}
		}
		s.brokenBodies(rt, sample)
		if after := s.everything(); after != before {
			t.Errorf("%s: refused requests changed\n%s to\n%s", rt.Path, before, after)
		}
	}
}

// brokenBodies sends bodies that are no objects, or hold what no object may.
func (s *server) brokenBodies(rt *dialect.Route, sample *sample) {
	s.t.Helper()
	whole := s.request(rt, sample.right)
	bodies := []string{
		`{`, `[]`, `"x"`, `7`, `null`, `{"a":}`, `{'a':1}`, `{"a":1,}`, `{"a":1}x`, `{"a":1}{}`, `{"a":1,"a":2}`, "{\"a\":\"\xff\"}",
		`{"a":"\ud800"}`, `{"a":{"b":1,"b":2}}`, "\xef\xbb\xbf{}", strings.Repeat(`{"a":`, 1000), strings.Repeat(`[`, 11000),
	}
	if whole.body != "" {
		inner := strings.TrimSuffix(strings.TrimPrefix(whole.body, "{"), "}")
		bodies = append(bodies, whole.body[:len(whole.body)-1], whole.body+whole.body)
		for _, member := range sample.members(rt) {
			name, _, _ := strings.Cut(member, ":")
			bodies = append(bodies, `{`+inner+`,`+member+`}`, `{`+inner+`,`+name+":\"\xc3\"}")
		}
	}
	for _, body := range bodies {
		code := codeBadJSON
		if int64(len(body)) > rt.Body {
			code = codeTooLong
		}
		broken := whole
		broken.body = body
		s.refused(rt, "body "+clip(body), broken, code)
	}
	whole.body = `{"a":"` + strings.Repeat("a", int(rt.Body)) + `"}`
	s.refused(rt, "oversize body", whole, codeTooLong)
}

// refused sends a request and checks that it is refused as it should, and on record once.
func (s *server) refused(rt *dialect.Route, what string, q query, code string) {
	s.t.Helper()
	_, before := s.audit.last()
	a := s.send(q.method, q.path, q.body)
	if a.code() != code || a.status < 400 || a.status >= 500 {
		s.t.Errorf("%s %s with %s: %d %s, want %s", rt.Method, rt.Path, what, a.status, a.body, code)
	}
	rec, after := s.audit.last()
	if after != before+1 || rec.Outcome == "ok" || rec.RequestID != a.header.Get("X-Request-Id") {
		s.t.Errorf("%s %s with %s: %d records, last %+v", rt.Method, rt.Path, what, after-before, rec)
	}
}

// TestGoodInput sends every spelling of right values: the operations take them all, and members that they do not know.
func TestGoodInput(t *testing.T) {
	s := newServer(t, os.Getuid())
	samples := newSamples(s)
	for i := range routes {
		rt := &routes[i]
		accept := func(what string, change func(*sample) map[string]string) {
			t.Helper()
			q := s.request(rt, change(samples.of(rt)))
			if a := s.send(q.method, q.path, q.body); a.status != rt.Status {
				t.Errorf("%s %s with %s: %d %s (%s)", rt.Method, rt.Path, what, a.status, a.body, q.body)
			}
		}
		accept("every field right", func(m *sample) map[string]string { return m.right })
		for j := range rt.Fields {
			f := &rt.Fields[j]
			if f.In == dialect.Path || f.In == dialect.Header {
				continue
			}
			if f.Clamp {
				for _, long := range []string{strconv.FormatInt(f.High+1, 10), "9223372036854775807"} {
					accept("a longer page", func(m *sample) map[string]string { return m.with(f.Name, quote(long)) })
				}
			}
			if !f.Required {
				for _, absent := range []string{"", "null", `""`} {
					accept(f.Name+" absent as "+absent, func(m *sample) map[string]string { return m.with(f.Name, absent) })
				}
			}
			if f.Kind == dialect.Number || f.Kind == dialect.Flag {
				accept(f.Name+" in the other spelling", func(m *sample) map[string]string {
					v := m.right[f.Name]
					if unquoted, quoted := strings.CutPrefix(strings.TrimSuffix(v, `"`), `"`); quoted {
						return m.with(f.Name, unquoted)
					}
					return m.with(f.Name, quote(v))
				})
			}
		}
		accept("unknown members", func(m *sample) map[string]string {
			return m.with("no such field", `{"a":[1,{"b":null}],"KEY_ID":7}`)
		})
	}
}

// everything is what the service shows of all its keys, tags and aliases.
func (s *server) everything() string {
	s.t.Helper()
	var out []string
	for _, q := range []query{
		{http.MethodPost, "list-keys", `{"key_spec":"ALL"}`}, {http.MethodGet, "tags", ""}, {http.MethodGet, "aliases", ""},
	} {
		a := s.send(q.method, address(q.path), q.body)
		if a.status != http.StatusOK {
			s.t.Fatalf("%s: %d %s", q.path, a.status, a.body)
		}
		out = append(out, string(a.body))
	}
	return strings.Join(out, "\n")
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// TestFieldsAreListed checks that no handler reads a field that its route does not list.
func TestFieldsAreListed(t *testing.T) {
	if n := dialecttest.CheckFields(t); n < 45 {
		t.Errorf("found %d of %d routes", n, len(routes))
	}
}

// TestErrorsAreTotal holds the table of answers to the core's list.
func TestErrorsAreTotal(t *testing.T) {
	dialecttest.CheckErrors(t, conditions, answers)
	for _, a := range slices.Concat(slices.Collect(maps.Values(conditions)), slices.Collect(maps.Values(coreCodes))) {
		if a.Status < 400 || !strings.HasPrefix(a.Code, "KMS.") && !strings.HasPrefix(a.Code, "APIGW.") {
			t.Errorf("an error is answered with %+v", a)
		}
	}
	for _, ex := range exceptions {
		if i := slices.IndexFunc(routes, func(rt dialect.Route) bool { return rt.Operation == ex.Operation }); ex.When != nil &&
			(i < 0 || !slices.ContainsFunc(routes[i].Fields, func(f dialect.Field) bool { return f.Name == encryptionAlgorithm.Name })) {
			t.Errorf("exception %+v looks at a field that the operation has not", ex)
		}
	}
	e := kms.AsError(errors.New("pq: secret detail"))
	if a := answers.To(nil, nil, e); a.Code != "KMS.0103" || strings.Contains(text(nil, e), "secret") {
		t.Errorf("an unknown error is answered with %v %q", a, text(nil, e))
	}
}
