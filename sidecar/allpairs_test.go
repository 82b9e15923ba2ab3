package sidecar

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
)

// tongue is how a dialect encrypts and decrypts: requests with %[1]s for the key, %[2]s for the text or the ciphertext in base64, and
// %[3]s for the encryption context, and the name of the member that answers.
type tongue struct {
	name                             string
	encrypt, decrypt, sealed, opened string
	ask                              func(w *rightsWorld, encrypt bool, body string) *httptest.ResponseRecorder
	member                           func(answer []byte) []byte // what has the member
}

// TestAllPairs encrypts by each dialect and decrypts by each, with and without an encryption context, and compares the bytes.
func TestAllPairs(t *testing.T) {
	w := newRightsWorld(t)
	w.words = map[string]string{}
	id, owner := w.word("aes"), rightsCallers[0]
	inSuite := func(s *dialecttest.Suite) func(*rightsWorld, bool, string) *httptest.ResponseRecorder {
		return func(w *rightsWorld, encrypt bool, body string) *httptest.ResponseRecorder {
			for i := range s.Routes {
				if s.Routes[i].Path == map[bool]string{true: "Encrypt", false: "Decrypt"}[encrypt] {
					return w.askSuite(s, &s.Routes[i], owner, body)
				}
			}
			return nil
		}
	}
	atPath := func(encrypt, decrypt string) func(*rightsWorld, bool, string) *httptest.ResponseRecorder {
		return func(w *rightsWorld, e bool, body string) *httptest.ResponseRecorder {
			return w.ask(owner, "POST", map[bool]string{true: encrypt, false: decrypt}[e], body)
		}
	}
	whole := func(answer []byte) []byte { return answer }
	tongues := []tongue{
		{"huawei", `{"key_id":"%[1]s","plain_text":"attack at dawn","encryption_context":%[3]s}`, `{"cipher_text":"%[2]s","encryption_context":%[3]s}`,
			"cipher_text", "plain_text_base64", atPath("encrypt-data", "decrypt-data"), whole},
		{"keyside", `{"key_id":"%[1]s","plaintext":"%[2]s","context":%[3]s}`, `{"ciphertext":"%[2]s","context":%[3]s}`,
			"ciphertext", "plaintext", atPath(client.BasePath+"encrypt", client.BasePath+"decrypt"), whole},
		{"tencent", `{"KeyId":"%[1]s","Plaintext":"%[2]s","EncryptionContext":%[3]q}`, `{"CiphertextBlob":"%[2]s","EncryptionContext":%[3]q}`,
			"CiphertextBlob", "Plaintext", inSuite(&tencentSuite), func(answer []byte) []byte {
				var out struct{ Response json.RawMessage }
				_ = json.Unmarshal(answer, &out)
				return out.Response
			}},
		{"alibaba", `{"KeyId":"%[1]s","Plaintext":"%[2]s","EncryptionContext":%[3]s}`, `{"CiphertextBlob":"%[2]s","EncryptionContext":%[3]s}`,
			"CiphertextBlob", "Plaintext", inSuite(&alibabaSuite), whole},
	}
	text := base64.StdEncoding.EncodeToString([]byte("attack at dawn"))
	member := func(d *tongue, encrypt bool, body string) string {
		answer := d.ask(w, encrypt, body)
		var out map[string]any
		_ = json.Unmarshal(d.member(answer.Body.Bytes()), &out)
		value, _ := out[map[bool]string{true: d.sealed, false: d.opened}[encrypt]].(string)
		return value
	}
	for _, bound := range []string{`{}`, `{"b":"2","a":"1"}`} {
		for i := range tongues {
			from := &tongues[i]
			sealed := member(from, true, fmt.Sprintf(from.encrypt, id, text, bound))
			if sealed == "" {
				t.Errorf("%s does not encrypt with %s", from.name, bound)
			}
			for j := range tongues {
				to := &tongues[j]
				if got := member(to, false, fmt.Sprintf(to.decrypt, id, sealed, bound)); got != text {
					t.Errorf("%s to %s with %s: %q", from.name, to.name, bound, got)
				}
				if got := member(to, false, fmt.Sprintf(to.decrypt, id, sealed, `{"c":"3"}`)); got != "" {
					t.Errorf("%s to %s with another context than %s: %q", from.name, to.name, bound, got)
				}
			}
		}
	}
}
