package dialect

import (
	"crypto/hmac"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"hash"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// What the clouds' request signatures have in common: a canonical form of the request as it was received, and chains of
// HMACs. Each function appends to dst, and reports whether the request can have that form at all.

const lettersAndDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// unreserved are the characters that percent-encoding leaves alone (RFC 3986, 2.3).
var unreserved = func() (t [256]bool) {
	for _, c := range lettersAndDigits + "-._~" {
		t[c] = true
	}
	return t
}()

func appendEscaped(dst []byte, c byte) []byte {
	if unreserved[c] {
		return append(dst, c)
	}
	return append(dst, '%', upperHex[c>>4], upperHex[c&15])
}

// AppendEscaped appends a text with every character but the unreserved ones percent-encoded.
func AppendEscaped[Text ~[]byte | ~string](dst []byte, text Text) []byte {
	for i := range len(text) {
		dst = appendEscaped(dst, text[i])
	}
	return dst
}

// AppendPath appends a path as it was sent (url.URL.EscapedPath) with every character but the unreserved ones and the
// slashes between segments percent-encoded. An encoded slash stays one.
func AppendPath(dst []byte, sent string) ([]byte, bool) {
	for i := 0; i < len(sent); i++ {
		switch c := sent[i]; c {
		case '/':
			dst = append(dst, c)
		case '%':
			var decoded [1]byte
			if i+2 >= len(sent) {
				return dst, false
			}
			if _, err := hex.Decode(decoded[:], []byte(sent[i+1:i+3])); err != nil {
				return dst, false
			}
			dst = appendEscaped(dst, decoded[0])
			i += 2
		default:
			dst = appendEscaped(dst, c)
		}
	}
	return dst, true
}

// Pair is one parameter of a query, decoded.
type Pair struct {
	Name, Value string
}

// ParseQuery returns the parameters of a query as it was sent, in its order. A plus sign stands for a space.
func ParseQuery(sent string) ([]Pair, bool) {
	var pairs []Pair
	for sent != "" {
		var part string
		part, sent, _ = strings.Cut(sent, "&")
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, false
		}
		pairs = append(pairs, Pair{name, value})
	}
	return pairs, true
}

// AppendQuery appends parameters in the order given, percent-encoded, each with its equals sign.
func AppendQuery(dst []byte, pairs []Pair) []byte {
	for i, p := range pairs {
		if i > 0 {
			dst = append(dst, '&')
		}
		dst = AppendEscaped(append(AppendEscaped(dst, p.Name), '='), p.Value)
	}
	return dst
}

// HeaderValue returns the one value of a header by its lower-case name, host among them. A header that is missing, or
// given more than once, has none.
func HeaderValue(r *http.Request, name string) (string, bool) {
	if name == "host" {
		return r.Host, r.Host != ""
	}
	values := r.Header[textproto.CanonicalMIMEHeaderKey(name)]
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

// HMAC returns the HMAC of the texts with a hash such as sha256.New, as a chain: the MAC of each text is the key of the
// next, and key is the key of the first.
func HMAC(newHash func() hash.Hash, key []byte, texts ...[]byte) []byte {
	for _, text := range texts {
		h := hmac.New(newHash, key)
		h.Write(text)
		key = h.Sum(nil)
	}
	return key
}

// SameHex reports, in a time that does not tell where they differ, whether text is a MAC in lower-case hexadecimal digits.
func SameHex(mac []byte, text string) bool {
	var digits [2 * sha512.Size]byte
	n := hex.EncodedLen(len(mac))
	if n == 0 || n > len(digits) {
		return false
	}
	hex.Encode(digits[:], mac)
	return subtle.ConstantTimeCompare(digits[:n], []byte(text)) == 1
}
