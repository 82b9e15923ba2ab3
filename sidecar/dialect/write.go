package dialect

import (
	"encoding/base64"
	"encoding/hex"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyside/keyside/sidecar/kms"
)

// JSON appends v to the answer: a struct with json tags, whose members come in the order of its fields, and those of maps
// in the order of their names. Answers that hold secrets are appended by the functions below instead, so that no copy of
// the secret is left elsewhere.
func (x *Exchange) JSON(v any) error {
	return json.MarshalWrite((*appender)(&x.Out), v, answerOptions)
}

var answerOptions = json.JoinOptions(json.Deterministic(true), jsontext.AllowInvalidUTF8(true))

// appender is a buffer that is written to at its end.
type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

// Each returns what show makes of each element of a list, for answers with lists.
func Each[From, To any](list []From, show func(From) To) []To {
	out := make([]To, len(list))
	for i := range list {
		out[i] = show(list[i])
	}
	return out
}

// AppendString appends s as a JSON string. Invalid UTF-8 becomes the replacement character.
func AppendString[Bytes ~[]byte | ~string](dst []byte, s Bytes) []byte {
	dst, _ = jsontext.AppendQuote(dst, s)
	return dst
}

const upperHex = "0123456789ABCDEF"

// AppendHex appends b in upper-case hexadecimal digits.
func AppendHex(dst, b []byte) []byte {
	for _, c := range b {
		dst = append(dst, upperHex[c>>4], upperHex[c&15])
	}
	return dst
}

// AppendID appends a key id in its text form, which is what its String returns.
func AppendID(dst []byte, id kms.KeyID) []byte {
	dst = append(hex.AppendEncode(dst, id[:4]), '-')
	dst = append(hex.AppendEncode(dst, id[4:6]), '-')
	dst = append(hex.AppendEncode(dst, id[6:8]), '-')
	dst = append(hex.AppendEncode(dst, id[8:10]), '-')
	return hex.AppendEncode(dst, id[10:])
}

// AppendMember appends a literal, which ends before a value, and s as a JSON string.
func AppendMember(dst []byte, literal, s string) []byte {
	return AppendString(append(dst, literal...), s)
}

// AppendHexMember appends a literal, which ends with a quote, upper-case hexadecimal digits and a quote.
func AppendHexMember(dst []byte, literal string, data []byte) []byte {
	return append(AppendHex(append(dst, literal...), data), '"')
}

// AppendBase64Member appends a literal, which ends with a quote, base64 and a quote.
func AppendBase64Member(dst []byte, literal string, data []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, literal...), data), '"')
}
