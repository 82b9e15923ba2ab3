package huawei

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/kms"
)

// wrong is a value of a field and the code that it must be answered with.
type wrong struct{ value, code string }

// Values that are wrong for every field of a kind.
var (
	notText    = []string{`7`, `true`, `{}`, `["x"]`}
	notNumber  = []string{`"seven"`, `1.5`, `1e3`, `true`, `{}`, `[8]`, `"0x10"`, `"+8"`, `"99999999999999999999"`}
	badKeyIDs  = []wrong{{`"x"`, "KMS.0205"}, {`"00000000-0000-4000-8000-00000000000g"`, "KMS.0205"}, {`"00000000-0000-4000-8000-0000000000000"`, "KMS.0205"}, {`"00000000-0000-4000-8000-00000000000A"`, "KMS.0205"}, {`"alias/x"`, "KMS.0205"}}
	badContext = []wrong{{`7`, "KMS.0208"}, {`["a"]`, "KMS.0208"}, {`{"a":1}`, "KMS.0208"}, {`{"a":{}}`, "KMS.0208"}, {`"a=b"`, "KMS.0208"}, {`"{\"a\":\"1\",\"a\":\"2\"}"`, "KMS.0208"}, {`{"":"x"}`, "KMS.0208"}, {`{"a":"` + strings.Repeat("x", 8192) + `"}`, "KMS.0208"}}
	badAAD     = []wrong{{`"` + strings.Repeat("a", 129) + `"`, "KMS.0308"}}
)

func all(code string, values []string) []wrong {
	var out []wrong
	for _, v := range values {
		out = append(out, wrong{v, code})
	}
	return out
}

// field is a member of a request: what is right, whether it may be absent, and what is wrong.
type field struct {
	right    string
	required bool
	wrong    []wrong
}

// badInput is every field of every operation.
func badInput(s *server) map[string]map[string]field {
	aes, rsa := s.create("bad/aes", "AES_256"), s.create("bad/rsa", "RSA_2048")
	data := s.post("encrypt-data", `{"key_id":"`+aes+`","plain_text":"x"}`).field(s.t, "cipher_text")
	dek := s.post("create-datakey", `{"key_id":"`+aes+`"}`)
	plain := dek.field(s.t, "plain_text")
	signature := s.post("sign", `{"key_id":"`+rsa+`","signing_algorithm":"RSASSA_PSS_SHA_256","message_type":"RAW","message":"QUJD"}`).field(s.t, "signature")
	quote := func(v string) string { return `"` + v + `"` }

	seq := field{right: `"919c82d4-8046-4722-9094-35c3c6524cff"`, wrong: append(all("KMS.0206", notText), all("KMS.0206", []string{`"x"`, `"919c82d4-8046-4722-9094-35c3c6524cf"`, `"919c82d4-8046-4722-9094135c3c6524cff"`, `"919c82d4-8046-4722-9094-35c3c6524cfé"`})...)}
	key := func(id string) field {
		return field{quote(id), true, append(all("KMS.0205", notText), badKeyIDs...)}
	}
	missingKey := wrong{`"00000000-0000-4000-8000-000000000000"`, "KMS.0207"}
	named := func(id string) field {
		f := key(id)
		f.wrong = append(slices.Clone(f.wrong), missingKey)
		return f
	}
	context := field{right: `null`, wrong: badContext}
	aad := field{right: `""`, wrong: append(all("KMS.0308", notText), badAAD...)}
	algorithm := field{right: `"SYMMETRIC_DEFAULT"`, wrong: append(all("KMS.0308", notText), wrong{`"X"`, "KMS.0308"}, wrong{`"SM2_ENCRYPT"`, "KMS.2105"})}
	message := field{`"QUJD"`, true, append(all("KMS.0308", notText), wrong{`"QUJ"`, "KMS.0308"}, wrong{`"****"`, "KMS.0308"}, wrong{quote(strings.Repeat("QUJD", 1400)), "KMS.0308"})}
	signing := field{`"RSASSA_PSS_SHA_256"`, true, append(all("KMS.0332", notText), all("KMS.0332", []string{`"X"`, `"SM2DSA_SM3"`, `"ECDSA_SHA_256"`})...)}
	kind := field{right: `"RAW"`, wrong: append(all("KMS.0308", notText), wrong{`"raw"`, "KMS.0308"})}
	hexes := func(right, code string) field {
		return field{quote(right), true, append(all(code, notText), wrong{`"0"`, code}, wrong{`"zz"`, code}, wrong{`"é"`, code})}
	}
	numbers := func(right, code string, out ...string) field {
		return field{right, true, append(all(code, notNumber), all(code, out)...)}
	}
	cipher := hexes(dek.field(s.t, "cipher_text"), "KMS.2201")
	cipher.wrong = append(cipher.wrong, broken(dek.field(s.t, "cipher_text"), plain)...)
	dataKey := map[string]field{
		"key_id": named(aes), "sequence": seq, "encryption_context": context, "additional_authenticated_data": aad,
		"datakey_length": {`"256"`, false, append(all("KMS.1901", notNumber), wrong{`7`, "KMS.1901"}, wrong{`-8`, "KMS.1901"}, wrong{`"8200"`, "KMS.1901"}, wrong{`9`, "KMS.1903"})},
		"key_spec":       {`null`, false, all("KMS.1902", notText)},
	}
	return map[string]map[string]field{
		"create-key": {
			"key_alias":             {`"unused"`, true, append(all("KMS.1101", notText), wrong{`"a b"`, "KMS.1101"}, wrong{`"é"`, "KMS.1101"}, wrong{`"x/default"`, "KMS.1101"}, wrong{quote(strings.Repeat("a", 256)), "KMS.1101"}, wrong{`"bad/aes"`, "KMS.1104"})},
			"key_description":       {`""`, false, append(all("KMS.1103", notText), wrong{quote(strings.Repeat("é", 256)), "KMS.1103"})},
			"key_spec":              {`"AES_256"`, false, append(all("KMS.1110", notText), all("KMS.1110", []string{`"aes_256"`, `"SM4"`, `"SM2"`, `"AES_128"`, `"SECP256K1"`, `"HMAC_SM3"`})...)},
			"key_usage":             {`""`, false, append(all("KMS.0308", notText), wrong{`"X"`, "KMS.0308"}, wrong{`"SIGN_VERIFY"`, "KMS.0308"})},
			"origin":                {`"kms"`, false, append(all("KMS.0308", notText), wrong{`"KMS"`, "KMS.0308"})},
			"keystore_id":           {`"0"`, false, []wrong{{`"1"`, "KMS.0340"}, {`{}`, "KMS.0340"}}},
			"enterprise_project_id": {`"0"`, false, all("KMS.0308", notText)},
			"sequence":              seq,
		},
		"describe-key":  {"key_id": named(aes), "sequence": seq},
		"enable-key":    {"key_id": named(aes), "sequence": seq},
		"disable-key":   {"key_id": named(aes), "sequence": seq},
		"get-publickey": {"key_id": named(rsa), "sequence": seq},
		"list-keys": {
			"limit":                 {`"10"`, false, append(all("KMS.1601", notNumber), wrong{`0`, "KMS.1601"}, wrong{`"-1"`, "KMS.1601"})},
			"marker":                {`"0"`, false, append(all("KMS.1602", notNumber), wrong{`-1`, "KMS.1602"})},
			"key_state":             {`"2"`, false, append(all("KMS.0308", notNumber), wrong{`0`, "KMS.0308"}, wrong{`"6"`, "KMS.0308"})},
			"key_spec":              {`"ALL"`, false, append(all("KMS.1110", notText), wrong{`"all"`, "KMS.1110"})},
			"enterprise_project_id": {`"all"`, false, all("KMS.0308", notText)},
			"sequence":              seq,
		},
		"encrypt-data": {
			"key_id": named(aes), "sequence": seq, "encryption_context": context, "additional_authenticated_data": aad, "encryption_algorithm": algorithm,
			"plain_text": {`"x"`, true, append(all("KMS.2101", notText), wrong{quote(strings.Repeat("a", 4097)), "KMS.2101"}, wrong{quote(strings.Repeat("é", 2049)), "KMS.2101"})},
		},
		"decrypt-data": {
			"key_id":   {`null`, false, append(append(all("KMS.0205", notText), badKeyIDs...), wrong{missingKey.value, "KMS.2201"}, wrong{quote(rsa), "KMS.2201"})},
			"sequence": seq, "encryption_context": context, "additional_authenticated_data": aad, "encryption_algorithm": algorithm,
			"cipher_text": {quote(data), true, append(append(all("KMS.2201", notText), wrong{`"*"`, "KMS.2201"}, wrong{quote(strings.Repeat("A", 5652)), "KMS.2201"}, wrong{quote(data[:80] + `\n` + data[80:]), "KMS.2201"}), broken(data, "")...)},
		},
		"create-datakey":                   dataKey,
		"create-datakey-without-plaintext": dataKey,
		"encrypt-datakey": {
			"key_id": named(aes), "sequence": seq, "encryption_context": context, "additional_authenticated_data": aad,
			"plain_text":           hexes(plain+digestHex(plain), "KMS.2101"),
			"datakey_plain_length": numbers(`"32"`, "KMS.2102", `0`, `"1025"`, `-1`),
		},
		"decrypt-datakey": {
			"key_id": {quote(aes), true, append(key(aes).wrong, wrong{missingKey.value, "KMS.2201"}, wrong{quote(rsa), "KMS.2201"})}, "sequence": seq, "encryption_context": context, "additional_authenticated_data": aad,
			"cipher_text":           cipher,
			"datakey_cipher_length": numbers(`32`, "KMS.2202", `0`, `"1025"`),
		},
		"gen-random": {
			"random_data_length": numbers(`"8"`, "KMS.1801", `0`, `7`, `"8193"`),
			"sequence":           seq,
		},
		"sign":   {"key_id": named(rsa), "sequence": seq, "message": message, "signing_algorithm": signing, "message_type": kind},
		"verify": {"key_id": named(rsa), "sequence": seq, "message": message, "signing_algorithm": signing, "message_type": kind, "signature": {quote(signature), true, append(all("KMS.0308", notText), wrong{`"*"`, "KMS.0308"})}},
	}
}

// request renders an operation's fields, with one of them replaced, or left out for "".
func request(fields map[string]field, name, value string) string {
	var members []string
	for _, n := range slices.Sorted(maps.Keys(fields)) {
		v := fields[n].right
		if n == name {
			v = value
		}
		if v != "" {
			members = append(members, fmt.Sprintf("%q:%s", n, v))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// TestBadInput holds every field of every operation to its table: what is absent, of the wrong type, out of range or
// malformed is answered with the dialect's code, is on record, and changes nothing.
func TestBadInput(t *testing.T) {
	s := newServer(t, os.Getuid())
	table := badInput(s)
	for _, rt := range routes {
		operation := string(rt.operation)
		fields, ok := table[operation]
		if !ok {
			t.Fatalf("%s is in no table", operation)
		}
		expect := func(what, body, code string) {
			t.Helper()
			_, before := s.audit.last()
			a := s.post(operation, body)
			if a.code() != code || a.status == http.StatusOK {
				t.Errorf("%s with %s: %d %s, want %s", operation, what, a.status, a.body, code)
			}
			if rec, after := s.audit.last(); after != before+1 || rec.Outcome == "ok" || string(rec.Operation) != operation || rec.RequestID != a.header.Get("X-Request-Id") {
				t.Errorf("%s with %s: %d records, last %+v", operation, what, after-before, rec)
			}
		}
		if a := s.post(operation, request(fields, "", "")); a.status != http.StatusOK && operation != "enable-key" {
			t.Errorf("%s with every field right: %d %s", operation, a.status, a.body)
		}
		if operation == "disable-key" {
			s.post("enable-key", request(fields, "", ""))
		}
		for name, f := range fields {
			if f.required {
				for _, absent := range []string{"", "null", `""`} {
					expect(name+" absent as "+absent, request(fields, name, absent), codeMissing)
				}
			}
			for _, w := range f.wrong {
				expect(name+" "+clip(w.value), request(fields, name, w.value), w.code)
			}
		}
		whole := request(fields, "", "")
		for _, body := range []string{`{`, `[]`, `"x"`, `7`, `null`, `{"a":}`, `{'a':1}`, `{"a":1,}`, whole + "x", whole[:len(whole)-1], `{"a":1,"a":2}`, "{\"a\":\"\xff\"}", `{"a":"\ud800"}`, strings.Repeat(`{"a":`, 11000)} {
			code := codeBadJSON
			if int64(len(body)) > rt.bodyLimit {
				code = codeTooLong
			}
			expect("body "+clip(body), body, code)
		}
		expect("oversize body", `{"a":"`+strings.Repeat("a", int(rt.bodyLimit))+`"}`, codeTooLong)
	}
	if page, err := s.core.ListKeys(s.context(), kms.ListKeysInput{}); err != nil || page.Total != 3 {
		t.Errorf("there are %d keys (%v), want the two of the table and the one that was right", page.Total, err)
	}
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}

// TestErrorsAreTotal holds the table of answers to the core's list.
func TestErrorsAreTotal(t *testing.T) {
	for _, code := range kms.Codes {
		a, ok := answers[code]
		if !ok || a.status < 400 || !strings.HasPrefix(a.code, "KMS.") && !strings.HasPrefix(a.code, "APIGW.") {
			t.Errorf("%s is answered with %+v", code, a)
		}
	}
	if len(answers) != len(kms.Codes) {
		t.Errorf("%d answers for %d codes", len(answers), len(kms.Codes))
	}
	if a, e := answerTo(nil, nil, errors.New("pq: secret detail")); a.code != "KMS.0103" || strings.Contains(text(nil, e), "secret") {
		t.Errorf("an unknown error is answered with %v %q", a, text(nil, e))
	}
}

// TestAnswersAreExact holds every answer's JSON types to the reference: the strictest SDK fails on a number where it
// expects a string.
func TestAnswersAreExact(t *testing.T) {
	s := newServer(t, os.Getuid())
	table := badInput(s)
	strs := func(names ...string) map[string]string {
		m := map[string]string{}
		for _, n := range names {
			m[n] = "string"
		}
		return m
	}
	key := strs("key_id", "domain_id", "key_alias", "realm", "key_spec", "key_usage", "key_description", "creation_date",
		"key_state", "origin", "scheduled_deletion_date", "default_key_flag", "key_type", "expiration_time",
		"key_rotation_enabled", "sys_enterprise_project_id", "keystore_id", "protection")
	nested := func(name string, m map[string]string) map[string]string {
		out := map[string]string{}
		for n, kind := range m {
			out[name+"."+n] = kind
		}
		return out
	}
	list := nested("key_details[]", key)
	maps.Copy(list, map[string]string{"keys[]": "string", "next_marker": "string", "truncated": "string", "total": "number"})
	want := map[string]map[string]string{
		"create-key": nested("key_info", strs("key_id", "domain_id")), "describe-key": nested("key_info", key), "list-keys": list,
		"disable-key": nested("key_info", strs("key_id", "key_state")), "enable-key": nested("key_info", strs("key_id", "key_state")),
		"encrypt-data": strs("key_id", "cipher_text"), "decrypt-data": strs("key_id", "plain_text", "plain_text_base64"),
		"create-datakey": strs("key_id", "plain_text", "cipher_text"), "create-datakey-without-plaintext": strs("key_id", "cipher_text"),
		"encrypt-datakey": strs("key_id", "cipher_text", "datakey_length"), "decrypt-datakey": strs("data_key", "datakey_length", "datakey_dgst"),
		"gen-random": strs("random_data"), "sign": strs("key_id", "signature"), "verify": strs("key_id", "signature_valid"),
		"get-publickey": strs("key_id", "public_key"),
	}
	disabled := s.create("exact", "AES_256")
	s.post("disable-key", `{"key_id":"`+disabled+`"}`)
	for _, rt := range routes {
		operation := string(rt.operation)
		body := request(table[operation], "", "")
		if operation == "enable-key" {
			body = `{"key_id":"` + disabled + `"}`
		}
		a := s.post(operation, body)
		if operation == "disable-key" {
			s.post("enable-key", body)
		}
		var v any
		if err := json.Unmarshal(a.body, &v); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: %d %s: %v", operation, a.status, a.body, err)
		}
		got := map[string]string{}
		shape("", v, got)
		if !maps.Equal(got, want[operation]) {
			t.Errorf("%s answers with\n%v, want\n%v", operation, got, want[operation])
		}
	}
}

// shape notes the type of every leaf of a JSON value.
func shape(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			shape(strings.TrimPrefix(path+"."+name, "."), member, into)
		}
	case []any:
		for _, element := range v {
			shape(path+"[]", element, into)
		}
	case string:
		into[path] = "string"
	case float64:
		into[path] = "number"
	default:
		into[path] = fmt.Sprintf("%T", v)
	}
}
